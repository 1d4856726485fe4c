"""Arrows only ever point down: no module imports what the design puts above or beside it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Set

import pytest

from tests.house.arrows import ALLOWED, LAZY, WINGS, imports, modules_of, wrong_arrows

PACKAGE = Path(__file__).parents[2] / "selfdb"


def tree(folder: Path, files: Dict[str, str]) -> Path:
    """A made-up package called ``selfdb``."""
    package = folder / "selfdb"
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_the_package_follows_the_design() -> None:
    assert wrong_arrows(PACKAGE) == []


def test_the_checker_sees_the_imports_of_the_package() -> None:
    seen = {(arrow.module, arrow.target) for arrow in imports(PACKAGE)}
    assert any(module.startswith("core.") and target == "exceptions" for module, target in seen)
    assert any(module.startswith("server.") and target.startswith("server.") for module, target in seen)


@pytest.mark.parametrize(
    "name, text, complaint",
    [
        ("core/a.py", "from .. import models", "core.a:1 must not import models"),
        ("core/a.py", "from ..models import UserRead", "core.a:1 must not import models"),
        ("core/a.py", "import selfdb.auth", "core.a:1 must not import auth"),
        ("core/a.py", "from selfdb import auth", "core.a:1 must not import auth"),
        ("core/a.py", "from selfdb import SelfDB", "core.a:1 must not import the package itself"),
        ("core/a.py", "import selfdb", "core.a:1 must not import the package itself"),
        ("core/a.py", "def f():\n    import selfdb.server", "core.a:2 in f() must not import server"),
        ("auth.py", "from .tables import Tables", "auth:1 must not import tables"),
        ("auth.py", "from .client import SelfDB", "auth:1 must not import client"),
        ("auth.py", "if TYPE_CHECKING:\n    from .client import SelfDB", "auth:2 must not import client"),
        ("models.py", "from .auth import Auth", "models:1 must not import auth"),
        ("exceptions.py", "from .core import a", "exceptions:1 must not import core"),
        ("client.py", "from .server import LocalServer", "client:1 must not import server"),
        (
            "client.py",
            "def other():\n    from .server import LocalServer",
            "client:2 in other() must not import server",
        ),
        ("client.py", "from . import aerodb", "client:1 must not import aerodb"),
        ("aerodb/__init__.py", "from .. import models", "aerodb:1 must not import models"),
        ("aerodb/b.py", "from ..taruvi import b", "aerodb.b:1 must not import taruvi.b"),
        ("server/app.py", "from ..client import SelfDB", "server.app:1 must not import client"),
        ("server/app.py", "from ..core import a", "server.app:1 must not import core"),
        ("server/routes/x.py", "from ...core.a import b", "server.routes.x:1 must not import core.a"),
        ("server/app.py", "from ..realtime import channel", "server.app:1 must not import realtime.channel"),
        ("__init__.py", "from . import server", "__init__:1 must not import server"),
        ("__init__.py", "def f():\n    from .cli import main", "__init__:2 in f() must not import cli"),
        ("surplus.py", "", "surplus: a room that the design does not know"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    files = {f"{room}.py": "" for room in ("exceptions", "models", "auth", "tables", "storage", "client", "cli")}
    files.update({f"{room}/__init__.py": "" for room in ("core", "realtime", "server", "server/routes", *WINGS)})
    files.update({"core/a.py": "", "realtime/channel.py": "", "taruvi/b.py": "", name: text})
    found = wrong_arrows(tree(tmp_path, files))
    assert len(found) == 1
    assert found[0].startswith(complaint)


def test_right_arrows_are_let_be(tmp_path: Path) -> None:
    package = tree(
        tmp_path,
        {
            "__init__.py": "from ._version import v\ndef f():\n    from .client import SelfDB",
            "_version.py": "v = 1",
            "exceptions.py": "import requests",
            "core/__init__.py": "",
            "core/a.py": "from .b import c\nfrom ..exceptions import E\nfrom selfdb._version import v",
            "core/b.py": "",
            "models.py": "from .exceptions import E",
            "auth.py": "from .core.a import c\nfrom . import models",
            "client.py": "from .auth import A\nclass SelfDB:\n    def local():\n        from .server import L",
            "server/__init__.py": "from ..models import M\nfrom ..realtime.frames import F\nimport selfdb.models",
            "realtime/__init__.py": "",
            "realtime/frames.py": "",
            "cli.py": "def f():\n    from .server import L",
            "__main__.py": "from .cli import main",
            "aerodb/__init__.py": "from .q import Q\nfrom ..core import a",
            "aerodb/q.py": "",
            "aio/__init__.py": "from ..client import SelfDB",
        },
    )
    assert wrong_arrows(package) == []


def reached(room: str) -> Set[str]:
    """The modules of ``room`` and all that they lead to, whether at import or later."""
    arrows: Dict[str, Set[str]] = {}
    for arrow in imports(PACKAGE):
        arrows.setdefault(arrow.module, set()).add(arrow.target)
    waiting = [module for module in modules_of(PACKAGE) if module.partition(".")[0] == room]
    found: Set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(arrows.get(module, ()))
    return found


NETWORK = {"http", "requests", "socket", "ssl", "urllib", "urllib3", "websocket"}
"""Modules of others that lead to another machine."""


def test_the_local_store_knows_nothing_of_a_network() -> None:
    modules = modules_of(PACKAGE)
    found = reached("indexie")
    assert {"indexie.database", "core.marks", "exceptions"} <= found
    assert not found & {"core.http", "core.transport", "core.websocket", "core.pool", "core.exchange"}
    wrong = set()
    for module in found:
        for node in ast.walk(ast.parse(modules[module].read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            wrong.update((module, name) for name in names if name.partition(".")[0] in NETWORK)
    assert wrong == set()


def test_the_exceptions_to_the_rule_are_few() -> None:
    assert len(LAZY) == 1
    assert all("server" not in targets for room, targets in ALLOWED.items() if room != "cli")
