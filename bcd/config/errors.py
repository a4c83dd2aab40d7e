"""The text of errors: all problems at once, pydantic's errors in words, and the nearest valid name."""

import difflib
from collections.abc import Collection, Mapping, Sequence

from pydantic import ValidationError


class ConfigError(ValueError):
    """The command line or a config is invalid."""


def refuse(problems: Sequence[str]) -> None:
    """Raise one error for all problems.

    Raises:
        ConfigError: if there is any.
    """
    different = list(dict.fromkeys(problems))
    if different:
        listed = "".join(f"\n  - {problem}" for problem in different)
        raise ConfigError(different[0] if len(different) == 1 else f"{len(different)} errors:{listed}")


def sentence(error: ValidationError) -> str:
    """Return the first refusal: the key, its value, and what is allowed."""
    first = error.errors(include_url=False)[0]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    if first["type"] == "missing":
        return f"{key} is missing."
    if first["type"] == "extra_forbidden":
        return f"{key} is not known."
    value, reason = first["input"], first["msg"].removeprefix("Value error, ").replace("Input should", "it must", 1)
    if not key:
        return f"{reason}."
    return f"{key}: {reason}." if isinstance(value, Mapping | list | tuple) else f"{key} is {shortened(value)}; {reason}."


def as_typed(value: object) -> str:
    """Return a value as the command line has it."""
    words = {None: "null", True: "true", False: "false"}
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_typed(entry) for entry in value)}]"
    return words[value] if value is None or isinstance(value, bool) else str(value)


def shortened(value: object, most: int = 60) -> str:
    """Return a value from an untrusted file, in ASCII and up to `most` characters."""
    text = ascii(value)
    return text if len(text) <= most else f"{text[:most]}..."


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
