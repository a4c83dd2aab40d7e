"""Python files read as text: classes, functions and constants by name, without importing what they import (torch takes seconds)."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from bcd.config.moved import today

Found = tuple["Module", ast.AST]


@dataclass(frozen=True, eq=False)
class Module:
    """A module's file.

    Args:
        name: dotted.
        path: the file.
        tree: its syntax.
    """

    name: str
    path: Path
    tree: ast.Module

    def find(self, name: str, seen: frozenset[str] = frozenset()) -> Found | None:
        """Return what a name stands for, and the module that says so: a class, a function, or the value assigned to it."""
        if self.name in seen:
            return None
        seen |= {self.name}
        for node in _statements(self.tree.body):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return self, node
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                return self, node.value
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name and node.value:
                return self, node.value
            if isinstance(node, ast.ImportFrom) and (found := self._imported(node, name, seen)) is not None:
                return found
        return None

    def may_offer(self, name: str) -> bool:
        """Tell whether a name can be found here; of most files of a package a look at their text says that it cannot."""
        return self.path.name == "__init__.py" or name in _words(self.path)

    def top_level(self) -> list[str]:
        """Return the names of the classes that are defined here."""
        return [node.name for node in _statements(self.tree.body) if isinstance(node, ast.ClassDef)]

    def _imported(self, node: ast.ImportFrom, name: str, seen: frozenset[str]) -> Found | None:
        original = next((alias.name for alias in node.names if (alias.asname or alias.name) == name), None)
        if original is None and node.names[0].name != "*":
            return None
        module = read_module(self._absolute(node))
        if module is None or (original is None and not module.may_offer(name)):
            return None
        return module.find(original or name, seen if original is None or original == name else frozenset())

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.name.split(".") if self.path.name == "__init__.py" else self.name.split(".")[:-1]
        return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def read_module(name: str) -> Module | None:
    """Return a module by its dotted name; None where there is no Python file of it."""
    path = _locate(name)
    return _parse(name, path, path.stat().st_mtime_ns) if path is not None else None


def find(dotted: str) -> Found | None:
    """Return what a dotted name stands for: `bcd.losses.dice.DiceLoss`."""
    module_name, _, name = today(dotted).rpartition(".")
    module = read_module(module_name) if module_name else None
    return module.find(name) if module is not None else None


def constant(dotted: str) -> object:
    """Return the plain value that a dotted name is assigned in its module; None where there is none."""
    found = find(dotted)
    try:
        return ast.literal_eval(ast.unparse(found[1])) if found is not None else None
    except (ValueError, SyntaxError):
        return None


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package."""
    path = _locate(name)
    return path.parent if path is not None and path.name == "__init__.py" else None


def _locate(name: str) -> Path | None:
    top, *rest = name.split(".")
    try:
        spec = find_spec(top) if top else None
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        base = Path(folder, *rest)
        for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


@lru_cache(maxsize=256)
def _parse(name: str, path: Path, _: int) -> Module | None:
    try:
        return Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    except (SyntaxError, ValueError, OSError):
        return None


@lru_cache(maxsize=256)
def _words(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements of a module, those inside `if` and `try` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse])
