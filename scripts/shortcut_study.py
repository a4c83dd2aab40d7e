"""Measure how much a run's results depend on more than the lesion: python scripts/shortcut_study.py run=outputs/runs/..."""

import logging
from pathlib import Path
from typing import Any

from bcd.config import command

log = logging.getLogger(__name__)


@command("shortcut_study")
def main(config: dict[str, Any], folder: Path) -> None:
    """Test a run on images whose marks are painted over, with marks drawn elsewhere, and with the lesion hidden.

    Writes shortcut_study.csv, .md, .html and .json; run= may be a finished cross-validation.
    """
    from bcd.runs import folder as files

    if config["run"] is None:
        raise ValueError("Give run=<the folder of a run that was tested, or of a cross-validation>.")
    run = Path(config["run"]).expanduser()
    files.read_config(run)  # what is no run is refused before torch is imported
    from bcd.runs.studies.shortcuts.study import NAME, shortcut_study

    output = Path(config["output"]).expanduser() if config["output"] is not None else run / NAME
    data = {key: value for key, value in config["data"].items() if value is not None}
    found = shortcut_study(run, output, {"data": data} if data else {}, config["trusted"], config["seed"])
    for sentence in [*found["warnings"], *found["conclusions"]]:
        log.info("%s", sentence)
    log.info("Report: %s", output / f"{NAME}.html")


if __name__ == "__main__":
    main()
