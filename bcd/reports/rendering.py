"""Pages and cards from `templates/`. Every value is escaped: case ids, class names and file names come from outside."""

import base64
import io
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from bcd.reports.markdown import plain


@dataclass(frozen=True)
class Table:
    """A table whose first row and first column are headings; numbers are right-aligned.

    Args:
        head: the column headings.
        rows: the first cell of each is its heading; None or "" is shown as a dash.
        caption: above it.
        text: numbers of the columns, from 0, that hold words and are left-aligned; the first always is.
        style: a class of the style sheet.
    """

    head: Sequence[object]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    text: Collection[int] = ()
    style: str = ""


@dataclass(frozen=True)
class Picture:
    """An image that a page carries inside itself.

    Args:
        source: a data URL.
        caption: below it.
        alt: what it shows, for those who cannot see it.
        name: in bold before the caption.
    """

    source: str
    caption: str
    alt: str
    name: str = ""


def picture(content: bytes, kind: str, caption: str, alt: str = "", name: str = "") -> Picture:
    """Return an encoded image, `jpeg`, `png` or `svg+xml`, as a picture of a page; its `alt` is the caption unless given."""
    return Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", caption, alt or caption, name)


def chart(figure: Figure, caption: str, alt: str = "") -> Picture:
    """Return a matplotlib figure as an SVG picture, the same bytes for the same figure; arguments as of `picture`."""
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bcd"}), warnings.catch_warnings():
        # The reader's fonts draw the text; that the font used for measuring lacks a letter of a class name is no matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return picture(content.getvalue(), "svg+xml", caption, alt)


def html_page(template: str, **values: Any) -> str:
    """Return a page that needs nothing beside it, from a template that extends `base.html`.

    It needs a `title`; `heading` and `warnings` may be given.
    """
    return _HTML.get_template(template).render(values)


def markdown_page(template: str, **values: Any) -> str:
    """Return a Markdown file; values show as they are, see `bcd.reports.markdown.plain`."""
    return re.sub(r"\n{3,}", "\n\n", _MARKDOWN.get_template(template).render(values)).strip() + "\n"


def _as_markdown(value: Any) -> Any:
    """Return what a template's macro has made as it is, and any other value escaped."""
    return value if isinstance(value, Markup) else Markup(plain(value))


def _environment(**options: Any) -> Environment:
    loader = PackageLoader("bcd.reports")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)


_HTML = _environment()
_MARKDOWN = _environment(finalize=_as_markdown)
