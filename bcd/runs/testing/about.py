"""Metadata in metrics.json beside the figures: what was trained, on which data, the warnings, the provenance."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bcd.data.datamodule import UltrasoundDataModule
from bcd.data.guides import AMOUNTS, PERTURBED
from bcd.evaluation.cases import DISTANCE_CONVENTION, EMPTY_MASK_POLICY
from bcd.images.decode import printable
from bcd.runs.assemble import SYNTHETIC, task_info
from bcd.runs.hardware import provenance


def about_run(
    config: Mapping[str, Any], training: dict[str, Any], datamodule: UltrasoundDataModule, checkpoint: Path, n_cases: int
) -> dict[str, Any]:
    """Return the metadata in metrics.json beside the figures."""
    warnings = data_warnings(datamodule)
    if config["limit_test"] is not None:
        warnings.append(f"limit_test={config['limit_test']}: only {n_cases} test cases were scored; these figures mean nothing.")
    if config["overfit"] is not None:
        warnings.append(
            f"overfit={config['overfit']}: trained on {len(datamodule.cases['train'])} cases and validated on the same ones; "
            "these figures mean nothing."
        )
    if datamodule.guides_of_unknown_origin:
        warnings.append(f"{datamodule.guides_of_unknown_origin} predicted masks come from an unknown model.")
    if datamodule.guides_seen_in_training:
        warnings.append(
            f"{len(datamodule.guides_seen_in_training)} predicted masks come from a model that was trained on these images."
        )
    info = task_info(config)
    if info.takes_guide and "true" in (datamodule.guide.train, datamodule.guide.test):
        warnings.append("A true mask guided the classifier: an upper bound, which no unseen image can reach.")
    if info.takes_guide and datamodule.guide.test == "perturbed":
        warnings.append("Perturbed true masks guided the classifier: an unseen image has none.")
    return {
        "name": config["name"],
        "group": config.get("group"),  # a run of an earlier version has none
        "task": info.to_dict(),
        "warnings": warnings,
        "train_seconds": training.get("train_seconds"),
        "training": training,
        "cost": dict(training.get("cost", {})),  # a run of an earlier version did not measure it
        "checkpoint": checkpoint.name,
        "empty_mask_policy": EMPTY_MASK_POLICY,
        "distance_convention": DISTANCE_CONVENTION,
        "guide": None,
        "data": about_data(config, datamodule),
        "seed": config["seed"],
        "provenance": provenance(),
    }


def data_warnings(datamodule: UltrasoundDataModule) -> list[str]:
    """Return the warnings about the data, for any predictions."""
    warnings = [SYNTHETIC] if datamodule.prepared.synthetic else []
    if datamodule.prepared.skipped:
        names = list(dict.fromkeys(problem.case_id or printable(problem.file.name) for problem in datamodule.prepared.skipped))
        warnings.append(
            f"{len(names)} cases or files with problems were skipped (on_error=skip), see data.skipped: {', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''}."
        )
    if datamodule.crossings:
        warnings.append(f"{len(datamodule.crossings)} pairs of one group are on both sides of the split (data.allow_leak).")
    if datamodule.without_mask:
        warnings.append(
            f"{len(datamodule.without_mask)} images of classes that have lesion masks have none, and are taken as lesion-free "
            f"({', '.join(datamodule.without_mask[:3])}, ...)."
        )
    return warnings


def lasting_warnings(metrics: Mapping[str, Any]) -> list[str]:
    """Return the warnings of a run that hold of it in another result too: all but those about its own test's intervals."""
    of_its_test = metrics["test"].get("interval_warnings", [])
    return [warning for warning in metrics["warnings"] if warning not in of_its_test]


def about_guide(datamodule: UltrasoundDataModule, trained: Mapping[str, Any], dice: float) -> dict[str, Any]:
    """Return which masks guided the model: their origin, and their mean Dice with the truth over test lesions.

    Args:
        datamodule: has the test's guide.
        trained: the guide of the run's own config; a test may have another, and stronger or weaker perturbation.
        dice: of the test's masks, compared at the network's resolution; one that is missing counts 0.
    """
    policy = datamodule.guide
    amounts = {"train": trained, "test": vars(policy)}
    return {
        "train": policy.train,
        "test": policy.test,
        "folders": [str(folder) for folder in policy.folders],
        "perturbation": {
            part: {name: source[name] for name in AMOUNTS} if policy.kind(part) in PERTURBED else None
            for part, source in amounts.items()
        },
        "dice": None if np.isnan(dice) else dice,
    }


def about_data(config: Mapping[str, Any], datamodule: UltrasoundDataModule) -> dict[str, Any]:
    """Return which data were used, which cases of them, in which parts, and which were left out and why."""
    prepared, selection = datamodule.prepared, datamodule.selection
    patients, groups = any(case.patient is not None for case in prepared.cases), datamodule.group_of()
    return {
        "name": prepared.name,
        "synthetic": prepared.synthetic,
        "fingerprint": prepared.fingerprint,
        "selection": asdict(selection) | {"classes": list(selection.classes), "relabel": dict(selection.relabel)},
        "fold": selection.fold,
        "split": config["data"]["split"] or "drawn for this data set, kept with the prepared data",
        "split_sha256": hashlib.sha256(prepared.split.to_csv(index=False).encode()).hexdigest(),
        "grouped_by": "patient and near-copy" if patients else "near-copy, patients unknown",
        "n_total": len(prepared.cases) + len({problem.case_id for problem in prepared.skipped if problem.case_id}),
        "n_cases": {part: len(cases) for part, cases in datamodule.cases.items()},
        "n_groups": {part: len({groups[case.case_id] for case in cases}) for part, cases in datamodule.cases.items()},
        "skipped": [
            {"case_id": problem.case_id, "file": printable(problem.file), "reason": problem.reason} for problem in prepared.skipped
        ],
        "left_out": {reason: len(names) for reason, names in datamodule.left_out.items()},
        "left_out_cases": datamodule.left_out,
        "crossings": [list(pair) for pair in datamodule.crossings],
    }


def about_evaluation(
    name: str, config: Mapping[str, Any], datamodule: UltrasoundDataModule, warnings: Sequence[str], **own: Any
) -> dict[str, Any]:
    """Return the metadata in metrics.json beside the figures of another tool's predictions."""
    return {
        "name": f"{name} on {datamodule.prepared.name}",
        "warnings": [*data_warnings(datamodule), *warnings],
        "train_seconds": None,
        "training": {},
        "checkpoint": None,
        "empty_mask_policy": EMPTY_MASK_POLICY,
        "distance_convention": DISTANCE_CONVENTION,
        "guide": None,
        "data": about_tested(config, datamodule),
        "seed": None,
        "provenance": provenance(),
        **own,
    }


def about_tested(config: Mapping[str, Any], datamodule: UltrasoundDataModule) -> dict[str, Any]:
    """Return what `about_data` does, of data that were tested and not learned from: they have no training part, and no split."""
    data, test = about_data(config, datamodule), datamodule.cases["test"]
    others = [case.case_id for part in ("train", "valid") for case in datamodule.cases[part]]
    named = {"of a fold that was not tested": others} if others else {}
    left_out = {**data["left_out_cases"], **named}
    return {
        **{key: value for key, value in data.items() if key not in ("split", "split_sha256", "crossings")},
        "n_cases": {"test": len(test)},
        "n_groups": {"test": data["n_groups"]["test"]},
        "left_out": {reason: len(names) for reason, names in left_out.items()},
        "left_out_cases": left_out,
    }
