"""audit.html: the findings of a data set's audit with their pictures, in one file that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bcd.reports.rendering import Picture, html_page


@dataclass(frozen=True)
class Section:
    """One kind of finding.

    Pictures that belong together are a set, in a box of its own unless it is the only one; `loud` sets stand out in red. `count`
    and `more`, what is not shown, are in words.
    """

    title: str
    text: str
    count: str
    sets: Sequence[Sequence[Picture]] = field(default_factory=list)
    more: str = ""
    loud: bool = False


def audit_page(title: str, notes: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the page as HTML, the pictures inside."""
    return html_page("audit.html", title=title, notes=notes, sections=sections)
