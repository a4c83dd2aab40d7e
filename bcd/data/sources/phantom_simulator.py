"""B-mode breast ultrasound, simulated: anatomy and lesion -> echogenicity -> speckle -> attenuation -> log compression.

The echogenicity map (dB; 0 dB is white at neutral gain) holds skin, subcutaneous fat, glandular tissue, muscle and
chest wall, the things that readers mistake for lesions, and the lesion itself. Complex Gaussian scatterers with that
amplitude, convolved with a separable point-spread function, give the envelope: fully developed speckle, Rayleigh
distributed (Burckhardt, IEEE Trans. Sonics Ultrason. 1978, doi:10.1109/T-SU.1978.30978). Not modelled: refraction,
reverberation, the beam's focus.

Class speaks through one number, `suspicion`, normal with variance 1 and mean -SEPARATION / 2 in benign, SEPARATION / 2
in malignant lesions; shape, echo and shadow each follow it with noise of their own. So no reader of the images can
expect an AUROC above Phi(SEPARATION / sqrt(2)) = 0.92, and one sign alone says less than all together.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIMULATOR_VERSION = 1
"""Goes into the folder name of a data set: raise it with every change that alters a pixel."""

SEPARATION = 2.0

Pixels = NDArray[np.float32]
Image = NDArray[np.uint8]
Size = tuple[int, int]


@dataclass(frozen=True)
class Anatomy:
    """A breast under the probe: what the views of one patient share.

    Args:
        boundaries: lower ends of skin, subcutaneous fat, glandular tissue and muscle, as fractions of the image height.
        waves: (3,) amplitudes of the boundaries' waves as fractions of the image height, long waves first.
        density: share of glandular tissue in the glandular layer, in [0, 1]; the rest is fat.
        gland_db: mean echogenicity of glandular tissue.
        attenuation_db: what tissue takes from the echo over the whole depth.
        psf_px: standard deviations (axial, lateral) of the point-spread function.
    """

    boundaries: tuple[float, float, float, float]
    waves: tuple[float, float, float]
    density: float
    gland_db: float
    attenuation_db: float
    psf_px: tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """A lesion's contour.

    Args:
        size: geometric mean of width and height, as a fraction of the image width.
        aspect: height / width before irregularity; above 1 is taller than wide.
        irregularity: amplitude of the slow waves of the contour, relative to its radius.
        lobulation: amplitude of the fast waves of the contour, relative to its radius.
        spiculation: mean length of the spicules, relative to the radius; 0 without spicules.
        seed: draws the phases of waves and spicules.
    """

    size: float
    aspect: float
    irregularity: float
    lobulation: float
    spiculation: float
    seed: int


@dataclass(frozen=True)
class Echo:
    """A lesion's echo.

    Args:
        pattern: `anechoic`, `hypoechoic`, `isoechoic` or `heterogeneous`.
        contrast_db: echogenicity minus that of the tissue it replaces.
        heterogeneity_db: standard deviation of the echogenicity within.
        posterior_db: echo behind the lesion; above 0 enhancement, below 0 shadow.
        edge_px: blur of the margin.
        capsule_db: height of the thin echogenic rim; 0 without capsule.
        halo_db: height of the broad echogenic rim; 0 without halo.
    """

    pattern: str
    contrast_db: float
    heterogeneity_db: float
    posterior_db: float
    edge_px: float
    capsule_db: float
    halo_db: float


@dataclass(frozen=True)
class Lesion:
    """A lesion: what the views of one patient share.

    Args:
        suspicion: the hidden number that shape and echo follow; high looks malignant.
        centre: (depth, lateral) as fractions of the image height and width.
        shape: its contour.
        echo: its echo.
    """

    suspicion: float
    centre: tuple[float, float]
    shape: Shape
    echo: Echo


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Return a random breast."""
    skin = rng.uniform(0.035, 0.06)
    fat = skin + rng.uniform(0.06, 0.22)
    gland = rng.uniform(0.6, 0.8)
    return Anatomy(
        boundaries=(skin, fat, gland, gland + rng.uniform(0.12, 0.3)),
        waves=(rng.uniform(0.01, 0.04), rng.uniform(0.005, 0.02), rng.uniform(0.002, 0.008)),
        density=rng.uniform(0.45, 0.95),
        gland_db=rng.normal(-24.0, 2.5),
        attenuation_db=rng.uniform(35.0, 60.0),
        psf_px=(rng.uniform(0.8, 1.1), rng.uniform(1.7, 2.8)),
    )


