"""One image on the page: pictures at the left, the result in words at the right, measurements below; a second model beside it."""

import numpy as np
import pandas as pd
import streamlit as st
from markupsafe import Markup

from bcd.app.frame import key as colour_key
from bcd.app.frame import sentence
from bcd.app.images.canvas import mount
from bcd.app.images.downloads import file_stem, mask_png
from bcd.app.images.drawing import drawn, grey, png, side_by_side, tinted
from bcd.app.images.result_sheet import warnings_of
from bcd.app.images.session import Session, SharedPredictor
from bcd.app.images.wording import lesion_rows, segmentation_in_words, shown_threshold, verdict
from bcd.images.scan import Scan
from bcd.predictor.bundle import Bundle
from bcd.predictor.bundles.examples import dice_of
from bcd.predictor.result import Result, Uncertainty

OVERLAY, BESIDE, HEAT, UNCERTAINTY, CORRECT = "Overlay", "Side by side", "Heat map", "Uncertainty", "Correct the mask"
_CONTOUR = ("rgb(230,159,0)", "contour of the mask")
_TINT = ("linear-gradient(90deg,#1b0c41,#781c6d,#ed6925,#fcffa4)", "lesion probability, low to high")


def show_image(session: Session, key: str, name: str, scan: Scan, result: Result, shared: SharedPredictor, opacity: float) -> None:
    """Show one image with its result; the overlay's opacity is in [0, 1]."""
    st.subheader(sentence(name))
    for warning in warnings_of(result):
        if not shared.bundle.synthetic or "simulated" not in warning:  # the page says that above
            st.warning(sentence(warning))
    spread = result.uncertainty.mask if result.uncertainty is not None else None
    views = [OVERLAY, BESIDE] + [HEAT] * (result.heat_map is not None) + [UNCERTAINTY] * (spread is not None)
    views += [CORRECT] * (result.mask is not None or shared.predictor.classifies)
    view = st.segmented_control("View", views, default=OVERLAY, required=True, key="view", label_visibility="collapsed", wrap=True)
    # Two pictures side by side need the width of the page; their caption is below them.
    left, right = (st.container(), st.container()) if view == BESIDE else st.columns([5, 3], gap="large")
    with left:
        if view == CORRECT:
            _correct(session, key, scan, result)
        else:
            _show_pictures(view, name, scan, result, opacity)
    with right:
        _show_result(session, key, result, shared.bundle)
    _show_measurements(session, key, scan, result)


def _show_pictures(view: str, name: str, scan: Scan, result: Result, opacity: float) -> None:
    shown, colours = _drawing(view, scan, result, opacity)
    with st.container(key="picture"):
        st.image(shown, width="stretch", output_format="PNG", alt=f"{name}: {view}")
    if result.probability_map is not None or view in (HEAT, UNCERTAINTY):
        colour_key(*([_CONTOUR] if view in (OVERLAY, BESIDE) else []), colours)
    if scan.region is not None:
        top, left, height, width = scan.region
        whole = " x ".join(map(str, scan.frame_size))
        st.caption(
            f"The region of ultrasound, {height} x {width} px, cut from a frame of {whole} px at row {top}, column {left}. "
            "Masks are saved at the size of the frame."
        )
    if result.mask is not None:
        with st.container(horizontal=True):
            mask = result.mask
            st.download_button(
                "Mask (PNG)", lambda: mask_png(scan, mask), f"{file_stem(name)}_mask.png", "image/png", on_click="ignore"
            )
            st.download_button(
                "This picture (PNG)", lambda: png(shown), f"{file_stem(name)}_overlay.png", "image/png", on_click="ignore"
            )


def _drawing(view: str, scan: Scan, result: Result, opacity: float) -> tuple[np.ndarray, tuple[str, str]]:
    """Return a view, RGB uint8 (H, W, 3), and what its colours mean."""
    spread = result.uncertainty.mask if result.uncertainty is not None else None
    if view == HEAT and result.heat_map is not None:
        return tinted(grey(scan.image), result.heat_map, 0.6), (_TINT[0], f"contribution to {result.label}, low to high")
    if view == UNCERTAINTY and spread is not None:
        return tinted(grey(scan.image), spread / max(0.25, float(spread.max())), 0.8), (_TINT[0], "standard deviation, low to high")
    overlay = drawn(scan.image, result.mask, result.probability_map, opacity)
    return (side_by_side(grey(scan.image), overlay) if view == BESIDE else overlay), _TINT


def _correct(session: Session, key: str, scan: Scan, result: Result) -> None:
    st.caption("Paint the mask, then use it: measurements, and the classification of a model that is guided by masks, follow it.")
    mask = result.mask if result.mask is not None else np.zeros(scan.image.shape, bool)
    try:
        drawn_by_hand = mount(scan.image, mask, f"canvas/{key}")
    except ValueError as error:
        st.error(sentence(str(error)))
        return
    if drawn_by_hand is not None:
        session.masks[key] = drawn_by_hand
        st.rerun()


