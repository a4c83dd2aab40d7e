"""A bundle to try the page with: a small network that segments and classifies simulated images."""

import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bcd.config import compose
from bcd.predictor.bundle import read_bundle
from bcd.predictor.bundles.hashes import BundleError
from bcd.predictor.bundles.write import write_bundle
from bcd.runs.bundle import BundleOptions, collect_bundle, training_images
from bcd.runs.training.train import train

log = logging.getLogger(__name__)

NAME = "phantom"
OPTIONS = (
    "data=phantom",
    "data.source.n_images=120",
    "model=multitask",
    "model.network.encoder=tu-resnet10t.c3_in1k",
    "model.network.decoder_channels=[32,16,16,8,8]",
    "preprocess.size=64",
    "trainer.max_epochs=10",
    "augmentation=light",
    "logger=none",
    "callbacks.pictures.n_cases=1",
)


def phantom_bundle(outputs: Path, options: Sequence[str] = OPTIONS) -> Path:
    """Return the folder of a bundle of phantoms below `outputs`; train it where there is none that can be read.

    Phantoms and their cache go below `outputs`, too; the run itself is not kept.
    """
    folder = outputs / "bundles" / NAME
    try:
        read_bundle(folder)
    except BundleError as error:
        if folder.exists():
            raise BundleError(f"{error} It is a bundle for trying the page; delete {folder}, and it is trained again.") from error
        _make(folder, outputs, options)
    return folder


def _make(folder: Path, outputs: Path, options: Sequence[str]) -> None:
    log.info("Training a small network on simulated images, once; this takes about a minute. It is kept in %s.", folder)
    with tempfile.TemporaryDirectory(prefix="bcd-") as kept_for_now:
        run = Path(kept_for_now) / "run"
        chosen = [*options, f"output={json.dumps(str(outputs))}", f"name={NAME}"]
        train(compose("train", chosen, run), run)
        content = collect_bundle(run, options=BundleOptions(name=NAME))
        write_bundle(folder, content.about, content.states, content.card, training_images(content))
