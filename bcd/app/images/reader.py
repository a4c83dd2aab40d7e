"""A bundle at work for several visitors at once, and what one visitor has before him."""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bcd.app.images.uploads import Read
from bcd.images.scan import Scan
from bcd.predictor.options import PredictOptions
from bcd.predictor.predictor import Predictor
from bcd.predictor.result import Result


class Reader:
    """A predictor that one visitor after another uses: heat maps hang hooks into its networks.

    Args:
        predictor: of one bundle.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._turn = threading.Lock()

    @classmethod
    def load(cls, folder: Path, trusted: Iterable[str]) -> "Reader":
        """Return the reader of a bundle.

        Raises:
            BundleError: when it cannot be used.
        """
        return cls(Predictor.load(folder, trusted=tuple(trusted)))

    def read(self, scan: Scan, options: PredictOptions, mask: np.ndarray | None) -> Result:
        """Return the result of a scan."""
        with self._turn:
            return self.predictor.predict(scan, options, mask=mask)


@dataclass
class Desk:
    """What one visitor has before him; what is not looked at any more is dropped at the end of each run.

    Attributes:
        read: what each file gave, by the file's key.
        outlines: corrected by hand, by the scan's key; bool (H, W).
        spacing_mm: mm per pixel as the visitor says, by the scan's key.
    """

    read: dict[str, Read] = field(default_factory=dict)
    outlines: dict[str, np.ndarray] = field(default_factory=dict)
    spacing_mm: dict[str, float] = field(default_factory=dict)
    _results: dict[tuple[object, ...], Result] = field(default_factory=dict)
    _used: set[tuple[object, ...]] = field(default_factory=set)

    def result(self, reader: Reader, scan_key: str, scan: Scan, options: PredictOptions) -> Result:
        """Return the result of a scan, from memory where nothing has changed since."""
        outline, spacing = self.outlines.get(scan_key), self.spacing_mm.get(scan_key)
        key = (reader.predictor.bundle.fingerprint, scan_key, options, spacing, _digest(outline))
        if key not in self._results:
            self._results[key] = reader.read(self.spaced(scan_key, scan), options, outline)
        self._used.add(key)
        return self._results[key]

    def spaced(self, scan_key: str, scan: Scan) -> Scan:
        """Return the scan with the spacing that the visitor gave, where its file gives none."""
        spacing = self.spacing_mm.get(scan_key)
        return scan if scan.spacing_mm is not None or not spacing else replace(scan, spacing_mm=(spacing, spacing))

    def tidy(self, files: Iterable[str], scans: Iterable[str]) -> None:
        """Drop what does not belong to these files and scans, and results that were not asked for since the last time."""
        files, scans = set(files), set(scans)
        self.read = {key: value for key, value in self.read.items() if key in files}
        self.outlines = {key: value for key, value in self.outlines.items() if key in scans}
        self.spacing_mm = {key: value for key, value in self.spacing_mm.items() if key in scans}
        self._results = {key: value for key, value in self._results.items() if key in self._used}
        self._used = set()


def _digest(outline: np.ndarray | None) -> bytes | None:
    return None if outline is None else hashlib.sha256(np.packbits(outline).tobytes()).digest()
