"""Predict images: python scripts/predict.py bundle=bundles/... input=images output=predictions."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bcd.config import command

log = logging.getLogger(__name__)

# Set for workers: they start no others, and leave it to who started them to have broken files tried again.
WORKER = "BCD_PREDICT_WORKER"
# Small enough that the last worker is not waited for long, and that little is done twice after a kill.
SHARDS_A_WORKER = 4


@command("predict")
def main(config: dict[str, Any], folder: Path) -> None:
    """Apply a bundle, or a run's best checkpoint, to images: masks, overlays, predictions.csv and predictions.json.

    A second call with the same output continues where the first was stopped. With shards= several processes, on one machine or on
    many that share the output folder, do it together; launcher= starts them.
    """
    if (config["bundle"] is None) == (config["run"] is None):
        raise ValueError("Give bundle=<a bundle>, or run=<a run's folder>.")
    if config["bundle"] is not None and config["segmentation"] is not None:
        raise ValueError("segmentation= goes with run=; a bundle has the networks that it needs.")
    if config["run"] is not None:
        from bcd.runs.folder import trained_runs

        trained_runs(Path(config["run"]))  # or there is none, an error before torch is imported
    if _launched(config):
        return
    from bcd.predictor.many.files import FileOptions, write_predictions  # keeps --help fast
    from bcd.predictor.many.shards import predict_shards

    predictor, learned_from = _predictor(config)
    guides = Path(config["guides"]) if config["guides"] is not None else None
    point = str(config["point"]) if config["point"] is not None else None  # 0.5 is typed as a number
    names = ("max_pixels", "mask_threshold", "probabilities", "uncertainty", "heat_map", "seg")
    options = FileOptions(guides=guides, point=point, **{name: config[name] for name in names})
    source, output = Path(config["input"]), Path(config["output"])
    if config["shards"] is None:
        errors = [row["error"] for row in write_predictions(predictor, source, output, options, learned_from)]
    else:
        joined = predict_shards(predictor, source, output, options, learned_from, config["shards"], config["shard"])
        if joined is None:
            log.info("Shard %d of %d is done; the last one joins the tables: %s", config["shard"], config["shards"], output)
            return
        errors = [row["error"] for row in joined]
    log.info("Predicted %d images: %s", errors.count(""), output)


def _launched(config: dict[str, Any]) -> bool:
    """Start workers if the command line asks for them; return whether nothing else is to be done.

    Raises:
        ValueError: for a shard without their number, or a launcher for one shard.
        RuntimeError: when all workers failed; what they did is kept.
    """
    from bcd.config.build import build  # keeps --help fast
    from bcd.launchers.command import Command
    from bcd.launchers.local import LocalLauncher

    if WORKER in os.environ:
        return False
    launcher, shards, output = build(config["launcher"], trusted=config["trusted"]), config["shards"], Path(config["output"])
    is_launched = launcher.dry_run or launcher.workers > 1 or not isinstance(launcher, LocalLauncher)
    if config["shard"] is not None and (shards is None or is_launched):
        raise ValueError("shard= does one shard in this process: give shards= beside it, and no launcher=.")
    if is_launched and shards is None:
        shards = SHARDS_A_WORKER * launcher.workers
    command = Command((*_worker_words(sys.argv[1:]), f"shards={shards}"), {WORKER: "1"})
    commands, logs = [command] * launcher.workers, output.absolute() / "slurm"
    if launcher.dry_run:
        sys.stdout.write(launcher.describe(commands, logs) + "\n")
        return True
    if shards is not None:
        from bcd.predictor.many.shards import try_again

        try_again(output, shards, config["shard"])
    if not is_launched:
        return False
    for signum in (signal.SIGTERM, signal.SIGHUP):  # as after Ctrl-C, no worker is to outlive this process
        signal.signal(signum, lambda number, _: sys.exit(128 + number))
    statuses = launcher.run(commands, logs)
    if statuses is None:
        return True
    if all(statuses):
        raise RuntimeError(f"All {len(statuses)} workers failed (status {statuses[0]}); what they did is kept in {output}.")
    if any(statuses):
        log.warning("%d of %d workers failed.", sum(map(bool, statuses)), len(statuses))
    log.info("Predicted in %d shards: %s", shards, output)
    return True


def _worker_words(overrides: Sequence[str]) -> list[str]:
    """Return the command of a worker: the one that was given, without its launcher and shards."""
    not_for_workers = ("launcher", "shards", "shard")
    own = [word for word in overrides if word.partition("=")[0].partition(".")[0].lstrip("+") not in not_for_workers]
    return [sys.executable, "-m", "bcd", "predict", *own]


def _predictor(config: dict[str, Any]) -> tuple[Any, list[str] | None]:
    """Return the predictor, and the cases that its networks learned from, where that is known."""
    from bcd.predictor.predictor import Predictor

    if config["bundle"] is not None:
        return Predictor.load(Path(config["bundle"]), export=config["export"], trusted=config["trusted"]), None
    from bcd.predictor.bundles.write import bundle_of
    from bcd.runs.bundle import BundleOptions, collect_bundle

    segmentation = Path(config["segmentation"]) if config["segmentation"] is not None else None
    content = collect_bundle(Path(config["run"]), segmentation, BundleOptions(trusted=config["trusted"]))
    return Predictor.of(bundle_of(content.about, content.states), content.states, trusted=config["trusted"]), content.learned_from


if __name__ == "__main__":
    main()
