"""Constructors read as text: their arguments, what these must obey, and the constructor's own refusals."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from bcd.config.limits import Limit, limit_in
from bcd.config.source import Found, Module, find

# A refusal may call these, functions of its own module, and modules that touch nothing outside.
_FUNCTIONS = (abs, all, any, enumerate, getattr, hasattr, isinstance, len, map, max, min, range, repr, round, sorted, sum, zip)
_BUILTINS = {item.__name__: item for item in (*_FUNCTIONS, bool, dict, float, frozenset, int, list, set, str, tuple, type)}
_LIBRARY = {"math", "re", "string"}
_DEEP = 4


@dataclass(frozen=True)
class Argument:
    """An argument of a constructor.

    Args:
        annotation: as written; None where there is none.
        default: as written; None where the argument must be given.
    """

    annotation: ast.expr | None
    default: ast.expr | None


@dataclass(frozen=True, eq=False)
class Constructor:
    """A class, as its file describes it.

    Args:
        module: that it is written in.
        node: its syntax.
    """

    module: Module
    node: ast.ClassDef

    @cached_property
    def arguments(self) -> dict[str, Argument] | None:
        """Its arguments by name; None where they cannot be told, or where it takes any."""
        for cls in self.lineage():
            init = cls.method("__init__")
            if init is not None:
                return None if init.args.kwarg else _arguments(init)
            if cls._is_dataclass():
                return {name: arg for base in reversed([*cls.lineage()]) for name, arg in base._fields().items()}
        return None if self.node.bases else {}

    @cached_property
    def limits(self) -> dict[str, Limit]:
        """What the docstring says of the arguments, where it is a rule."""
        return {name: limit for name, text in self.texts.items() if (limit := limit_in(text)) is not None}

    def lineage(self) -> Iterator["Constructor"]:
        """Give the class and its bases, as far as they are written in the same package."""
        yield self
        for base in self.node.bases:
            found = self.module.find(base.id) if isinstance(base, ast.Name) else None
            if found is not None and isinstance(found[1], ast.ClassDef) and _package(found[0]) == _package(self.module):
                yield from Constructor(found[0], found[1]).lineage()

    def method(self, name: str) -> ast.FunctionDef | None:
        """Return a method that the class itself defines."""
        return next((node for node in self.node.body if isinstance(node, ast.FunctionDef) and node.name == name), None)

    def attribute(self, name: str) -> Any:
        """Return the plain value of a class attribute, its own or inherited; None where there is none."""
        for cls in self.lineage():
            for node in cls.node.body:
                if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                    continue
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                    return _plain(node.value)
        return None

    def takes(self, method: str, argument: str) -> bool | None:
        """Tell whether a method has an argument; None where there is no such method to be found."""
        found = next((node for cls in self.lineage() if (node := cls.method(method)) is not None), None)
        return None if found is None else argument in _arguments(found)

    def refusal(self, given: Mapping[str, Any]) -> str | None:
        """Return the message with which the constructor would refuse these arguments, as far as that can be told.

        Of its body those statements are run that do nothing but refuse: `if not 0 < threshold < 1: raise ValueError(...)`. One
        that needs more than the arguments and plain functions is left for the constructor itself, and so is all that follows
        a line that gives an argument another value.
        """
        for cls in self.lineage():
            body = cls.method("__init__") or cls.method("__post_init__")
            if body is None:
                continue
            defaults = {name: (arg.default, _plain(arg.default)) for name, arg in (self.arguments or {}).items()}
            values = {
                name: value for name, (node, value) in defaults.items() if value is not None or isinstance(node, ast.Constant)
            }
            values |= given
            for guard in body.body:
                if isinstance(guard, ast.Assign) and any(isinstance(t, ast.Name) and t.id in values for t in guard.targets):
                    return None
                if isinstance(guard, ast.If) and len(guard.body) == 1 and isinstance(guard.body[0], ast.Raise):
                    message = _refusal(guard.test, guard.body[0], values, cls.module)
                    if message is not None:
                        return message
            break
        return None

    @cached_property
    def texts(self) -> dict[str, str]:
        """Return what the docstring says of each argument."""
        for cls in self.lineage():
            described = (ast.get_docstring(cls.node) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
            if described:
                return dict(re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", described, re.MULTILINE))
        return {}

    def _is_dataclass(self) -> bool:
        return any("dataclass" in ast.unparse(decorator) for decorator in self.node.decorator_list)

    def _fields(self) -> dict[str, Argument]:
        nodes = [node for node in self.node.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
        named = [(node.target.id, node) for node in nodes if isinstance(node.target, ast.Name)]
        return {name: Argument(n.annotation, n.value) for name, n in named if not ast.unparse(n.annotation).startswith("ClassVar")}


def constructor(target: str) -> Constructor | None:
    """Return the class of a dotted name, or None where it cannot be read as text."""
    found = find(target)
    return Constructor(found[0], found[1]) if found is not None and isinstance(found[1], ast.ClassDef) else None


def _package(module: Module) -> str:
    return module.name.partition(".")[0]


def _arguments(function: ast.FunctionDef) -> dict[str, Argument]:
    args = function.args
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return {arg.arg: Argument(arg.annotation, default) for arg, default in pairs if arg.arg != "self"}


def _refusal(test: ast.expr, refuse: ast.Raise, values: Mapping[str, Any], module: Module) -> str | None:
    """Return the message of a refusal that these values meet; None where they do not, or where nobody can tell."""
    message = refuse.exc.args[0] if isinstance(refuse.exc, ast.Call) and refuse.exc.args else None
    if message is None:
        return None
    try:
        if not _evaluate(test, values, module):
            return None
        return str(_evaluate(message, values, module))
    except Exception:  # the constructor itself will tell
        return None


def _evaluate(expression: ast.expr, values: Mapping[str, Any], module: Module) -> Any:
    names = {"self": SimpleNamespace(**values), **_borrowed(expression, module, set(values) | {"self"}), **values}
    return eval(compile(ast.Expression(expression), str(module.path), "eval"), {"__builtins__": _BUILTINS, **names})


def _borrowed(node: ast.AST, module: Module, known: set[str], depth: int = 0) -> dict[str, Any]:
    """Return what a piece of code needs from its module.

    Raises:
        NameError: where it needs more than functions, constants and harmless modules.
    """
    bound = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return {name: _bring(name, module, depth) for name in used - bound - known - set(_BUILTINS)}


def _bring(name: str, module: Module, depth: int) -> Any:
    found: Found | None = module.find(name)
    if found is None and name in _LIBRARY and re.search(rf"^import {name}$", module.path.read_text(encoding="utf-8"), re.MULTILINE):
        return import_module(name)
    if found is None or depth > _DEEP or not found[0].name.startswith(_package(module)):
        raise NameError(name)
    where, node = found
    if not isinstance(node, ast.FunctionDef):
        return ast.literal_eval(ast.unparse(node))
    bare = ast.FunctionDef(**{**vars(node), "decorator_list": [], "returns": None})
    bare.args = ast.arguments(**{**vars(node.args), "args": [ast.arg(arg.arg) for arg in node.args.args]})
    space = {"__builtins__": _BUILTINS, **_borrowed(bare, where, {name}, depth + 1)}
    exec(compile(ast.fix_missing_locations(ast.Module([bare], [])), str(where.path), "exec"), space)
    return space[name]


def _plain(node: ast.AST | None) -> Any:
    """Return the value of a literal; None for anything else."""
    try:
        return ast.literal_eval(node) if isinstance(node, ast.expr) else None
    except ValueError:
        return None
