"""Ranges that a config gives: checked once, refused in a sentence."""

from collections.abc import Sequence


def checked_range(name: str, value: Sequence[float], low: float, high: float, whole: bool = False) -> tuple[float, float]:
    """Return `[from, to]` as two floats.

    Args:
        name: what to call it in an error: class and argument.
        value: two numbers, the first not above the second.
        low: the smallest valid number.
        high: the largest.
        whole: whether only whole numbers are valid.

    Raises:
        ValueError: naming the valid range.
    """
    valid = f"give [from, to] with {low:g} <= from <= to <= {high:g}{', whole numbers' if whole else ''}"
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name}={value}: {valid}.")
    begin, end = (checked_number(name, number, low, high) for number in value)
    if begin > end or (whole and not (begin.is_integer() and end.is_integer())):
        raise ValueError(f"{name}={list(value)}: {valid}.")
    return begin, end


def checked_number(name: str, value: float, low: float, high: float) -> float:
    """Return a number between two others, both allowed.

    Raises:
        ValueError: naming the valid range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name}={value}: give a number from {low:g} to {high:g}.")
    return float(value)
