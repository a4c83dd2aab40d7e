"""The content of a report: metrics.json, the config, and the tables and pictures of the run's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bcd.evaluation.cases import read_table
from bcd.reports.rendering import Picture, Table
from bcd.reports.wording import with_interval
from bcd.tasks.info import info_of


@dataclass(frozen=True)
class Results:
    """The results of a run, or of several folds together.

    Args:
        metrics: the content of metrics.json.
        config: the run's, or empty.
        cases: test cases, or None.
        history: one row an epoch, or None.
        overlays: folder of the pictures of cases.
    """

    metrics: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)
    cases: pd.DataFrame | None = None
    history: pd.DataFrame | None = None
    overlays: Path = Path("overlays")

    @property
    def test(self) -> Mapping[str, Any]:
        """Return the figures of the test."""
        return self.metrics["test"]

    @property
    def data(self) -> Mapping[str, Any]:
        """Return the description of the data."""
        return self.metrics["data"]

    @property
    def class_names(self) -> list[str]:
        """Return the classes, in the order of the probabilities."""
        return [str(name) for name in self.data.get("selection", {}).get("classes", self.test.get("n_by_class", {}))]

    @property
    def outlines(self) -> bool:
        """Return whether lesions were segmented."""
        return info_of(self.metrics, self.config).outlines

    @property
    def classifies(self) -> bool:
        """Return whether images were classified."""
        return info_of(self.metrics, self.config).classifies

    def figure(self, block: Mapping[str, Any], name: str, path: str = "") -> str:
        """Return a figure with its interval, as printed.

        Args:
            block: of `test`, that holds the figure.
            name: of the figure.
            path: of the block in `test`, names joined by dots, as the intervals are called; empty for `test` itself.
        """
        interval = (self.test.get("intervals") or {}).get(f"{path}.{name}" if path else name)
        return with_interval(block.get(name), interval, name)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: sentences, tables, then tables and charts side by side, then collapsed details.

    Args:
        id: the target of links.
        title: its heading.
        text: paragraphs.
        tables: over the whole width.
        beside: tables beside the charts.
        charts: side by side.
        folded: (title, preformatted text or tables), always shown on paper.
        template: a file of `templates/run/`.
        more: what only that template shows.
    """

    id: str
    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    beside: Sequence[Table] = ()
    charts: Sequence[Picture] = ()
    folded: Sequence[tuple[str, str | Sequence[Table]]] = ()
    template: str = "section"
    more: Mapping[str, Any] = field(default_factory=dict)


def read_results(
    folder: Path, metrics: Mapping[str, Any], config: Mapping[str, Any] | None = None, run: Path | None = None
) -> Results:
    """Return the results in a folder.

    Args:
        folder: may hold cases.csv and overlays/.
        metrics: the content of metrics.json.
        config: of the run; None to read config.yaml of the run's folder, if it is there.
        run: the run's folder, with config.yaml and history.csv; None for `folder`.
    """
    run = folder if run is None else run
    if config is None:
        path = run / "config.yaml"
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    cases = read_table(folder / "cases.csv") if (folder / "cases.csv").is_file() else None
    return Results(
        metrics,
        config or {},
        cases if cases is not None and len(cases) else None,
        pd.read_csv(run / "history.csv") if (run / "history.csv").is_file() else None,
        folder / "overlays",
    )
