"""Pictures that no model of breast ultrasound should judge, made on the spot: what the scope check is measured on.

Photographs are scikit-learn's two; the rest is drawn. Scans of other organs are simulated by the physics of the breast phantoms,
so that organ and field of view tell them apart, and not the speckle. A curved probe's picture is simulated along its beams and
then laid out as a fan.
"""

from collections.abc import Callable, Mapping
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bcd.data.sources.phantom_simulator import Pixels, draw_anatomy, envelope, log_compress, tissue_echogenicity

Picture = NDArray[np.uint8]
Draw = Callable[[np.random.Generator], Picture]

_WORDS = ("the", "patient", "was", "seen", "and", "there", "is", "no", "evidence", "of", "a", "mass", "in", "either", "breast")


def pictures_of(kind: str, count: int, seed: int = 0) -> list[Picture]:
    """Return pictures of one of the KINDS: uint8, grey (H, W) or colour (H, W, 3).

    Args:
        kind: a key of KINDS.
        count: how many.
        seed: each picture follows from seed, kind and its number alone.
    """
    number = list(KINDS).index(kind)
    return [KINDS[kind](np.random.default_rng([seed, number, index])) for index in range(count)]


def grey_of(picture: Picture) -> Picture:
    """Return a picture's luma, uint8 (H, W)."""
    return np.asarray(Image.fromarray(picture).convert("L")) if picture.ndim == 3 else picture


def _size(rng: np.random.Generator) -> tuple[int, int]:
    """Return a height and width as scans have them."""
    return int(rng.integers(200, 600)), int(rng.integers(200, 700))


@cache
def _photographs() -> tuple[Picture, ...]:
    from sklearn.datasets import load_sample_image  # only here: it is slow to import

    return tuple(np.asarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))


def _photograph(rng: np.random.Generator) -> Picture:
    whole = _photographs()[rng.integers(2)]
    height, width = int(rng.integers(150, 427)), int(rng.integers(150, 640))
    top, left = int(rng.integers(0, 427 - height + 1)), int(rng.integers(0, 640 - width + 1))
    crop = whole[top : top + height, left : left + width]
    scale = rng.uniform(0.6, 2.0)
    return np.asarray(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))


def _grey_photograph(rng: np.random.Generator) -> Picture:
    return grey_of(_photograph(rng))


def _white_noise(rng: np.random.Generator) -> Picture:
    if rng.random() < 0.5:
        return rng.integers(0, 256, _size(rng), dtype=np.uint8)
    return _to_grey(rng.normal(rng.uniform(60, 190), rng.uniform(15, 60), _size(rng)))


def _pink_noise(rng: np.random.Generator) -> Picture:
    field = _coloured(rng, _size(rng), rng.uniform(0.7, 2.0))
    return _to_grey(rng.uniform(60, 160) + rng.uniform(25, 60) * field)


def _plain_speckle(rng: np.random.Generator) -> Picture:
    """Speckle of one echogenicity from top to bottom: a probe in a bucket of scatterers."""
    size = _size(rng)
    return _scan(rng, np.full(size, rng.uniform(-35, -15), np.float32))


