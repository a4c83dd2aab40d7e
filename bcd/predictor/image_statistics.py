"""Figures of an image as a whole, by which one of another kind stands out: grey levels, depth, layers, texture and speckle.

All are taken at one working size, so that the number of pixels matters little.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# The square root of the working size in pixels: smaller than most scans, so that few are enlarged.
SIDE_PX = 160
BLACK, WHITE = 8, 247
BANDS = 6
OCTAVES = 4
WINDOW_PX = 9
LAGS = (1, 2, 4)

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Figure:
    """What one figure says.

    Args:
        name: unique, for tables.
        low: what an image with too low a value is like, in words.
        high: the same for too high a value.
    """

    name: str
    low: str
    high: str


_TONES = (
    Figure("black", "hardly any black", "much of it black"),
    Figure("white", "hardly any white", "much of it white"),
    Figure("dark level", "deep shadows", "no dark parts"),
    Figure("middle level", "dark as a whole", "bright as a whole"),
    Figure("bright level", "no bright parts", "very bright parts"),
    Figure("contrast", "hardly any contrast", "very much contrast"),
    Figure("skewness", "more bright than dark", "a few bright spots on dark"),
    Figure("commonest level", "grey levels spread evenly", "large parts of one grey level"),
)
_PLACES = (
    *(Figure(f"depth {band + 1}", f"{where} unusually dark", f"{where} unusually bright")
      for band, where in enumerate(("the top is", "the part below the top is", "the upper middle is", "the lower middle is",
                                    "the part above the bottom is", "the bottom is"))),
    Figure("top corners", "dark top corners, as in a fan-shaped picture", "bright top corners"),
    Figure("bottom corners", "dark bottom corners, as in a fan-shaped picture", "bright bottom corners"),
    Figure("sides", "dark left and right edges", "left and right edges brighter than the middle"),
    Figure("left against right", "left and right alike", "left and right unlike each other"),
    Figure("rows", "the same from top to bottom: no layers", "strong horizontal layers or stripes"),
    Figure("columns", "every column alike", "strong vertical stripes"),
)  # fmt: skip
_SCALES = (("fine", "pixel"), ("fine", "fine"), ("coarse", "coarse"), ("coarse", "coarsest"))
_TEXTURE = tuple(
    figure
    for words, scale in _SCALES
    for figure in (
        Figure(f"energy, {scale}", f"hardly any {words} detail", f"very much {words} detail"),
        Figure(f"direction, {scale}", f"{words} detail runs upright", f"{words} detail lies very flat"),
        Figure(f"peaks, {scale}", f"{words} detail is as even as noise", f"sharp {words} lines or edges on plain ground"),
    )
)
_SPECKLE = (
    Figure("speckle", "too smooth for speckle", "rougher than speckle"),
    Figure("smoothest windows", "parts without speckle", "no smooth parts"),
    Figure("roughest windows", "smooth everywhere", "very rough parts"),
    Figure("speckle with brightness", "dark parts are rougher than bright ones", "bright parts are much rougher than dark ones"),
    Figure("detail with depth", "hardly any detail near the top", "hardly any detail deep down"),
    Figure("plain", "no plain parts", "large parts without any grain"),
    Figure("coherence", "no lines or layers", "lines everywhere"),
    Figure("slant", "detail slants to one side", "detail slants to one side"),
)
_GRAIN = tuple(
    Figure(f"grain {way}, {lag}", f"the grain is too short {words}", f"the grain is too long {words}")
    for way, words in (("across", "sideways"), ("down", "in depth"))
    for lag in LAGS
)
_SPECTRUM = (
    Figure("spectrum across", "frequencies fall off too fast sideways", "frequencies fall off too slowly sideways"),
    Figure("spectrum down", "frequencies fall off too fast in depth", "frequencies fall off too slowly in depth"),
    Figure("pattern", "frequencies are too even", "a regular pattern"),
)
FIGURES: tuple[Figure, ...] = (*_TONES, *_PLACES, *_TEXTURE, *_SPECKLE, *_GRAIN, *_SPECTRUM)


def image_statistics(image: Grey) -> NDArray[np.float64]:
    """Return the FIGURES of an image, float64 (F,), all finite.

    Args:
        image: grey, uint8 (H, W), not of one level.
    """
    small = working_size(image)
    parts = (_tones(small), _places(small), _texture(small), _speckle(small), _grain(small), _spectrum(small))
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def working_size(image: Grey) -> Floats:
    """Return the image, float32 (h, w) in [0, 255], of about SIDE_PX ** 2 pixels and the same proportions within 1 : 3."""
    height, width = image.shape
    proportion = np.sqrt(np.clip(height / width, 1 / 3, 3))
    size = (round(SIDE_PX / proportion), round(SIDE_PX * proportion))
    shrinks = size[0] <= width and size[1] <= height
    grey = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(grey, np.float32)


def _tones(grey: Floats) -> list[float]:
    low, middle, high = np.percentile(grey, (10, 50, 90))
    spread = grey.std() + 1
    levels = np.histogram(grey, bins=32, range=(0, 256))[0] / grey.size
    return [
        np.sqrt((grey < BLACK).mean()),
        np.sqrt((grey > WHITE).mean()),
        np.log(low + 4),
        np.log(middle + 4),
        np.log(high + 4),
        np.log(spread),
        ((grey - grey.mean()) ** 3).mean() / spread**3,
        np.log(levels[1:].max() + 0.01),
    ]


def _places(grey: Floats) -> list[float]:
    height, width = grey.shape
    mean = grey.mean()

    def relative(part: Floats) -> float:
        return float(np.log((part.mean() + 4) / (mean + 4)))

    rows, columns = grey.mean(axis=1), grey.mean(axis=0)
    corner = (height // 6, width // 6)
    variance = grey.var() + 1
    return [
        *(relative(band) for band in np.array_split(rows, BANDS)),
        min(relative(grey[: corner[0], : corner[1]]), relative(grey[: corner[0], -corner[1] :])),
        min(relative(grey[-corner[0] :, : corner[1]]), relative(grey[-corner[0] :, -corner[1] :])),
        relative(np.concatenate([columns[: corner[1] // 2], columns[-(corner[1] // 2) :]])),
        abs(relative(columns[: width // 2]) - relative(columns[width // 2 :])),
        np.log(rows.var() / variance + 0.01),
        np.log(columns.var() / variance + 0.01),
    ]


def _texture(grey: Floats) -> list[float]:
    total = grey.std() + 1
    figures: list[float] = []
    level = grey
    for _ in range(OCTAVES):
        blurred = cv2.GaussianBlur(level, (0, 0), 1.4)
        band = level - blurred
        spread = band.std() + 0.05
        across, down = (float(np.abs(np.diff(level, axis=axis)).mean()) + 0.05 for axis in (1, 0))
        kurtosis = float((band**4).mean() / spread**4)
        figures += [np.log(spread / total), np.log(down / across), np.log(kurtosis + 0.5)]
        level = np.asarray(blurred[::2, ::2], np.float32)
    return figures


def _speckle(grey: Floats) -> list[float]:
    window = (WINDOW_PX, WINDOW_PX)
    mean = cv2.blur(grey, window)
    spread = np.sqrt(np.maximum(cv2.blur(grey * grey, window) - mean * mean, 0))[::3, ::3]
    mean = mean[::3, ::3]
    ratio = np.log((spread + 0.5) / (mean + 4))
    tissue = mean >= min(15.0, float(np.median(mean)))
    low, middle, high = np.percentile(ratio[tissue], (10, 50, 90))
    fine = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.4)).mean(axis=1) + 0.2
    third = len(fine) // 3
    return [
        middle,
        low,
        high,
        _correlation(np.log(mean[tissue] + 4), np.log(spread[tissue] + 0.5)),
        np.log(fine[:third].mean() / fine[-third:].mean()),
        np.sqrt((spread[mean >= BLACK] < 1).mean()) if (mean >= BLACK).any() else 1.0,
        *_coherence(grey),
    ]


def _coherence(grey: Floats) -> tuple[float, float]:
    """Return how far local gradients agree in direction, in [0, 1], and to which side they slant, in [-1, 1]."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    xx, yy, xy = (cv2.GaussianBlur(product, (0, 0), 4.0) for product in (across * across, down * down, across * down))
    energy = xx + yy + 1
    return float((np.hypot(xx - yy, 2 * xy) / energy).mean()), float(2 * xy.mean() / energy.mean())


