"""Cases, and the manifest that lists them."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np

from bcd.data.parallel import in_threads
from bcd.files import write_text
from bcd.images.decode import MAX_PIXELS, ImageError, open_file, printable
from bcd.images.read import read_image, read_masks

COLUMNS = ("case_id", "image", "masks", "label", "patient", "height", "width", "status", "reason")
METADATA_PREFIX = "meta."
OK, SKIPPED = "ok", "skipped"

_LONGEST_NAME = 180  # file systems take 255 bytes, endings and temporary names included


@dataclass(frozen=True)
class Case:
    """One image and what its data set knows about it.

    Args:
        case_id: unique within the data set, such as `benign (1)`.
        image: absolute path of the image.
        masks: absolute paths of the lesion masks; the lesion is their logical OR; empty without lesion (or truth).
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


def spacing_of(case: Case) -> tuple[float, float] | None:
    """Return the distance of two rows and of two columns in mm, from metadata `spacing_mm` or `spacing_y_mm` and `spacing_x_mm`.

    `spacing_mm` is one number where both are the same, else two: `0.08` or `0.08 0.1`. None where the data do not say.

    Raises:
        ValueError: when the value is no spacing.
    """
    known = case.metadata
    written = known.get("spacing_mm") or " ".join(known.get(name, "") for name in ("spacing_y_mm", "spacing_x_mm"))
    parts = written.replace(";", " ").replace("\\", " ").split()
    if not parts:
        return None
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < number < 100 for number in numbers):
        raise ValueError(f"{case.case_id}: the pixel spacing is {written!r}; give mm as one positive number, or two: row column.")
    return numbers[0], numbers[-1]


class Source(Protocol):
    """A data set: turns its folder into cases."""

    name: str
    root: Path
    synthetic: bool

    def cases(self) -> list[Case]:
        """Return every case, sorted by case id.

        What is wrong with some of the files is best raised as one `bcd.data.problems.DataProblems`, which lists it all and carries
        the cases that stand all the same; any other error ends the preparation at once.
        """
        ...


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts `benign (2)` before `benign (10)`."""
    parts = re.split(r"(\d+)", text)
    return [(1, int(part), part) if index % 2 else (0, 0, part) for index, part in enumerate(parts)]


def case_file_name(case_id: str) -> str:
    """Return a file name (without extension) for a case id, which may hold slashes; different ids never share one."""
    name = quote(case_id, safe=" ()[]{}+=,@!#&'", errors="surrogateescape")
    name = "%2E" + name[1:] if name.startswith(".") else name  # neither hidden nor the folder above
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 20]}...{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def write_manifest(
    cases: Sequence[Case],
    path: Path,
    root: Path,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    skipped: Sequence[tuple[Case, str]] = (),
) -> None:
    """Write cases as CSV, one row each, in one atomic step; a file that says the same already is left as it is.

    Paths are relative to `root`, with forward slashes; several masks are joined with `;`, or are a JSON list where a path itself
    holds one. Metadata columns carry the prefix `meta.`, so that none is taken for one of ours. An empty cell means unknown.

    Args:
        cases: what to write, in this order.
        path: the CSV to write.
        root: the data set's folder.
        sizes: native height and width in pixels by case id, where known.
        skipped: cases that are not used, and why; they follow with the status `skipped`, and `read_manifest` passes them over.

    Raises:
        ValueError: for a file outside `root`.
    """
    names = sorted({name for case in cases for name in case.metadata})
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *(METADATA_PREFIX + name for name in names)])
    for case in cases:
        masks = _join([relative_path(mask, root) for mask in case.masks])
        size = (sizes or {}).get(case.case_id, ("", ""))
        known = [case.case_id, relative_path(case.image, root), masks, case.label or "", case.patient or "", *size, OK, ""]
        writer.writerow([*known, *(case.metadata.get(name, "") for name in names)])
    for case, reason in skipped:
        masks = _join([_inside(mask, root) for mask in case.masks])
        known = [case.case_id, _inside(case.image, root), masks, case.label or "", case.patient or "", "", "", SKIPPED, reason]
        writer.writerow([*map(printable, known), *(printable(case.metadata.get(name, "")) for name in names)])
    if not (path.is_file() and path.read_bytes() == text.getvalue().encode("utf-8", "surrogateescape")):
        write_text(path, text.getvalue())


def read_manifest(path: Path, root: Path) -> list[Case]:
    """Return the cases of a manifest that are used, their paths absolute under `root`.

    Raises:
        ValueError: for a file without the manifest's columns.
    """
    return [
        Case(
            case_id=row["case_id"],
            image=root / row["image"],
            masks=tuple(root / mask for mask in _split(row["masks"])),
            label=row["label"] or None,
            patient=row["patient"] or None,
            metadata={
                name.removeprefix(METADATA_PREFIX): value
                for name, value in row.items()
                if name.startswith(METADATA_PREFIX) and value
            },
        )
        for row in _rows(path)
        if row["status"] == OK
    ]


def read_sizes(path: Path) -> dict[str, tuple[int, int]]:
    """Return native height and width in pixels by case id, as far as the manifest knows them."""
    return {row["case_id"]: (int(row["height"]), int(row["width"])) for row in _rows(path) if row["height"]}


def fingerprint(cases: Iterable[Case], root: Path) -> str:
    """Return 16 hex digits that change with any case id, label, patient, relative path, or file content.

    The order of the cases, the place of `root` and metadata do not matter: a corrected BI-RADS keeps its split. A file that
    cannot be read is marked as unreadable.
    """

    def digest_of(file: Path) -> str:
        try:
            with open_file(file) as opened:
                return hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]  # any binary file will do
        except (ImageError, OSError):
            return "unreadable"  # verification says why

    def identity(case: Case) -> list[object]:
        files = [[relative_path(file, root), digest_of(file)] for file in (case.image, *case.masks)]
        return [case.case_id, case.label, case.patient, files]

    ordered = sorted(cases, key=lambda case: case.case_id)
    digest = hashlib.sha256(b"[")
    for number, row in enumerate(in_threads(identity, ordered, threads=8)):
        digest.update(f"{', ' if number else ''}{json.dumps(row)}".encode())  # as json.dumps would write the whole list
    digest.update(b"]")
    return digest.hexdigest()[:16]


def relative_path(path: Path, root: Path) -> str:
    """Return a path relative to `root` with forward slashes.

    Raises:
        ValueError: when it lies outside.
    """
    if not path.is_relative_to(root):
        raise ValueError(f"{path} lies outside the data folder {root}; put it there, or link to it from there.")
    return path.relative_to(root).as_posix()


def _inside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows one by one: of a million, all at once would take more memory than the cases."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: no manifest, columns {sorted(missing)} are missing; delete it and prepare the data again.")
        yield from reader


def _join(paths: Sequence[str]) -> str:
    plain = not any(";" in path for path in paths) and not (paths and paths[0].startswith("["))
    return ";".join(paths) if plain else json.dumps(list(paths))


def _split(cell: str) -> list[str]:
    paths: list[str] = json.loads(cell) if cell.startswith("[") else cell.split(";") if cell else []
    return paths


def read_case(case: Case, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, np.ndarray]:
    """Return a case's image, uint8 (H, W), and lesion mask, uint8 (H, W) in {0, 1}."""
    image = read_image(case.image, max_pixels)
    return image, read_masks(case.masks, (image.shape[0], image.shape[1]), case.image, max_pixels)
