"""audit.html: the findings of a data set's audit with their pictures, in one file that needs nothing else."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
h2 { margin-top: 2.5rem; border-top: 2px solid #ddd; padding-top: 1rem; } nav a { margin-right: 1.2rem; white-space: nowrap; }
.set { display: inline-flex; flex-wrap: wrap; gap: .6rem; margin: .4rem .6rem .4rem 0; padding: .6rem; }
.set { vertical-align: top; background: #f6f6f6; border-radius: 6px; }
.set.loud { background: #fbe3e3; } .plain { background: none; padding: 0; }
figure { margin: 0; width: 11.5rem; } img { width: 100%; height: 9rem; object-fit: contain; background: #000; border-radius: 3px; }
figcaption { font-size: 12.5px; line-height: 1.3; overflow-wrap: anywhere; } figcaption b { display: block; }
.more { color: #555; font-style: italic; } table { border-collapse: collapse; } td { padding: .2rem .8rem .2rem 0; }
"""


@dataclass(frozen=True)
class Picture:
    """A picture with its name and a line about it.

    Args:
        name: usually the case id.
        text: what is to be said of it.
        jpeg: the encoded thumbnail; empty for none.
    """

    name: str
    text: str
    jpeg: bytes


@dataclass(frozen=True)
class Section:
    """One kind of finding.

    Args:
        title: its heading.
        text: what it means and how it was found.
        count: what there is of it, in words.
        sets: pictures that belong together; each set stands in a box of its own, unless there is one alone.
        more: what is not shown, in words; empty for nothing.
        loud: whether the sets are to strike the eye.
    """

    title: str
    text: str
    count: str
    sets: Sequence[Sequence[Picture]] = field(default_factory=list)
    more: str = ""
    loud: bool = False


def audit_page(title: str, notes: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the page as HTML, the pictures inside.

    Args:
        title: the page's heading.
        notes: sentences below it.
        sections: in their order.
    """
    rows = "".join(
        f'<tr><td><a href="#s{number}">{html.escape(section.title)}</a></td><td>{html.escape(section.count)}</td></tr>'
        for number, section in enumerate(sections)
    )
    parts = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(note)}</p>" for note in notes), f"<table>{rows}</table>"]
    parts += [_section(number, section) for number, section in enumerate(sections)]
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f"{head}</head><body>\n" + "\n".join(parts) + "\n</body></html>\n"


def _section(number: int, section: Section) -> str:
    parts = [
        f'<h2 id="s{number}">{html.escape(section.title)}: {html.escape(section.count)}</h2><p>{html.escape(section.text)}</p>'
    ]
    style = "set loud" if section.loud else "set" if len(section.sets) > 1 else "set plain"
    for pictures in section.sets:
        parts.append(f'<div class="{style}">{"".join(_figure(picture) for picture in pictures)}</div>')
    if section.more:
        parts.append(f'<p class="more">{html.escape(section.more)}</p>')
    return "\n".join(parts)


def _figure(picture: Picture) -> str:
    name, text = html.escape(picture.name), html.escape(picture.text)
    source = f"data:image/jpeg;base64,{base64.b64encode(picture.jpeg).decode()}"
    return f'<figure><img src="{source}" alt="{name}" loading="lazy"><figcaption><b>{name}</b>{text}</figcaption></figure>'
