"""Charts as SVG that stands inside a page: its text can be searched, and its ids are its own."""

import io
import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib
from matplotlib.figure import Figure

from bcd.reports.markup import Html

_SVG = "http://www.w3.org/2000/svg"
_LINK = "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _LINK)


def to_svg(chart: Figure, name: str, alt: str) -> Html:
    """Return a chart as an `<svg>` element, the same bytes for the same chart.

    Args:
        chart: as `bcd.reports.charts` draws it.
        name: unlike that of any other chart of the page; the ids begin with it.
        alt: what it shows, for those who cannot see it.
    """
    content = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The reader's fonts draw the text; that the font used for measuring lacks a letter of a class name is no matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        chart.savefig(content, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(content.getvalue())
    _tidy(root, name)
    root.set("role", "img")
    root.set("aria-label", alt)
    root.set("class", "plot")
    root.set("style", f"max-width:{float(root.attrib.pop('width').rstrip('pt')) / 72:.2f}in")
    root.attrib.pop("height")
    return Html(ElementTree.tostring(root, encoding="unicode"))


def _tidy(root: ElementTree.Element, name: str) -> None:
    """Drop metadata and the style sheet, which would hold for the whole page, and make the ids the chart's own."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for node in root.iter():
        for key, value in node.attrib.items():
            if key == "id":
                node.set(key, f"{name}-{value}")
            elif key == f"{{{_LINK}}}href" and value.startswith("#"):
                node.set(key, f"#{name}-{value[1:]}")
            elif "url(#" in value:
                node.set(key, value.replace("url(#", f"url(#{name}-"))
