"""Effects of the ultrasound machine and the tissue on an image: gain, speckle, shadows; as albumentations transforms.

All of it multiplies the echo, so it is done on an estimate of the echo's amplitude: the log compression is undone, and done
again afterwards (Singla et al., Speckle and Shadows, MIDL 2022, PMLR 172; Tirindelli et al., MICCAI 2021,
doi:10.1007/978-3-030-87237-3_66). Black is no echo, and no factor changes it: padding stays black.

The transforms draw from `self.py_random` and `self.random_generator` alone, which `Augmentation` sets for each draw.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import cv2
import numpy as np
from albumentations import ImageOnlyTransform
from pydantic import Field

from bcd.config.ranges import Ascending, Share

DynamicRange = Annotated[float, Field(ge=30, le=120)]
Gains = Annotated[Sequence[Annotated[float, Field(ge=-30, le=30)]], Ascending]


class LogCompression:
    """The curve from echo amplitude to grey value, and back: grey = a ln(1 + amplitude / floor), 0 to 255.

    Amplitude 1 is white. The floor lies the dynamic range below it; far above the floor a grey step is a fixed number of dB,
    near it the curve bends, so that amplitude 0 is black.

    Args:
        dynamic_range_db: in dB. Scanners show 50 to 70; data sets seldom say.
    """

    def __init__(self, dynamic_range_db: DynamicRange) -> None:
        self._floor = 10 ** (-dynamic_range_db / 20)
        self._step = math.log1p(1 / self._floor) / 255
        self._amplitudes = (self._floor * np.expm1(np.arange(256) * self._step)).astype(np.float32)

    def amplitude(self, image: np.ndarray) -> np.ndarray:
        """Return the echo amplitude, float32 in [0, 1], of grey values, uint8."""
        return self._amplitudes[image]

    def grey(self, amplitude: np.ndarray) -> np.ndarray:
        """Return the grey value, uint8, of an echo amplitude, float32; above 1 it stays white."""
        # Not log1p, which takes ten times as long: the smallest amplitude above 0 is well above float32's resolution at 1.
        grey = np.log(amplitude * np.float32(1 / self._floor) + np.float32(1)) * np.float32(1 / self._step)
        return np.minimum(grey + 0.5, 255).astype(np.uint8)


def content_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right (bottom and right exclusive) of what is not black; all of a black image."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    if not len(rows):
        return 0, image.shape[0], 0, image.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


class _EchoTransform(ImageOnlyTransform):
    """Multiplies the echo amplitude by the factor that a subclass draws, between undone and done log compression."""

    def __init__(self, dynamic_range_db: DynamicRange, p: Share) -> None:
        super().__init__(p=p)
        self.compression = LogCompression(dynamic_range_db)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the factor."""
        return {"factor": self.draw_factor(data["image"], data.get("mask"))}

    def apply(self, img: np.ndarray, factor: np.ndarray, **params: Any) -> np.ndarray:
        """Return the image, uint8 (H, W), with the factor, float32 that broadcasts to (H, W), on its echoes."""
        return self.compression.grey(self.compression.amplitude(img) * factor)

    def draw_factor(self, image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Return what the echo amplitude is multiplied by, float32 that broadcasts to (H, W)."""
        raise NotImplementedError


class TimeGain(_EchoTransform):
    """Gain, and time-gain compensation: sliders that amplify each depth differently, with smooth passages between them.

    Args:
        gain_db: overall gain, drawn from this range, in dB.
        slider_db: each slider's gain, drawn from this range, in dB.
        dynamic_range_db: of the log compression, in dB.
        p: how often it is applied.
    """

    SLIDERS = 6  # scanners have 6 to 10

    def __init__(self, gain_db: Gains, slider_db: Gains, dynamic_range_db: DynamicRange, p: Share) -> None:
        super().__init__(dynamic_range_db, p)
        self.gain_db = tuple(gain_db)
        self.slider_db = tuple(slider_db)

    def draw_factor(self, image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Return the gain of each row, float32 (H, 1)."""
        top, bottom, _, _ = content_box(image)
        sliders = self.random_generator.uniform(*self.slider_db, self.SLIDERS).astype(np.float32)
        decibels = np.zeros((image.shape[0], 1), np.float32)
        decibels[top:bottom] = cv2.resize(sliders[:, None], (1, bottom - top), interpolation=cv2.INTER_CUBIC)
        decibels += self.py_random.uniform(*self.gain_db)
        return _factor(decibels)


class Speckle(_EchoTransform):
    """Speckle as interference makes it: the amplitude of complex Gaussian noise, with grains of a given size.

    At full strength it is Rayleigh distributed (Burckhardt 1978, doi:10.1109/T-SU.1978.30978); scaled down in dB it is what
    compounding and filters in the scanner leave of it. The mean in dB stays.

    Args:
        std_db: standard deviation in dB, drawn from this range; 5.57 is fully developed speckle.
        grain: height of a grain as a share of the image's side, drawn from this range: full width at half
            maximum of the intensity's autocovariance. A grain is half as wide again as it is high: beams are wider than pulses
            are long.
        dynamic_range_db: of the log compression, in dB.
        p: how often it is applied.
    """

    WIDTH_TO_HEIGHT = 1.5
    # The logarithm of an exponential intensity has the mean -Euler's constant and the standard deviation pi / sqrt(6).
    FULLY_DEVELOPED_DB = 10 / math.log(10) * math.pi / math.sqrt(6)

    def __init__(
        self,
        std_db: Annotated[Sequence[Annotated[float, Field(ge=0, le=5.57)]], Ascending],
        grain: Annotated[Sequence[Annotated[float, Field(ge=0.002, le=0.05)]], Ascending],
        dynamic_range_db: DynamicRange,
        p: Share,
    ) -> None:
        super().__init__(dynamic_range_db, p)
        self.std_db = tuple(std_db)
        self.grain = tuple(grain)

    def draw_factor(self, image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Return speckle, float32 (H, W), positive, with geometric mean 1."""
        strength = self.py_random.uniform(*self.std_db) / self.FULLY_DEVELOPED_DB
        # The intensity's autocovariance is the squared one of the field, so it is as wide as the blur itself.
        sigma = self.py_random.uniform(*self.grain) * max(image.shape) / math.sqrt(8 * math.log(2))
        intensity = self._intensity(image.shape[:2], (sigma, sigma * self.WIDTH_TO_HEIGHT))
        return np.exp((np.log(intensity) + np.float32(np.euler_gamma)) * np.float32(strength / 2))

    def _intensity(self, shape: tuple[int, ...], sigmas: tuple[float, float]) -> np.ndarray:
        """Return the intensity of a complex Gaussian field blurred along rows and columns, float32, positive, with mean 1."""
        kernels = [cv2.getGaussianKernel(2 * math.ceil(3 * sigma) + 1, sigma, cv2.CV_32F) for sigma in sigmas]
        variance = float(np.prod([(kernel**2).sum() for kernel in kernels]))
        noise = self.random_generator.standard_normal((2, *shape), dtype=np.float32)
        real, imaginary = (cv2.sepFilter2D(part, -1, kernels[1], kernels[0]) for part in noise)
        return (real**2 + imaginary**2) * np.float32(0.5 / variance) + np.finfo(np.float32).tiny


class AcousticShadow(_EchoTransform):
    """Shadows: what lies below a strongly reflecting or absorbing spot gets less sound. They fall downwards, from the probe.

    A shadow starts at a random point, or right below the lesion, at its width, as behind many malignant masses. Its sides fade.

    Args:
        number: how many, drawn from this range.
        width: of a shadow where it starts, as a share of the image's width, drawn from this range.
        spread_deg: by how much each side leans outwards, in degrees, drawn from this range.
        loss_db: attenuation in the middle of the shadow, in dB, drawn from this range.
        below_lesion: how often a shadow starts below the lesion, where there is one.
        dynamic_range_db: of the log compression, in dB.
        p: how often it is applied.
    """

    def __init__(
        self,
        number: Annotated[Sequence[Annotated[int, Field(ge=1, le=5)]], Ascending],
        width: Annotated[Sequence[Annotated[float, Field(ge=0.01, le=0.5)]], Ascending],
        spread_deg: Annotated[Sequence[Annotated[float, Field(ge=0, le=30)]], Ascending],
        loss_db: Annotated[Sequence[Annotated[float, Field(ge=0, le=60)]], Ascending],
        below_lesion: Share,
        dynamic_range_db: DynamicRange,
        p: Share,
    ) -> None:
        super().__init__(dynamic_range_db, p)
        self.number = tuple(number)
        self.width = tuple(width)
        self.spread_deg = tuple(spread_deg)
        self.loss_db = tuple(loss_db)
        self.below_lesion = below_lesion

    def draw_factor(self, image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Return the transmission, float32 (H, W) in (0, 1]: 1 outside the shadows."""
        loss = np.zeros(image.shape[:2], np.float32)
        for _ in range(self.py_random.randint(*self.number)):
            starts, centre, half_width = self._origin(image, mask)
            spread = math.tan(math.radians(self.py_random.uniform(*self.spread_deg)))
            depth = self.py_random.uniform(*self.loss_db) * self._streaks(image.shape[1])
            # Where two shadows meet, the deeper one counts.
            loss = np.maximum(loss, depth * _shadow(loss.shape, starts, centre, half_width, spread))
        return _factor(-loss)

    def _origin(self, image: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, float, float]:
        """Return where a shadow starts in each column, (W,), its middle and half its width, in px."""
        # All is drawn in any case: what follows does not depend on whether there is a lesion.
        below = self.py_random.random() < self.below_lesion
        top, bottom, left, right = content_box(image)
        row = self.py_random.uniform(top, top + 0.7 * (bottom - top))
        centre = self.py_random.uniform(left, right)
        half_width = 0.5 * self.py_random.uniform(*self.width) * (right - left)
        columns = np.arange(image.shape[1], dtype=np.float32)
        if not below or mask is None or not mask.any():
            # Rounded, like the upper side of the object that casts it.
            return row + (columns - centre) ** 2 / (2 * half_width), centre, half_width
        lesion_columns = np.flatnonzero(mask.any(axis=0))
        half_width = 0.5 * float(lesion_columns[-1] - lesion_columns[0] + 1)
        lowest = mask.shape[0] - 1 - mask[::-1, lesion_columns].argmax(axis=0)
        starts = np.interp(columns, lesion_columns, lowest).astype(np.float32)
        # Smooth, because a notch in the contour would give the shadow a hard side.
        return cv2.GaussianBlur(starts[None], (0, 0), 1 + half_width / 4)[0], float(lesion_columns.mean()), half_width

    def _streaks(self, width: int) -> np.ndarray:
        """Return which share of the loss each column has, float32 (W,): what casts a shadow is not equally dense all over."""
        drawn = self.random_generator.uniform(0.6, 1, (1, 40)).astype(np.float32)
        return cv2.resize(drawn, (width, 1), interpolation=cv2.INTER_LINEAR)[0]


def _shadow(shape: tuple[int, ...], starts: np.ndarray, centre: float, half_width: float, spread: float) -> np.ndarray:
    """Return how deep a shadow is, float32 (H, W) in [0, 1]: it sets in over its half width, and its sides fade over as much."""
    depth = np.arange(shape[0], dtype=np.float32)[:, None] - starts[None]
    half_widths = half_width + spread * np.maximum(depth, 0)
    inside = (half_widths - np.abs(np.arange(shape[1], dtype=np.float32) - centre)) / half_widths
    return _smooth_step(depth / half_width) * _smooth_step(inside + 0.5)


def _smooth_step(ramp: np.ndarray) -> np.ndarray:
    clipped = np.clip(ramp, 0, 1)
    return clipped * clipped * (3 - 2 * clipped)


def _factor(decibels: np.ndarray) -> np.ndarray:
    return np.exp(decibels * np.float32(math.log(10) / 20))
