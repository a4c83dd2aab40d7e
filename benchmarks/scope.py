"""How often the scope check warns, by kind of picture and training data: python -m benchmarks.scope."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bcd.data.manifest import Case
from bcd.data.sources.busbra import BUSBRA
from bcd.data.sources.busi import BUSI
from bcd.data.sources.phantom import Phantom
from bcd.data.splits import read_split
from bcd.images.read import read_image
from bcd.predictor.image_statistics import image_statistics
from bcd.predictor.scope import COLOURED_SHARE, ScopeModel, coloured_share
from bcd.reports.markdown import table
from benchmarks.out_of_scope import KINDS, grey_of, pictures_of

_SOURCES: Mapping[str, tuple[type[BUSBRA] | type[BUSI], str]] = {"BUS-BRA": (BUSBRA, "busbra"), "BUSI": (BUSI, "busi")}
_FOLDS = 5
_CHANGED = 150
_HELD_OUT = "held-out images of the same data"

Grey = NDArray[np.uint8]
Change = Callable[[Grey], Grey]


Counts = dict[str, dict[str, tuple[int, int]]]


def _jpeg(image: Grey) -> Grey:
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), np.uint8)


def _resized(scale: float) -> Change:
    return lambda image: np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


_CHANGES: Mapping[str, Change] = {
    "at half the size": _resized(0.5),
    "at twice the size": _resized(2.0),
    "as JPEG of quality 40": _jpeg,
    "darker by a quarter": lambda image: np.asarray(image * 0.75, np.uint8),
    "upside down": lambda image: image[::-1],
    "on its side": lambda image: np.rot90(image),
    "as a negative": lambda image: 255 - image,
}


class _Images(NamedTuple):
    """A data set's images, their groups, folds and statistics."""

    paths: list[Path]
    groups: list[str]
    folds: NDArray[np.int64]
    figures: NDArray[np.float64]


class _Drawn(NamedTuple):
    """Pictures of one kind: their statistics, and whether they have too much colour."""

    figures: NDArray[np.float64]
    is_coloured: NDArray[np.bool_]


def bench_scope(data: Path, splits: Path, phantoms: Path, count: int = 100, n_phantoms: int = 600) -> Counts:
    """Return row -> training data -> how many pictures were out of scope, and of how many.

    Every image of the training data is judged once, by a model fitted on the other folds. The other rows are judged by the model of
    folds 2 to 5; changed images are the first
    of fold 1. BUS-BRA and BUSI take part where they are there.

    Args:
        data: holds `busbra` and `busi`.
        splits: holds `busbra.csv` and `busi.csv`.
        phantoms: folder that the phantoms are made in.
        count: pictures of each kind.
        n_phantoms: images of the simulated data set.
    """
    sets = {"phantoms": _read_phantoms(phantoms, n_phantoms)}
    for name, (source, key) in _SOURCES.items():
        if (data / key).is_dir():
            sets[name] = _read_set(source(data / key).cases(), splits / f"{key}.csv")
    drawn = {kind: _drawn(kind, count) for kind in KINDS}
    rows: Counts = {row: {} for row in (_HELD_OUT, *sets)}
    for name in sets:
        for row, outside in _judged(name, sets, drawn):
            rows.setdefault(row, {})[name] = (int(np.sum(outside)), len(outside))
    return {row: counts for row, counts in rows.items() if counts}


def _judged(name: str, sets: Mapping[str, _Images], drawn: Mapping[str, _Drawn]) -> Iterator[tuple[str, Sequence[bool]]]:
    """Yield each row and whether its pictures are out of scope, for one training data set."""
    images = sets[name]
    outside: list[bool] = []
    for fold in range(_FOLDS, 0, -1):  # the model of folds 2 to 5 comes last, and stays
        rest = images.folds != fold
        model = ScopeModel.of_statistics(images.figures[rest], groups=np.array(images.groups)[rest].tolist())
        outside += (model.distances(images.figures[~rest]) > model.limit).tolist()
    yield _HELD_OUT, outside
    for other, theirs in sets.items():
        if other != name:
            yield other, (model.distances(theirs.figures) > model.limit).tolist()
    held_out = [read_image(images.paths[index]) for index in np.flatnonzero(images.folds == 1)[:_CHANGED]]
    for change, changed in _CHANGES.items():
        yield f"held-out images {change}", [not model.check(changed(image)).in_scope for image in held_out]
    for kind, pictures in drawn.items():
        yield kind, (pictures.is_coloured | (model.distances(pictures.figures) > model.limit)).tolist()


def _drawn(kind: str, count: int) -> _Drawn:
    pictures = pictures_of(kind, count)
    colours = [coloured_share(picture, grey_of(picture)) if picture.ndim == 3 else 0.0 for picture in pictures]
    return _Drawn(np.array([image_statistics(grey_of(picture)) for picture in pictures]), np.array(colours) > COLOURED_SHARE)


def _read_phantoms(folder: Path, count: int) -> _Images:
    cases = Phantom(folder, n_images=count, seed=0).cases()
    patients = [str(case.patient) for case in cases]
    return _measured(cases, patients, np.unique(patients, return_inverse=True)[1] % _FOLDS + 1)


def _read_set(cases: Sequence[Case], split: Path) -> _Images:
    frame = read_split(split).set_index("case_id").loc[[case.case_id for case in cases]]
    return _measured(cases, frame["group"].tolist(), frame["fold"].to_numpy())


def _measured(cases: Sequence[Case], groups: list[str], folds: NDArray[np.int64]) -> _Images:
    paths = [case.image for case in cases]
    return _Images(paths, groups, folds, np.array([image_statistics(read_image(path)) for path in paths]))


def markdown(rows: Counts) -> str:
    """Return the counts as a Markdown table of shares."""
    names = list(dict.fromkeys(name for counts in rows.values() for name in counts))
    cells = ([row, *(_share(counts.get(name)) for name in names)] for row, counts in rows.items())
    return table(["out of scope, of", *(f"fitted on {name}" for name in names)], cells)


def _share(count: tuple[int, int] | None) -> str:
    return "-" if count is None else f"{count[0] / count[1]:.1%} of {count[1]:,}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scope", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BCD_DATA", "data")), help="holds busbra and busi")
    parser.add_argument("--splits", type=Path, default=Path("conf/data/splits"), help="holds busbra.csv and busi.csv")
    parser.add_argument("--phantoms", type=Path, default=Path("outputs/phantoms"), help="folder to make the phantoms in")
    parser.add_argument("--count", type=int, default=100, help="pictures of each kind")
    chosen = parser.parse_args()
    sys.stdout.write(markdown(bench_scope(chosen.data, chosen.splits, chosen.phantoms, chosen.count)) + "\n")


if __name__ == "__main__":
    main()
