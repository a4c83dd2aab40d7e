"""The page that shows runs: leaderboard, figures, curves, report, cases, pictures, model card."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st

from bcd.app.frame import card, sentence
from bcd.app.run_folders import FIGURES, RunFolder, folders_below, read_folder
from bcd.runs import files

_MOST_BYTES = 32 << 20
_MOST_PICTURES = 24
_HISTORY = "history.csv"
# A report may come from anywhere: it is shown, but may run nothing and fetch nothing.
_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "font-src data:; form-action 'none'; base-uri 'none'\">"
)


def show(outputs: Path, tensorboard: str = "") -> None:
    """Show the page.

    Args:
        outputs: folder below which runs lie.
        tensorboard: address of a TensorBoard that shows the same; empty for none.
    """
    st.header("Runs")
    if tensorboard:
        st.markdown(f"The curves of several runs in one picture: [TensorBoard]({tensorboard}).")
    found = [read_folder(path, outputs) for path in folders_below(outputs)]
    runs = [one for one in found if isinstance(one, RunFolder)]
    if not runs:
        st.info(sentence(f"There are no finished runs below {outputs}. Train one: python scripts/train.py, or make train."))
    else:
        _show_run(_choose(_narrowed(runs)))
    problems = [one for one in found if isinstance(one, str)]
    if problems:
        with st.expander(f"Folders that are not shown, and why: {len(problems)}"):
            for problem in problems:
                st.markdown(f"- {sentence(problem)}")


def _narrowed(runs: list[RunFolder]) -> list[RunFolder]:
    """Return the runs that the visitor wants to see; never none."""
    with st.container(horizontal=True):
        tasks = st.multiselect("Task", sorted({run.row["task"] for run in runs}), key="tasks", placeholder="all tasks")
        data = st.multiselect("Data", sorted({run.row["data"] for run in runs}), key="data", placeholder="all data")
        all_groups = sorted({run.row["group"] for run in runs if run.row["group"]})
        groups = st.multiselect("Group", all_groups, key="groups", placeholder="all groups") if all_groups else []
    has_folds = any(run.is_fold for run in runs) and any(not run.is_fold for run in runs)
    folds = st.toggle("Single folds too", key="folds") if has_folds else True
    kept = [
        run
        for run in runs
        if (not tasks or run.row["task"] in tasks)
        and (not data or run.row["data"] in data)
        and (not groups or run.row["group"] in groups)
        and (folds or not run.is_fold)
    ]
    if not kept:
        st.info("No run is of that kind; all are shown.")
    return kept or runs


def _choose(runs: list[RunFolder]) -> RunFolder:
    """Show the leaderboard; return the run whose row is selected, the first if none is."""
    table = pd.DataFrame([run.row for run in runs])
    table = table.drop(columns=[name for name in table if table[name].isna().all() or table[name].isin(["", "\N{EN DASH}"]).all()])
    picked = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key="leaderboard",
        column_config={title: st.column_config.NumberColumn(format="%.4f") for title in FIGURES.values()},
        alt="The leaderboard, one row a run",
    )
    st.caption("Click on a column's name to sort, at the left of a row to see that run. Figures of different cases do not compare.")
    rows = [row for row in picked["selection"]["rows"] if row < len(runs)]
    return runs[rows[0] if rows else 0]


def _show_run(run: RunFolder) -> None:
    st.subheader(sentence(run.name))
    for warning in run.warnings:
        st.warning(sentence(warning))
    views = {title: show for title, (name, show) in _VIEWS.items() if (run.path / name).exists()}
    if not views:
        st.info("The folder holds figures alone: no report, no cases, no curves.")
        return
    view = st.segmented_control(
        "What", list(views), default=next(iter(views)), required=True, key="what", label_visibility="collapsed", wrap=True
    )
    try:
        views[view if view in views else next(iter(views))](run.path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        st.error(sentence(f"This cannot be shown: {error}"))


def _pictures(path: Path) -> None:
    pictures = sorted((path / "overlays").glob("*.png"))
    whole = [picture for picture in pictures if picture.stem == "panel"]
    for picture in whole:
        st.image(_bytes(picture), width="stretch", alt="Best, median and worst test cases")
    kinds = sorted({one.stem.rpartition("_")[0] for one in pictures if one not in whole})
    if not kinds:
        return
    st.caption("Blue is the truth, orange the prediction.")
    kind = st.segmented_control("Cases", kinds, default=kinds[0], required=True, key="kind", format_func=_kind, wrap=True)
    chosen = [one for one in pictures if one not in whole and one.stem.rpartition("_")[0] == kind][:_MOST_PICTURES]
    for column, picture in zip(st.columns(4) * (len(chosen) // 4 + 1), chosen, strict=False):
        column.image(_bytes(picture), picture.stem.replace("_", " "), width="stretch")


def _kind(name: str) -> str:
    return name.replace("_", " ") or "others"


def _cases(path: Path) -> None:
    cases = pd.read_csv(_checked(path / files.CASES))
    column = st.selectbox("Sort by", list(cases.columns), key="sort")
    rising = st.toggle("Lowest first", value=True, key="rising")
    shown = cases.sort_values(column, ascending=rising, kind="stable") if column in cases else cases
    st.dataframe(shown, hide_index=True, height=520, alt="One row a test case")


def _curves(path: Path) -> None:
    history = pd.read_csv(_checked(path / _HISTORY))
    if "epoch" not in history:
        raise ValueError(f"{_HISTORY} has no column epoch.")
    names = sorted({str(name).partition("/")[2] for name in history if str(name).startswith(("train/", "val/"))})
    names.sort(key=lambda name: name != "loss")
    columns = st.columns(2) * (len(names) // 2 + 1)
    for place, name in zip(columns, names, strict=False):
        parts = {part: f"{part}/{name}" for part in ("train", "val") if f"{part}/{name}" in history}
        curve = pd.DataFrame({part: pd.to_numeric(history[column], errors="coerce") for part, column in parts.items()})
        curve.index = pd.Index(history["epoch"] + 1, name="epoch")
        place.markdown(f"**{sentence(name.replace('_', ' '))}**")
        place.line_chart(curve, height=240)


def _report(path: Path) -> None:
    report = _checked(path / files.REPORT).read_text(encoding="utf-8", errors="replace")
    st.download_button("Save the report (HTML)", report.encode(), f"{path.name}_report.html", "text/html", on_click="ignore")
    st.iframe(f"{_POLICY}{report}", height=900)


def _card(path: Path) -> None:
    st.markdown(card(_checked(path / "model_card.md").read_text(encoding="utf-8", errors="replace")))


def _bytes(path: Path) -> bytes:
    return _checked(path).read_bytes()


def _checked(path: Path) -> Path:
    """Return a path if it is a file of a size that a page can show.

    Raises:
        ValueError: when it is not.
    """
    if not path.is_file() or path.is_symlink():
        raise ValueError(f"{path.name} is no file.")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.name} is larger than {_MOST_BYTES >> 20} MB; open it yourself: {path}")
    return path


_VIEWS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "Truth against prediction": ("overlays", _pictures),
    "Curves": (_HISTORY, _curves),
    "Cases": (files.CASES, _cases),
    "Report": (files.REPORT, _report),
    "Model card": ("model_card.md", _card),
}
