"""Two bundles on one image."""

import pandas as pd
import streamlit as st

from bcd.app.frame import sentence
from bcd.app.images.drawing import drawn
from bcd.app.images.wording import outline_in_words, verdict
from bcd.images.scan import Scan
from bcd.predictor.bundle import Bundle
from bcd.predictor.bundles.examples import dice_of
from bcd.predictor.result import Result


def show_comparison(scan: Scan, first: Result, second: Result, bundle: Bundle, other: Bundle, opacity: float) -> None:
    """Show what two bundles say of one image, side by side; the second one at its own operating point and thresholds."""
    st.subheader("Two models on this image")
    for column, result, of in zip(st.columns(2, gap="large"), (first, second), (bundle, other), strict=True):
        with column:
            st.markdown(f"**{sentence(of.name)}** ({of.fingerprint[:12]})")
            view = drawn(scan.image, result.mask, result.probability_map, opacity)
            st.image(view, width="stretch", output_format="PNG", alt=f"What {of.name} outlines")
            st.markdown(sentence(" ".join(part for part in (verdict(result, of), outline_in_words(result)) if part)))
    rows = _rows(first, second)
    if rows:
        st.dataframe(
            pd.DataFrame(rows, columns=["calibrated probability", *_titles(bundle.name, other.name)]),
            hide_index=True,
            alt="Both models",
        )
    if first.mask is not None and second.mask is not None:
        st.markdown(f"The two outlines agree with a Dice of {dice_of(first.mask, second.mask):.3f}; 1 is the same.")


def _titles(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first != second else (f"{first}, left", f"{second}, right")


def _rows(first: Result, second: Result) -> list[tuple[str, float | None, float | None]]:
    labels = dict.fromkeys([*first.probabilities, *second.probabilities])
    return [(label, first.probabilities.get(label), second.probabilities.get(label)) for label in labels]
