"""A plain page in one file, for comparisons and studies; a run's report has a frame of its own."""

from collections.abc import Iterable

from bcd.reports.markup import Html, element, joined

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
h2 { margin-top: 2.5rem; border-top: 2px solid #ddd; padding-top: 1rem; } .scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 14.5px; } caption { text-align: left; color: #555; }
th, td { padding: .28rem .9rem .28rem 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } tbody th { font-weight: 400; }
.charts { display: flex; flex-wrap: wrap; gap: 1.2rem; } .charts figure { max-width: 30rem; } figure { margin: 0; }
.row { display: flex; flex-wrap: wrap; gap: .6rem; margin: .3rem 0 1.4rem; }
img, svg { max-width: 100%; height: auto; } figcaption { font-size: 14px; overflow-wrap: anywhere; } .plot { width: 100%; }
.warning { background: #b00000; color: white; padding: .8rem 1rem; font-weight: 600; border-radius: 4px; margin: .6rem 0; }
"""


def sheet(title: str, parts: Iterable[object]) -> str:
    """Return the page: its title, and its parts one below the other."""
    style = Html(f"<style>{_STYLE}</style>")
    head = element("head", element("meta", charset="utf-8"), element("title", title), style)
    return f"<!doctype html>{element('html', head, element('body', joined(parts, chr(10))), lang='en')}\n"
