"""Cases, and the manifest that lists them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Case:
    """One image and what its data set knows about it.

    Args:
        case_id: unique within the data set, such as `benign (1)`.
        image: absolute path of the image.
        masks: absolute paths of the lesion masks; the lesion is their logical OR; empty when there is no lesion (or no truth).
        label: class name, or None where the data set gives none.
        patient: patient id, or None where it is unknown.
        metadata: everything else the data set knows (BI-RADS, scanner, histology, pixel spacing), as strings.
    """

    case_id: str
    image: Path
    masks: tuple[Path, ...] = ()
    label: str | None = None
    patient: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """A data set: turns its folder into cases."""

    name: str
    root: Path
    synthetic: bool

    def cases(self) -> list[Case]:
        """Return every case, sorted by case id; refuse what is broken, naming the file."""
        ...
