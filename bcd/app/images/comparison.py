"""Two bundles on one image."""

import pandas as pd
import streamlit as st

from bcd.app.frame import sentence
from bcd.app.images.drawing import drawn
from bcd.app.images.wording import segmentation_in_words, verdict
from bcd.images.scan import Scan
from bcd.predictor.bundle import Bundle
from bcd.predictor.bundles.examples import dice_of
from bcd.predictor.result import Result


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
