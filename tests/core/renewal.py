"""Every lock that the package's code keeps, and whether a forked child is given another one: read from the source."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Tuple

import selfdb

PACKAGE = Path(selfdb.__file__).parent
PLACES = ("core", "realtime", "aerodb", "indexie", "aio")
MAKERS = frozenset({"Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore", "Turn", "Turns"})
_MAKING = re.compile(rf"\b(?:{'|'.join(sorted(MAKERS))})\s*\(")
RENEWALS = frozenset({"_renew_in_child", "renew_in_child", "abandon", "_in_child", "_after_in_child"})
"""What is called in a child; `abandon` by who has the connection that it is of."""


class Kept(NamedTuple):
    """A lock that outlives the call which makes it.

    :ivar name: of its file, of the class if it is an object's, and its own.
    :ivar renewed: whether what is called in a child makes another one.
    """

    name: str
    renewed: bool


def locks() -> Iterator[Kept]:
    """All of them, in the parts of the package that a child goes on to use."""
    for place in PLACES:
        for file in sorted((PACKAGE / place).rglob("*.py")):
            yield from locks_of(file.relative_to(PACKAGE).as_posix(), file.read_text(encoding="utf-8"))


def locks_of(name: str, source: str) -> Iterator[Kept]:
    """Those of one file."""
    if not _MAKING.search(source):
        return
    module = ast.parse(source)
    functions = {each.name: each for each in module.body if isinstance(each, ast.FunctionDef)}
    top = [each for each in module.body if not isinstance(each, (ast.ClassDef, ast.FunctionDef))]
    anew = {kept for function in _reached(functions) for kept, _ in _assigned(function)}
    for kept in sorted({kept for statement in top for kept, value in _assigned(statement) if _makes(value)}):
        yield Kept(f"{name} {kept}", kept in anew)
    for each in ast.walk(module):
        if isinstance(each, ast.ClassDef):
            methods = {item.name: item for item in each.body if isinstance(item, ast.FunctionDef)}
            made = {kept for method in methods.values() for kept, value in _assigned(method) if _makes(value)}
            made = {kept for kept in made if "." in kept}
            anew = {kept for method in _reached(methods) for kept, _ in _assigned(method)} if made else set()
            for kept in sorted(made):
                yield Kept(f"{name} {each.name}{kept}", kept in anew)


def _reached(functions: Mapping[str, ast.FunctionDef]) -> List[ast.FunctionDef]:
    """Those that are called in a child, by each other too."""
    names = [name for name in functions if name in RENEWALS]
    found: Dict[str, ast.FunctionDef] = {}
    while names:
        name = names.pop()
        if name in functions and name not in found:
            found[name] = functions[name]
            calls = (node for node in ast.walk(functions[name]) if isinstance(node, ast.Call))
            names.extend(_called(call) for call in calls)
    return list(found.values())


def _assigned(inside: ast.AST) -> Iterator[Tuple[str, ast.expr]]:
    """What is given a value: names, and attributes of ``self`` with a dot before them."""
    for node in ast.walk(inside):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
                elif isinstance(target, ast.Attribute) and getattr(target.value, "id", "") == "self":
                    yield f".{target.attr}", node.value


def _makes(value: ast.expr) -> bool:
    return any(isinstance(node, ast.Call) and _called(node) in MAKERS for node in ast.walk(value))


def _called(call: ast.Call) -> str:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    return str(name)
