"""Train a model, test its best checkpoint, and write one folder with everything needed to reproduce the results."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bcd.config.processes import OF_PROCESSES, check_number, is_follower, started_together
from bcd.runs import folder as files
from bcd.runs.signals import RunStopped, StopSignals

# The disk or the quota is full, a file may not grow further, or the folder is read-only.
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def train(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train and test as a config says, or resume a stopped run; return the content of metrics.json.

    Ctrl-C and SIGTERM save and stop between two steps.

    Args:
        config: resolved, plain, as `conf/train.yaml` composes it. With `resume`, a run's folder, all else is that run's, but the
            number of processes, if there is one.
        folder: the run's own.

    Raises:
        ValueError: for anything in the config or the data that cannot work, before the first step.
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: after SIGTERM, with status 143.
    """
    logging.raiseExceptions = False  # on a full disk the log file would otherwise give a traceback for every line
    resumed = config.get("resume") is not None
    folder = Path(config["resume"]) if resumed else folder
    # A folder that is no run's is refused before a lock is put there.
    trainer = {**(files.read_config(folder)["trainer"] if resumed else {}), **processes_in(config)}
    _check_start(trainer)
    follows = is_follower(trainer)
    if follows:  # another process has claimed the folder for both
        logging.getLogger().setLevel(logging.ERROR)
    with StopSignals() as signals, nullcontext() if follows else files.claimed(folder):
        try:
            if resumed or (follows and (folder / files.CONFIG).is_file()):
                known = files.go_on(folder, config.get("trusted", ()), "train")
                config = {**known, "trainer": {**known["trainer"], **processes_in(config)}}
            else:
                config = files.with_absolute_paths(config) if follows else files.begin(folder, config)
            # Late: the config is written before torch is imported, which takes seconds.
            from bcd.runs.training.fit import fit_and_test

            return fit_and_test(config, folder, signals, resumed)
        except RunStopped as stop:
            message = f"The run is saved; go on with: python scripts/train.py resume={folder}"
            if stop.signum == signal.SIGINT:
                raise KeyboardInterrupt(message) from None
            sys.stderr.write(f"Stopped by {signal.Signals(stop.signum).name}. {message}\n")
            raise SystemExit(128 + stop.signum) from None
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:
                raise
            raise OSError(
                f"Writing into {folder} failed ({error.strerror}). What was saved before is whole: make room or allow writing, "
                f"and go on by python scripts/train.py resume={folder}"
            ) from error


def processes_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a config's trainer that say how many processes train; none where it has no trainer."""
    return {key: config["trainer"][key] for key in OF_PROCESSES if key in config.get("trainer", {})}


def _check_start(trainer: Mapping[str, Any]) -> None:
    """Refuse a training for which another number of processes was started, or none on the other machines.

    Raises:
        ValueError: saying how to start it.
    """
    if started_together() > 1:
        from bcd.runs.planning.rules import processes_of  # imports torch, to count the GPUs

        check_number(processes_of(trainer))
    elif trainer.get("num_nodes", 1) > 1 and "NODE_RANK" not in os.environ:
        raise ValueError(
            f"trainer.num_nodes={trainer['num_nodes']}: start the command on each machine, by torchrun or srun (commands in "
            "docs/distributed.md), or with NODE_RANK, MASTER_ADDR and MASTER_PORT set; else it would wait forever."
        )
