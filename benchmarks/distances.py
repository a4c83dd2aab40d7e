"""Boundary distances and overlaps of whole masks, side by side with MONAI on the same masks and threads."""

import importlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
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
from bcd.evaluation.cases import SURFACE_TOLERANCE_PX
from bcd.images.read import read_mask
from bcd.metrics.boundary import boundary_figures
from bcd.metrics.masks import overlap_of

log = logging.getLogger(__name__)

GOAL = 8
_PHANTOMS = 100
_HOW_TO_GET = "monai is not installed, so there is nothing to compare with: make setup brings it, or pip install 'monai>=1.5'."

Pair = tuple[np.ndarray, np.ndarray]
Figures = tuple[float, float]


def bench_distances(config: Mapping[str, Any]) -> dict[str, Any]:
    """Print milliseconds a mask, the ratio and the largest difference; return them.

    Ours is everything at once: overlaps, HD, HD95, ASSD and surface Dice. MONAI's is HD95 and ASSD. Each mask is scored by both in
    turn against itself moved by a few pixels; BUS-BRA's masks where $BCD_DATA has them, else phantoms'.

    Args:
        config: `masks` (how many; None for all), `shift_px` and `threads`.

    Returns:
        `masks`, `data`, `ours_ms`, and `monai_ms`, `ratio` and `largest_difference` in pixels, None where MONAI is not installed.
    """
    data, masks = _masks()
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(config["threads"])
    cv2.setNumThreads(config["threads"])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="monai")  # it calls what it calls obsolete
            row = _measure(islice(masks, config["masks"]), config["shift_px"], _monai())
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    row |= {"data": data}
    _print(row, config["threads"])
    return row


def _measure(masks: Iterator[np.ndarray], shift_px: int, reference: Callable[[Pair], Figures] | None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ours_s = theirs_s = difference = 0.0
    count = 0
    for mask in masks:
        count += 1
        pair = (moved(mask, *rng.integers(-shift_px, shift_px, 2, endpoint=True).tolist()), mask)
        figures, seconds = _timed(_ours, pair)
        ours_s += seconds
        if reference is not None:
            others, seconds = _timed(reference, pair)
            theirs_s += seconds
            difference = max(difference, *(abs(one - other) for one, other in zip(figures, others, strict=True)))
    known = reference is not None
    return {
        "masks": count,
        "ours_ms": 1000 * ours_s / count,
        "monai_ms": 1000 * theirs_s / count if known else None,
        "ratio": theirs_s / ours_s if known else None,
        "largest_difference": difference if known else None,
    }


def _timed(score: Callable[[Pair], Figures], pair: Pair) -> tuple[Figures, float]:
    started = time.perf_counter()
    figures = score(pair)
    return figures, time.perf_counter() - started


def _ours(pair: Pair) -> Figures:
    overlap_of(*pair).figures()
    figures = boundary_figures(*pair, SURFACE_TOLERANCE_PX)
    return figures.hd95, figures.assd


def _monai() -> Callable[[Pair], Figures] | None:
    """Return MONAI's HD95 and ASSD of a pair; None where it is not installed."""
    try:
        metrics = importlib.import_module("monai.metrics")
    except ModuleNotFoundError as error:
        if error.name != "monai":
            raise
        return None
    return _Monai(metrics.compute_hausdorff_distance, metrics.compute_average_surface_distance)


class _Monai:
    """MONAI's functions, given one mask each as they want it: (1, 1, H, W)."""

    def __init__(self, hausdorff: Callable[..., torch.Tensor], average: Callable[..., torch.Tensor]) -> None:
        self._hausdorff = hausdorff
        self._average = average

    def __call__(self, pair: Pair) -> Figures:
        predicted, true = (torch.from_numpy(mask)[None, None] for mask in pair)
        hd95 = self._hausdorff(predicted, true, include_background=True, percentile=95)
        assd = self._average(predicted, true, include_background=True, symmetric=True)
        return float(hd95), float(assd)


def moved(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return a bool (H, W) mask moved by whole pixels; what leaves the image is lost, and what enters is empty."""
    shift = np.array([[1, 0, right], [0, 1, down]], dtype=np.float32)
    moved_mask = cv2.warpAffine(np.ascontiguousarray(mask).view(np.uint8), shift, mask.shape[::-1], flags=cv2.INTER_NEAREST)
    return np.asarray(moved_mask, dtype=bool)


def _masks() -> tuple[str, Iterator[np.ndarray]]:
    folder = Path(os.environ.get("BCD_DATA", "data")) / "busbra"
    return ("BUS-BRA", _busbra(folder)) if folder.is_dir() else ("phantoms", _phantoms())


def _busbra(folder: Path) -> Iterator[np.ndarray]:
    for case in BUSBRA(folder).cases():
        yield read_mask(case.masks[0]).astype(bool)


def _phantoms() -> Iterator[np.ndarray]:
    for number in range(_PHANTOMS):
        rng = np.random.default_rng(number)
        _, mask = simulate(rng, draw_anatomy(rng), draw_lesion(rng, number % 2 == 0), (300, 360))
        yield mask.astype(bool)


def _print(row: Mapping[str, Any], threads: int) -> None:
    table = Table(title=f"Distances between boundaries and overlaps, {row['masks']:,} masks of {row['data']}, threads: {threads}")
    for column in ("ours, ms a mask", "MONAI (HD95, ASSD), ms a mask", "MONAI / ours", "largest difference, px"):
        table.add_column(column, justify="right")
    if row["ratio"] is None:
        table.add_row(f"{row['ours_ms']:.2f}", "-", "-", "-")
    else:
        ratio = f"{row['ratio']:.1f} (goal {GOAL})"
        table.add_row(f"{row['ours_ms']:.2f}", f"{row['monai_ms']:.2f}", ratio, f"{row['largest_difference']:.1e}")
    Console(soft_wrap=True).print(table)
    if row["ratio"] is None:
        log.warning(_HOW_TO_GET)
