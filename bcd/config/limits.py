"""Ranges in words: what a docstring, or the comment behind a key in YAML, says about a value, as a rule that is checked.

The words must make up a clause of their own, between commas, semicolons or colons, or at an end:

    in [0, 1)               an interval; ( and ) leave the end out
    at least 0.5, positive, not negative
    from 1                  whole numbers from 1 on
    one of auto, max, min   these words
    an existing file, an existing folder, an existing file or folder, an existing run

and `auto or from 0` or `null, false or an existing file` allow words besides. Of a list or a dict every entry must obey.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcd.config.spelling import nearest

_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
_WORD = r"(?:auto|null|true|false)"
_CLAUSE = re.compile(
    rf"(?:^|[,;:] )(?P<said>(?:(?P<besides>{_WORD}(?:, {_WORD})*) or )?"
    rf"(?:in (?P<left>[\[(])(?P<low>{_NUMBER}), (?P<high>{_NUMBER})(?P<right>[\])])"
    rf"|at least (?P<least>{_NUMBER})|from (?P<first>-?\d+)|(?P<sign>positive|not negative)"
    r"|one of (?P<choices>[\w-]+(?:, [\w-]+)*)|an existing (?P<path>file or folder|file|folder|run)))(?=[.,;:]|$)"
)
RUN_CONFIG = "config.yaml"


@dataclass(frozen=True)
class Limit:
    """What a value must obey.

    Args:
        said: the rule as it was written.
        besides: words that are allowed whatever the rest says.
        low: the lowest number.
        high: the highest number.
        without: the ends that are not allowed themselves.
        whole: whole numbers alone.
        choices: the words that are allowed; empty where it is not words that are asked for.
        path: `file`, `folder`, `file or folder` or `run` that must be there; None where it is not a path that is asked for.
    """

    said: str
    besides: frozenset[str] = frozenset()
    low: float = -math.inf
    high: float = math.inf
    without: frozenset[float] = frozenset()
    whole: bool = False
    choices: tuple[str, ...] = ()
    path: str | None = None

    def problem(self, name: str, value: Any) -> str | None:
        """Return what is wrong with a value, in a sentence; None where it obeys."""
        if isinstance(value, list | tuple | Mapping):
            entries = value.values() if isinstance(value, Mapping) else value
            return next((problem for entry in entries if (problem := self.problem(name, entry)) is not None), None)
        word = {None: "null", True: "true", False: "false"}.get(value, value) if value is None or isinstance(value, bool) else value
        if word in self.besides:
            return None
        if self.path is not None:
            return self._absent(name, str(word))
        if self.choices:
            return None if str(word) in self.choices else f"{name}={word} is not a choice. {nearest(str(word), self.choices)}"
        return None if self._admits(value) else f"{name}={word} must be {_spoken(self.said)}."

    def _admits(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.whole and not isinstance(value, int)):
            return False
        return self.low <= value <= self.high and value not in self.without

    def _absent(self, name: str, value: str) -> str | None:
        path = Path(value).expanduser()
        if not {"file": path.is_file, "file or folder": path.exists}.get(str(self.path), path.is_dir)():
            return f"{name}={value}: there is no such {'folder' if self.path == 'run' else self.path}."
        if self.path == "run" and not (path / RUN_CONFIG).is_file():
            return f"{name}={value} is not a run's folder: it has no {RUN_CONFIG}. Give the path that training printed last."
        return None


def limit_in(text: str) -> Limit | None:
    """Return the first rule that a text states, or None."""
    found = _CLAUSE.search(" ".join(text.split()))
    if found is None:
        return None
    said, besides = found["said"], frozenset(re.findall(r"\w+", found["besides"] or ""))
    if found["low"]:
        low, high = float(found["low"]), float(found["high"])
        without = {low} if found["left"] == "(" else set()
        return Limit(said, besides, low, high, frozenset(without | ({high} if found["right"] == ")" else set())))
    if found["sign"]:
        return Limit(said, besides, low=0.0, without=frozenset({0.0}) if found["sign"] == "positive" else frozenset())
    if found["choices"]:
        return Limit(said, besides, choices=tuple(found["choices"].split(", ")))
    if found["path"]:
        return Limit(said, besides, path=found["path"])
    return Limit(said, besides, low=float(found["least"] or found["first"]), whole=bool(found["first"]))


def _spoken(said: str) -> str:
    """Return a rule as the end of a sentence that begins with `must be`."""
    return re.sub(r"(^|or )from ", r"\1a whole number from ", said)
