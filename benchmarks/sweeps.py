"""What a sweep costs and saves: the ledger's time per job, and the training that pruning spares in the same search."""

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcd.config import compose
from bcd.config.search_space import Dimension
from bcd.runs import folder as files
from bcd.runs.training.sweep_job import OUTCOME, SweepJob
from bcd.runs.training.train import train
from bcd.sweeps.ledger import Ledger
from bcd.sweeps.plan import Plan

log = logging.getLogger(__name__)

# A search whose jobs train for seconds on phantoms, and differ: most rates of this range are far from good.
_FIXED = (
    "data.source.n_images=120",
    "model.encoder=resnet10t",
    "model.decoder_channels=[32,16,16,8,8]",
    "preprocess.size=64",
    "~callbacks.early_stopping",
    "~callbacks.progress",
    "~callbacks.pictures",
    "logger=none",
)
_SPACE = (Dimension("optimizer.lr", (), 1e-5, 1e-1, log=True),)


@dataclass(frozen=True)
class Search:
    """What one search took and found.

    Args:
        pruned: of its jobs.
        epochs: of all of them.
        seconds: of training.
        best: highest val/dice.
    """

    pruned: int
    epochs: int
    seconds: float
    best: float


def bench_sweeps(settings: Mapping[str, Any], output: str) -> dict[str, float]:
    """Print, and return, what the ledger takes for a job, and what pruning saves.

    Args:
        settings: `jobs` of each search, `epochs` of each job, `claims` that the ledger is timed with.
        output: where the phantoms go.
    """
    with tempfile.TemporaryDirectory(prefix="bcd-bench-") as folder:
        overhead = ledger_seconds(Path(folder) / "ledger", settings["claims"])
        found = {pruner: search(Path(folder) / pruner, pruner, settings, output) for pruner in ("none", "asha")}
    whole, pruned = found["none"], found["asha"]
    figures = {
        "ledger_ms_per_job": 1000 * overhead,
        "epochs": pruned.epochs / whole.epochs,
        "seconds": pruned.seconds / whole.seconds,
        "best_whole": whole.best,
        "best_pruned": pruned.best,
    }
    log.info("Ledger: %.0f ms a job for drawing, claiming and entering it, over %d jobs.", 1000 * overhead, settings["claims"])
    log.info(
        "Pruning (ASHA) of %d jobs of %d epochs, the same draws: %d of them ended early, %.2f of the epochs and %.2f of the time "
        "of the search without it; best val/dice %.3f against %.3f.",
        *(settings["jobs"], settings["epochs"], pruned.pruned, figures["epochs"], figures["seconds"], pruned.best, whole.best),
    )
    return figures


def ledger_seconds(folder: Path, claims: int) -> float:
    """Return the seconds that a job takes in the ledger: drawn, claimed, entered; a journal on this disk."""
    ledger = Ledger(_plan(folder, "none", claims), "bench")
    started = time.perf_counter()
    for number in range(claims):
        claim = ledger.claim()
        if claim is None:
            raise RuntimeError("the ledger gave fewer jobs than were asked for")
        ledger.settle(claim, {"state": "done", "figures": {"val/dice": number / claims}}, 1.0, "")
        claim.lock.release()
    return (time.perf_counter() - started) / claims


def search(folder: Path, pruner: str, settings: Mapping[str, Any], output: str) -> Search:
    """Return what a search took; the draws follow from the seed alone, and are the same with any pruner."""
    plan = _plan(folder, pruner, settings["jobs"])
    ledger = Ledger(plan, "bench")
    epochs, seconds = 0, 0.0
    while (claim := ledger.claim()) is not None:
        words = [*_FIXED, f"trainer.max_epochs={settings['epochs']}", *claim.overrides, f"output={output}"]
        claim.folder.mkdir(parents=True)
        SweepJob(plan.storage, plan.name, claim.trial.number, ["val/dice"], plan.pruner, False).write(claim.folder)
        started = time.perf_counter()
        train(compose("train", words, claim.folder), claim.folder)
        seconds += time.perf_counter() - started
        ledger.settle(claim, files.read_json(claim.folder / OUTCOME), 0.0, "")
        claim.lock.release()
        epochs += len((claim.folder / "history.csv").read_text(encoding="utf-8").splitlines()) - 1
    jobs = ledger.jobs()
    best = max(job.figures.get("val/dice", 0.0) for job in jobs)
    return Search(sum(job.state == "pruned" for job in jobs), epochs, seconds, best)


def _plan(folder: Path, pruner: str, n_trials: int) -> Plan:
    settings = {
        **{"name": "bench", "sampler": "random", "n_trials": n_trials, "startup": 8, "objective": "val/dice", "directions": None},
        **{"pruner": pruner, "least_validations": 2, "reduction": 3, "seed": 0, "retries": 0, "fail_fast": True, "test": "none"},
        **{"storage": None, "continues": None, "dry_run": False},
    }
    folder.mkdir(parents=True)
    return Plan("bench", folder, _FIXED, _SPACE, settings, {"val/dice": "maximize"}, (), Path.cwd())
