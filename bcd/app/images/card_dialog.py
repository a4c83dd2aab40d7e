"""The model card and limits of a bundle, one click away."""

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
    st.markdown("**This bundle**\n\n" + "\n".join(f"- {name}: {sentence(value)}" for name, value in _facts(bundle)))
    st.markdown("---")
    st.markdown(_card(bundle))


def _facts(bundle: Bundle) -> list[tuple[str, str]]:
    data = bundle.data
    return [
        ("name", bundle.name),
        ("fingerprint", bundle.fingerprint),
        ("made", bundle.created),
        ("does", bundle.task.replace("_", " ")),
        ("networks", str(len(bundle.networks))),
        ("learned from", str(data.get("name", ""))),
        ("licences of the data", "; ".join(map(str, data.get("licences", ())))),
        ("licence of the weights", bundle.weights_licence),
    ]


def _card(bundle: Bundle) -> str:
    if bundle.folder is None:
        return ""
    try:
        return card(read_sealed(bundle.folder, CARD, read_hashes(bundle.folder)).decode("utf-8", errors="replace"))
    except BundleError as error:
        return sentence(str(error))
