"""Small made-up results, in themselves consistent: what the report and the model card are tested on. Seeded."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

CLASSES = ("normal", "benign", "malignant")


def fake_cases(n_groups: int = 40, folds: int = 1, seed: int = 0, outlines: bool = True, classes: bool = True) -> pd.DataFrame:
    """Return test cases, two of each group, with outlines and class probabilities or without."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(2 * n_groups):
        label = CLASSES[(number // 2) % 3]
        lesion = 0 if label == "normal" else int(rng.integers(300, 9000))
        row: dict[str, Any] = {"case_id": f"case-{number:03d}", "group": f"group-{number // 2:03d}", "patient": f"p{number // 2}"}
        row |= {"label": label, "fold": 1 + (number // 2) % folds, "height": 200, "width": 300, "lesion_area_px": lesion}
        if classes:
            drawn = rng.dirichlet([0.8 + 2.2 * (name == label) for name in CLASSES])
            row |= {f"probability_{name}": float(value) for name, value in zip(CLASSES, drawn, strict=True)}
            row["predicted_label"] = CLASSES[int(drawn.argmax())]
        if outlines:
            row |= _outline(lesion, missed=number % 17 == 3, rng=rng)
        rows.append(row | {"meta.scanner": "A" if number % 4 < 2 else "B"})
    return pd.DataFrame(rows)


def _outline(lesion: int, missed: bool, rng: np.random.Generator) -> dict[str, Any]:
    if not lesion:
        area = int(rng.integers(0, 2) * rng.integers(20, 400))
        return {"predicted_area_px": area, "max_probability": 0.4, "dice": np.nan, "iou": np.nan, "hd95_px": np.nan}
    dice = 0.0 if missed else float(rng.beta(8, 2))
    return {
        "predicted_area_px": 0 if missed else int(lesion * rng.uniform(0.7, 1.3)),
        "max_probability": 0.3 if missed else 0.9,
        "dice": dice,
        "iou": dice / (2 - dice),
        "hd95_px": 360.6 if missed else float(rng.uniform(2, 30)),
    }


def fake_test(cases: pd.DataFrame, positive: str = "malignant") -> dict[str, Any]:
    """Return the figures of the cases, in the form of metrics.json; intervals are the figure plus and minus a tenth."""
    lesion = cases["lesion_area_px"] > 0
    test: dict[str, Any] = {"n_cases": len(cases), "n_groups": int(cases["group"].nunique())}
    test |= {"n_lesion_images": int(lesion.sum()), "n_lesion_free_images": int((~lesion).sum())}
    test["n_by_class"] = {name: int((cases["label"] == name).sum()) for name in CLASSES}
    paths: list[str] = []
    if "dice" in cases:
        test |= _segmentation(cases, lesion)
        paths += ["lesion_images.dice", "lesion_images.hd95_px", "lesion_free_images.false_positive_rate", "detection.sensitivity"]
        paths += [f"lesion_images_by_class.{name}.dice" for name in test["lesion_images_by_class"]]
    if "predicted_label" in cases:
        test |= _classification(cases, positive)
        paths += ["auroc", "auprc", "balanced_accuracy", *(f"by_class.{name}.auroc" for name in CLASSES)]
    test["subgroups"] = [_subgroup(cases, value) for value in ("A", "B")]
    test["intervals"] = {path: _around(_at(test, path)) for path in paths}
    test["interval_method"] = "95 % intervals by bootstrap over groups."
    return test


def _at(block: Any, path: str) -> float:
    for name in path.split("."):
        block = block[name]
    return float(block)


def _around(value: float) -> list[float]:
    return [value - 0.1, value + 0.1]


def _segmentation(cases: pd.DataFrame, lesion: pd.Series) -> dict[str, Any]:
    free = cases[~lesion]
    by_class = {name: cases[lesion & (cases["label"] == name)] for name in CLASSES}
    whole = _lesion_figures(cases[lesion])
    return {
        "dice": whole["dice"],
        "iou": whole["iou"],
        "lesion_images": whole,
        "lesion_images_by_class": {name: _lesion_figures(part) for name, part in by_class.items() if len(part)},
        "lesion_free_images": {"n": len(free), "false_positive_rate": float((free["predicted_area_px"] > 0).mean())},
        "detection": {
            "criterion": "IoU at least 0.5",
            "n_lesions": int(lesion.sum()),
            "n_images": len(cases),
            "sensitivity": 0.875,
            "false_positives_per_image": 0.25,
            "froc": {"false_positives_per_image": [0.0, 0.1, 0.25], "sensitivity": [0.4, 0.7, 0.875]},
            "froc_points": [{"false_positives_per_image": 0.25, "sensitivity": 0.875}],
            "froc_average": 0.8125,
        },
    }


def _lesion_figures(part: pd.DataFrame) -> dict[str, Any]:
    return {
        "n": len(part),
        "dice": float(part["dice"].mean()),
        "iou": float(part["iou"].mean()),
        "hd95_px": float(part["hd95_px"].mean()),
        "dice_median": float(part["dice"].median()),
        "n_missed": int((part["dice"] == 0).sum()),
    }


def _classification(cases: pd.DataFrame, positive: str) -> dict[str, Any]:
    by_class = {name: _one_class(cases, name) for name in CLASSES}
    counts = confusion_matrix(cases["label"], cases["predicted_label"], labels=list(CLASSES))
    return {
        **{name: float(np.mean([block[name] for block in by_class.values()])) for name in ("auroc", "auprc")},
        "accuracy": float((cases["label"] == cases["predicted_label"]).mean()),
        "balanced_accuracy": float(np.mean([block["sensitivity"] for block in by_class.values()])),
        "by_class": by_class,
        "confusion": {"rows": "truth", "columns": "prediction", "classes": list(CLASSES), "counts": counts.tolist()},
        "operating_points": [_point(cases, positive, name, limit) for name, limit in (("0.5", 0.5), ("sensitivity>=0.90", 0.21))],
        "calibration": {
            "binning": "10 bins of equal width",
            "temperature": {"1": 1.375},
            "before": {"brier": 0.4125, "ece": 0.1875, "reliability": _bins(cases, positive)},
            "after": {"brier": 0.3875, "ece": 0.0625, "reliability": _bins(cases, positive)},
        },
        "decision_curve": {
            "prevalence": float((cases["label"] == positive).mean()),
            "thresholds": [0.1, 0.2, 0.3],
            "model": [0.3, 0.25, 0.2],
            "treat_all": [0.26, 0.16, 0.04],
            "treat_none": [0.0, 0.0, 0.0],
        },
        "abstention": {"coverage": [1.0, 0.5], "accuracy": [0.7125, 0.9375]},
        "conformal": {"method": "split conformal", "coverage": 0.9, "empirical_coverage": 0.9125, "mean_set_size": 1.625},
        "patient_level": {"mean": {"n": 40, "auroc": 0.9125}, "max": {"n": 40, "auroc": 0.8875}},
    }


def _one_class(cases: pd.DataFrame, name: str) -> dict[str, Any]:
    truth, predicted = cases["label"] == name, cases["predicted_label"] == name
    return {
        "n": int(truth.sum()),
        "auroc": float(roc_auc_score(truth, cases[f"probability_{name}"])),
        "auprc": float(average_precision_score(truth, cases[f"probability_{name}"])),
        "sensitivity": float(predicted[truth].mean()),
        "specificity": float((~predicted)[~truth].mean()),
    }


def _point(cases: pd.DataFrame, positive: str, name: str, threshold: float) -> dict[str, Any]:
    truth, called = cases["label"] == positive, cases[f"probability_{positive}"] >= threshold
    tp, fp, fn, tn = (int(part.sum()) for part in (truth & called, ~truth & called, truth & ~called, ~truth & ~called))
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    return {
        "name": name,
        "positive": positive,
        "thresholds": {"1": threshold},
        **{"n": len(cases), "tp": tp, "fp": fp, "fn": fn, "tn": tn},
        **{"sensitivity": sensitivity, "specificity": specificity, "accuracy": (tp + tn) / len(cases)},
        "intervals": {"sensitivity": _around(sensitivity), "specificity": _around(specificity)},
    }


def _bins(cases: pd.DataFrame, positive: str) -> list[dict[str, Any]]:
    probability, truth = cases[f"probability_{positive}"], cases["label"] == positive
    bins = []
    for low in np.arange(0, 1, 0.1):
        inside = (probability >= low) & (probability < low + 0.1)
        n = int(inside.sum())
        told = {"mean_probability": float(probability[inside].mean()), "observed": float(truth[inside].mean())} if n else {}
        bins.append({"low": float(low), "high": float(low + 0.1), "n": n, "mean_probability": None, "observed": None} | told)
    return bins


def _subgroup(cases: pd.DataFrame, value: str) -> dict[str, Any]:
    part = cases[cases["meta.scanner"] == value]
    if "dice" in cases:
        figures = {"dice": float(part["dice"].mean())}
    else:
        figures = {"accuracy": float((part["label"] == part["predicted_label"]).mean())}
    return {
        "by": "meta.scanner",
        "value": value,
        "n": len(part),
        "n_groups": int(part["group"].nunique()),
        "figures": figures,
        "intervals": {name: _around(figure) for name, figure in figures.items()},
    }


def with_folds(test: dict[str, Any], cases: pd.DataFrame) -> dict[str, Any]:
    """Return the figures with those of each fold, their mean and standard deviation."""
    folds = [
        {"fold": int(fold), "n_cases": len(part), "dice": float(part["dice"].mean())}
        for fold, part in cases.groupby("fold")  # type: ignore[misc]
    ]
    values = [fold["dice"] for fold in folds]
    return {
        **test,
        "folds": folds,
        "mean_over_folds": {"dice": {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1))}},
    }


def fake_metrics(test: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the content of a metrics.json."""
    return {
        "name": "made-up",
        "warnings": ["SYNTHETIC DATA: made up."],
        "train_seconds": 61.5,
        "test": test,
        "training": {"epochs": 2, "best_epoch": 2, "monitor": "val/dice", "best_value": 0.5, "initial_weights": "random weights"},
        "checkpoint": "best.ckpt",
        "empty_mask_policy": "Lesion images are scored for segmentation, others apart.",
        "guide": None,
        "decisions": {"1": {"positive": "malignant", "thresholds": {"0.5": 0.5}, "source": "24 validation cases", "notes": []}},
        "data": {
            "name": "phantom",
            "synthetic": True,
            "fingerprint": "0123abcd",
            "selection": {"classes": list(CLASSES), "fold": 1},
            "fold": 1,
            "split": "splits/made-up.csv",
            "split_sha256": "ab" * 32,
            "grouped_by": "patient and near-copy",
            "n_cases": {"train": 240, "valid": 80, "test": test["n_cases"]},
            "n_groups": {"train": 120, "valid": 40, "test": test["n_groups"]},
            "skipped": [{"case_id": "bad-1", "file": "/somewhere/bad-1.png", "reason": "its content is no PNG"}],
            "left_out": {"copies contradict each other in class": 2},
            "left_out_cases": {"copies contradict each other in class": ["twin-1", "twin-2"]},
            "crossings": [],
        },
        "seed": 0,
        "provenance": {
            "bcd": "0.1.0",
            "commit": "c0ffee",
            "python": "3.11",
            "libraries": {"torch": "2.15.0"},
            "finished": "2026-01-01",
        },
    } | more
