"""`scripts/train.py -m` whose jobs are `fake_job.py`: everything of a sweep but the training. Workers of other processes too.

Values are not checked by their classes, whose import takes seconds at each start: `test_checks.py` does so.
"""

import runpy
import sys
from pathlib import Path

from bcd.config import CONF, commands
from bcd.sweeps import worker


def command(folder: Path, *_: object) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("fake_job.py")), str(folder)]


def worker_command(folder: Path, session: str) -> list[str]:
    return [sys.executable, str(Path(__file__).absolute()), "worker", str(folder), session]


if __name__ == "__main__":
    worker.job_command = command
    worker.worker_command = worker_command
    if sys.argv[1] == "worker":
        worker.main(sys.argv[2:])
    else:
        commands.check = lambda line: None
        runpy.run_path(str(CONF.parent / "scripts" / "train.py"), run_name="__main__")
