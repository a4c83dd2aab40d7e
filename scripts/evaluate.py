"""Test a run again, on other data, or score another tool's predictions: python scripts/evaluate.py run=outputs/runs/..."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("evaluate")
def main(config: dict[str, Any], folder: Path) -> None:
    """Repeat the test of a run; with data=, test it on another data set; with predictions=, score what another tool made of data=.

    Writes metrics.json, cases.csv, report.html and what belongs to them.
    """
    from bcd.runs.studies.evaluation import evaluation  # keeps --help fast

    evaluation(config)


if __name__ == "__main__":
    main()
