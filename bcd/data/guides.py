"""Guides: the mask given to an ROI model, set separately for training and testing."""

import glob
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from bcd.config.ranges import Share
from bcd.data.augment.perturbation import Perturbation
from bcd.data.manifest import Case, case_file_name
from bcd.images.decode import MAX_PIXELS
from bcd.images.read import read_mask
from bcd.preprocess import Preprocess

log = logging.getLogger(__name__)

Kind = Literal["true", "none", "predicted", "perturbed", "predicted_perturbed"]
PERTURBED = ("perturbed", "predicted_perturbed")
PREDICTED = ("predicted", "predicted_perturbed")
# Made from the true mask: an image without a lesion has an empty one.
FROM_TRUTH = ("true", "perturbed")
AMOUNTS = ("strength", "shift", "dilate", "erode", "drop")
# Written beside predicted masks; says which cases the model that made them had learned from.
ORIGIN_FILE = "origin.json"


class GuideError(ValueError):
    """A guide is not available, or would reveal the label."""


@dataclass(frozen=True)
class GuidePolicy:
    """The mask given to an ROI model.

    Args:
        train: `true`, `none`, `predicted`, `perturbed` (the true mask, altered) or `predicted_perturbed`, for training.
        test: the same for validation and test, but for `predicted_perturbed`: a predicted mask is used as it is.
        masks: folder (or folders, or patterns such as `outputs/*/masks`) of predicted masks `<case_id>.png`, native size.
        allow_normals: true masks for normals too, although an empty one gives the label away.
        strength: of a perturbed or predicted_perturbed guide, as are the following; see `Perturbation`. None for other guides.
        shift: share of the lesion's equivalent diameter.
        dilate: share of the lesion's equivalent diameter.
        erode: share of the lesion's equivalent diameter.
        drop: a probability.

    Raises:
        GuideError: for `predicted` without `masks`, `perturbed` without its amounts, or amounts without it.
    """

    train: Kind | bool
    test: Literal["true", "none", "predicted", "perturbed"] | bool
    masks: str | Sequence[str] | None = None
    allow_normals: bool = False
    strength: Share | None = None
    shift: Share | None = None
    dilate: Share | None = None
    erode: Annotated[float, Field(ge=0, le=0.5)] | None = None
    drop: Share | None = None

    def __post_init__(self) -> None:
        for name in ("train", "test"):  # the command line gives a boolean for `true`
            object.__setattr__(self, name, str(getattr(self, name)).lower())
        if self._wants(PREDICTED) and self.masks is None:
            raise GuideError("guide=predicted needs guide.masks=<folder of masks named by case id>.")
        missing = [name for name in AMOUNTS if getattr(self, name) is None]
        if not self._wants(PERTURBED) and len(missing) < len(AMOUNTS):
            raise GuideError(
                "guide.strength, shift, dilate, erode and drop are for guide=perturbed, or guide.test=perturbed, alone."
            )
        if self._wants(PERTURBED) and missing:
            raise GuideError(
                f"A perturbed guide needs guide.{missing[0]}; guide=perturbed has it. For training on true masks and a test on "
                "perturbed ones: guide=perturbed guide.train=true guide.test=perturbed."
            )

    @property
    def perturbation(self) -> Perturbation | None:
        """Return what alters the true masks; None where no part has perturbed guides."""
        if not self._wants(PERTURBED):
            return None
        return Perturbation(**{name: getattr(self, name) for name in AMOUNTS})

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return the folders of predicted masks; empty where none are used.

        Raises:
            GuideError: when there is no such folder.
        """
        if self.masks is None or not self._wants(PREDICTED):
            return ()
        folders: list[Path] = []
        for pattern in [self.masks] if isinstance(self.masks, str) else self.masks:
            # A folder's own name may look like a pattern.
            matches = [pattern] if Path(pattern).is_dir() else sorted(glob.glob(pattern))  # noqa: PTH207 - it may be absolute
            of_pattern = [Path(match) for match in matches if Path(match).is_dir()]
            if not of_pattern:
                raise GuideError(f"guide.masks={pattern}: there is no such folder. scripts/predict.py writes one as output/masks.")
            folders += of_pattern
        return tuple(folders)

    def _wants(self, kinds: Sequence[str]) -> bool:
        return self.train in kinds or self.test in kinds

    def kind(self, part: str) -> str:
        """Return the kind of guide for `train`, `valid` or `test`."""
        return str(self.train if part == "train" else self.test)


def check_normals(policy: GuidePolicy, part: str, cases: Sequence[Case]) -> None:
    """Refuse true masks, and what is made of them, where some cases have no lesion: an empty mask would reveal the label.

    Raises:
        GuideError: naming the first such case.
    """
    normals = [case for case in cases if not case.masks]
    if policy.kind(part) in FROM_TRUTH and normals and not policy.allow_normals:
        raise GuideError(
            f"guide={policy.kind(part)} with {len(normals)} {part} cases without a lesion (first: {normals[0].case_id}): "
            "an empty true mask reveals the class. Use data.classes=[benign,malignant], data.lesions_only=true, guide=predicted "
            "or guide=none."
        )


def read_predicted(policy: GuidePolicy, cases: Sequence[Case], preprocess: Preprocess, sizes: np.ndarray) -> np.ndarray:
    """Return the predicted masks of N cases, fitted as `preprocess` fits images: uint8 (N, S, S) in {0, 1}.

    `sizes` is int (N, 2), the native height and width that the masks must have.

    Raises:
        GuideError: listing the cases that have no mask, or naming one of another size.
    """
    paths = find_masks(policy.folders, cases)
    missing = [case.case_id for case, path in zip(cases, paths, strict=True) if path is None]
    if missing:
        raise GuideError(
            f"{len(missing)} of {len(cases)} cases have no predicted mask in {policy.masks}: "
            f"{', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}. Predict them with scripts/predict.py; "
            "an image without a prediction has an all-black mask."
        )
    fitted = np.zeros((len(cases), preprocess.size, preprocess.size), np.uint8)
    for row, path in enumerate(paths):
        if path is None:
            continue
        mask = read_mask(path, max(MAX_PIXELS, int(np.prod(sizes[row]))))
        if mask.shape != tuple(sizes[row]):
            height, width = sizes[row]
            raise GuideError(f"{path} is {mask.shape[0]} x {mask.shape[1]} px, its image {height} x {width}; predict it again.")
        fitted[row] = preprocess.fit_mask(mask)
    return fitted


def seen_in_training(policy: GuidePolicy, cases: Sequence[Case]) -> tuple[list[str], int]:
    """Return the cases whose predicted mask comes from a model that learned from them, and how many masks tell no origin."""
    # Of each folder: model -> ids of the cases that it learned from or was chosen by, and mask -> model.
    origins: dict[Path, tuple[dict[str, set[str]], Mapping[str, str]]] = {}
    for folder in policy.folders:
        file = folder / ORIGIN_FILE
        origin = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        # One model that made all the masks needs no name.
        models = origin.get("models", {"": origin["learned_from"]} if "learned_from" in origin else {})
        origins[folder] = ({name: set(names) for name, names in models.items()}, origin.get("made_by", {}))
    seen, unknown = [], 0
    for case, path in zip(cases, find_masks(policy.folders, cases), strict=True):
        if path is None:
            continue
        learned_from, model_of = origins[path.parent]
        names = learned_from.get(model_of.get(path.name, ""))
        if names is None:
            unknown += 1
        elif case.case_id in names:
            seen.append(case.case_id)
    return seen, unknown


def find_masks(folders: Sequence[Path], cases: Sequence[Case]) -> list[Path | None]:
    """Return the path of each case's mask, None where there is none; of several folders, the last one that has it.

    Masks are named by case id, or by the image's file name where no other case's image has the same.
    """
    stems = Counter(case.image.stem for case in cases)
    masks = []
    for case in cases:
        names = [case_file_name(case.case_id)] + ([case_file_name(case.image.stem)] if stems[case.image.stem] == 1 else [])
        paths = (folder / f"{name}.png" for folder in reversed(folders) for name in names)
        masks.append(next((path for path in paths if path.is_file()), None))
    return masks
