"""BUS-BRA: 1,875 images of 1,064 patients, biopsy-proven (Gomez-Flores et al., Medical Physics 2024)."""

import csv
import logging
from collections.abc import Mapping
from pathlib import Path

from bcd.data.manifest import Case
from bcd.data.problems import Problem
from bcd.data.sources.layout import checked, is_picture, nested_root, require, visible

logger = logging.getLogger(__name__)

_TABLE = "bus_data.csv"
_WANTED = (_TABLE, "Images", "Masks")
_IMAGES = 1875
_METADATA = {"histology": "Histology", "birads": "BIRADS", "device": "Device", "side": "Side"}
_COLUMNS = {"ID", "Case", "Pathology", *_METADATA.values()}
# The official folds' test parts are patient-disjoint; their valid_k columns are not, and stay out.
_FOLD_FILES = {"fold_official": "5-fold-cv.csv", "fold_official_10": "10-fold-cv.csv"}


class BUSBRA:
    """`bus_data.csv` with `Images/bus_0001-l.png` and `Masks/mask_0001-l.png`.

    The official test folds are metadata: `fold_official` of five, `fold_official_10` of ten.

    Args:
        root: the folder that holds `bus_data.csv`, or the one around it.
        name: the data set's name, in folders and reports.
    """

    synthetic = False
    labels = ("benign", "malignant")
    lesion_free = ()
    licence = (
        "LICENSE.txt of the archive: free to use, copy, modify, merge, publish and distribute, with its notice and the citation"
    )
    citation = (
        "Gomez-Flores et al., BUS-BRA: A Breast Ultrasound Dataset for Assessing Computer-aided Diagnosis Systems, Medical "
        "Physics 51 (2024) 3110, doi:10.1002/mp.16812"
    )
    how_to_get = (
        "BUS-BRA (doi:10.1002/mp.16812): download BUSBRA.zip from https://zenodo.org/records/8231412 and unpack it so "
        "that bus_data.csv, Images and Masks lie in $BCD_DATA/busbra, or name their folder with data.root=/path/to/it."
    )

    def __init__(self, root: str | Path, name: str = "busbra") -> None:
        self.name = name
        self.root = nested_root(root, _WANTED)

    def cases(self) -> list[Case]:
        """Return every case, sorted by case id.

        Raises:
            DataNotFound: when the folder is absent or is not BUS-BRA.
            ValueError: when a table lacks a column.
            DataProblems: when a folder cannot be read.
        """
        require(self.root, _WANTED, self.how_to_get)
        folds: dict[str, dict[str, str]] = {}
        for name, file in _FOLD_FILES.items():
            is_there = (self.root / file).exists()
            folds[name] = {row["ID"]: row["kFold"] for row in self._rows(file, {"ID", "kFold"})} if is_there else {}
            if not is_there:
                logger.warning("%s: %s is missing, so the official folds are unknown.", self.root, file)
        problems: list[Problem] = []
        cases = [self._case(row, folds) for row in self._rows(_TABLE, _COLUMNS)]
        there = {path for folder in ("Images", "Masks") for path in visible(self.root / folder, problems) if is_picture(path)}
        others = sorted(there - {file for case in cases for file in (case.image, *case.masks)})
        if len(cases) != _IMAGES:
            logger.warning("%s: %d images, the published BUS-BRA has %d.", self.root, len(cases), _IMAGES)
        return checked(self.root, cases, problems, others)

    def _case(self, row: Mapping[str, str], folds: Mapping[str, Mapping[str, str]]) -> Case:
        case_id = row["ID"]
        known = {name: row[column] for name, column in _METADATA.items()}
        known |= {name: fold.get(case_id, "") for name, fold in folds.items()}
        return Case(
            case_id=case_id,
            image=self.root / "Images" / f"{case_id}.png",
            masks=(self.root / "Masks" / f"{case_id.replace('bus_', 'mask_', 1)}.png",),
            label=row["Pathology"],
            patient=row["Case"],
            metadata={name: value for name, value in known.items() if value},
        )

    def _rows(self, file: str, columns: set[str]) -> list[dict[str, str]]:
        with (self.root / file).open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, restval="")
            if missing := columns - set(reader.fieldnames or ()):
                raise ValueError(f"{self.root / file}: columns {sorted(missing)} are missing; unpack the archive again.")
            return list(reader)
