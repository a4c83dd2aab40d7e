"""Global features of an image, which detect images of another kind: grey levels, depth, layers, texture and speckle.

All are taken at one working size, so that the number of pixels matters little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft2

# The square root of the working size in pixels: smaller than most scans, so that few are enlarged.
SIDE_PX = 128
BLACK, WHITE = 8, 247
BANDS = 6
OCTAVES = 4
WINDOW_PX = 9
FINE = 1.4  # px; of the Gaussian that takes away what is finest
LAGS = (1, 2, 4)

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Figure:
    """A figure: its unique name, and what an image with too low, or too high, a value is like, in words."""

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
    Figure("top corners", "dark top corners as in a fan-shaped picture", "bright top corners"),
    Figure("bottom corners", "dark bottom corners as in a fan-shaped picture", "bright bottom corners"),
    Figure("sides", "dark left and right edges", "left and right edges brighter than the middle"),
    Figure("left against right", "left and right alike", "left and right unlike each other"),
    Figure("rows", "the same from top to bottom without layers", "strong horizontal layers or stripes"),
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
    """Return the FIGURES, float64 (F,), all finite, of a grey image, uint8 (H, W), not of one level."""
    small = working_size(image)
    grey = small.astype(np.float32)
    tones = Tones.of(small)
    blurred = np.asarray(cv2.GaussianBlur(grey, (0, 0), FINE), np.float32)
    figures = [*_tones(tones), *_places(grey, tones), *_texture(grey, blurred, tones)]
    return np.array([*figures, *_speckle(grey, blurred), *_grain(grey), *_spectrum(grey, tones)], np.float64)


def working_size(image: Grey) -> Grey:
    """Return the image, uint8 (h, w), of about SIDE_PX ** 2 pixels and the same proportions within 1 : 3."""
    height, width = image.shape
    proportion = np.sqrt(np.clip(height / width, 1 / 3, 3))
    size = (round(SIDE_PX / proportion), round(SIDE_PX * proportion))
    shrinks = size[0] <= width and size[1] <= height
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


@dataclass(frozen=True)
class Tones:
    """How many pixels have each grey level, int (256,), and what follows from that alone."""

    counts: NDArray[np.int64]
    size: int
    mean: float
    variance: float
    spread: float

    @classmethod
    def of(cls, grey: Grey) -> "Tones":
        """Return those of an image, uint8 (H, W)."""
        counts = np.bincount(grey.ravel(), minlength=256)
        mean = float(counts @ _LEVELS) / grey.size
        variance = float(counts @ (_LEVELS - mean) ** 2) / grey.size
        return cls(counts, grey.size, mean, variance, math.sqrt(variance))

    def percentile(self, percent: float) -> float:
        """Return a percentile, between two levels where it falls between two pixels, as numpy does."""
        until = np.cumsum(self.counts)
        place = percent / 100 * (self.size - 1)
        below, above = (int(np.searchsorted(until, number, "right")) for number in (math.floor(place), math.ceil(place)))
        return below + (above - below) * (place - math.floor(place))


_LEVELS = np.arange(256.0)


def _tones(tones: Tones) -> list[float]:
    spread = tones.spread + 1
    shares = tones.counts / tones.size
    return [
        math.sqrt(shares[:BLACK].sum()),
        math.sqrt(shares[WHITE + 1 :].sum()),
        *(math.log(tones.percentile(percent) + 4) for percent in (10, 50, 90)),
        math.log(spread),
        float(shares @ (_LEVELS - tones.mean) ** 3) / spread**3,
        math.log(shares.reshape(32, 8).sum(1)[1:].max() + 0.01),
    ]


def _places(grey: Floats, tones: Tones) -> list[float]:
    height, width = grey.shape

    def relative(part: Floats) -> float:
        return math.log((_mean(part) + 4) / (tones.mean + 4))

    rows, columns = (np.asarray(cv2.reduce(grey, axis, cv2.REDUCE_AVG), np.float32).ravel() for axis in (1, 0))
    corner = (height // 6, width // 6)
    variance = tones.variance + 1
    return [
        *(relative(band) for band in np.array_split(rows, BANDS)),
        min(relative(grey[: corner[0], : corner[1]]), relative(grey[: corner[0], -corner[1] :])),
        min(relative(grey[-corner[0] :, : corner[1]]), relative(grey[-corner[0] :, -corner[1] :])),
        relative(np.concatenate([columns[: corner[1] // 2], columns[-(corner[1] // 2) :]])),
        abs(relative(columns[: width // 2]) - relative(columns[width // 2 :])),
        math.log(_spread(rows) ** 2 / variance + 0.01),
        math.log(_spread(columns) ** 2 / variance + 0.01),
    ]


def _texture(grey: Floats, blurred: Floats, tones: Tones) -> list[float]:
    figures: list[float] = []
    level = grey
    for octave in range(OCTAVES):
        blurred = np.asarray(cv2.GaussianBlur(level, (0, 0), FINE), np.float32) if octave else blurred
        band = level - blurred
        spread = _spread(band) + 0.05
        squares = (band * band).ravel()
        across = cv2.norm(level[:, 1:], level[:, :-1], cv2.NORM_L1) / level[:, 1:].size + 0.05
        down = cv2.norm(level[1:], level[:-1], cv2.NORM_L1) / level[1:].size + 0.05
        kurtosis = float(np.dot(squares, squares)) / squares.size / spread**4
        figures += [math.log(spread / (tones.spread + 1)), math.log(down / across), math.log(kurtosis + 0.5)]
        level = np.ascontiguousarray(blurred[::2, ::2])
    return figures


def _mean(values: NDArray[Any]) -> float:
    return float(cv2.mean(values)[0])


def _spread(values: Floats) -> float:
    return float(cv2.meanStdDev(values)[1][0, 0])


def _speckle(grey: Floats, blurred: Floats) -> list[float]:
    window = (WINDOW_PX, WINDOW_PX)
    mean = cv2.blur(grey, window)[::3, ::3]
    spread = np.sqrt(np.maximum(cv2.blur(grey * grey, window)[::3, ::3] - mean * mean, 0))
    ratio = np.log((spread + 0.5) / (mean + 4))
    tissue = mean >= min(15.0, float(np.median(mean)))
    low, middle, high = _percentiles(ratio[tissue], (10, 50, 90))
    fine = cv2.reduce(cv2.absdiff(grey, blurred), 1, cv2.REDUCE_AVG).ravel() + 0.2
    third = len(fine) // 3
    return [
        middle,
        low,
        high,
        _correlation(np.log(mean[tissue] + 4), np.log(spread[tissue] + 0.5)),
        math.log(_mean(fine[:third]) / _mean(fine[-third:])),
        math.sqrt((spread[mean >= BLACK] < 1).mean()) if (mean >= BLACK).any() else 1.0,
        *_coherence(grey),
    ]


def _percentiles(values: Floats, percents: Sequence[int]) -> list[float]:
    """Return percentiles as `np.percentile` has them, in a fifth of its time."""
    ordered = np.sort(values)
    places = [percent / 100 * (len(ordered) - 1) for percent in percents]
    pairs = [(ordered[math.floor(place)], ordered[math.ceil(place)]) for place in places]
    return [float(below + (place % 1) * (above - below)) for place, (below, above) in zip(places, pairs, strict=True)]


def _coherence(grey: Floats) -> tuple[float, float]:
    """Return how far local gradients agree in direction, in [0, 1], and to which side they slant, in [-1, 1]."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    half = (grey.shape[1] // 2, grey.shape[0] // 2)  # the products are blurred anyway, which is cheaper at half the size
    xx, yy, xy = (
        cv2.GaussianBlur(cv2.resize(product, half, interpolation=cv2.INTER_AREA), (0, 0), 2.0)
        for product in (across * across, down * down, across * down)
    )
    energy = xx + yy + 1
    return _mean(cv2.magnitude(xx - yy, 2 * xy) / energy), 2 * _mean(xy) / _mean(energy)