def _text_page(rng: np.random.Generator) -> Picture:
    height, width = _size(rng)
    ground, ink = (255, 0) if rng.random() < 0.7 else (int(rng.integers(0, 40)), int(rng.integers(180, 256)))
    page = Image.new("L", (width, height), ground)
    height_px = int(rng.integers(10, 24))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(height_px)
    step = int(height_px * rng.uniform(1.2, 2))
    for top in range(10, height - 10, step):
        if rng.random() < 0.9:
            draw.text(
                (10, top), " ".join(rng.choice(_WORDS, 60))[: int(rng.integers(10, max(12, width // 6)))], fill=ink, font=font
            )
    return np.asarray(page)


def _screenshot(rng: np.random.Generator) -> Picture:
    """A window with a title, buttons, boxes and a table, in colour."""
    height, width = _size(rng)
    page = Image.new("RGB", (width, height), tuple(int(level) for level in rng.integers(200, 256, 3)))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    draw.rectangle((0, 0, width, 24), fill=tuple(int(level) for level in rng.integers(20, 160, 3)))
    draw.text((8, 6), " ".join(rng.choice(_WORDS, 4)), fill="white", font=font)
    for _ in range(int(rng.integers(5, 20))):
        left, top = int(rng.integers(0, width - 40)), int(rng.integers(30, height - 30))
        fill = tuple(int(level) for level in rng.integers(100, 256, 3))
        draw.rectangle((left, top, left + int(rng.integers(20, 200)), top + int(rng.integers(14, 80))), fill=fill, outline="black")
        draw.text((left + 3, top + 2), " ".join(rng.choice(_WORDS, 3)), fill="black", font=font)
    return np.asarray(page)


def _plot(rng: np.random.Generator) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only here: it is slow to import
    from matplotlib.figure import Figure

    figure = Figure(figsize=(rng.uniform(3, 6), rng.uniform(2.5, 5)), dpi=100)
    axes = figure.add_subplot(title=" ".join(rng.choice(_WORDS, 3)))
    kind = rng.integers(3)
    if kind == 0:
        axes.plot(rng.normal(size=(60, 3)).cumsum(axis=0))
    elif kind == 1:
        axes.bar(range(8), rng.uniform(size=8))
    else:
        axes.scatter(rng.normal(size=200), rng.normal(size=200), s=8)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _gradient(rng: np.random.Generator) -> Picture:
    height, width = _size(rng)
    rows, columns = np.mgrid[0:height, 0:width]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * rows / height + np.sin(angle) * columns / width
    low, high = rng.uniform(0, 60), rng.uniform(120, 255)
    return _to_grey(low + (high - low) * (ramp - ramp.min()) / np.ptp(ramp))


def _checkerboard(rng: np.random.Generator) -> Picture:
    height, width = _size(rng)
    rows, columns = np.mgrid[0:height, 0:width]
    field = int(rng.integers(4, 60))
    low, high = rng.uniform(0, 80), rng.uniform(140, 255)
    return _to_grey(np.where((rows // field + columns // field) % 2, high, low))


def _digit(rng: np.random.Generator) -> Picture:
    height, width = _size(rng)
    digit = _digits()[rng.integers(len(_digits()))]
    grey = cv2.resize(digit, (width, height), interpolation=cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_NEAREST)
    return _to_grey(np.clip(grey, 0, 16) * (255 / 16))


@cache
def _digits() -> NDArray[np.float32]:
    from sklearn.datasets import load_digits  # only here: it is slow to import

    return np.asarray(load_digits().images, np.float32)


def _ct(rng: np.random.Generator) -> Picture:
    """A slice through a trunk: fat, muscle, spine, and lungs or organs, on black."""
    side = int(rng.integers(256, 512))
    grey = np.zeros((side, side), np.float32)
    body = np.array([0.45, rng.uniform(0.28, 0.36)]) * side
    _disc(grey, (0.5, 0.5), body, rng.uniform(60, 90))
    _disc(grey, (0.5, 0.5), 0.9 * body, rng.uniform(110, 140))
    lungs = rng.random() < 0.5
    for sideways in (0.33, 0.67):
        _disc(grey, (sideways, 0.47), np.array([0.11, 0.16]) * side, 12 if lungs else rng.uniform(120, 160), rng.uniform(-10, 10))
    for _ in range(8):
        place = (rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.6))
        _disc(grey, place, rng.uniform(0.02, 0.06, 2) * side, rng.uniform(90, 180), rng.uniform(0, 180))
    _disc(grey, (0.5, 0.68), np.array([0.06, 0.05]) * side, 235)
    return _to_grey(cv2.GaussianBlur(grey, (0, 0), 1.2) + rng.normal(0, rng.uniform(3, 9), grey.shape) * (grey > 0))


def _radiograph(rng: np.random.Generator) -> Picture:
    """A chest: bright mediastinum, dark lungs, ribs."""
    height, width = int(rng.integers(300, 600)), int(rng.integers(300, 600))
    grey = np.full((height, width), rng.uniform(140, 180), np.float32)
    scale = np.array([width, height])
    for sideways in (0.3, 0.7):
        _disc(grey, (sideways, 0.45), np.array([0.15, 0.33]) * scale, rng.uniform(30, 70))
    ribs = np.zeros_like(grey)
    for place in np.linspace(0.15, 0.8, 9):
        for sideways, turn in ((0.28, 12), (0.72, -12)):
            _disc(ribs, (sideways, place), np.array([0.22, 0.018]) * scale, 35, turn)
    _disc(grey, (0.55, 0.6), np.array([0.14, 0.16]) * scale, 190)
    return _to_grey(cv2.GaussianBlur(grey, (0, 0), 0.02 * width) + cv2.GaussianBlur(ribs, (0, 0), 2) + rng.normal(0, 4, grey.shape))


def _mammogram(rng: np.random.Generator) -> Picture:
    """A breast from the side on black: the picture that lies nearest at hand on the same desk."""
    height, width = int(rng.integers(400, 700)), int(rng.integers(250, 500))
    breast = np.zeros((height, width), np.float32)
    side = 0.0 if rng.random() < 0.5 else 1.0
    _disc(breast, (side, rng.uniform(0.45, 0.55)), np.array([rng.uniform(0.6, 0.9) * width, 0.42 * height]), 1)
    tissue = rng.uniform(70, 110) + rng.uniform(25, 45) * _coloured(rng, (height, width), 1.5)
    return _to_grey(cv2.GaussianBlur(breast, (0, 0), 6) * np.maximum(tissue, 20) + rng.normal(0, 2, breast.shape))


def _fetal_head(rng: np.random.Generator) -> Picture:
    """A bright skull around dark brain with a midline, in a fan."""
    tissue = _ground((420, 480), rng, -38, 4)
    centre = (rng.uniform(0.42, 0.58), rng.uniform(0.45, 0.6))
    axes, turn = np.array([rng.uniform(0.24, 0.3), rng.uniform(0.17, 0.22)]) * 480, rng.normal(0, 20)
    _disc(tissue, centre, axes * 1.25, -60, turn)
    _disc(tissue, centre, axes, -8, turn)
    _disc(tissue, centre, axes * 0.93, rng.uniform(-48, -42), turn)
    _disc(tissue, centre, axes * (0.8, 0.02), -20, turn)
    for sideways in (-0.06, 0.06):
        _disc(tissue, (centre[0] + sideways, centre[1]), axes * (0.15, 0.25), -60, turn)
    return _fan(rng, tissue)


def _kidney(rng: np.random.Generator) -> Picture:
    """An oval of dark cortex with a bright sinus below liver, in a fan."""
    tissue = _ground((420, 480), rng, -30, 2)
    centre = (rng.uniform(0.4, 0.6), rng.uniform(0.45, 0.6))
    axes, turn = np.array([rng.uniform(0.2, 0.28), rng.uniform(0.1, 0.13)]) * 480, rng.normal(10, 15)
    _disc(tissue, centre, axes * 1.08, -16, turn)
    _disc(tissue, centre, axes, rng.uniform(-42, -36), turn)
    _disc(tissue, centre, axes * (0.6, 0.4), -14, turn)
    for place in np.linspace(-0.6, 0.6, 5):
        _disc(tissue, (centre[0] + place * axes[0] / 480, centre[1] - 0.6 * axes[1] / 420), axes * (0.1, 0.2), -52, turn)
    return _fan(rng, tissue)


def _liver(rng: np.random.Generator) -> Picture:
    """Even tissue with dark vessels and a bright diaphragm, in a fan."""
    tissue = _ground((420, 480), rng, -28, 1.5)
    for _ in range(int(rng.integers(4, 9))):
        place = (rng.uniform(0.2, 0.8), rng.uniform(0.25, 0.75))
        _disc(tissue, place, np.array([rng.uniform(0.03, 0.15), rng.uniform(0.008, 0.025)]) * 480, -62, rng.uniform(0, 180))
    rows, columns = np.mgrid[0:420, 0:480]
    arc = np.hypot(columns - 240, rows - 60) - rng.uniform(270, 310)
    tissue += 26 * np.exp(-((arc / 4) ** 2)).astype(np.float32)
    return _fan(rng, tissue)


def _heart(rng: np.random.Generator) -> Picture:
    """Four dark chambers between bright walls, in a narrow fan."""
    tissue = _ground((420, 480), rng, -26, 3)
    for sideways, down, wide, high in (
        (0.42, 0.42, 0.08, 0.16),
        (0.58, 0.42, 0.08, 0.15),
        (0.42, 0.72, 0.09, 0.1),
        (0.58, 0.72, 0.09, 0.1),
    ):
        place = (sideways + rng.normal(0, 0.01), down + rng.normal(0, 0.01))
        _disc(tissue, place, np.array([wide, high]) * (480, 420) * rng.uniform(0.85, 1.1), -70, rng.normal(0, 8))
    return _fan(rng, tissue, half_angle=rng.uniform(0.6, 0.75), radius=0.03)


def _vessel(rng: np.random.Generator) -> Picture:
    """A carotid along its length: a black tube between bright walls, from a flat probe, below the layers of the breast phantoms."""
    size = (int(rng.integers(270, 330)), int(rng.integers(330, 390)))
    tissue = tissue_echogenicity(rng, draw_anatomy(rng), size)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    middle = (rng.uniform(0.4, 0.6) + rng.normal(0, 0.05) * (columns / size[1] - 0.5)) * size[0]
    distance = np.abs(rows - middle) / size[0] - rng.uniform(0.06, 0.12)
    tissue = np.where(distance < 0, -75, tissue) + 26 * np.exp(-((distance / 0.009) ** 2))
    return _scan(rng, np.asarray(tissue, np.float32))


def _thyroid(rng: np.random.Generator) -> Picture:
    """Two bright even lobes beside a windpipe and vessels, from a flat probe, below the layers of the breast phantoms."""
    size = (int(rng.integers(270, 330)), int(rng.integers(330, 390)))
    scale = np.array([size[1], size[0]])
    tissue = tissue_echogenicity(rng, draw_anatomy(rng), size)
    for sideways in (0.25, 0.75):
        _disc(tissue, (sideways, 0.42), np.array([rng.uniform(0.17, 0.22), rng.uniform(0.16, 0.22)]) * scale, rng.uniform(-22, -17))
        _disc(tissue, (0.08 if sideways < 0.5 else 0.92, 0.5), np.array([0.06, 0.08]) * scale, -75)
    _disc(tissue, (0.5, 0.45), np.array([0.1, 0.14]) * scale, -12)
    _disc(tissue, (0.5, 0.62), np.array([0.1, 0.3]) * scale, -70)
    return _scan(rng, tissue)


def _ground(size: tuple[int, int], rng: np.random.Generator, level_db: float, spread_db: float) -> Pixels:
    return np.asarray(level_db + spread_db * _coloured(rng, size, 1.2), np.float32)


def _scan(rng: np.random.Generator, tissue: Pixels) -> Picture:
    """Return the picture of a flat probe, with speckle, noise, gain and compression as the breast phantoms have them."""
    depth = np.linspace(0, 1, tissue.shape[0], dtype=np.float32)[:, None]
    loss_db = rng.uniform(35, 60) * depth
    residual_db = rng.uniform(8, 26) * depth ** rng.uniform(1.0, 2.5)
    power = np.exp((tissue - loss_db) * np.float32(np.log(10) / 10)) + np.float32(10 ** (-92 / 10))
    echoes = envelope(rng, np.asarray(np.sqrt(power), np.float32), (rng.uniform(0.8, 1.1), rng.uniform(1.7, 2.8)))
    echo_db = 20 * np.log10(echoes) + loss_db - residual_db
    return log_compress(np.asarray(echo_db + rng.normal(1, 2), np.float32), rng.uniform(50, 60))


def _fan(rng: np.random.Generator, tissue: Pixels, half_angle: float | None = None, radius: float | None = None) -> Picture:
    """Return the picture of a curved probe: along its beams, then laid out as a fan on black.

    Args:
        rng: draws probe, speckle and gain.
        tissue: (H, W) in dB.
        half_angle: of the fan, in radians.
        radius: of the probe, as a share of the height.
    """
    height, width = tissue.shape
    half_angle = rng.uniform(0.5, 0.65) if half_angle is None else half_angle
    start = (rng.uniform(0.15, 0.3) if radius is None else radius) * height
    top = start * np.cos(half_angle)
    reach = height + top
    distance, angle = np.meshgrid(np.linspace(start, reach, height), np.linspace(-half_angle, half_angle, 300), indexing="ij")
    columns, rows = width / 2 + distance * np.sin(angle), distance * np.cos(angle) - top
    beams = cv2.remap(
        tissue, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    lines = _scan(rng, np.asarray(beams, np.float32))
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    distance, angle = np.hypot(across - width / 2, down + top), np.arctan2(across - width / 2, down + top)
    row = (distance - start) / (reach - start) * (height - 1)
    column = (angle + half_angle) / (2 * half_angle) * 299
    return np.asarray(
        cv2.remap(lines, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR, borderValue=0), np.uint8
    )


def _coloured(rng: np.random.Generator, size: tuple[int, int], exponent: float) -> Pixels:
    """Return a random field (H, W) of mean 0 and variance 1 whose amplitude falls as frequency ** -exponent."""
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :])
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(size)) * frequency**-exponent, s=size)
    return np.asarray(field / field.std(), np.float32)


def _disc(canvas: Pixels, centre: tuple[float, float], axes: NDArray[np.float64], level: float, degrees: float = 0.0) -> None:
    """Fill an ellipse; centre as shares of width and height, half axes as (lateral, depth) in pixels."""
    height, width = canvas.shape
    cv2.ellipse(canvas, ((centre[0] * width, centre[1] * height), (2 * axes[0], 2 * axes[1]), degrees), float(level), -1)


def _to_grey(values: NDArray[np.floating]) -> Picture:
    return np.clip(values, 0, 255).astype(np.uint8)


KINDS: Mapping[str, Draw] = {
    "photograph, colour": _photograph,
    "photograph, grey": _grey_photograph,
    "white noise": _white_noise,
    "pink noise": _pink_noise,
    "even speckle": _plain_speckle,
    "page of text": _text_page,
    "screenshot": _screenshot,
    "plot": _plot,
    "gradient": _gradient,
    "checkerboard": _checkerboard,
    "handwritten digit": _digit,
    "CT-like": _ct,
    "radiograph-like": _radiograph,
    "mammogram-like": _mammogram,
    "fetal head, fan": _fetal_head,
    "kidney, fan": _kidney,
    "liver, fan": _liver,
    "heart, fan": _heart,
    "vessel, flat probe": _vessel,
    "thyroid, flat probe": _thyroid,
}
"""Kind -> what draws one picture of it."""
