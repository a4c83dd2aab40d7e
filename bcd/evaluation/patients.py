"""From images to patients: one probability for all images of a patient, so that every figure exists for patients too.

`mean` is the mean of the images' probabilities. `max` takes the highest probability of the positive class on any image; the other
classes keep the proportions of their means and share the rest. A patient is positive who has a positive image; otherwise the label
is the one that most of the images have, of several the last among the classes. Images whose patient is unknown are left out.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bcd.evaluation.classification import probabilities_of, truth_of
from bcd.metrics.tables import ratio

WAYS = ("mean", "max")


def join_patients(cases: pd.DataFrame, class_names: Sequence[str], positive: str, way: str) -> pd.DataFrame:
    """Return one row per patient, with the columns that the classification figures need.

    They are `case_id` (the patient), `group`, `patient`, `label`, [`fold`], `n_images`, the probabilities and `predicted_label`.
    Images of one patient that were predicted by models of different folds are kept apart. `positive` is the class that `max` looks
    at, and that one image makes the patient's.

    Raises:
        ValueError: for another way than `mean` or `max`.
    """
    if way not in WAYS:
        raise ValueError(f"way={way}: images are joined by one of {', '.join(WAYS)}.")
    known = cases[cases["patient"].fillna("").astype(str) != ""]
    keys = ["patient", "fold"] if "fold" in known else ["patient"]
    numbers = known.groupby(keys, sort=True).ngroup().to_numpy()
    first = np.unique(numbers, return_index=True)[1]
    result = known.iloc[first][[*dict.fromkeys(["group", *keys])]].reset_index(drop=True)
    result.insert(0, "case_id", result["patient"].astype(str))
    count = len(class_names)
    votes = np.zeros((len(first), count))
    np.add.at(votes, (numbers, truth_of(known, class_names)), 1)
    number = list(class_names).index(positive)
    joined = _joined(probabilities_of(known, class_names), numbers, number, way)
    label = np.where(votes[:, number] > 0, number, count - 1 - votes[:, ::-1].argmax(1))
    result["label"] = np.array(list(class_names))[label.astype(int)]
    result["n_images"] = votes.sum(1).astype(int)
    for position, name in enumerate(class_names):
        result[f"probability_{name}"] = joined[:, position]
    result["predicted_label"] = np.array(list(class_names))[joined.argmax(1)]
    return result


def _joined(probabilities: np.ndarray, numbers: np.ndarray, positive: int, way: str) -> np.ndarray:
    """Return the probabilities of P patients, (P, C), from those of the images (N, C) and their patients' numbers, int (N,)."""
    n_patients = int(numbers.max()) + 1 if len(numbers) else 0
    sums = np.zeros((n_patients, probabilities.shape[1]))
    np.add.at(sums, numbers, probabilities)
    means = sums / sums.sum(1, keepdims=True)
    if way == "mean":
        return means
    highest = np.zeros(n_patients)
    np.maximum.at(highest, numbers, probabilities[:, positive])
    others = means.copy()
    others[:, positive] = 0
    # Where nothing is left for the others they share it alike, and it is nothing.
    share = np.nan_to_num(ratio(others, others.sum(1, keepdims=True)), nan=1 / max(1, probabilities.shape[1] - 1))
    joined = share * (1 - highest)[:, None]
    joined[:, positive] = highest
    return joined
