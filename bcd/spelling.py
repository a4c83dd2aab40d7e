"""The nearest valid name to a misspelt one."""

import difflib
from collections.abc import Collection


def nearest(word: str, valid: Collection[str]) -> str:
    """Return a sentence with the valid names, led by the one nearest to a misspelt word."""
    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Valid: {', '.join(sorted(valid))}."
