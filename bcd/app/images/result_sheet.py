"""Results as one HTML file that needs nothing else: to read, print and keep."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from bcd.app.images.drawing import drawn, grey, png, side_by_side
from bcd.app.images.wording import NOTICE, lesion_rows, outline_in_words, point_meaning, verdict
from bcd.images.scan import Scan
from bcd.predictor.bundle import Bundle
from bcd.predictor.result import Result
from bcd.reports.markup import Html, element, figure, listed, picture, table
from bcd.reports.sheet import sheet

_WIDEST_PX = 1600


def result_sheet(
    names: Sequence[str],
    scans: Sequence[Scan],
    results: Sequence[Result],
    bundle: Bundle,
    corrected: Sequence[bool],
    opacity: float,
) -> str:
    """Return the sheet of some images.

    Args:
        names: of the images.
        scans: what was looked at.
        results: what was found.
        bundle: by which model.
        corrected: whether the outline was corrected by hand.
        opacity: of the probabilities in the pictures, in [0, 1].
    """
    parts: list[object] = [element("h1", f"What {bundle.name} says"), element("p", NOTICE, class_="warning"), _about(bundle)]
    for name, scan, result, by_hand in zip(names, scans, results, corrected, strict=True):
        parts += _image(name, scan, result, bundle, by_hand, opacity)
    if bundle.limits:
        parts += [element("h2", "Limits of the model"), listed(bundle.limits)]
    return sheet(f"{bundle.name}: {len(names)} images" if len(names) > 1 else f"{bundle.name}: {names[0]}", parts)


def _about(bundle: Bundle) -> Html:
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return element("p", f"Written {written}. Model {bundle.name}, fingerprint {bundle.fingerprint}, made {bundle.created}.")


def _image(name: str, scan: Scan, result: Result, bundle: Bundle, by_hand: bool, opacity: float) -> list[object]:
    view = drawn(scan.image, result.mask, result.probability_map, opacity)
    both = side_by_side(grey(scan.image), view)[:, :, :]
    said = [
        verdict(result, bundle),
        point_meaning(result.point, bundle) if result.point is not None else "",
        f"Possible classes at the stated coverage: {', '.join(result.conformal)}." if result.conformal else "",
        outline_in_words(result) + (" It was corrected by hand." if by_hand else ""),
        result.consistency,
    ]
    warned = [element("p", warning, class_="warning") for warning in warnings_of(result)]
    probabilities = [(label, f"{value:.3f}") for label, value in result.probabilities.items()]
    rows = lesion_rows(result)
    return [
        element("h2", name),
        *warned,
        figure(
            picture(png(_within(both)), "png", f"{name}, and the same with its outline"), f"{result.height} x {result.width} px"
        ),
        *(element("p", sentence) for sentence in said if sentence.strip()),
        table(("class", "probability"), probabilities, "Calibrated") if probabilities else "",
        table(tuple(rows[0]), [tuple(row.values()) for row in rows], "Measurements", text=[list(rows[0]).index("box (px)")])
        if rows
        else "",
    ]


def warnings_of(result: Result) -> list[str]:
    """Return a result's warnings, with that of an image unlike the training images, each once."""
    scope = result.scope
    told = [] if scope is None or scope.in_scope else list(scope.reasons)
    fresh = [reason for reason in told if not any(reason in warning for warning in result.warnings)]
    outside = [f"Unlike the images that the model learned from: {'; '.join(fresh)}. Do not rely on this result."] if fresh else []
    return [*outside, *result.warnings]


def _within(view: np.ndarray) -> np.ndarray:
    """Return every n-th pixel of a picture that is wider than a page shows."""
    step = -(-view.shape[1] // _WIDEST_PX)
    return view[::step, ::step]
