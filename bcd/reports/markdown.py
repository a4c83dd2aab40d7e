"""Markdown: tables, and text from outside that shows as it is."""

import re
from collections.abc import Iterable, Sequence


def plain(text: object) -> str:
    """Return a text from outside so that Markdown shows it as it is: no HTML, no links, no headings, on one line."""
    line = " ".join(str(text).split())
    line = re.sub(r"([\\`*_\[\]|#<>~!$])", r"\\\1", line)
    return line.replace("&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;").replace("://", ":&#47;&#47;")


def cell(text: object) -> str:
    """Return text that stays within a cell of a table, otherwise unchanged: for tables that are pasted elsewhere."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, one row a line; cells as `plain` or `cell` makes them."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])
