"""When class and outline disagree: what is reported is a rule that the bundle states, not an accident.

`report`: both are reported as the networks give them, and the disagreement is told.
`class`: the class wins; of an image that is called lesion-free the outline is emptied.
`mask`: the outline wins; where there is none the image is lesion-free, where there is one the probabilities are shared out anew
among the classes that have a lesion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """How class and outline go together.

    Attributes:
        consistent: before the rule was applied; None where one of the two is missing.
        sentence: what was found, and what the rule did.
        empties_mask: the outline is to be emptied.
        allowed: bool (C,), the classes that the rule leaves; None leaves all.
    """

    consistent: bool | None
    sentence: str
    empties_mask: bool = False
    allowed: np.ndarray | None = None


def agreement(label: str, n_lesions: int, classes: Sequence[str], lesion_free: Sequence[str], rule: str) -> Agreement:
    """Return how class and outline go together under a rule.

    Args:
        label: the class of highest probability.
        n_lesions: outlined components.
        classes: in the order of the probabilities.
        lesion_free: those whose images have no lesion.
        rule: `report`, `class` or `mask`.
    """
    free = np.array([name in set(lesion_free) for name in classes])
    outlined = f"{n_lesions} lesion{'s are' if n_lesions > 1 else ' is'} outlined" if n_lesions else "nothing is outlined"
    consistent = (n_lesions == 0) == (label in lesion_free)
    found = f"Most probable is {label}, {'and' if consistent else 'but'} {outlined}{': they agree' if consistent else ''}."
    if rule == "class" and label in lesion_free and n_lesions:
        return Agreement(
            consistent, f"{found} By this bundle's rule the class counts, and the outline was emptied.", empties_mask=True
        )
    if rule == "mask" and free.any() and not free.all():
        allowed = ~free if n_lesions else free
        told = "" if consistent else " By this bundle's rule the outline counts, and the probabilities were shared out anew."
        return Agreement(consistent, f"{found}{told}", allowed=allowed)
    return Agreement(consistent, found if consistent else f"{found} Both are reported as the networks give them.")


def shared_out(probabilities: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """Return probabilities (C,) of the allowed classes alone, their sum 1 again; equal ones where all of them were 0."""
    if allowed is None:
        return probabilities
    kept = np.where(allowed, probabilities, 0)
    if kept.sum() <= 0:
        kept = allowed.astype(probabilities.dtype)
    return (kept / kept.sum()).astype(probabilities.dtype)
