"""What a sweep searches, in Hydra's words: `a=1,2`, `range(1,5)`, `interval(0.1,1)`, `tag(log, interval(1e-4,1e-2))`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcd.config.errors import ConfigError, as_typed


@dataclass(frozen=True)
class Dimension:
    """One key that a sweep varies.

    Args:
        key: as on the command line, `optimizer.lr` or `model`.
        values: its values as the command line has them; empty for an interval.
        low: of an interval, included.
        high: of an interval, included.
        log: drawn evenly in the logarithm.
        integer: whole numbers alone.
    """

    key: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Dimension":
        """Return a key that was written as plain values."""
        return cls(**{**content, "values": tuple(content["values"])})

    def in_words(self) -> str:
        """Return what it ranges over: `1, 2` or `0.0001 to 0.01 (log)`."""
        if self.values:
            return ", ".join(self.values)
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}{' (whole)' if self.integer else ''}"


def as_overrides(space: Mapping[str, Any]) -> list[str]:
    """Return `sweep.space` of a config as it would be typed.

    Raises:
        ConfigError: for an entry that names no values.
    """
    for key, values in space.items():
        if not isinstance(values, str | list) or not values:
            raise ConfigError(
                f"sweep.space: {key}: {values!r} names no values; write '1e-4,1e-3', 'range(1,5)', 'interval(0.1,1)', "
                "'tag(log, interval(1e-4,1e-2))', or a list."
            )
    typed = {
        key: values if isinstance(values, str) else ",".join(as_typed(value) for value in values) for key, values in space.items()
    }
    return [f"{key}={values}" for key, values in typed.items()]


def split(overrides: Sequence[Any]) -> tuple[list[str], list[Dimension]]:
    """Return the overrides that stay the same in every job, and what is varied, in their order.

    Raises:
        ConfigError: for an interval that cannot be.
    """
    fixed = [override.input_line for override in overrides if not override.is_sweep_override()]
    return fixed, [_dimension(override) for override in overrides if override.is_sweep_override()]


def with_space(typed: Sequence[Any], of_config: Iterable[Any]) -> list[Any]:
    """Return parsed overrides, and behind them those of `sweep.space` whose key is not on the command line, which has priority."""
    keys = {override.key_or_group for override in typed}
    return [*typed, *(override for override in of_config if override.key_or_group not in keys)]


def _dimension(override: Any) -> Dimension:
    key = override.get_key_element()
    if not override.is_interval_sweep():
        values = tuple(dict.fromkeys(str(value) for value in override.sweep_string_iterator()))
        return Dimension(key, values)
    interval = override.value()
    low, high = interval.start, interval.end
    log, integer = "log" in interval.tags, isinstance(low, int) and isinstance(high, int)
    if not low < high or (log and low <= 0):
        raise ConfigError(f"{override.input_line}: give the lower end first{', above 0 for a logarithm' if log else ''}.")
    return Dimension(key, (), low, high, log, integer)
