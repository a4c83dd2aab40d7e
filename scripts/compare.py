"""Compare runs on the same cases: python scripts/compare.py runs=[outputs/runs/a,outputs/runs/b] output=outputs/compare."""

import logging
from pathlib import Path
from typing import Any

from bcd.config import command

log = logging.getLogger(__name__)


@command("compare")
def main(config: dict[str, Any], folder: Path) -> None:
    """Test the differences of two runs or more on the same cases: compare.html, compare.csv, compare.md and compare.tex."""
    from bcd.reports.comparison import difference_rows  # keeps --help fast
    from bcd.runs.studies.compare import compare_runs

    output = Path(config["output"]).expanduser()
    comparison = compare_runs(
        [Path(run).expanduser() for run in config["runs"]],
        output,
        names=config["names"],
        figures=config["figures"],
        positive=config["positive"],
        permutations=config["permutations"],
        seed=config["seed"],
    )
    for runs, figure, difference, test, p, corrected, _ in difference_rows(comparison)[1]:
        log.info("%s: %s %s; %s: p %s, corrected %s", runs, figure, difference, test, p, corrected)
    log.info("Report: %s", output / "compare.html")


if __name__ == "__main__":
    main()