def draw_lesion(rng: np.random.Generator, malignant: bool) -> Lesion:
    """Return a random lesion; class moves `suspicion` alone, and `suspicion` moves the rest."""
    suspicion = float(rng.normal(SEPARATION / 2 if malignant else -SEPARATION / 2))
    centre = (float(rng.uniform(0.26, 0.58)), float(rng.uniform(0.18, 0.82)))
    return Lesion(suspicion, centre, _draw_shape(rng, suspicion), _draw_echo(rng, suspicion))


def _draw_shape(rng: np.random.Generator, suspicion: float) -> Shape:
    log_size = _sign(rng, suspicion, np.log(0.17), np.log(0.2), 0.3) + 0.3 * rng.normal()
    return Shape(
        size=float(np.clip(np.exp(log_size), 0.09, 0.31)),
        aspect=float(np.clip(np.exp(_sign(rng, suspicion, np.log(0.66), np.log(0.9))), 0.4, 1.5)),
        irregularity=max(_sign(rng, suspicion, 0.05, 0.12), 0.01),
        lobulation=max(_sign(rng, suspicion, 0.0, 0.035, 0.6), 0.0),
        spiculation=max(_sign(rng, suspicion, -0.07, 0.15), 0.0),
        seed=int(rng.integers(2**31)),
    )


def _draw_echo(rng: np.random.Generator, suspicion: float) -> Echo:
    anechoic = bool(suspicion < -1.0 and rng.random() < 0.4)
    contrast_db = -45.0 if anechoic else float(np.clip(_sign(rng, suspicion, -7.5, -14.5, 0.5), -22.0, -3.5))
    heterogeneity_db = 0.5 if anechoic else max(_sign(rng, suspicion, 1.4, 2.6, 0.6), 0.5)
    solid = "isoechoic" if contrast_db > -6 else "heterogeneous" if heterogeneity_db > 2.6 else "hypoechoic"
    return Echo(
        pattern="anechoic" if anechoic else solid,
        contrast_db=contrast_db,
        heterogeneity_db=heterogeneity_db,
        posterior_db=_sign(rng, suspicion, 4.5, -8.0) + (3.0 if anechoic else 0.0),
        edge_px=max(_sign(rng, suspicion, 1.0, 2.4, 0.6), 0.6),
        capsule_db=max(_sign(rng, suspicion, 9.0, -3.0, 0.5), 0.0),
        halo_db=max(_sign(rng, suspicion, 0.0, 6.0, 0.6), 0.0),
    )


def _sign(rng: np.random.Generator, suspicion: float, low: float, high: float, loyalty: float = 0.75) -> float:
    """Return a value around `low` at suspicion -1, `high` at +1; loyalty in [0, 1] is the share of suspicion in it."""
    z = loyalty * suspicion + np.sqrt(1 - loyalty**2) * rng.normal()
    return float((low + high) / 2 + (high - low) / 2 * z)


