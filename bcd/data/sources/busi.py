"""BUSI: 780 images, benign, malignant and normal (Al-Dhabyani et al., Data in Brief 2020)."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from bcd.data.manifest import Case
from bcd.data.problems import Problem
from bcd.data.sources.layout import checked, nested_root, require, visible
from bcd.images.decode import ImageError
from bcd.images.read import read_mask

logger = logging.getLogger(__name__)

_CLASSES = ("benign", "malignant", "normal")
_IMAGES = 780
_FILE = re.compile(r"(?P<case_id>(?P<label>benign|malignant|normal) \(\d+\))(?P<mask>_mask(_\d+)?)?\.png")


class BUSI:
    """Class folders with `benign (1).png`, `benign (1)_mask.png` and, for 17 images, `_mask_1.png`, `_mask_2.png`.

    A normal's mask is an all-black picture: it is checked, and the case has no mask. Patients are unknown.

    Args:
        root: the folder that holds `benign`, `malignant` and `normal`, or the one around it.
        name: the data set's name, in folders and reports.
    """

    synthetic = False
    labels = ("benign", "malignant", "normal")
    lesion_free = ("normal",)
    licence = "stated nowhere in the archive; its article is CC BY 4.0: for research, and ask the authors for anything else"
    citation = (
        "Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28 (2020) 104863, doi:10.1016/j.dib.2019.104863"
    )
    how_to_get = (
        "BUSI (Dataset_BUSI_with_GT, doi:10.1016/j.dib.2019.104863): download it from "
        "https://scholar.cu.edu.eg/?q=afahmy/pages/dataset or the Kaggle mirror "
        "aryashah2k/breast-ultrasound-images-dataset, and unpack it so that benign, malignant and normal lie in "
        "$BCD_DATA/busi, or name their folder with data.root=/path/to/it."
    )

    def __init__(self, root: str | Path, name: str = "busi") -> None:
        self.name = name
        self.root = nested_root(root, _CLASSES)

    def cases(self) -> list[Case]:
        """Return every case, sorted by case id.

        Raises:
            DataNotFound: when the folder is absent or is not BUSI.
            DataProblems: for a mask without image, or a normal whose mask is not black.
        """
        require(self.root, _CLASSES, self.how_to_get)
        problems: list[Problem] = []
        images, masks, others = self._files(problems)
        for case_id in masks.keys() - images:
            remedy = "copy the image again or remove the mask"
            problems += [Problem("", mask, f"has no image {case_id}.png", remedy) for mask in masks[case_id]]
        cases = []
        for case_id, image in images.items():
            label, own = image.parent.name, masks.get(case_id, [])
            for mask in own if label == "normal" else ():
                try:
                    if read_mask(mask).any():
                        remedy = "copy it again, or drop the mask or the case"
                        problems.append(Problem(case_id, mask, "the mask shows a lesion, the label is normal", remedy))
                except ImageError as error:
                    problems.append(Problem(case_id, mask, error.reason, error.remedy))
            lesion = tuple(own) if label != "normal" else ()
            cases.append(Case(case_id, image, lesion, label, metadata={"mask_files": str(len(lesion))}))
        if len(cases) != _IMAGES:
            logger.warning("%s: %d images, the published BUSI has %d.", self.root, len(cases), _IMAGES)
        return checked(self.root, cases, problems, others)

    def _files(self, problems: list[Problem]) -> tuple[Mapping[str, Path], Mapping[str, list[Path]], list[Path]]:
        images: dict[str, Path] = {}
        masks: dict[str, list[Path]] = {}
        others: list[Path] = []
        for path in (path for label in _CLASSES for path in visible(self.root / label, problems)):
            match = _FILE.fullmatch(path.name)
            if match is None or match["label"] != path.parent.name:
                others.append(path)
            elif match["mask"]:
                masks.setdefault(match["case_id"], []).append(path)
            else:
                images[match["case_id"]] = path
        return images, masks, others
