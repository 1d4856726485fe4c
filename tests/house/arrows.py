"""Reads which module of a package imports which, and judges it by the arrows of the design."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, NamedTuple, Set

#: What each room may import, besides itself. A room is the first name below the package; the package's own
#: ``__init__`` is the room "". Every room is listed: a new one needs an entry here, and a thought.
WINGS = ("aerodb", "taruvi", "indexie", "surreal")
_BASE = {"exceptions", "_version"}
_CORE = _BASE | {"core"}
_MODELS = _CORE | {"models"}
_NAMESPACE = _MODELS
_CLIENT = _MODELS | {"auth", "tables", "storage", "realtime"}

ALLOWED: Dict[str, Set[str]] = {
    "_version": set(),
    "exceptions": set(),
    "core": _BASE,
    "models": _CORE,
    "auth": _NAMESPACE,
    "tables": _NAMESPACE,
    "storage": _NAMESPACE,
    "realtime": _NAMESPACE,
    "client": _CLIENT,
    "aio": _CLIENT | {"", "client", *WINGS},
    **{wing: {"core", "exceptions"} for wing in WINGS},
    "": _CLIENT | {"client", "aio", *WINGS},
    "server": {"models", "exceptions", "_version"},
    "contrib": _CLIENT | {"", "client", "aio", *WINGS},
    "cli": _CLIENT | {"", "client", "aio", "server", *WINGS},
    "__main__": {"cli"},
}

#: Single modules that a room may use although the rest of their room is out of its reach.
ALLOWED_MODULES: Dict[str, Set[str]] = {"server": {"realtime.frames"}}

#: Imports allowed only inside a function, by (module, function): they cost nothing until it is called.
LAZY: FrozenSet[tuple[str, str, str]] = frozenset({("client", "SelfDB.local", "server")})


class Arrow(NamedTuple):
    """One import: in ``module`` (dotted, without the package), inside ``function`` ("" at module level)."""

    module: str
    function: str
    target: str
    line: int


def modules_of(package: Path) -> Dict[str, Path]:
    """Dotted names, without the package's own, of all modules; ``""`` is the package itself."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = list(path.relative_to(package).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path
    return found


class _Imports(ast.NodeVisitor):
    def __init__(self, package: str, module: str, is_package: bool) -> None:
        self.package = package
        self.module = module
        self.home = [package, *(module.split(".") if module else [])]
        if not is_package:
            self.home.pop()
        self.scope: List[str] = []
        self.functions = 0
        self.found: List[Arrow] = []

    def _enter(self, node: ast.AST, name: str, function: bool) -> None:
        self.scope.append(name)
        self.functions += function
        self.generic_visit(node)
        self.functions -= function
        self.scope.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._enter(node, node.name, True)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._enter(node, node.name, True)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._enter(node, node.name, False)

    def _add(self, dotted: str, line: int) -> None:
        function = ".".join(self.scope) if self.functions else ""
        self.found.append(Arrow(self.module, function, dotted, line))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            base = self.home[: len(self.home) - (node.level - 1)]
            if not base:
                raise ValueError(f"{self.module}:{node.lineno}: a relative import above the package")
            dotted = ".".join([*base, *([node.module] if node.module else [])])
        else:
            dotted = node.module or ""
        for alias in node.names:
            self._add(f"{dotted}.{alias.name}", node.lineno)


def imports(package: Path) -> Iterator[Arrow]:
    """Every import of ``package``'s own modules by one of its modules, function-level ones too.

    Imports under ``if TYPE_CHECKING`` count: an arrow of the types is an arrow of the design.
    """
    modules = modules_of(package)
    prefix = package.name
    for module, path in modules.items():
        visitor = _Imports(prefix, module, path.name == "__init__.py")
        visitor.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        for arrow in visitor.found:
            if arrow.target != prefix and not arrow.target.startswith(prefix + "."):
                continue
            target = arrow.target[len(prefix) + 1 :]
            # `from .core import http` names a module, `from .core.http import Http` a thing inside one.
            while target and target not in modules:
                target = target.rpartition(".")[0]
            yield arrow._replace(target=target)


def wrong_arrows(package: Path) -> List[str]:
    """What the design forbids, one line each; empty when all is well."""
    wrong = []
    for room in {module.partition(".")[0] for module in modules_of(package)} - set(ALLOWED):
        wrong.append(f"{room}: a room that the design does not know; give it its arrows in tests/house/arrows.py")
    for arrow in imports(package):
        room, target = arrow.module.partition(".")[0], arrow.target.partition(".")[0]
        if room not in ALLOWED or (target == room and arrow.target != ""):
            continue
        if target in ALLOWED[room] or arrow.target in ALLOWED_MODULES.get(room, set()):
            continue
        if (arrow.module, arrow.function, target) in LAZY:
            continue
        where = f"{arrow.module or '__init__'}:{arrow.line}" + (f" in {arrow.function}()" if arrow.function else "")
        wrong.append(f"{where} must not import {arrow.target or 'the package itself'}")
    return sorted(wrong)
