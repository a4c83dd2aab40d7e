"""From the runs of a cross-validation to one result: every case as the model saw it that had not learned from its fold."""

import logging
import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bcd.data.guides import ORIGIN_FILE
from bcd.data.manifest import read_case
from bcd.data.nnunet_splits import write_splits_json
from bcd.evaluation.cases import read_table
from bcd.evaluation.decisions import Decisions
from bcd.runs import folder as files
from bcd.runs.assemble import prepare_data
from bcd.runs.hardware import provenance
from bcd.runs.testing.about import lasting_warnings
from bcd.runs.testing.results import Tables, write_results
from bcd.runs.training.cost import joined
from bcd.tasks.info import info_of

log = logging.getLogger(__name__)

# Of a result over several seeds, these are given with their spread, where they are there.
_HEADLINES = ("dice", "iou", "auroc", "accuracy", "balanced_accuracy")


def join(runs: Sequence[Path], folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Write the result over all folds; return the content of metrics.json.

    Thresholds and temperatures are those of each fold's own model, chosen on its own validation cases.
    """
    metrics = [files.read_metrics(run) for run in runs]
    prepared = prepare_data(config)
    cases_table = _concatenated(runs, files.CASES)
    if cases_table is None:
        raise files.RunError(f"{folder}: no run has {files.CASES}; go on with the cross-validation by resume=.")
    tables = Tables(cases_table, _concatenated(runs, files.DETECTIONS), _concatenated(runs, files.VALIDATION))
    twice = tables.cases["case_id"][tables.cases["case_id"].duplicated()].tolist()
    if twice:
        raise files.RunError(
            f"{folder}: {len(twice)} cases were tested twice (first: {twice[0]}); the runs do not belong together."
        )
    _gather(runs, folder)
    decisions = {int(fold): Decisions.from_dict(made) for one in metrics for fold, made in one["decisions"].items()}
    cases = {case.case_id: case for case in prepared.cases}
    class_names = list(metrics[0]["data"]["selection"]["classes"])
    write_splits_json(prepared.split, folder / files.SPLITS_JSON)
    files.write_text(folder / files.SPLIT, prepared.split.to_csv(index=False))
    return write_results(
        folder,
        tables,
        _about(metrics, config, set(tables.cases["case_id"])),
        class_names,
        decisions,
        lambda names: {name: read_case(cases[name], prepared.max_pixels) for name in names},
        prepared.max_pixels,
    )


def spread_over_seeds(results: Mapping[int, dict[str, Any]], folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Write each seed's figures with mean and standard deviation over the seeds as metrics.json and seeds.csv; return them."""
    rows = [
        {"seed": seed, **{name: result["test"][name] for name in _HEADLINES if result["test"].get(name) is not None}}
        for seed, result in results.items()
    ]
    table = pd.DataFrame(rows)
    files.write_text(folder / "seeds.csv", table.to_csv(index=False))
    measured = {str(name): table[name].dropna().astype(float).tolist() for name in table.columns.drop("seed")}
    figures = {
        name: {"mean": statistics.fmean(values), "sd": statistics.stdev(values), "min": min(values), "max": max(values)}
        for name, values in measured.items()
        if len(values) > 1
    }
    metrics = {"name": config["name"], "seeds": list(results), "over_seeds": figures, "by_seed": rows, "provenance": provenance()}
    files.write_json(folder / files.METRICS, metrics)
    for name, figure in figures.items():
        log.info("%s over %d seeds: %.4f, standard deviation %.4f.", name, len(results), figure["mean"], figure["sd"])
    return metrics


def _concatenated(runs: Sequence[Path], name: str) -> pd.DataFrame | None:
    """Return the rows of all runs; None where no run has the table."""
    tables = [read_table(run / name) for run in runs if (run / name).is_file()]
    filled = [table for table in tables if len(table)] or tables[:1]
    return pd.concat(filled, ignore_index=True) if filled else None


def _gather(runs: Sequence[Path], folder: Path) -> None:
    """Put every fold's pictures into one folder, and say which model made which."""
    for kind in (files.MASKS, files.PROBABILITIES):
        pictures = {picture: run for run in runs for picture in sorted((run / kind).glob("*.png"))}
        if not pictures:
            continue
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            target = folder / kind / picture.name
            target.unlink(missing_ok=True)
            try:
                os.link(picture, target)  # no second copy of the bytes
            except OSError:  # another file system, or one without links
                shutil.copyfile(picture, target)
    origins = {run.name: run / files.MASKS / ORIGIN_FILE for run in runs if (run / files.MASKS / ORIGIN_FILE).is_file()}
    if origins:
        made_by = {picture.name: run.name for run in runs for picture in sorted((run / files.MASKS).glob("*.png"))}
        learned = {name: files.read_json(path)["learned_from"] for name, path in origins.items()}
        files.write_json(folder / files.MASKS / ORIGIN_FILE, {"models": learned, "made_by": made_by})


def _about(metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any], tested: set[str]) -> dict[str, Any]:
    """Return the metadata beside the figures: what the runs share, and what differs, fold by fold."""
    first = metrics[0]
    of_folds = [
        {"fold": one["data"]["fold"], "n_cases": one["data"]["n_cases"], "n_groups": one["data"]["n_groups"]} for one in metrics
    ]
    # What one fold leaves out of its training, another tests.
    reasons = {reason: names for one in metrics for reason, names in one["data"]["left_out_cases"].items()}
    never = {reason: [name for name in names if name not in tested] for reason, names in reasons.items()}
    left_out = {reason: names for reason, names in never.items() if names}
    data = {
        **first["data"],
        "fold": None,
        "folds": of_folds,
        "n_cases": {"test": sum(one["n_cases"]["test"] for one in of_folds)},
        "n_groups": {"test": sum(one["n_groups"]["test"] for one in of_folds)},
        "left_out": {reason: len(names) for reason, names in left_out.items()},
        "left_out_cases": left_out,
        "crossings": [list(pair) for pair in dict.fromkeys(tuple(pair) for one in metrics for pair in one["data"]["crossings"])],
    }
    seconds = sum(one["train_seconds"] for one in metrics if one["train_seconds"] is not None)
    trainings = [one["training"] for one in metrics]
    training = {key: value for key, value in trainings[0].items() if all(other.get(key) == value for other in trainings)}
    training |= {"train_seconds": seconds, "images_seen": sum(one.get("images_seen") or 0 for one in trainings), "folds": trainings}
    return {
        "name": config["name"],
        "group": config.get("group"),
        "task": info_of(first, config).to_dict(),
        "warnings": list(dict.fromkeys(warning for one in metrics for warning in lasting_warnings(one))),
        "train_seconds": seconds,
        "training": training,
        "cost": joined([one.get("cost") or {} for one in metrics]),
        "checkpoint": first["checkpoint"],
        "empty_mask_policy": first["empty_mask_policy"],
        "distance_convention": first.get("distance_convention"),  # tests made by an earlier version do not tell it
        "guide": first["guide"] and {**first["guide"], "dice": None},
        "data": data,
        "seed": first["seed"],
        "provenance": provenance(),
    }
