"""One image on the page: pictures at the left, what they mean at the right, measurements below."""

import numpy as np
import pandas as pd
import streamlit as st
from markupsafe import Markup

from bcd.app.frame import key as colour_key
from bcd.app.frame import sentence
from bcd.app.images.canvas import mount
from bcd.app.images.downloads import file_stem, mask_png
from bcd.app.images.drawing import drawn, grey, png, side_by_side, tinted
from bcd.app.images.reader import Desk, Reader
from bcd.app.images.result_sheet import warnings_of
from bcd.app.images.wording import lesion_rows, outline_in_words, shown_threshold, verdict
from bcd.images.scan import Scan
from bcd.predictor.bundle import Bundle
from bcd.predictor.result import Result, Uncertainty

OVERLAY, BESIDE, HEAT, DOUBT, CORRECT = "Overlay", "Side by side", "Heat map", "Uncertainty", "Correct the outline"
_OUTLINE = ("rgb(230,159,0)", "outline")
_TINT = ("linear-gradient(90deg,#1b0c41,#781c6d,#ed6925,#fcffa4)", "probability of lesion, low to high")


def show_image(desk: Desk, key: str, name: str, scan: Scan, result: Result, reader: Reader, opacity: float) -> None:
    """Show one image with its result.

    Args:
        desk: of the visitor.
        key: of the scan.
        name: for people.
        scan: what was looked at.
        result: what was found.
        reader: that found it.
        opacity: of the overlay, in [0, 1].
    """
    st.subheader(sentence(name))
    for warning in warnings_of(result):
        if not reader.predictor.bundle.synthetic or "simulated" not in warning:  # the page says that above
            st.warning(sentence(warning))
    view = _chosen_view(result, reader)
    # Two pictures beside each other want the width of the page; what they mean stands below them.
    left, right = (st.container(), st.container()) if view == BESIDE else st.columns([5, 3], gap="large")
    with left:
        if view == CORRECT:
            _correct(desk, key, scan, result)
        else:
            _pictures(view, name, scan, result, opacity)
    with right:
        _finding(desk, key, result, reader.predictor.bundle)
    _measurements(desk, key, scan, result)


def _chosen_view(result: Result, reader: Reader) -> str:
    doubt = result.uncertainty.mask if result.uncertainty is not None else None
    views = [OVERLAY, BESIDE] + [HEAT] * (result.heat_map is not None) + [DOUBT] * (doubt is not None)
    views += [CORRECT] * (result.mask is not None or reader.predictor.classifies)
    return st.segmented_control("View", views, default=OVERLAY, required=True, key="view", label_visibility="collapsed", wrap=True)


def _pictures(view: str, name: str, scan: Scan, result: Result, opacity: float) -> None:
    shown, colours = _drawing(view, scan, result, opacity)
    with st.container(key="picture"):
        st.image(shown, width="stretch", output_format="PNG", alt=f"{name}: {view}")
    if result.probability_map is not None or view in (HEAT, DOUBT):
        colour_key(*([_OUTLINE] if view in (OVERLAY, BESIDE) else []), colours)
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
    doubt = result.uncertainty.mask if result.uncertainty is not None else None
    if view == HEAT and result.heat_map is not None:
        return tinted(grey(scan.image), result.heat_map, 0.6), (_TINT[0], f"what {result.label} rests on, little to much")
    if view == DOUBT and doubt is not None:
        return tinted(grey(scan.image), doubt / max(0.25, float(doubt.max())), 0.8), (_TINT[0], "looks differ, little to much")
    overlay = drawn(scan.image, result.mask, result.probability_map, opacity)
    return (side_by_side(grey(scan.image), overlay) if view == BESIDE else overlay), _TINT


def _correct(desk: Desk, key: str, scan: Scan, result: Result) -> None:
    st.caption(
        "Paint the outline as you see it, then use it: measurements, and the class of a model that looks at outlines, follow."
    )
    mask = result.mask if result.mask is not None else np.zeros(scan.image.shape, bool)
    try:
        drawn_by_hand = mount(scan.image, mask, f"canvas/{key}")
    except ValueError as error:
        st.error(sentence(str(error)))
        return
    if drawn_by_hand is not None:
        desk.outlines[key] = drawn_by_hand
        st.rerun()


def _finding(desk: Desk, key: str, result: Result, bundle: Bundle) -> None:
    if result.probabilities:
        st.markdown(f"**{sentence(verdict(result, bundle))}**")
        mark = shown_threshold(result.threshold, bundle) if result.threshold is not None else None
        st.html(_bars(result, mark, bundle.positive))
        st.caption(_threshold_note(result, mark, bundle))
    if result.conformal is not None:
        covered = ", ".join(result.conformal) or "none of them"
        st.markdown(f"Classes that cannot be ruled out: **{sentence(covered)}**.")
    if result.mask is not None:
        st.markdown(sentence(outline_in_words(result)))
    if result.consistency:
        (st.warning if result.consistent is False else st.caption)(sentence(result.consistency))
    if result.scope is not None and result.scope.in_scope:
        st.caption("The image is like those that the model learned from.")
    if result.uncertainty is not None:
        _doubt(result.uncertainty, list(result.probabilities))
    if key in desk.outlines:
        st.info("This outline was corrected by hand.")
        if st.button("Back to the model's outline", key="back"):
            del desk.outlines[key]
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


def _doubt(doubt: Uncertainty, labels: list[str]) -> None:
    said = [f"How sure: {doubt.source}."]
    if doubt.classes is not None:
        spread = ", ".join(
            f"{sentence(label)} \N{PLUS-MINUS SIGN}{sd:.3f}" for label, sd in zip(labels, doubt.classes, strict=True)
        )
        said.append(f"The probabilities differ by (standard deviation): {spread}.")
    if doubt.entropy is not None:
        said.append(f"Entropy {doubt.entropy:.2f} bits; 0 is certain.")
    if doubt.dice is not None:
        said.append(f"The outlines agree with a Dice of {doubt.dice:.3f}; 1 is the same.")
    st.markdown(" ".join(said))


def _measurements(desk: Desk, key: str, scan: Scan, result: Result) -> None:
    if result.mask is None:
        return
    st.subheader("Measurements")
    rows = lesion_rows(result)
    if rows:
        st.dataframe(pd.DataFrame(rows), hide_index=True, alt="One row an outlined lesion")
    else:
        st.write("Nothing is outlined.")
    if scan.spacing_mm is not None:
        row, column = scan.spacing_mm
        st.caption(f"Spacing of pixels as the file gives it: {row:.4g} mm from row to row, {column:.4g} mm from column to column.")
        return
    given = st.number_input(
        "Millimetres per pixel, if you know it (the file does not say; 0 for unknown)",
        min_value=0.0,
        max_value=5.0,
        value=desk.spacing_mm.get(key, 0.0),
        step=0.01,
        format="%.4f",
        key=f"spacing/{key}",
        width=420,
    )
    if given != desk.spacing_mm.get(key, 0.0):
        desk.spacing_mm[key] = given
        st.rerun()