def _grain(grey: Floats) -> list[float]:
    residual = grey - cv2.GaussianBlur(grey, (0, 0), 3.0)
    return [_likeness(residual[:, :-lag], residual[:, lag:]) for lag in LAGS] + [
        _likeness(residual[:-lag], residual[lag:]) for lag in LAGS
    ]


def _spectrum(grey: Floats, tones: Tones) -> list[float]:
    """Return the slopes of the logarithmic power spectrum along both axes, and how far peaks stand out of it."""
    height, width = grey.shape
    spectrum = rfft2((grey - np.float32(tones.mean)) * np.outer(np.hanning(height), np.hanning(width)).astype(np.float32))
    power = spectrum.real**2 + spectrum.imag**2 + 1
    figures = []
    peaks = 0.0
    for axis, length in ((0, width), (1, height)):
        profile = np.log(power.mean(axis=axis))[2 : min(height, width) // 2]
        frequency = np.log(np.arange(2, 2 + len(profile)) / length)
        centred = frequency - frequency.mean()
        slope = float(np.dot(centred, profile)) / float(np.dot(centred, centred))
        residual = profile - profile.mean() - slope * centred
        peaks = max(peaks, float(np.abs(residual - cv2.blur(residual, (1, 7))[:, 0]).max()))
        figures.append(slope)
    return [*figures, math.log(peaks + 0.1)]


def _likeness(first: Floats, second: Floats) -> float:
    """Return the correlation of two parts of an image of mean zero, without a copy of either."""
    size = first.size
    (first_mean, first_spread), (second_mean, second_spread) = (
        (float(mean[0, 0]), float(spread[0, 0])) for mean, spread in (cv2.meanStdDev(first), cv2.meanStdDev(second))
    )
    apart = cv2.norm(first, second, cv2.NORM_L2SQR) / size - (first_mean - second_mean) ** 2  # variance of the difference
    scale = first_spread * second_spread
    return (first_spread**2 + second_spread**2 - apart) / (2 * scale) if scale > 1e-3 else 0.0


def _correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    first, second = first.ravel() - first.mean(), second.ravel() - second.mean()
    scale = float(np.sqrt(np.dot(first, first) * np.dot(second, second)))
    return float(np.dot(first, second)) / scale if scale > 1e-3 * len(first) else 0.0
