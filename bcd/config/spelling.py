"""The nearest valid name to a misspelt one."""

import difflib
from collections.abc import Collection


def nearest(word: str, valid: Collection[str]) -> str:
    """Return a sentence with the valid names, led by the one nearest to a misspelt word."""
    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Valid: {', '.join(sorted(valid))}."


def hint(word: str, valid: Collection[str], cutoff: float = 0.6) -> str:
    """Return `; did you mean 'benign'?` for a misspelt word, or nothing where no valid name is near."""
    folded = {name.lower(): name for name in valid}
    close = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=cutoff)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def nearest_few(word: str, valid: Collection[str], count: int = 3) -> str:
    """Return a sentence with the few names nearest to a misspelt word, where there are too many to list them all."""
    close = difflib.get_close_matches(word, list(valid), n=count, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(name) for name in close)}?" if close else "No name is near it."
