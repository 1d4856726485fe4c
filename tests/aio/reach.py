"""Whether a method waits for the network or a thread, as its source shows, whatever its mark says."""

from __future__ import annotations

import ast
from typing import Iterator, Optional, Set

from selfdb.core.marks import mark_of
from tests.aio.stubs import class_method

WAITS = frozenset(
    {"exchange", "open", "read", "write", "wait", "sleep", "execute", "login", "connect", "disconnect", "renew", "rpc"}
)
"""Methods of other objects that wait."""

ENDS = ("link.close", "pool.close", "calls.send", "_realtime._unsubscribe")
"""Ends that wait for what they end, and methods of a common name that wait where they belong to these."""

AT_ONCE = frozenset({"enveloped", "counting_failure"})
"""What calls the function that it is given before it returns."""

FUNCTIONS = frozenset({"finish", "run_many", "read_all", "save", "work", "Download", "FileAlone"})
"""Functions that wait, and classes that open a connection or a file when they are made or entered."""

STORE = frozenset(
    {
        *("__exit__", "_base", "_close_down", "_commit", "_entries", "_opened", "_open", "_read", "_reader", "_shut"),
        *("_snapshot", "_transaction", "_view", "_write", "exists"),
    }
)
"""Methods of the local store's parts that read or write its file, or wait for who does."""

STORE_CALLS = (
    *("bulk.", "maintenance.", "places.is_there", "places.names_in", "self.order_by(path).", "found.items"),
    *(f"self.to_collection().{end}" for end in ("to_array", "first", "last", "count", "each", "primary_keys")),
)
"""How calls of these begin."""

LOOPS = frozenset({"iter", "pages", "events", "follow", "query", "stream"})
"""What is harmless to make, and waits when it is looped over."""


def reaches(cls: type, name: str, seen: Optional[Set[str]] = None) -> Optional[str]:
    """The expression by which the method ``name`` of ``cls``, or a method of its own that it calls, waits; ``None`` if
    it does not. What it only hands on to be called later, in a lambda or an inner function, is not its own waiting."""
    seen = set() if seen is None else seen
    seen.add(name)
    method = class_method(cls, name)
    if method is None:
        return None
    if method.node.returns is not None and ast.unparse(method.node.returns).startswith("Waiting["):
        return f"def {name}() -> {ast.unparse(method.node.returns)}"
    for node in _own(method.node):
        found = _waits(cls, node, seen)
        if found is not None:
            return found
    return None


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """What is done in a function itself, and in those within it that it has called at once."""
    handed = [
        node.args[0]
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in AT_ONCE
    ]
    names = {node.id for node in handed if isinstance(node, ast.Name)}
    yield from _done(function, names, {id(node) for node in handed})


def _done(function: ast.AST, names: Set[str], handed: Set[int]) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(function):
        later = isinstance(child, (ast.FunctionDef, ast.Lambda)) and id(child) not in handed
        if not later or (isinstance(child, ast.FunctionDef) and child.name in names):
            yield child
            yield from _done(child, names, handed)


def _waits(cls: type, node: ast.AST, seen: Set[str]) -> Optional[str]:
    if isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.iter, ast.Call):
        looped = node.iter.func
        if isinstance(looped, ast.Attribute) and looped.attr in LOOPS:
            return f"for ... in {ast.unparse(node.iter)}"
    if not isinstance(node, ast.Call):
        return None
    called = ast.unparse(node.func)
    if isinstance(node.func, ast.Name):
        return called if called in FUNCTIONS else None
    if not isinstance(node.func, ast.Attribute):
        return None
    if cls.__module__.startswith("selfdb.indexie.") and (node.func.attr in STORE or called.startswith(STORE_CALLS)):
        return called
    if called == "self._call" or node.func.attr in WAITS or called.endswith(ENDS):
        return called
    if called != f"self.{node.func.attr}" or node.func.attr in seen:
        return None
    mark = mark_of(getattr(cls, node.func.attr, None))
    if mark is not None and mark.kind in ("blocking", "waiting"):
        return called
    return reaches(cls, node.func.attr, seen)
