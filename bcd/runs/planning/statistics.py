"""What a plan must know about the data: how many cases, how large, how balanced, and how small the lesions get."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcd.data.manifest import Case, read_sizes
from bcd.data.prepare import Prepared
from bcd.images.read import read_masks
from bcd.preprocess import Preprocess

# More masks than this change the percentiles by less than the next size of image does.
_MOST_MASKS = 1000


@dataclass(frozen=True)
class DataStatistics:
    """Figures of the cases that a run learns from; the test part is not used for a plan.

    Args:
        n_train: training cases.
        n_valid: validation cases.
        n_lesion: training cases with a lesion mask.
        classes: label -> training cases.
        height: smallest, median and largest of the training images, in native pixels.
        width: the same.
        padding: share of the square input that is padding, at the median shape, in [0, 1).
        diameters: of the training lesions, ascending: diameter of the circle of the same area, as a share of the square input's
            side, in [0, 1]; empty where there is no mask.
    """

    n_train: int
    n_valid: int
    n_lesion: int
    classes: dict[str, int]
    height: tuple[int, int, int]
    width: tuple[int, int, int]
    padding: float
    diameters: tuple[float, ...]

    @property
    def native_side(self) -> int:
        """Return the longer side of the median image in native pixels."""
        return max(self.height[1], self.width[1])

    def lesion_px(self, size: int, percentile: float) -> float | None:
        """Return a percentile of the lesions' diameters in pixels at an input size; None where there is no mask."""
        return float(np.percentile(self.diameters, percentile)) * size if self.diameters else None

    def summary(self) -> dict[str, Any]:
        """Return the figures as plain values, percentiles in the diameters' place."""
        shares = {str(p): round(self.lesion_px(1, p) or 0.0, 4) for p in (0, 5, 25, 50, 75, 100)} if self.diameters else None
        return {
            "train_cases": self.n_train,
            "valid_cases": self.n_valid,
            "train_cases_with_lesion": self.n_lesion,
            "train_cases_by_class": self.classes,
            "height_px_min_median_max": list(self.height),
            "width_px_min_median_max": list(self.width),
            "padding_share": round(self.padding, 3),
            "lesion_diameter_as_share_of_side_by_percentile": shares,
        }


def statistics(train: Sequence[Case], valid: Sequence[Case], prepared: Prepared, preprocess: Preprocess) -> DataStatistics:
    """Return the figures of a run's cases.

    Args:
        train: training cases, at least one.
        valid: validation cases.
        prepared: the data set that they belong to.
        preprocess: fits masks as the run will; its size only sets how finely the lesions are measured.
    """
    sizes = read_sizes(prepared.folder / "manifest.csv")
    heights, widths = zip(*(sizes[case.case_id] for case in train), strict=True)
    rows, columns = ((min(values), int(np.median(values)), max(values)) for values in (heights, widths))
    lesions = [case for case in train if case.masks]
    chosen = lesions[:: -(-len(lesions) // _MOST_MASKS)] if lesions else []

    def diameter(case: Case) -> float:
        height, width = sizes[case.case_id]
        area = int(preprocess.fit_mask(read_masks(case.masks, (height, width), case.case_id, height * width)).sum())
        return float(np.sqrt(4 * area / np.pi)) / preprocess.size

    with ThreadPoolExecutor(4) as pool:  # the decoders release the interpreter lock
        diameters = list(pool.map(diameter, chosen))
    return DataStatistics(
        n_train=len(train),
        n_valid=len(valid),
        n_lesion=len(lesions),
        classes=dict(sorted(Counter("no label" if case.label is None else case.label for case in train).items())),
        height=rows,
        width=columns,
        padding=1 - min(rows[1], columns[1]) / max(rows[1], columns[1]),
        diameters=tuple(sorted(diameters)),
    )
