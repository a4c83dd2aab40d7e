"""Report on a sweep, at any time: python scripts/sweep_report.py sweep=outputs/sweeps/<name>."""

import logging
from pathlib import Path
from typing import Any

from bcd.config import command

log = logging.getLogger(__name__)


@command("sweep_report")
def main(config: dict[str, Any], folder: Path) -> None:
    """Write the leaderboard, the pictures and the report of a sweep, finished or not."""
    from bcd.sweeps.ledger import Ledger  # keeps --help fast
    from bcd.sweeps.plan import read_plan
    from bcd.sweeps.report import report

    plan = read_plan(Path(config["sweep_folder"]).expanduser())
    ledger = Ledger(plan, "report")
    log.info("Report: %s", report(plan, ledger.study, ledger.jobs()))


if __name__ == "__main__":
    main()
