"""A bundle's whole predictor on one image: its networks as torch runs them, against its exported models, side by side."""

import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bcd.data.sources.busbra import BUSBRA
from bcd.data.sources.phantom_simulator import draw_anatomy, draw_lesion, simulate
from bcd.images.read import read_image
from bcd.predictor.bundle import EXPORTS
from bcd.predictor.bundles.hashes import BundleError
from bcd.predictor.exports.export import ExportError, ExportOptions, export
from bcd.predictor.measurements import dice_of
from bcd.predictor.predictor import Predictor

log = logging.getLogger(__name__)

GOAL, GOAL_DICE = 3.0, 0.99
EAGER = "torch, eager, float32"
_IMAGES = 24
_SEED = 61


def bench_predictor(settings: Mapping[str, Any], bundle: Path) -> list[dict[str, Any]]:
    """Print milliseconds an image, how many times as fast as eager torch, and Dice between the masks; return the rows.

    The ways take turns on the same image within each round, and each round begins with another way; the ratio is the median of the
    rounds' own. Each way sees the image twice, and the second time counts, when the threads of the way before it are at rest. All
    of it counts, from the image in memory to class, mask, measurements and scope.
    Images are phantoms, or of BUS-BRA where $BCD_DATA has it and the networks learned from real images.

    Args:
        settings: `exports`, names such as `openvino-int8`; `rounds`; `size`, height and width of the image; `threads`.
        bundle: the folder; it stays as it is.
    """
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(settings["threads"])
    cv2.setNumThreads(settings["threads"])
    try:
        with _ways(bundle, settings["exports"]) as ways:
            data, images = _images(settings["size"], ways[EAGER].bundle.synthetic)
            rows = _measure(ways, images, settings["rounds"])
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    _print(rows, settings, data)
    return rows


@contextmanager
def _ways(bundle: Path, exports: Sequence[str]) -> Iterator[dict[str, Predictor]]:
    """Yield the predictors by name; what the bundle does not have is exported into a copy of it."""
    with tempfile.TemporaryDirectory(prefix="bcd-bench-") as folder:
        copy = Path(shutil.copytree(bundle, Path(folder, "bundle")))
        ways = {EAGER: Predictor.load(copy, "cpu")}
        for name in exports:
            try:
                if not (copy / EXPORTS / name).is_dir():
                    format, _, precision = name.partition("-")
                    export(copy, ExportOptions(format, precision))
                ways[name] = Predictor.load(copy, export=name)
            except (BundleError, ExportError) as error:
                log.warning("%s is left out: %s", name, error)
        yield ways


def _measure(ways: Mapping[str, Predictor], images: Sequence[np.ndarray], rounds: int) -> list[dict[str, Any]]:
    masks = {name: [predictor.predict(image).mask for image in images] for name, predictor in ways.items()}  # warms up, too
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        image = images[number % len(images)]
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            ways[name].predict(image)
            started = time.perf_counter()
            ways[name].predict(image)
            seconds[name].append(time.perf_counter() - started)
    return [
        {
            "way": name,
            "milliseconds": 1000 * statistics.median(seconds[name]),
            "times_as_fast": statistics.median(a / b for a, b in zip(seconds[EAGER], seconds[name], strict=True)),
            **_dice(masks[EAGER], masks[name]),
        }
        for name in names
    ]


def _dice(first: Sequence[np.ndarray | None], second: Sequence[np.ndarray | None]) -> dict[str, float | None]:
    """Return mean and lowest Dice over the images where either has an outline; None where nothing is outlined."""
    pairs = [(one, other) for one, other in zip(first, second, strict=True) if one is not None and other is not None]
    found = [dice_of(one, other) for one, other in pairs if one.any() or other.any()]
    return {"mean_dice": float(np.mean(found)) if found else None, "lowest_dice": min(found) if found else None}


def _images(size: int, synthetic: bool) -> tuple[str, list[np.ndarray]]:
    """Return what the images are, and images, grey uint8 (size, size)."""
    folder = Path(os.environ.get("BCD_DATA", "data")) / "busbra"
    if not synthetic and folder.is_dir():
        cases = BUSBRA(folder).cases()
        chosen = (read_image(case.image) for case in islice(cases, 0, None, max(1, len(cases) // _IMAGES)))
        return "BUS-BRA", [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in islice(chosen, _IMAGES)]
    return "phantoms", _phantoms(size)


def _phantoms(size: int) -> list[np.ndarray]:
    images = []
    for number in range(_IMAGES):
        rng = np.random.default_rng([_SEED, number])
        anatomy = draw_anatomy(rng)
        images.append(simulate(rng, anatomy, draw_lesion(rng, malignant=bool(number % 2)), (size, size))[0])
    return images


def _print(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], data: str) -> None:
    size, threads = settings["size"], settings["threads"]
    goal = f"goal {GOAL:g} at a Dice of {GOAL_DICE:g}"
    table = Table(title=f"One image of {size} x {size} px of {data} through the whole predictor, {threads} threads ({goal})")
    for column in ("way", "ms", "times as fast", "mean Dice", "lowest Dice"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for row in rows:
        dices = ["-" if row[name] is None else f"{row[name]:.4f}" for name in ("mean_dice", "lowest_dice")]
        table.add_row(row["way"], f"{row['milliseconds']:.1f}", f"{row['times_as_fast']:.2f}", *dices)
    Console(soft_wrap=True).print(table)
