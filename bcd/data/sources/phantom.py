"""Phantoms: simulated breast ultrasound, generated on first use, so that everything runs without a data set.

An image follows from the seed, its patient, the patient's label and the view alone. The folder's name carries a hash of
every parameter and of the simulator's version: other parameters, other folder; what is there is only ever read.
"""

import csv
import hashlib
import json
import logging
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from bcd.config.ranges import Count, Natural, Share
from bcd.data.manifest import Case
from bcd.data.sources.phantom_simulator import SIMULATOR_VERSION, Image, Lesion, draw_anatomy, draw_lesion, simulate
from bcd.files import build_folder
from bcd.images.read import read_image, read_mask

MIX = {"normal": 0.17, "benign": 0.5, "malignant": 0.33}
SMALLEST_PX = 64

logger = logging.getLogger(__name__)

Row = dict[str, str]


class Phantom:
    """A simulated data set: `<root>/phantom-<n_images>-<seed>-<hash>/` with `images/`, `masks/` and `cases.csv`.

    Metadata: echo pattern, depth and signs of the lesion, its area, width and height in this view, and for a near-copy
    `copy_of`, the id of the case it was made from.

    Args:
        root: folder that the data set's folder is made in.
        n_images: number of images, near-copies not counted.
        seed: not negative.
        near_copies: this many cases more, as slip into real collections: an image of the data set under a new patient,
            slightly cropped, rescaled and regreyed, often with burnt-in calipers.
        views: images a patient; the last patient may have fewer.
        mix: share of patients of each label, in [0, 1], sum 1.
        size: mean (height, width) in pixels; each image differs by up to 8 %.

    Raises:
        ValueError: an argument is out of range.
    """

    name: str = "phantom"
    synthetic: bool = True
    labels = ("normal", "benign", "malignant")
    lesion_free = ("normal",)
    licence = "simulated by this project, MIT like its code"
    citation = "none is asked for"

    def __init__(
        self,
        root: str | Path,
        n_images: Count,
        seed: Natural,
        near_copies: Natural = 0,
        views: Annotated[int, Field(ge=1, le=len(string.ascii_lowercase))] = 2,
        mix: Mapping[str, Share] = MIX,
        size: Annotated[Sequence[Annotated[int, Field(ge=SMALLEST_PX)]], Field(min_length=2, max_length=2)] = (300, 360),
    ) -> None:
        if near_copies > n_images:
            raise ValueError(f"near_copies={near_copies} must be at most n_images={n_images}.")
        if set(mix) != set(MIX) or abs(sum(mix.values()) - 1) > 1e-6:
            raise ValueError(f"mix={dict(mix)}: give {', '.join(MIX)} a share each that sum to 1.")
        self.root = Path(root).absolute()
        self.n_images = n_images
        self.seed = seed
        self.near_copies = near_copies
        self.views = views
        self.mix = {label: float(mix[label]) for label in MIX}
        self.size = (int(size[0]), int(size[1]))

    @property
    def folder(self) -> Path:
        """The data set's own folder."""
        parameters = [self.n_images, self.seed, self.near_copies, self.views, self.mix, self.size, SIMULATOR_VERSION]
        short_hash = hashlib.sha256(json.dumps(parameters).encode()).hexdigest()[:8]
        return self.root / f"phantom-{self.n_images}-{self.seed}-{short_hash}"

    def cases(self) -> list[Case]:
        """Return every case, sorted by case id; make the data set if it is not there yet.

        Raises:
            FileNotFoundError: the data set is there, and one of its images is not.
        """
        build_folder(self.folder, self._make, lambda folder: (folder / "cases.csv").is_file())  # which is written last
        with (self.folder / "cases.csv").open(newline="") as file:
            return [self._case(row) for row in csv.DictReader(file)]

    def _make(self, folder: Path) -> None:
        """Fill an empty folder."""
        logger.info("Simulating %d phantoms for %s", self.n_images + self.near_copies, self.folder)
        (folder / "images").mkdir()
        (folder / "masks").mkdir()
        originals = list(self._originals(folder))
        rows = originals + list(self._copies(folder, originals))
        with (folder / "cases.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), restval="")
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: row["case_id"]))

    def _originals(self, folder: Path) -> Iterator[Row]:
        labels = _labels(self.mix, -(-self.n_images // self.views), np.random.default_rng([self.seed, 0, 0]))
        for index in range(self.n_images):
            patient, view = index // self.views + 1, index % self.views
            label = labels[patient - 1]
            # Drawn again for each view from the same seed: a view does not depend on other views.
            rng = np.random.default_rng([self.seed, patient, 0])
            anatomy = draw_anatomy(rng)
            lesion = None if label == "normal" else draw_lesion(rng, label == "malignant")
            rng = np.random.default_rng([self.seed, patient, 1 + view])
            height, width = (round(side * rng.uniform(0.92, 1.08)) for side in self.size)
            image, mask = simulate(rng, anatomy, lesion, (height, width))
            row = _write_images(folder, f"phantom-{patient:04d}-{string.ascii_lowercase[view]}", image, mask)
            yield row | {"label": label, "patient": f"phantom-{patient:04d}"} | _describe(lesion)

    def _copies(self, folder: Path, originals: Sequence[Row]) -> Iterator[Row]:
        chosen = np.random.default_rng([self.seed, 0, 1]).permutation(len(originals))[: self.near_copies]
        first = -(-self.n_images // self.views) + 1
        for index, original in enumerate(originals[i] for i in chosen):
            image = read_image(folder / original["image"])
            mask = read_mask(folder / original["mask"]) if original["mask"] else np.zeros_like(image)
            image, mask = near_copy(np.random.default_rng([self.seed, 0, 2 + index]), image, mask)
            patient = f"phantom-{first + index:04d}"
            row = _write_images(folder, f"{patient}-a", image, mask)
            yield original | row | {"patient": patient, "copy_of": original["case_id"]}

    def _case(self, row: Row) -> Case:
        """Return the case of one row of cases.csv."""
        row = dict(row)
        case_id, label, patient = row.pop("case_id"), row.pop("label"), row.pop("patient")
        files = [self.folder / name for name in (row.pop("image"), row.pop("mask")) if name]
        for path in files:
            if not path.is_file():
                raise FileNotFoundError(f"{case_id}: {path} is missing; delete {self.folder} to have it made again.")
        metadata = {key: value for key, value in row.items() if value}
        return Case(case_id, files[0], tuple(files[1:]), label, patient, metadata)


def near_copy(rng: np.random.Generator, image: Image, mask: Image) -> tuple[Image, Image]:
    """Return image, uint8 (H, W), and mask, in {0, 1}, as a second export of the same image might show them, (h, w)."""
    height, width = image.shape
    top, left = rng.integers(0, height // 40 + 1), rng.integers(0, width // 40 + 1)
    bottom, right = height - rng.integers(0, height // 40 + 1), width - rng.integers(0, width // 40 + 1)
    scale = rng.uniform(0.85, 1.15)
    size = (round((right - left) * scale), round((bottom - top) * scale))
    grey = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_LINEAR)
    grey = np.clip(rng.uniform(0.85, 1.15) * grey + rng.uniform(-8, 8), 0, 255).astype(np.uint8)
    mask = np.asarray(cv2.resize(mask[top:bottom, left:right], size, interpolation=cv2.INTER_NEAREST), np.uint8)
    if mask.any() and rng.random() < 0.5:
        # Calipers: a cross at each end of the lesion's width and height, as a sonographer sets them.
        rows, columns = np.nonzero(mask)
        for end in (rows.argmin(), rows.argmax(), columns.argmin(), columns.argmax()):
            cv2.drawMarker(grey, (int(columns[end]), int(rows[end])), 255, cv2.MARKER_CROSS, 9)
    return grey, mask


def _labels(mix: Mapping[str, float], n_patients: int, rng: np.random.Generator) -> list[str]:
    """Return one label per patient, in random order; the counts are the shares, rounded by largest remainder."""
    exact = {label: share * n_patients for label, share in mix.items()}
    counts = {label: int(number + 1e-9) for label, number in exact.items()}
    for label in sorted(mix, key=lambda label: counts[label] - exact[label])[: n_patients - sum(counts.values())]:
        counts[label] += 1
    return [str(label) for label in rng.permutation([label for label in mix for _ in range(counts[label])])]


def _describe(lesion: Lesion | None) -> Row:
    """Return a lesion's metadata."""
    if lesion is None:
        return {}
    numbers = {
        "depth": lesion.centre[0],
        "suspicion": lesion.suspicion,
        "aspect": lesion.shape.aspect,
        "irregularity": lesion.shape.irregularity,
        "spiculation": lesion.shape.spiculation,
        "contrast_db": lesion.echo.contrast_db,
        "posterior_db": lesion.echo.posterior_db,
    }
    return {"echo_pattern": lesion.echo.pattern} | {key: f"{number:.3f}" for key, number in numbers.items()}


def _write_images(folder: Path, case_id: str, image: Image, mask: Image) -> Row:
    """Write image and mask, no mask without lesion; return the names relative to the folder, and the mask's extent."""
    row = {"case_id": case_id, "image": f"images/{case_id}.png", "mask": ""}
    _write_png(folder / row["image"], image)
    if not mask.any():
        return row
    row["mask"] = f"masks/{case_id}.png"
    _write_png(folder / row["mask"], mask * np.uint8(255))
    _, _, width, height = cv2.boundingRect(mask)
    extent = {"lesion_area_px": np.count_nonzero(mask), "lesion_width_px": width, "lesion_height_px": height}
    return row | {key: str(value) for key, value in extent.items()}


def _write_png(path: Path, image: Image) -> None:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f"{path} could not be written.")
