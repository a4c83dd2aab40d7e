"""Score what another tool predicted, by the same rules as our own models."""

import csv
import io
import logging
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from bcd.data.manifest import Case, case_file_name
from bcd.data.problems import Problem, listed, write_problems
from bcd.evaluation.classification import choose_positive
from bcd.images.decode import ImageError
from bcd.images.read import image_size, read_mask
from bcd.runs.assemble import build_test_data
from bcd.runs.testing.about import about_evaluation
from bcd.runs.testing.results import Tables, write_results
from bcd.runs.testing.run import pictures_of
from bcd.runs.testing.scoring import PixelFiles, score_cases
from bcd.tasks.inference import Prediction
from bcd.tasks.info import TaskInfo

log = logging.getLogger(__name__)

PICTURES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
# What tools leave beside their masks; everything else that names no case is a problem.
_BESIDE = (".json", ".pkl", ".npz", ".txt", ".log", ".yaml")
_SUM_TOLERANCE = 1e-3


class PredictionProblems(ValueError):  # noqa: N818  (says what it is)
    """All that is wrong with somebody's predictions; the message shows up to 20 problems, the CSV in the output has all."""


def score_predictions(
    predictions: str | Sequence[str], config: Mapping[str, Any], output: Path, fold: int | None = None, on_error: str = "stop"
) -> dict[str, Any]:
    """Score a folder of masks, a CSV of probabilities, or both; write the results; return the content of metrics.json.

    Args:
        predictions: a folder of binary pictures named by case id, at native size, 0 is background; a CSV with `case_id` and
            `probability_<class>` of every class, or of two classes `probability`, that of the positive one; or one of each.
        config: `data`, `output` (the folder of prepared data), and what these need.
        output: where the results go.
        fold: predictions of this test fold's cases alone; None for the whole data set.
        on_error: `stop` refuses predictions with any problem; `skip` scores them as they are: a case without a usable mask counts
            as one on which nothing was found, and a case without probabilities is left out; both are listed in every result.

    Raises:
        PredictionProblems: naming each missing, extra, wrongly sized or unreadable file, and each row of the CSV.
        ValueError: for something that is neither a folder nor a CSV.
    """
    given = [predictions] if isinstance(predictions, str) else list(predictions)
    folder, table = _sorted_out(given)
    datamodule = build_test_data(config, fold)
    cases = datamodule.cases["test"]
    known = {case.case_id: case for case in datamodule.prepared.cases}
    skipped = {problem.case_id for problem in datamodule.prepared.skipped}  # their predictions are neither needed nor extra
    classes = list(datamodule.selection.classes)
    masks: dict[str, Path] = {}
    probabilities: dict[str, np.ndarray] = {}
    problems: list[Problem] = []
    if folder is not None:
        masks, problems = find_masks(folder, cases, known, datamodule.prepared.max_pixels, skipped)
    if table is not None:
        probabilities, of_table = read_probabilities(table, cases, known.keys() | skipped, classes)
        problems += of_table
    _report(problems, output, on_error)
    scored = [case for case in cases if table is None or case.case_id in probabilities]
    if not scored:
        raise PredictionProblems(f"None of the {len(cases)} cases can be scored; {output / 'problems.csv'} says why.")
    max_pixels = datamodule.prepared.max_pixels

    def prediction_of(case: Case) -> Prediction:
        mask = None
        if folder is not None:
            empty = np.zeros(image_size(case.image, max_pixels), np.uint8)
            mask = (read_mask(masks[case.case_id], max_pixels) if case.case_id in masks else empty).astype(np.float32)
        return Prediction(case.case_id, mask, probabilities.get(case.case_id), None)

    threshold = 0.5 if folder is not None else None
    predictions_of_cases = ((case, prediction_of(case)) for case in scored)
    tables = Tables(*score_cases(predictions_of_cases, datamodule, classes, threshold, PixelFiles(output)), None)
    warnings = [
        f"{len(problems)} problems with the predictions (on_error=skip), see predictions.problems; cases without a usable mask "
        f"are scored as empty ones; {len(cases) - len(scored)} cases without probabilities are left out."
    ]
    about = about_evaluation(
        Path(given[0]).name or "predictions",
        config,
        datamodule,
        warnings if problems else [],
        task=TaskInfo.of_predictions(outlines=folder is not None, classifies=table is not None).to_dict(),
        predictions={
            "given": given,
            "problems": [{"case_id": one.case_id, "file": one.file.name, "reason": one.reason} for one in problems],
        },
    )
    # Nobody knows their validation cases, on which thresholds and temperature are chosen.
    return write_results(output, tables, about, classes, {}, pictures_of(datamodule), max_pixels)


def find_masks(
    folder: Path, cases: Sequence[Case], known: Mapping[str, Case], max_pixels: int, skipped: Collection[str] = ()
) -> tuple[dict[str, Path], list[Problem]]:
    """Return the usable mask of each case, and all that is wrong.

    Args:
        folder: of pictures, named by case id, or by the image's file name where no other case's image has the same.
        cases: those to score.
        known: all of the data set; a mask of one that is not scored is passed over.
        max_pixels: the most pixels that a picture may have.
        skipped: ids of cases that were left out because of problems of their own; their masks are passed over too.
    """
    stems = Counter(case.image.stem for case in known.values())
    names = {case.image.stem: case.case_id for case in known.values() if stems[case.image.stem] == 1}
    names |= {case_file_name(case_id): case_id for case_id in (*known, *skipped)} | {name: name for name in (*known, *skipped)}
    pictures: dict[str, list[Path]] = {}
    problems = []
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            remedy = "put the masks into one folder, or drop it"
            problems.append(Problem("", path, "a folder: masks are looked for beside it, not in it", remedy))
            continue
        case_id = names.get(path.stem)
        if path.suffix.lower() in PICTURES and case_id is not None:
            pictures.setdefault(case_id, []).append(path)
        elif path.suffix.lower() not in _BESIDE:
            problems.append(
                Problem("", path, "extra: no case of the data set is called so", "rename it by its case id, or drop it")
            )
    masks = {}
    for case in cases:
        files_of_case = pictures.get(case.case_id, [])
        problem = _mask_problem(case, files_of_case, folder, max_pixels)
        if problem is None:
            masks[case.case_id] = files_of_case[0]
        else:
            problems.append(problem)
    return masks, problems


