"""Trained on A, tested on B: python scripts/matrix.py runs=[outputs/runs/a,outputs/runs/b]."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("matrix")
def main(config: dict[str, Any], folder: Path) -> None:
    """Test each of several runs on its own fold and on the others' data sets; write matrix.csv and matrix.md."""
    from bcd.runs.folder import best_checkpoint  # keeps --help fast

    for run in config["runs"]:
        best_checkpoint(Path(run))
    from bcd.runs.studies.matrix import matrix

    matrix(config["runs"], Path(config["output"]), config["trusted"])


if __name__ == "__main__":
    main()