def simulate(rng: np.random.Generator, anatomy: Anatomy, lesion: Lesion | None, size: Size) -> tuple[Image, Image]:
    """Return one view: image uint8 (H, W), and mask uint8 (H, W) in {0, 1}, all zero without a lesion.

    Args:
        rng: draws the slice: texture, speckle, distractors, the lesion's pose, gain and dynamic range.
        anatomy: the breast.
        lesion: the lesion, or None.
        size: (H, W) in pixels; texture and speckle are made for about (300, 360), and keep their pixels at others.
    """
    tissue = tissue_echogenicity(rng, anatomy, size)
    path_db = distractors(rng, anatomy, tissue)
    mask = np.zeros(size, np.uint8)
    if lesion is not None:
        cv2.fillPoly(mask, [contour(rng, lesion, size)], 1)
        path_db += paint_lesion(rng, lesion.echo, mask, tissue)
    depth = np.linspace(0, 1, size[0], dtype=np.float32)[:, None]
    loss_db = anatomy.attenuation_db * depth
    residual_db = rng.uniform(8.0, 26.0) * depth ** rng.uniform(1.0, 2.5)
    # Receiver noise passes the same filter as the echo, so both are one complex Gaussian with the summed power.
    power = np.exp((tissue + path_db - loss_db) * np.float32(np.log(10) / 10)) + np.float32(10 ** (-92 / 10))
    echo_db = 20 * np.log10(envelope(rng, np.sqrt(power), anatomy.psf_px)) + loss_db - residual_db
    return log_compress(echo_db + rng.normal(1.0, 2.0), rng.uniform(50.0, 60.0)), mask


def simulate_image(rng: np.random.Generator, label: str, size: Size) -> Image:
    """Return an image, uint8 (H, W), of a random breast: `normal`, or with a `benign` or `malignant` lesion."""
    anatomy = draw_anatomy(rng)
    return simulate(rng, anatomy, None if label == "normal" else draw_lesion(rng, label == "malignant"), size)[0]


def envelope(rng: np.random.Generator, amplitude: Pixels, psf_px: tuple[float, float]) -> Pixels:
    """Return the echo's magnitude (H, W), above 0: with constant amplitude, Rayleigh with mean square amplitude ** 2.

    Args:
        rng: draws the scatterers.
        amplitude: (H, W), root mean square of the complex scatterers.
        psf_px: standard deviations (axial, lateral) of the point-spread function.
    """
    kernels = [np.asarray(cv2.getGaussianKernel(2 * round(3 * sigma) + 1, sigma), np.float64) for sigma in psf_px]
    axial, lateral = (kernel / np.linalg.norm(kernel) for kernel in kernels)  # of unit energy: speckle keeps the scatterers' power
    scaled = amplitude * np.float32(np.sqrt(0.5))
    real, imaginary = (
        cv2.sepFilter2D(rng.standard_normal(amplitude.shape, np.float32) * scaled, -1, lateral, axial) for _ in range(2)
    )
    return np.maximum(cv2.magnitude(real, imaginary), 1e-9, dtype=np.float32)


def log_compress(echo_db: Pixels, dynamic_range_db: float) -> Image:
    """Return grey levels uint8, slightly smoothed as scanners do: 0 dB is 255, minus the dynamic range is 0."""
    grey = cv2.GaussianBlur(255 + echo_db * (255 / dynamic_range_db), (3, 3), 0.65)
    return np.clip(grey, 0, 255).astype(np.uint8)


