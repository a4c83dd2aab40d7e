"""Names that a library knows, read from its files: importing timm, or segmentation_models_pytorch, takes seconds."""

import ast
import re
from functools import cache
from pathlib import Path

from bcd.config.source import find, package_folder
from bcd.config.spelling import nearest_few


def problem(argument: str, name: str, value: str) -> str | None:
    """Return what is wrong with a value where an argument of our parts takes a known name; None where nothing is.

    Args:
        argument: `backbone` (timm's names), `encoder` (smp's and timm's) or `tta` (ours); others are not looked at.
        name: the key, for the message.
        value: what was given.
    """
    if argument in ("backbone", "encoder") and ":" not in value and "/" not in value:
        return _network_problem(argument, name, value)
    views = _views() if argument == "tta" else ()
    return f"{name}: there is no view {value!r}. {nearest_few(value, views)}" if views and value not in views else None


def _network_problem(argument: str, name: str, value: str) -> str | None:
    timm, smp = _timm(), _smp() if argument == "encoder" else _Names()
    bare = value.removeprefix("tu-") if argument == "encoder" else value
    if not timm.listed or bare.partition(".")[0] in timm.spelled or value in smp.spelled:
        return None
    library = "Neither smp nor timm has an encoder" if argument == "encoder" else "timm has no model"
    return f"{name}: {library} {value!r}. {nearest_few(value, smp.listed | timm.listed)}"


class _Names:
    """Names that a library lists, and whatever else is spelled in its files: names of older versions stand there too."""

    def __init__(self, listed: frozenset[str] = frozenset(), spelled: frozenset[str] = frozenset()) -> None:
        self.listed = listed
        self.spelled = listed | spelled


@cache
def _timm() -> _Names:
    text = _text(package_folder("timm"), "models/*.py")
    listed = re.findall(r"^@register_model\s*\ndef (\w+)", text, re.MULTILINE)
    return _Names(frozenset(listed), frozenset(re.findall(r"^ {4}'(\w+)(?:\.\w+)?': ", text, re.MULTILINE)))


@cache
def _smp() -> _Names:
    text = _text(package_folder("segmentation_models_pytorch"), "encoders/*.py")
    listed = re.findall(r"^ {4}\"([\w-]+)\": \{", text, re.MULTILINE)
    return _Names(frozenset(listed), frozenset(re.findall(r"[\"']([\w-]+)[\"']", text)))


@cache
def _views() -> tuple[str, ...]:
    found = find("bcd.tasks.views.VIEWS")
    keys = found[1].keys if found is not None and isinstance(found[1], ast.Dict) else []
    return tuple(key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def _text(folder: Path | None, pattern: str) -> str:
    return "" if folder is None else "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob(pattern)))
