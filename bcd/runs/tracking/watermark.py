"""What a tracker elsewhere has been told already: a resumed run repeats its last steps, and no point shall be doubled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Watermark:
    """The last step that was logged, and what was logged at it; kept in the run's folder with the tracker's id of the run.

    A resumed run repeats what came after its checkpoint exactly, so what was logged before need not be logged again.

    Args:
        path: of the file, JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        known = _read(path)
        self.id: str | None = known.get("id")
        self.step: int = known.get("step", -1)
        self.keys: set[str] = set(known.get("keys", ()))

    def new(self, figures: Mapping[str, Any], step: int) -> dict[str, Any]:
        """Return the figures that were not logged yet."""
        if step < self.step:
            return {}
        return {name: value for name, value in figures.items() if step > self.step or name not in self.keys}

    def passed(self, figures: Mapping[str, Any], step: int) -> None:
        """Note that figures were logged."""
        self.keys = set(figures) | (self.keys if step == self.step else set())
        self.step = step
        self.write()

    def write(self) -> None:
        """Write the file; whole or not at all, though not through a power cut, since this is done at every logged step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".aside")
        aside.write_text(json.dumps({"id": self.id, "step": self.step, "keys": sorted(self.keys)}), encoding="utf-8")
        aside.replace(self.path)


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