def _mask_problem(case: Case, paths: Sequence[Path], folder: Path, max_pixels: int) -> Problem | None:
    if not paths:
        missing = folder / f"{case_file_name(case.case_id)}.png"
        return Problem(case.case_id, missing, "missing", "predict it; an image on which nothing was found has an all-black mask")
    if len(paths) > 1:
        others = ", ".join(path.name for path in paths[1:])
        return Problem(case.case_id, paths[0], f"one of several masks of this case (also {others})", "keep one")
    try:
        mask = read_mask(paths[0], max_pixels)
    except ImageError as error:
        return Problem(case.case_id, paths[0], error.reason, error.remedy)
    height, width = image_size(case.image, max_pixels)
    if mask.shape != (height, width):
        reason = f"the mask is {mask.shape[0]} x {mask.shape[1]} px (height x width), its image {height} x {width}"
        return Problem(case.case_id, paths[0], reason, "bring it back to the image's own size, by the tool that made it")
    return None


def read_probabilities(
    path: Path, cases: Sequence[Case], known: Collection[str], class_names: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[Problem]]:
    """Return the probabilities of each case, float32 (C,), and all that is wrong.

    Args:
        path: of a CSV with `case_id` and `probability_<class>` of every class, or of two classes `probability` of the positive.
        cases: those to score.
        known: ids of all of the data set; a row of one that is not scored is passed over.
        class_names: C names.

    Raises:
        ValueError: when the columns are missing.
    """
    rows = _rows(path, class_names)
    by_case: dict[str, list[np.ndarray]] = {}
    problems = []
    for case_id, values in rows:
        if case_id not in known:
            problems.append(
                Problem(case_id, path, "extra: no case of the data set is called so", "correct the id, or drop the row")
            )
        by_case.setdefault(case_id, []).append(values)
    usable = {}
    for case in cases:
        problem = _row_problem(case.case_id, by_case.get(case.case_id, []), path)
        if problem is None:
            usable[case.case_id] = by_case[case.case_id][0].astype(np.float32)
        else:
            problems.append(problem)
    return usable, problems


def _rows(path: Path, class_names: Sequence[str]) -> list[tuple[str, np.ndarray]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(io.StringIO(file.read()))
        given = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV in UTF-8 ({error}); save it as one.") from error
    columns = [f"probability_{name}" for name in class_names]
    there = set(reader.fieldnames or ())
    of_positive = len(class_names) == 2 and "probability" in there and not set(columns) <= there
    missing = [name for name in ["case_id", *([] if of_positive else columns)] if name not in there]
    if missing:
        raise ValueError(f"{path}: the column {missing[0]} is missing; it has {', '.join(reader.fieldnames or ()) or 'none'}.")
    if not of_positive:
        return [(row["case_id"], np.array([_number(row[name]) for name in columns])) for row in given]
    place = list(class_names).index(choose_positive(class_names, None))
    rows = []
    for row in given:
        value = _number(row["probability"])
        rows.append((row["case_id"], np.array([value if number == place else 1 - value for number in range(2)])))
    return rows


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _row_problem(case_id: str, rows: Sequence[np.ndarray], path: Path) -> Problem | None:
    if not rows:
        return Problem(case_id, path, "missing", "add its row")
    if len(rows) > 1:
        return Problem(case_id, path, f"{len(rows)} rows", "keep one")
    values = rows[0]
    if not np.isfinite(values).all() or (values < 0).any() or (values > 1).any():
        return Problem(case_id, path, f"{values.tolist()} are no probabilities", "give numbers in [0, 1]")
    if abs(values.sum() - 1) > _SUM_TOLERANCE:
        return Problem(case_id, path, f"the probabilities add up to {values.sum():.4g}", "give the probability of every class")
    return None


def _sorted_out(predictions: Sequence[str]) -> tuple[Path | None, Path | None]:
    """Return the folder of masks and the CSV among what was given."""
    folders = [Path(name) for name in predictions if Path(name).is_dir()]
    tables = [Path(name) for name in predictions if Path(name).is_file()]
    absent = [name for name in predictions if not Path(name).exists()]
    if absent:
        raise ValueError(f"predictions={absent[0]}: there is no such folder or CSV.")
    if len(folders) > 1 or len(tables) > 1 or not predictions:
        raise ValueError("predictions= takes one folder of masks, one CSV of probabilities, or one of each.")
    return next(iter(folders), None), next(iter(tables), None)


def _report(problems: Sequence[Problem], output: Path, on_error: str) -> None:
    if not problems:
        (output / "problems.csv").unlink(missing_ok=True)
        return
    output.mkdir(parents=True, exist_ok=True)
    write_problems(output / "problems.csv", list(problems))
    listing = f"{indent(listed(problems), '  ')}\nAll: {output / 'problems.csv'}"
    if on_error == "stop":
        way_out = "on_error=skip scores what is there: a missing mask is an empty one, a case without probabilities is left out."
        raise PredictionProblems(f"{len(problems)} problems with the predictions:\n{listing}\n{way_out}")
    log.warning("%d problems with the predictions; going on (on_error=skip).\n%s", len(problems), listing)
