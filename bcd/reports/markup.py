"""HTML in which nothing is forgotten to be escaped: every text is, unless it was made here.

Case ids, class names and file names come from strangers.
"""

import base64
import html
from collections.abc import Collection, Iterable, Sequence

_WITHOUT_END = {"img", "meta", "link", "br", "hr", "col", "input"}
# A table of up to so many rows is not cut between two pages of paper.
_WHOLE = 16


class Html(str):
    """Text that is HTML already. Only this module and `svg` make it; every other text is escaped on its way in."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """Return a text as HTML; one that is HTML already stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(str(text)))


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Return the parts, escaped where need be, as one piece of HTML."""
    return Html(html.escape(between).join(escaped(part) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return `<tag attribute="...">children</tag>`.

    Args:
        tag: a name of ours, never of a stranger.
        children: escaped where they are not `Html`.
        attributes: `class_` and `for_` lose the line at the end, other lines become hyphens. None and False leave one out,
            True gives it no value.
    """
    named = "".join(_attribute(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    if tag in _WITHOUT_END:
        return Html(f"<{tag}{named}>")
    return Html(f"<{tag}{named}>{joined(children)}</{tag}>")


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


def table(
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    caption: object = "",
    *,
    text: Collection[int] = (),
    class_: str = "",
) -> Html:
    """Return a table whose first column and first row are headings; numbers stand to the right.

    Args:
        head: the column headings.
        rows: the first entry of each is its heading; None is shown as a dash.
        caption: above it.
        text: numbers of columns, from 0, that hold words and stand to the left.
        class_: for the style.
    """
    style = [None if place in text or place == 0 else "number" for place in range(len(head))]
    headings = [element("th", name, scope="col", class_=kind) for name, kind in zip(head, style, strict=True)]
    body = [_row(row, style) for row in rows]
    classes = " ".join([class_, *(["whole"] if len(body) <= _WHOLE else [])]).strip()
    made = element(
        "table",
        element("caption", caption) if caption else "",
        element("thead", element("tr", *headings)),
        element("tbody", *body),
        class_=classes or None,
    )
    return element("div", made, class_="scroll")


def _row(row: Sequence[object], style: Sequence[str | None]) -> Html:
    cells = [element("td", _shown(cell), class_=kind) for cell, kind in zip(row[1:], style[1:], strict=True)]
    return element("tr", element("th", _shown(row[0]), scope="row"), *cells)


def _shown(cell: object) -> object:
    return "\N{EN DASH}" if cell is None or cell == "" else cell


def listed(items: Iterable[object]) -> Html:
    """Return a list with dots."""
    return element("ul", *(element("li", item) for item in items))


def figure(content: Html, caption: object, class_: str = "chart") -> Html:
    """Return a picture with the words below it."""
    return element("figure", content, element("figcaption", caption), class_=class_)


def picture(content: bytes, kind: str, alt: str) -> Html:
    """Return an image that the page carries inside itself.

    Args:
        content: the encoded file.
        kind: `jpeg` or `png`.
        alt: what it shows, for those who cannot see it.
    """
    return element("img", src=f"data:image/{kind};base64,{base64.b64encode(content).decode()}", alt=alt)


def folded(title: object, *content: object) -> Html:
    """Return content that is unfolded by a click; on paper it is always shown."""
    return element("details", element("summary", title), *content)
