"""The sources of the package as trees: what a name in them means, and which attributes a class sets on itself."""

from __future__ import annotations

import ast
import functools
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path
from typing import Collection, Dict, Iterator, Optional, Tuple

Target = Tuple[str, Optional[str]]
"""A module, and a name in it; ``None`` for the module itself."""


class Source:
    """The tree of one module of the package, and what its names are."""

    def __init__(self, module: str) -> None:
        self.module = module
        path = import_module(module).__file__
        assert path is not None
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        package = module if Path(path).name == "__init__.py" else module.rpartition(".")[0]
        self.classes: Dict[str, ast.ClassDef] = {}
        self.functions: Dict[str, ast.FunctionDef] = {}
        self._imported: Dict[str, Target] = {}
        self._values: Dict[str, ast.expr] = {}
        for statement in _statements(tree):
            if isinstance(statement, ast.ClassDef):
                self.classes[statement.name] = statement
            elif isinstance(statement, ast.FunctionDef):
                self.functions[statement.name] = statement
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                self._values[statement.targets[0].id] = statement.value
            elif isinstance(statement, ast.Import):
                for alias in statement.names:
                    self._imported[alias.asname or alias.name] = (alias.name, None)
            elif isinstance(statement, ast.ImportFrom):
                origin = resolve_name("." * statement.level + (statement.module or ""), package)
                for alias in statement.names:
                    self._imported[alias.asname or alias.name] = (origin, alias.name)

    def with_names(self, *names: str) -> Source:
        """The same source, as if it imported ``names`` of ``collections.abc`` too."""
        made = object.__new__(Source)
        vars(made).update(vars(self))
        made._imported = {**self._imported, **{name: ("collections.abc", name) for name in names}}
        return made

    def knows(self, name: str) -> bool:
        """Whether ``name`` is imported or defined here."""
        return name in self._imported or name in self._values or name in self.classes

    def origin(self, name: str) -> Optional[Target]:
        """Where ``name`` is imported from, if it is."""
        return self._imported.get(name)

    def type_variable(self, name: str) -> Optional[ast.Call]:
        """The call that makes the type variable ``name``, if it is one."""
        value = self._values.get(name)
        is_one = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "TypeVar"
        return value if is_one and isinstance(value, ast.Call) else None

    def expanded(self, annotation: ast.expr, wanted: str) -> Optional[Tuple[Source, ast.expr]]:
        """``annotation`` with the alias that hides ``wanted[...]`` written out, and the source whose names it has.

        ``None`` if there is no ``wanted`` in it.
        """
        copied = ast.parse(ast.unparse(annotation), mode="eval").body
        if any(isinstance(node, ast.Name) and node.id == wanted for node in ast.walk(copied)):
            return self, copied
        for node in ast.walk(copied):
            if isinstance(node, ast.Name) and self.knows(node.id):
                module, name = resolve(self, node.id)
                if name is not None and module.startswith("selfdb.") and name in defined_in(module)._values:
                    found = defined_in(module).expanded(defined_in(module)._values[name], wanted)
                    if found is not None:
                        return found
        return None


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Those of the module itself, and what only type checkers import."""
    for statement in tree.body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            yield from statement.body
        else:
            yield statement


@functools.cache
def defined_in(module: str) -> Source:
    """The source of ``module``."""
    return Source(module)


def resolve(source: Source, name: str) -> Target:
    """The module of the package that defines ``name``, or the one outside that it is imported from."""
    origin = source.origin(name)
    if origin is None:
        return source.module, name
    module, original = origin
    if original is None or not module.startswith("selfdb."):
        return origin
    return resolve(defined_in(module), original)


def assigned(node: ast.ClassDef, without: Collection[str] = ()) -> Dict[str, ast.expr]:
    """The public attributes that the methods of a class set on ``self``, with their annotations.

    :param without: names that are left out.
    :raises ValueError: where the type of one is neither written nor plain to see.
    """
    found: Dict[str, ast.expr] = {}
    for method in node.body:
        if not isinstance(method, ast.FunctionDef):
            continue
        taken = {arg.arg: arg.annotation for arg in (*method.args.args, *method.args.kwonlyargs) if arg.annotation}
        for statement in ast.walk(method):
            target: ast.expr
            annotation: Optional[ast.expr]
            if isinstance(statement, ast.AnnAssign):
                target, annotation = statement.target, statement.annotation
            elif isinstance(statement, ast.Assign):
                target, annotation = statement.targets[0], _plain(statement.value, taken)
            else:
                continue
            if not isinstance(target, ast.Attribute) or ast.unparse(target.value) != "self":
                continue
            if (
                target.attr.startswith("_")
                or target.attr in without
                or (isinstance(statement, ast.Assign) and target.attr in found)
            ):
                continue
            if annotation is None:
                if method.name == "__init__" or not _set_elsewhere(node, target.attr, method):
                    raise ValueError(f"{node.name}.{target.attr}: write its type where it is set first")
                continue
            found[target.attr] = annotation
    return found


def _set_elsewhere(node: ast.ClassDef, attribute: str, method: ast.FunctionDef) -> bool:
    """Whether another method, or a property, is where the attribute is from."""
    return any(
        isinstance(other, ast.FunctionDef)
        and other is not method
        and (other.name == attribute or f"self.{attribute}" in map(ast.unparse, ast.walk(other)))
        for other in node.body
    )


def _plain(value: ast.expr, taken: Dict[str, ast.expr]) -> Optional[ast.expr]:
    """The type of a value, where anybody can see it."""
    if isinstance(value, ast.Name):
        return taken.get(value.id)
    if isinstance(value, ast.Constant) and value.value is not None:
        return ast.Name(type(value.value).__name__)
    if isinstance(value, ast.Compare):
        return ast.Name("bool")
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        # A class; or `raw`, which gives a method, and the caller knows what to make of it.
        return value.func if value.func.id[:1].isupper() or value.func.id == "raw" else None
    return None
