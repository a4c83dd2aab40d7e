"""Predicting many files: masks, overlays, tables; unreadable files are listed, and the others are predicted."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bcd.data.guides import ORIGIN_FILE
from bcd.data.manifest import case_file_name
from bcd.files import write_text
from bcd.images.decode import MAX_PIXELS, ImageError, pixel_limit, printable
from bcd.images.read import read_mask
from bcd.images.scan import Scan, read_scans
from bcd.images.seg import seg_obstacle, write_seg
from bcd.predictor.bundles.examples import png
from bcd.predictor.many.inputs import Input, find_inputs, shown_path
from bcd.predictor.many.table import TABLE, ResultTable, Row
from bcd.predictor.options import PredictOptions
from bcd.predictor.predictor import Predictor
from bcd.predictor.result import Result
from bcd.reports.contours import overlay

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_SHOWN = 20
# Always text.
_TEXT = (
    *("case_id", "file", "frame", "error", "predicted_label", "point", "threshold_on"),
    *("conformal", "consistency", "uncertainty", "warnings"),
)


@dataclass(frozen=True)
class FileOptions(PredictOptions):
    """What a prediction of files writes; see `PredictOptions` for the rest.

    Args:
        guides: folder of masks `<case_id>.png` that replace the predicted ones; None for those.
        max_pixels: the most pixels that an image may have.
        probabilities: write probability maps too, 255 for 1.
        seg: write a DICOM SEG for each DICOM file.
    """

    guides: Path | None = None
    max_pixels: int = MAX_PIXELS
    probabilities: bool = False
    seg: bool = False


def predict_files(
    predictor: Predictor, source: Path, output: Path, options: FileOptions | None = None, learned_from: Sequence[str] | None = None
) -> "pd.DataFrame":
    """Predict as `write_predictions` does; return predictions.csv, an empty cell of a number or truth value as NaN."""
    import pandas as pd  # late: the command writes its tables without it

    write_predictions(predictor, source, output, options, learned_from)

    def values(column: "pd.Series[str]") -> "pd.Series[Any]":
        if column.name in _TEXT:
            return column
        if {"True", "False"} & set(column):
            return column.map({"True": True, "False": False})
        return column.map(lambda text: float(text) if text else float("nan"))  # Python's own conversion is exact

    return pd.read_csv(output / TABLE, dtype=str, keep_default_na=False).apply(values)


def write_predictions(
    predictor: Predictor, source: Path, output: Path, options: FileOptions | None = None, learned_from: Sequence[str] | None = None
) -> list[Row]:
    """Predict every image and write the results; return the rows of predictions.csv.

    A second call with the same output continues where the first was stopped, and tries unreadable files again.

    Args:
        predictor: of a bundle or a run.
        source: an image, a DICOM file, a folder of either, or a CSV of paths; see `find_inputs`.
        output: gets `masks/<case_id>.png` (0 and 255, native size; for DICOM the region of ultrasound), `overlays/<case_id>.png`,
            predictions.csv with one row per case, and predictions.json.
        options: what is wanted besides.
        learned_from: ids of the cases that the networks learned from, written beside the masks; None if unknown.

    Raises:
        FileNotFoundError: when there is nothing to predict.
        ValueError: when not a single image can be read, masks are given to a model that takes none, or `output` holds something
            else.
    """
    options = options or FileOptions()
    check_options(predictor, options)
    if (output / "shards" / "plan.json").is_file():
        raise ValueError(f"{output} was begun with shards=; go on with the same number, or choose another output=.")
    inputs = find_inputs(source)
    table = ResultTable(output, columns_of(predictor, options), made_by(predictor, source, options))
    Writer(predictor, output, options, table).predict(inputs)
    rows = table.close()
    finish(output, rows, learned_from if predictor.outlines else None)
    return rows


def check_options(predictor: Predictor, options: FileOptions) -> None:
    """Refuse masks for a model that takes none, and a limit that is none, by a ValueError."""
    pixel_limit(options.max_pixels)
    if options.guides is not None and not predictor.pipeline.takes_guide:
        raise ValueError("guides= is for ROI models; this model takes no masks.")


def finish(output: Path, rows: Sequence[Row], learned_from: Sequence[str] | None) -> None:
    """Write beside the masks what their networks learned from, and log what could not be read.

    Raises:
        ValueError: when nothing could be.
    """
    if learned_from is not None:
        write_text(output / "masks" / ORIGIN_FILE, json.dumps({"learned_from": list(learned_from)}, indent=2))
    broken = [row["error"] for row in rows if row["error"]]
    if len(broken) == len(rows):
        raise ValueError(f"None of the {len(rows)} images could be read; the reasons stand in {output / TABLE}.")
    if broken:
        more = f"\n  ... and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
        listed = "\n".join(f"  {reason}" for reason in broken[:_SHOWN])
        log.warning("%d of %d images could not be read:\n%s%s\nAll: %s", len(broken), len(rows), listed, more, output / TABLE)


@dataclass(frozen=True)
class Writer:
    """Predicts files; writes pictures to `output` and rows to `table`."""

    predictor: Predictor
    output: Path
    options: FileOptions
    table: ResultTable

    def predict(self, inputs: Sequence[Input]) -> None:
        """Predict all files that have no row yet; the row of one that cannot be read gives the reason."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
            for one in progress.track(inputs, description="Predicting"):
                if (one.shown, "") in self.table.done:
                    continue
                try:
                    self._file(one)
                except (ValueError, OSError) as error:
                    reason = " ".join(printable(error).split())
                    row = {"case_id": printable(one.case_id), "file": one.shown, "frame": "", "error": reason}
                    self.table.add(row, {"file": one.shown, "frame": None, "error": reason})

    def _file(self, one: Input) -> None:
        if printable(one.case_id) != one.case_id:
            raise ImageError(one.path, "the name is not UTF-8", "rename the file")
        scans: list[Scan] = []
        masks: list[np.ndarray] = []
        for scan in read_scans(one.path, one.path, self.options.max_pixels):
            frame = "" if scan.frame is None else str(scan.frame)
            case_id = self.table.done.get((one.shown, frame))
            if case_id is None:
                case_id = one.case_id if scan.frame is None else f"{one.case_id}_frame_{scan.frame:03d}"
                self._scan(one, scan, case_id, frame)
            if scan.frame is not None and self._wants_seg(scan) and seg_obstacle(scan) is None:
                scans.append(scan)
                masks.append(read_mask(self._path("masks", case_id)))
        if scans:
            path = self._path("seg", self.table.done[one.shown, str(scans[0].frame)], ".dcm")
            if not path.is_file():
                write_seg(path, masks, scans, self.predictor.bundle.name)

    def _wants_seg(self, scan: Scan) -> bool:
        return self.options.seg and scan.source is not None and self.predictor.outlines

    def _scan(self, one: Input, scan: Scan, case_id: str, frame: str) -> None:
        mask = _guide(self.options.guides, case_id, scan.image.shape, self.options.max_pixels) if self.options.guides else None
        result = self.predictor.predict(scan, self.options, mask=mask)
        self._write_pictures(scan, result, case_id)
        entry = result.to_dict()
        warnings = [*entry["warnings"], *self._seg(scan, result, case_id)]
        row = {"case_id": case_id, "file": one.shown, "frame": frame, "error": "", **_row(self.predictor, result)}
        beside = {"file": one.shown, "frame": scan.frame, "error": None, "warnings": warnings}
        self.table.add(row | {"warnings": " ".join(warnings)}, entry | beside)

    def _seg(self, scan: Scan, result: Result, case_id: str) -> list[str]:
        """Write the DICOM SEG of a file of one frame; return why there is none, of one of several too."""
        if not self._wants_seg(scan):
            return []
        error = seg_obstacle(scan)
        try:
            if error is None and scan.frame is None:
                write_seg(self._path("seg", case_id, ".dcm"), [np.asarray(result.mask)], [scan], self.predictor.bundle.name)
        except ImageError as failure:
            error = failure
        return [] if error is None else [f"No DICOM SEG: {error.reason}."]

    def _write_pictures(self, scan: Scan, result: Result, case_id: str) -> None:
        if result.mask is not None:
            _save(self._path("masks", case_id), png(result.mask.astype(np.uint8) * 255))
        if self.options.probabilities and result.probability_map is not None:
            _save(self._path("probabilities", case_id), png(np.rint(result.probability_map * 255).astype(np.uint8)))
        if result.heat_map is not None:
            _save(self._path("heat_maps", case_id), png(np.rint(result.heat_map * 255).astype(np.uint8)))
        picture = overlay(scan.image, None, result.mask)
        if result.label is not None:
            text, scale = f"{result.label} {result.probabilities[result.label]:.2f}", max(picture.shape[1] / 500, 0.4)
            place, thickness = (6, picture.shape[0] - 8), max(1, round(scale * 2))
            cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (230, 159, 0), thickness)
        _save(self._path("overlays", case_id), png(picture))

    def _path(self, kind: str, case_id: str, ending: str = ".png") -> Path:
        return self.output / kind / f"{case_file_name(case_id)}{ending}"


