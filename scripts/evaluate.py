"""Repeat the test of a run: python scripts/evaluate.py run=outputs/runs/..."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("evaluate")
def main(config: dict[str, Any], folder: Path) -> None:
    """Test a run's best checkpoint again: metrics.json, cases.csv, overlays, masks and report.html."""
    from bcd.runs.files import best_checkpoint  # keeps --help fast

    run = Path(config["run"])
    best_checkpoint(run)  # a run that did not get so far is refused before torch is imported
    from bcd.runs.evaluate import evaluate
    from bcd.runs.table import print_results

    overrides = {name: {key: value for key, value in config[name].items() if value is not None} for name in ("data", "guide")}
    output = Path(config["output"]) if config["output"] is not None else run
    print_results(evaluate(run, output, overrides, config["trusted"]), output)


if __name__ == "__main__":
    main()
