"""The model card and limits of a bundle, in a dialog."""

import streamlit as st

from bcd.app.frame import card, sentence
from bcd.app.images.wording import NOTICE
from bcd.predictor.bundle import CARD, Bundle
from bcd.predictor.bundles.hashes import BundleError, read_hashes, read_sealed


def card_button(bundle: Bundle) -> None:
    """Show a button that opens the model card."""
    if st.button("Model card and limits", key="card"):
        _open(bundle)


@st.dialog("Model card and limits", width="large")
def _open(bundle: Bundle) -> None:
    st.warning(NOTICE)
    st.markdown("**Limits**\n\n" + "\n".join(f"- {sentence(text)}" for text in bundle.limits))
    st.markdown("**Intended use**\n\n" + "\n".join(f"- {sentence(text)}" for text in bundle.intended_use))
    facts = (
        ("name", bundle.name),
        ("fingerprint", bundle.fingerprint),
        ("made", bundle.created),
        ("task", bundle.task.replace("_", " ")),
        ("networks", str(len(bundle.networks))),
        ("training data", str(bundle.data.get("name", ""))),
        ("licences of the data", "; ".join(map(str, bundle.data.get("licences", ())))),
        ("licence of the weights", bundle.weights_licence),
    )
    st.markdown("**This bundle**\n\n" + "\n".join(f"- {name}: {sentence(value)}" for name, value in facts))
    st.markdown("---")
    if bundle.folder is not None:
        try:
            st.markdown(card(read_sealed(bundle.folder, CARD, read_hashes(bundle.folder)).decode("utf-8", errors="replace")))
        except BundleError as error:
            st.markdown(sentence(str(error)))