def _show_result(session: Session, key: str, result: Result, bundle: Bundle) -> None:
    if result.probabilities:
        st.markdown(f"**{sentence(verdict(result, bundle))}**")
        mark = shown_threshold(result.threshold, bundle) if result.threshold is not None else None
        st.html(_bars(result, mark, bundle.positive))
        st.caption(_threshold_note(result, mark, bundle))
    if result.conformal is not None:
        classes = ", ".join(result.conformal) or "none"
        st.markdown(f"Classes that cannot be ruled out: **{sentence(classes)}**.")
    if result.mask is not None:
        st.markdown(sentence(segmentation_in_words(result)))
    if result.consistency:
        (st.warning if result.consistent is False else st.caption)(sentence(result.consistency))
    if result.scope is not None and result.scope.in_scope:
        st.caption("The image is like the training images.")
    if result.uncertainty is not None:
        _show_uncertainty(result.uncertainty, list(result.probabilities))
    if key in session.masks:
        st.info("This mask was corrected by hand.")
        if st.button("Back to the predicted mask", key="back"):
            del session.masks[key]
            st.rerun()


_BAR = Markup(
    '<div>{0}</div><div class="track" role="img" aria-label="{0}: {1:.3f}"><div class="bar" style="width:{2:.1f}%"></div>{3}</div>'
    '<div class="value">{1:.3f}</div>'
)
_CUT = Markup('<div class="cut" style="left:{:.1f}%"></div>')


def _bars(result: Result, mark: float | None, positive: str | None) -> str:
    bars = []
    for label, value in result.probabilities.items():
        cut = _CUT.format(100 * mark) if mark is not None and label == positive else ""
        bars.append(_BAR.format(label, value, 100 * value, cut))
    return Markup('<div class="bcd-bars">{}</div>').format(Markup().join(bars))


def _threshold_note(result: Result, mark: float | None, bundle: Bundle) -> str:
    note = "Calibrated probabilities."
    if result.threshold is None or result.raw is None or bundle.positive is None:
        return note
    if mark is not None:
        return f"{note} The red line is the operating point's threshold for {sentence(bundle.positive)}."
    raw = float(result.raw[list(bundle.classes).index(bundle.positive)])
    return f"{note} The threshold is for the probability of {sentence(bundle.positive)} before calibration, which is {raw:.3f}."


def _show_uncertainty(uncertainty: Uncertainty, labels: list[str]) -> None:
    sentences = [f"Uncertainty, by {uncertainty.source}."]
    if uncertainty.classes is not None:
        deviations = ", ".join(
            f"{sentence(label)} \N{PLUS-MINUS SIGN}{sd:.3f}" for label, sd in zip(labels, uncertainty.classes, strict=True)
        )
        sentences.append(f"Standard deviation of the probabilities: {deviations}.")
    if uncertainty.entropy is not None:
        sentences.append(f"Entropy {uncertainty.entropy:.2f} bits; 0 is certain.")
    if uncertainty.dice is not None:
        sentences.append(f"Mean Dice between the masks: {uncertainty.dice:.3f}.")
    st.markdown(" ".join(sentences))


def _show_measurements(session: Session, key: str, scan: Scan, result: Result) -> None:
    if result.mask is None:
        return
    st.subheader("Measurements")
    rows = lesion_rows(result)
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True, alt="One row a lesion")
    else:
        st.write("No lesion is segmented.")
    if scan.spacing_mm is not None:
        row, column = scan.spacing_mm
        st.caption(f"Spacing of pixels as the file gives it: {row:.4g} mm from row to row, {column:.4g} mm from column to column.")
        return
    given = st.number_input(
        "Millimetres per pixel, if you know it (the file does not say; 0 for unknown)",
        min_value=0.0,
        max_value=5.0,
        value=session.spacing_mm.get(key, 0.0),
        step=0.01,
        format="%.4f",
        key=f"spacing/{key}",
        width=420,
    )
    if given != session.spacing_mm.get(key, 0.0):
        session.spacing_mm[key] = given
        st.rerun()


def show_comparison(scan: Scan, first: Result, second: Result, bundle: Bundle, other: Bundle, opacity: float) -> None:
    """Show the results of two bundles side by side; the second one at its own operating point and thresholds."""
    st.subheader("Two models, one image")
    for column, result, of in zip(st.columns(2, gap="large"), (first, second), (bundle, other), strict=True):
        with column:
            st.markdown(f"**{sentence(of.name)}** ({of.fingerprint[:12]})")
            view = drawn(scan.image, result.mask, result.probability_map, opacity)
            st.image(view, width="stretch", output_format="PNG", alt=f"Segmentation by {of.name}")
            st.markdown(sentence(" ".join(part for part in (verdict(result, of), segmentation_in_words(result)) if part)))
    names = (bundle.name, other.name) if bundle.name != other.name else (f"{bundle.name}, left", f"{other.name}, right")
    labels = dict.fromkeys([*first.probabilities, *second.probabilities])
    rows = [(label, first.probabilities.get(label), second.probabilities.get(label)) for label in labels]
    if rows:
        table = pd.DataFrame(rows, columns=["calibrated probability", *names])
        st.dataframe(table, hide_index=True, alt="Both models")
    if first.mask is not None and second.mask is not None:
        st.markdown(f"Dice between the two masks: {dice_of(first.mask, second.mask):.3f}.")
