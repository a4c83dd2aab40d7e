"""Common parts of every page: its name, the permanent notice, the style."""

from pathlib import Path

import streamlit as st
from markupsafe import Markup

from bcd.app.images.wording import NOTICE

_STYLE = Path(__file__).parent / "style.css"


def frame() -> None:
    """Set up the page with its permanent notice."""
    st.set_page_config(page_title="bcd: breast ultrasound", page_icon=None, layout="wide")
    st.html(_STYLE)
    st.html(Markup('<div class="bcd-notice" role="note">{}</div>').format(NOTICE))


def sentence(text: str) -> str:
    """Return a text from a file or a bundle as Markdown that shows it as it is: nothing in it is taken for markup."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()<>#+-.!|~$:" else letter for letter in text).replace("\n", " ")


def card(text: str) -> str:
    """Return a model card, Markdown, without pictures: an external one would be fetched from there, and reveal who looked."""
    return text.replace("![", "! [").replace("$", "\\$")


def key(*entries: tuple[str, str]) -> None:
    """Show what colours mean: (colour in CSS, words)."""
    entry = Markup('<span><i style="background:{}"></i>{}</span>')
    st.html(Markup('<div class="bcd-key">{}</div>').format(Markup().join(entry.format(*one) for one in entries)))