def made_by(predictor: Predictor, source: Path, options: FileOptions) -> dict[str, Any]:
    """Return what decides the rows, as plain values."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items()}
    bundle = {"bundle": predictor.bundle.name, "fingerprint": predictor.bundle.fingerprint, "export": predictor.export}
    return bundle | {"input": shown_path(source.absolute()), "options": values}


def columns_of(predictor: Predictor, options: FileOptions) -> list[str]:
    """Return the columns of predictions.csv."""
    columns = ["case_id", "file", "frame", "error", "height", "width", "row_spacing_mm", "column_spacing_mm"]
    if predictor.outlines or options.guides is not None:
        columns += ["n_lesions", "lesion_area_px", "max_probability", "long_px", "short_px", "area_mm2", "long_mm", "short_mm"]
    if predictor.classifies:
        columns += ["predicted_label", *(f"probability_{name}" for name in predictor.classes)]
        columns += [f"raw_{name}" for name in predictor.classes]
        columns += ["point", "threshold", "threshold_on", "is_positive", "conformal", "consistent", "consistency"]
    if predictor.pipeline.takes_guide:
        columns += ["guide_is_empty"]
    columns += ["in_scope", "scope_score", "scope_limit"] if predictor.scope_model is not None else []
    if options.uncertainty:
        columns += ["uncertainty", "entropy_bits", "dice_between_looks"] + [f"sd_{name}" for name in predictor.classes]
    return [*columns, "warnings"]


def _row(predictor: Predictor, result: Result) -> dict[str, object]:
    """Return what a result says in the columns of the table; what a bundle does not say is left out."""
    row: dict[str, object] = {"height": result.height, "width": result.width, "warnings": " ".join(result.warnings)}
    if result.spacing_mm is not None:
        row |= {"row_spacing_mm": result.spacing_mm[0], "column_spacing_mm": result.spacing_mm[1]}
    if result.mask is not None:
        row |= {"n_lesions": len(result.lesions), "lesion_area_px": int(result.mask.sum())}
        largest = asdict(result.lesions[0]) if result.lesions else {}
        row |= {name: largest.get(name) for name in ("long_px", "short_px", "area_mm2", "long_mm", "short_mm")}
    if result.probability_map is not None:
        row["max_probability"] = float(result.probability_map.max())
    if result.raw is not None:
        row |= {f"probability_{name}": value for name, value in result.probabilities.items()}
        row |= {f"raw_{name}": float(value) for name, value in zip(predictor.classes, result.raw, strict=True)}
        row |= {"predicted_label": result.label, "point": result.point, "threshold": result.threshold}
        row["threshold_on"] = predictor.bundle.decisions.on if result.threshold is not None else None
        row |= {"is_positive": result.is_positive, "consistent": result.consistent, "consistency": result.consistency}
        row["conformal"] = None if result.conformal is None else "; ".join(result.conformal)
    if result.scope is not None:
        row |= {"in_scope": result.scope.in_scope, "scope_score": result.scope.score, "scope_limit": result.scope.limit}
    if predictor.pipeline.takes_guide:
        row["guide_is_empty"] = result.mask is None or not result.mask.any()
    if result.uncertainty is not None:
        estimate = result.uncertainty
        row |= {"uncertainty": estimate.source, "entropy_bits": estimate.entropy, "dice_between_looks": estimate.dice}
        classes = estimate.classes if estimate.classes is not None else ()
        row |= {f"sd_{name}": float(value) for name, value in zip(predictor.classes, classes, strict=False)}
    return row


def _guide(folder: Path, case_id: str, shape: tuple[int, ...], max_pixels: int) -> np.ndarray:
    path = folder / f"{case_file_name(case_id)}.png"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no mask for {case_id}; guides= must hold one mask for each image.")
    mask = read_mask(path, max_pixels)
    if mask.shape != shape:
        raise ValueError(f"{path} is {mask.shape}, its image {shape}; height and width must be the same.")
    return mask


def _save(path: Path, content: bytes) -> None:
    """Write a picture; its row comes later, so a half-written one is written again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