def tissue_echogenicity(rng: np.random.Generator, anatomy: Anatomy, size: Size) -> Pixels:
    """Return the layers (H, W) in dB, without lesion and distractors."""
    height, width = size
    fat = -36 + 1.5 * _field(rng, size, 20, 40) + 15 * _lines(_field(rng, size, 30, 110), 0.07)
    gland = anatomy.gland_db + 4 * _field(rng, size, 10, 44) + 2 * _field(rng, size, 4, 12)
    gland += 12 * _lines(_field(rng, size, 12, 90), 0.13) - 2
    fatty = 1 / (1 + np.exp(4 * (_field(rng, size, 16, 55) + 2 * (anatomy.density - 0.35))))
    gland += fatty * (fat - gland)
    muscle = -35 + 2 * _field(rng, size, 5, 60) + 14 * _lines(_field(rng, size, 9, 200), 0.15)
    chest = -42 + 3 * _field(rng, size, 10, 60)
    skin = -18 + 2 * _field(rng, size, 2, 40)
    rows = np.arange(height, dtype=np.float32)[:, None]
    tissue = skin
    for lower, start, fascia_db in zip((fat, gland, muscle, chest), anatomy.boundaries, (10, 5, 15, 18), strict=True):
        below = rows - (start * height + _wave(rng, anatomy, size) * min(1.0, 4 * start))
        tissue = np.where(below > 0, lower, tissue)
        tissue += fascia_db * np.exp(-((below / (0.006 * height)) ** 2)) * (0.6 + 0.4 * _field(rng, (1, width), 1, 50))
    # The fibres bend with the breast; the skin lies flat under the probe.
    bend = 0.035 * height * _field(rng, size, height / 3, width / 3) * np.clip(3 * rows / height, 0, 1)
    columns = np.tile(np.arange(width, dtype=np.float32), (height, 1))
    bent = cv2.remap(tissue.astype(np.float32), columns, rows + bend, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(bent, np.float32)


def distractors(rng: np.random.Generator, anatomy: Anatomy, tissue: Pixels) -> Pixels:
    """Paint fat lobules and ribs into `tissue`; return the shadows of ribs, ligaments and poor contact (H, W) in dB."""
    height, width = tissue.shape
    for _ in range(rng.poisson(1.2)):
        centre = (rng.uniform(0, width), height * rng.uniform(anatomy.boundaries[1], anatomy.boundaries[2]))
        axes = rng.uniform(0.04, 0.13) * width * np.array([1, rng.uniform(0.3, 0.6)])
        lobule = _ellipse((height, width), centre, axes, rng.normal(0, 12))
        level = -34 + 1.5 * _field(rng, (height, width), 8, 16)
        tissue += lobule * (level - tissue) + 24 * lobule * (1 - lobule)
    path_db = np.zeros_like(tissue)
    if rng.random() < 0.25:
        centre = (rng.uniform(0, width), height * rng.uniform(anatomy.boundaries[2] + 0.06, 0.98))
        rib = _ellipse((height, width), centre, np.array([0.12, 0.05]) * width, rng.normal(0, 5))
        path_db -= 30 * _shadow(rib, 0.05 * width)
        tissue += 48 * rib * (1 - rib)
    columns = np.arange(width, dtype=np.float32)
    depth = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    path_db += depth * 2.0 * _field(rng, (1, width), 1, 25)
    if rng.random() < 0.3:
        edge = rng.choice([0, width]) + rng.normal(0, 0.08) * width
        path_db -= rng.uniform(8, 25) * np.exp(-(((columns - edge) / (rng.uniform(0.05, 0.18) * width)) ** 2))
    return path_db


def contour(rng: np.random.Generator, lesion: Lesion, size: Size) -> NDArray[np.int32]:
    """Return the lesion's contour in this view, (360, 2) as (column, row), inside the image and below the skin."""
    height, width = size
    shape, phases = lesion.shape, np.random.default_rng(lesion.shape.seed)
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    radius = np.ones_like(angle)
    for waves in range(2, 6):
        radius += shape.irregularity * np.sqrt(2 / waves) * np.cos(waves * angle + phases.uniform(0, 2 * np.pi))
        radius += 0.012 * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    radius += shape.lobulation * np.cos(phases.integers(7, 13) * angle + phases.uniform(0, 2 * np.pi))
    for _ in range(phases.integers(5, 11)):
        length, where = shape.spiculation * phases.gamma(3, 1 / 3), phases.uniform(0, 2 * np.pi)
        radius += length * np.exp(phases.uniform(40, 160) * (np.cos(angle - where) - 1))
    scale = 0.5 * shape.size * width * np.exp(0.08 * rng.normal())
    aspect = np.sqrt(shape.aspect * np.exp(0.06 * rng.normal()))
    tilt = np.deg2rad(rng.normal(0, 10))
    across, down = scale / aspect * radius * np.cos(angle), scale * aspect * radius * np.sin(angle)
    points = np.stack([np.cos(tilt) * across - np.sin(tilt) * down, np.sin(tilt) * across + np.cos(tilt) * down], 1)
    low, high = np.array([0.02 * width, 0.09 * height]), np.array([0.98 * width, 0.9 * height])
    points *= min(1.0, float(np.min((0.48 * width, 0.65 * height) / np.ptp(points, axis=0))))
    depth, lateral = np.array(lesion.centre) + rng.normal(0, 0.05, 2)
    centre = np.clip((lateral * width, depth * height), low - points.min(0), high - points.max(0))
    return np.round(points + centre).astype(np.int32)


def paint_lesion(rng: np.random.Generator, echo: Echo, mask: Image, tissue: Pixels) -> Pixels:
    """Paint the lesion into `tissue`; return what it does to the echo behind it (H, W) in dB."""
    inside = mask.astype(np.float32)
    soft = np.asarray(cv2.GaussianBlur(inside, (0, 0), echo.edge_px), np.float32)
    texture = echo.heterogeneity_db * (0.8 * _field(rng, mask.shape, 12, 18) + 0.6 * _field(rng, mask.shape, 5, 7))
    level = cv2.mean(tissue, mask)[0] + echo.contrast_db + texture
    broad = cv2.GaussianBlur(inside, (0, 0), 3 + 0.03 * mask.shape[1])
    tissue += 2 * echo.halo_db * broad * (1 - inside)
    tissue += soft * (level - tissue) + 4 * echo.capsule_db * soft * (1 - soft)
    rows = np.flatnonzero(mask.any(1))
    return echo.posterior_db * _shadow(soft, 0.7 * len(rows))


def _shadow(inside: Pixels, thickness_px: float) -> Pixels:
    """Return how much of the beam's path to each pixel lay inside: 1 from `thickness_px` on; blurred across beams."""
    path = np.minimum(np.cumsum(inside, axis=0, dtype=np.float32) / np.float32(thickness_px), 1)
    return np.asarray(cv2.GaussianBlur(path, (15, 1), 3.5), np.float32)


def _field(rng: np.random.Generator, size: tuple[int, ...], axial_px: float, lateral_px: float) -> Pixels:
    """Return a smooth Gaussian random field (H, W), mean about 0, variance about 1, with these correlation lengths."""
    height, width = size
    # Twice the grid of the correlation length, blurred: no trace of the grid is left after enlarging.
    grid = (int(np.ceil(2 * height / axial_px)) + 4, int(np.ceil(2 * width / lateral_px)) + 4)
    coarse = cv2.GaussianBlur(rng.standard_normal(grid, np.float32), (5, 5), 1.0) * np.float32(3.4)
    wide, high = int(np.ceil(grid[1] * lateral_px / 2)), int(np.ceil(grid[0] * axial_px / 2))
    fine = cv2.resize(coarse, (wide, high), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine[:height, :width], np.float32)


def _lines(field: Pixels, thickness: float) -> Pixels:
    """Return thin curved lines, in [0, 1]: the zero crossings of a field look like ligaments and fibres."""
    return np.exp(-((field / thickness) ** 2), dtype=np.float32)


def _wave(rng: np.random.Generator, anatomy: Anatomy, size: Size) -> Pixels:
    """Return the waviness (1, W) of one boundary, in pixels."""
    lengths = (size[1] * 0.8, size[1] * 0.3, size[1] * 0.1)
    waves = [a * _field(rng, (1, size[1]), 1, length) for a, length in zip(anatomy.waves, lengths, strict=True)]
    return np.asarray(size[0] * np.sum(waves, axis=0), np.float32)


def _ellipse(size: Size, centre: tuple[float, float], axes: NDArray[np.float64], degrees: float) -> Pixels:
    """Return a soft ellipse (H, W) in [0, 1]; centre and half axes as (lateral, depth) in pixels."""
    canvas = np.zeros(size, np.float32)
    cv2.ellipse(canvas, (centre, tuple(2 * axes), degrees), 1.0, -1)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 1.2), np.float32)
