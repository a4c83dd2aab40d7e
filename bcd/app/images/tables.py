"""Many results as a table, on the page and as CSV."""

from collections.abc import Sequence

import pandas as pd

from bcd.app.images.wording import shown_threshold
from bcd.evaluation.decisions import CALIBRATED
from bcd.predictor.bundle import Bundle
from bcd.predictor.result import Result

UNCALIBRATED = "uncalibrated_"
# What a spreadsheet would take for a formula: names of files come from strangers.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def results_table(names: Sequence[str], results: Sequence[Result], bundle: Bundle, corrected: Sequence[bool]) -> pd.DataFrame:
    """Return one row an image.

    Args:
        names: of the images, each another.
        results: theirs.
        bundle: that gave them.
        corrected: whether the outline was corrected by hand.
    """
    rows = [_row(name, result, by_hand, bundle) for name, result, by_hand in zip(names, results, corrected, strict=True)]
    return pd.DataFrame(rows).assign(model=bundle.name, model_fingerprint=bundle.fingerprint)


def _row(name: str, result: Result, by_hand: bool, bundle: Bundle) -> dict[str, object]:
    row: dict[str, object] = {"case_id": _plain(name), "height": result.height, "width": result.width}
    if result.label is not None:
        row |= {"label": result.label}
        row |= {f"probability_{name}": value for name, value in result.probabilities.items()}
        shown = shown_threshold(result.threshold, bundle) if result.threshold is not None else None
        row |= {"operating_point": result.point, "threshold": shown, "is_positive": result.is_positive}
        row |= _judged(result, bundle)
    if result.mask is not None:
        first = result.lesions[0] if result.lesions else None
        row |= {"n_lesions": len(result.lesions), "outline": "corrected by hand" if by_hand else "predicted"}
        for name in ("area_px", "long_px", "short_px", "area_mm2", "long_mm", "short_mm"):
            row[f"largest_{name}"] = getattr(first, name) if first is not None else None
    in_scope = result.scope.in_scope if result.scope is not None else None
    return row | {"in_scope": in_scope, "agrees": result.consistent, "warnings": " ".join(result.warnings)}


def _judged(result: Result, bundle: Bundle) -> dict[str, object]:
    """Return the probability that decided, and its threshold, where that is not the calibrated one."""
    if bundle.decisions.on == CALIBRATED or bundle.positive is None or result.raw is None:
        return {}
    decided = float(result.raw[list(bundle.classes).index(bundle.positive)])
    return {f"{UNCALIBRATED}{bundle.positive}": decided, f"{UNCALIBRATED}threshold": result.threshold}


def _plain(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA) else name


def csv_of(table: pd.DataFrame) -> bytes:
    """Return a table as CSV, UTF-8 with the mark that spreadsheets look for."""
    return table.to_csv(index=False).encode("utf-8-sig", errors="backslashreplace")