def _grain(grey: Floats) -> list[float]:
    residual = grey - cv2.GaussianBlur(grey, (0, 0), 3.0)
    return [_correlation(residual[:, :-lag], residual[:, lag:]) for lag in LAGS] + [
        _correlation(residual[:-lag], residual[lag:]) for lag in LAGS
    ]


def _spectrum(grey: Floats) -> list[float]:
    """Return the slopes of the logarithmic power spectrum along both axes, and how far peaks stand out of it."""
    height, width = grey.shape
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2 + 1
    figures = []
    peaks = 0.0
    for axis, length in ((0, width), (1, height)):
        profile = np.log(power.mean(axis=axis))[2 : min(height, width) // 2]
        frequency = np.log(np.arange(2, 2 + len(profile)) / length)
        slope, offset = np.polyfit(frequency, profile, 1)
        residual = profile - (slope * frequency + offset)
        peaks = max(peaks, float(np.abs(residual - cv2.blur(residual, (1, 7))[:, 0]).max()))
        figures.append(float(slope))
    return [*figures, np.log(peaks + 0.1)]


def _correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    first, second = first.ravel() - first.mean(), second.ravel() - second.mean()
    scale = float(np.sqrt(np.dot(first, first) * np.dot(second, second)))
    return float(np.dot(first, second)) / scale if scale > 1e-3 * len(first) else 0.0
