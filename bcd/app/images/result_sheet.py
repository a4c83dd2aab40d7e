"""Results as one HTML file that needs nothing else: to read, print and keep."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from bcd.app.images.drawing import drawn, grey, png, side_by_side
from bcd.app.images.wording import NOTICE, lesion_rows, point_meaning, segmentation_in_words, verdict
from bcd.images.scan import Scan
from bcd.predictor.bundle import Bundle
from bcd.predictor.result import Result
from bcd.reports.rendering import Table, html_page, picture

_WIDEST_PX = 1600


def result_sheet(
    names: Sequence[str],
    scans: Sequence[Scan],
    results: Sequence[Result],
    bundle: Bundle,
    corrected: Sequence[bool],
    opacity: float,
) -> str:
    """Return the sheet of some images; `corrected` says of each whether its mask was corrected by hand."""
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return html_page(
        "result_sheet.html",
        title=f"{bundle.name}: {len(names)} images" if len(names) > 1 else f"{bundle.name}: {names[0]}",
        heading=f"Results of {bundle.name}",
        warnings=[NOTICE],
        written=f"Written {written}. Model {bundle.name}, fingerprint {bundle.fingerprint}, made {bundle.created}.",
        images=[
            _image(name, scan, result, bundle, by_hand, opacity)
            for name, scan, result, by_hand in zip(names, scans, results, corrected, strict=True)
        ],
        limits=bundle.limits,
    )


def _image(name: str, scan: Scan, result: Result, bundle: Bundle, by_hand: bool, opacity: float) -> dict[str, Any]:
    view = drawn(scan.image, result.mask, result.probability_map, opacity)
    both = png(_within(side_by_side(grey(scan.image), view)))
    size = f"{result.height} x {result.width} px"
    rows = lesion_rows(result)
    head = list(rows[0]) if rows else []
    return {
        "name": name,
        "warnings": warnings_of(result),
        "picture": picture(both, "png", size, f"{name}, and the same image with its predicted contour"),
        "sentences": [
            verdict(result, bundle),
            point_meaning(result.point, bundle) if result.point is not None else "",
            f"Possible classes at the stated coverage: {', '.join(result.conformal)}." if result.conformal else "",
            segmentation_in_words(result) + (" It was corrected by hand." if by_hand else ""),
            result.consistency,
        ],
        "tables": [
            Table(
                ("class", "probability"), [(label, f"{value:.3f}") for label, value in result.probabilities.items()], "Calibrated"
            ),
            Table(
                head,
                [list(row.values()) for row in rows],
                "Measurements",
                text=[column for column, title in enumerate(head) if title == "box (px)"],
            ),
        ],
    }


def warnings_of(result: Result) -> list[str]:
    """Return a result's warnings, with that of an image unlike the training images, each once."""
    scope = result.scope
    reasons = [] if scope is None or scope.in_scope else list(scope.reasons)
    fresh = [reason for reason in reasons if not any(reason in warning for warning in result.warnings)]
    outside = [f"Unlike the images that the model was trained on: {'; '.join(fresh)}. Do not rely on this result."] if fresh else []
    return [*outside, *result.warnings]


def _within(view: np.ndarray) -> np.ndarray:
    """Return every n-th pixel of a picture that is wider than a page shows."""
    step = -(-view.shape[1] // _WIDEST_PX)
    return view[::step, ::step]
