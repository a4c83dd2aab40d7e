"""audit.html: the findings of a data set's audit with their pictures, in one file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bcd.reports.rendering import Picture, html_page


@dataclass(frozen=True)
class Section:
    """One kind of finding.

    Args:
        title: its heading.
        text: what it means and how it was found.
        count: what there is of it, in words.
        sets: pictures that belong together, each with the case as its name; each set has a box of its own, unless it is the only
            one.
        more: what is not shown, in words; empty for nothing.
        loud: whether the sets stand out in red.
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
    return html_page("audit.html", title=title, notes=notes, sections=sections)
