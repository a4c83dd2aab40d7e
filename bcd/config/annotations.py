"""Does a value from a config fit an argument's annotation?"""

import ast
from collections.abc import Mapping
from typing import Any

from bcd.config.source import Module

_LISTS = {"Sequence", "list", "List", "tuple", "Tuple", "Iterable", "Collection", "set", "Set", "frozenset"}
_DICTS = {"Mapping", "dict", "Dict", "MutableMapping"}
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null", "Path": "a path"}
_DEEP = 8


def fits(value: Any, annotation: ast.AST, module: Module, depth: int = 0) -> bool:
    """Tell whether a plain value may be given for an annotation; what cannot be read fits.

    A whole number is a number, and true and false are none. An object is given as a dict.
    """
    if depth > _DEEP:
        return True
    if isinstance(annotation, ast.Constant):
        return annotation.value is not None or value is None  # one in quotes is not read
    if isinstance(annotation, ast.BinOp):
        return fits(value, annotation.left, module, depth + 1) or fits(value, annotation.right, module, depth + 1)
    if isinstance(annotation, ast.Subscript):
        return _fits_generic(value, annotation, module, depth)
    name = _name(annotation)
    if name in _WORDS:
        return _fits_plain(value, name)
    if name in _LISTS | _DICTS:
        return isinstance(value, Mapping) if name in _DICTS else isinstance(value, list | tuple)
    if not isinstance(annotation, ast.Name) or name in ("Any", "object"):
        return True
    return _fits_named(value, name, module, depth)


def in_words(annotation: ast.AST, module: Module) -> str:
    """Return what an annotation asks for: `a number or null`."""
    words = dict.fromkeys(_words(annotation, module, 0))
    literals = [word.removeprefix("=") for word in words if word.startswith("=")]
    plain = [word for word in words if not word.startswith("=") and not (word == "a whole number" and "a number" in words)]
    return " or ".join(([f"one of {', '.join(literals)}"] if literals else []) + plain) or ast.unparse(annotation)


def literals(annotation: ast.AST, module: Module) -> list[str]:
    """Return the words that an annotation lists, as text."""
    return [word.removeprefix("=") for word in _words(annotation, module, 0) if word.startswith("=")]


def _words(annotation: ast.AST, module: Module, depth: int) -> list[str]:
    """Return the alternatives in words, a literal with `=` before it; objects, which no command line can give, are left out."""
    if isinstance(annotation, ast.BinOp):
        return _words(annotation.left, module, depth + 1) + _words(annotation.right, module, depth + 1)
    if isinstance(annotation, ast.Subscript):
        base, inner = _name(annotation.value), _elements(annotation)
        if base == "Literal":
            return [f"={node.value!s}" for node in inner if isinstance(node, ast.Constant)]
        if base in ("Optional", "Union"):
            return [word for node in inner for word in _words(node, module, depth + 1)] + ["null"] * (base == "Optional")
        if base in _LISTS:
            return [f"a list, each entry {in_words(inner[0], module)}"]
        return ["a mapping"] if base in _DICTS else []
    name = _name(annotation)
    if name in _WORDS or name in _LISTS | _DICTS:
        return ["a list" if name in _LISTS else "a mapping" if name in _DICTS else _WORDS[name]]
    found = module.find(name) if isinstance(annotation, ast.Name) and depth < _DEEP else None
    is_alias = found is not None and isinstance(found[1], ast.Subscript | ast.BinOp | ast.Name)
    return _words(found[1], found[0], depth + 1) if found is not None and is_alias else []


def _fits_plain(value: Any, name: str) -> bool:
    if name == "None" or value is None:
        return name == "None" and value is None
    if isinstance(value, bool):
        return name == "bool"
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (), "str": (str,), "Path": (str,)}
    return isinstance(value, kinds[name])


def _fits_generic(value: Any, annotation: ast.Subscript, module: Module, depth: int) -> bool:
    base, inner = _name(annotation.value), _elements(annotation)
    if base in ("Union", "Optional"):
        return (base == "Optional" and value is None) or any(fits(value, node, module, depth + 1) for node in inner)
    if base == "Literal":
        allowed = [node.value for node in inner if isinstance(node, ast.Constant)]
        return len(allowed) < len(inner) or any(value == word and type(value) is type(word) for word in allowed)
    if base in ("Annotated", "ClassVar", "Final"):
        return fits(value, inner[0], module, depth + 1)
    if base in _LISTS:
        kinds = [node for node in inner if not (isinstance(node, ast.Constant) and node.value is ...)]
        return isinstance(value, list | tuple) and all(any(fits(e, kind, module, depth + 1) for kind in kinds) for e in value)
    if base in _DICTS:
        return isinstance(value, Mapping) and all(fits(entry, inner[-1], module, depth + 1) for entry in value.values())
    return base not in ("Callable", "type", "Type") or isinstance(value, Mapping)


def _fits_named(value: Any, name: str, module: Module, depth: int) -> bool:
    """Look a name of the annotation up: an alias, or a class, whose objects a config gives as dicts."""
    found = module.find(name)
    if found is None or isinstance(value, Mapping):
        return True
    where, node = found
    if isinstance(node, ast.ClassDef):
        return any(_name(base).endswith(("Enum", "str", "int", "float")) for base in node.bases)
    return isinstance(node, ast.FunctionDef) or fits(value, node, where, depth + 1)


def _elements(annotation: ast.Subscript) -> list[ast.expr]:
    return list(annotation.slice.elts) if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and node.value is None:
        return "None"
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
