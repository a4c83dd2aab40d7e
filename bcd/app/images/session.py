"""A bundle's predictor, shared by all users, and the session of one user."""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from bcd.app.images.uploads import FileContent
from bcd.images.scan import Scan
from bcd.predictor.options import PredictOptions
from bcd.predictor.predictor import Predictor
from bcd.predictor.result import Result


class SharedPredictor:
    """A predictor that one user at a time uses, because heat maps add hooks to its networks."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.bundle = predictor, predictor.bundle
        self._turn = threading.Lock()

    def predict(self, scan: Scan, options: PredictOptions, mask: np.ndarray | None) -> Result:
        """Return the result of a scan."""
        with self._turn:
            return self.predictor.predict(scan, options, mask=mask)


@dataclass
class Session:
    """The session of one user; what is no longer shown is deleted at the end of each run.

    Attributes:
        files: what each file holds, by the file's key.
        masks: corrected by hand, by the scan's key; bool (H, W).
        spacing_mm: mm per pixel as the visitor says, by the scan's key.
    """

    files: dict[str, FileContent] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    spacing_mm: dict[str, float] = field(default_factory=dict)
    _results: dict[tuple[object, ...], Result] = field(default_factory=dict)
    _used: set[tuple[object, ...]] = field(default_factory=set)

    def result(self, predictor: SharedPredictor, scan_key: str, scan: Scan, options: PredictOptions) -> Result:
        """Return the result of a scan, from memory where nothing has changed since."""
        mask, spacing_mm = self.masks.get(scan_key), self.spacing_mm.get(scan_key)
        digest = None if mask is None else hashlib.sha256(np.packbits(mask).tobytes()).digest()
        key = (predictor.bundle.fingerprint, scan_key, options, spacing_mm, digest)
        if key not in self._results:
            if scan.spacing_mm is None and spacing_mm:
                scan = replace(scan, spacing_mm=(spacing_mm, spacing_mm))
            self._results[key] = predictor.predict(scan, options, mask)
        self._used.add(key)
        return self._results[key]

    def tidy(self, files: Iterable[str], scans: Iterable[str]) -> None:
        """Drop what does not belong to these files and scans, and results that were not asked for since the last time."""
        files, scans = set(files), set(scans)
        self.files = {key: value for key, value in self.files.items() if key in files}
        self.masks = {key: value for key, value in self.masks.items() if key in scans}
        self.spacing_mm = {key: value for key, value in self.spacing_mm.items() if key in scans}
        self._results = {key: value for key, value in self._results.items() if key in self._used}
        self._used = set()
