"""Which bundles there are to choose from: those that come with the project, and those in a folder."""

from collections.abc import Iterable
from pathlib import Path

from bcd.config import CONF
from bcd.predictor.bundle import DESCRIPTION

# They lie beside its configs.
RELEASED = CONF.parent / "bundles"
DEFAULT = "busbra"


def released_bundle() -> Path | None:
    """Return the bundle that comes with the project; None where there is none."""
    there = RELEASED / DEFAULT
    return there if (there / DESCRIPTION).is_file() else next(iter(bundles_in([RELEASED])), None)


def bundles_in(folders: Iterable[Path]) -> list[Path]:
    """Return the bundles that lie in the folders, or are one themselves, by name; each once."""
    bundles: dict[Path, Path] = {}
    for folder in folders:
        for path in [folder, *sorted(folder.glob("*"))] if folder.is_dir() else []:
            if (path / DESCRIPTION).is_file():
                bundles.setdefault(path.resolve(), path)
    return sorted(bundles.values(), key=lambda path: path.name)
