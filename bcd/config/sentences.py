"""What a pydantic model refuses, in one sentence."""

from collections.abc import Mapping

from pydantic import ValidationError


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


def shortened(value: object, most: int = 60) -> str:
    """Return a value that a stranger may have written, in ASCII and up to `most` characters."""
    text = ascii(value)
    return text if len(text) <= most else f"{text[:most]}..."
