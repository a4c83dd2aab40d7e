"""If class and mask disagree, a rule of the bundle decides what is reported.

`report`: both are reported as predicted, with a sentence on the disagreement.
`class`: the class wins; the mask of an image that is classified as lesion-free is emptied.
`mask`: the mask wins; where it is empty the image is lesion-free, where it is not the probabilities are rescaled among the
classes that have a lesion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """Whether class and mask agree, and the result of the rule.

    Attributes:
        consistent: before the rule was applied; None where one of the two is missing.
        sentence: the same in words, and what the rule did.
        empties_mask: the mask is to be emptied.
        allowed: bool (C,), the classes that the rule leaves; None leaves all.
    """

    consistent: bool | None
    sentence: str
    empties_mask: bool = False
    allowed: np.ndarray | None = None


def agreement(label: str, n_lesions: int, classes: Sequence[str], lesion_free: Sequence[str], rule: str) -> Agreement:
    """Return whether class and mask agree, and what a rule makes of it.

    `label` is the class of highest probability; images of the `lesion_free` classes have no lesion; the mask has `n_lesions`
    components.
    """
    free = np.array([name in set(lesion_free) for name in classes])
    lesions = f"{n_lesions} lesion{'s' if n_lesions > 1 else ''}" if n_lesions else "no lesion"
    consistent = (n_lesions == 0) == (label in lesion_free)
    both = (
        f"Most probable is {label}, {'and' if consistent else 'but'} the mask has {lesions}{': they agree' if consistent else ''}."
    )
    if rule == "class" and label in lesion_free and n_lesions:
        return Agreement(
            consistent, f"{both} By this bundle's rule the class decides, and the mask was emptied.", empties_mask=True
        )
    if rule == "mask" and free.any() and not free.all():
        allowed = ~free if n_lesions else free
        rule_in_words = "" if consistent else " By this bundle's rule the mask decides, and the probabilities were rescaled."
        return Agreement(consistent, f"{both}{rule_in_words}", allowed=allowed)
    return Agreement(consistent, both if consistent else f"{both} Both are reported as the networks give them.")


def shared_out(probabilities: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """Return probabilities (C,) of the allowed classes alone, their sum 1 again; equal ones where all of them were 0."""
    if allowed is None:
        return probabilities
    kept = np.where(allowed, probabilities, 0)
    if kept.sum() <= 0:
        kept = allowed.astype(probabilities.dtype)
    return (kept / kept.sum()).astype(probabilities.dtype)
