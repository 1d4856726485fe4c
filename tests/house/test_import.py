"""Importing is cheap: nothing heavy comes along, no thread starts, and every promised name is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.servers.replies import ReplyServer

ROOT = Path(__file__).parents[2]
SERVER_PARTS = ["alembic", "argon2", "fastapi", "jwt", "psycopg", "sqlalchemy", "starlette", "uvicorn", "selfdb.server"]

MODELS = ["base", "storage", "tables", "users"]
HEAVY = ["asyncio", "dataclasses", "decimal", "inspect", "pydantic", "pydantic_core", "uuid", "websocket"]
HEAVY += [f"selfdb.models.{name}" for name in MODELS]
"""What takes long to import, and is for what few programs do."""

OTHERS = [f"selfdb.{name}" for name in ("aio", "auth", "client", "models", "realtime", "storage", "tables")]
"""What a wing does without."""

HTTP = ["requests", "urllib3", "websocket", "http", "http.client", "ssl", "selfdb.core.http", "selfdb.core.transport"]
"""What a store that keeps its data beside itself does without."""

USE_OF_A_STORE = """
from selfdb.indexie import Indexie
db = Indexie(":memory:")
db.version(1).stores({"notes": "++id, &title"})
with db:
    assert db.notes.add({"title": "tea"}) == 1
    assert db.notes.where("title").equals("tea").first() == {"id": 1, "title": "tea"}
"""

NOT_TO_START = [*HEAVY, "selfdb.auth", "selfdb.tables", "selfdb.storage", "selfdb.realtime", "selfdb.aio"]
"""What no client needs before its first call."""

PROBE = """
import json, sys, threading
{statement}
print(json.dumps({{"modules": sorted(sys.modules), "threads": [t.name for t in threading.enumerate()]}}))
"""


def after(statement: str) -> Dict[str, List[str]]:
    """What a fresh interpreter holds after ``statement``: the names of its modules and threads."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE.format(statement=statement)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    seen: Dict[str, List[str]] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize(
    "statement, absent",
    [
        ("import selfdb", [*SERVER_PARTS, "pydantic", "requests", "urllib3", "websocket"]),
        ("import selfdb.exceptions", [*SERVER_PARTS, "pydantic", "requests", "urllib3", "websocket"]),
        ("import selfdb", ["logging", "typing"]),
        ("from selfdb import SelfDB", [*SERVER_PARTS, *NOT_TO_START]),
        ("import selfdb; selfdb.SelfDB('http://127.0.0.1:9', 'k').close()", [*SERVER_PARTS, *NOT_TO_START]),
        ("import selfdb.models", [*SERVER_PARTS, "pydantic", "requests", "websocket"]),
        ("from selfdb.models import UserRead", [*SERVER_PARTS, "requests", "websocket", "selfdb.models.tables"]),
        ("import selfdb.cli", [*SERVER_PARTS, "requests", "websocket"]),
        ("import selfdb.aerodb", [*SERVER_PARTS, "pydantic", "requests", "websocket", "logging", "typing"]),
        ("from selfdb.aerodb import AeroDBClient", [*SERVER_PARTS, "asyncio", "pydantic", "sqlite3", *OTHERS]),
        ("import selfdb.indexie", [*SERVER_PARTS, *HTTP, "pydantic", "sqlite3", "logging", "typing"]),
        ("from selfdb.indexie import Indexie", [*SERVER_PARTS, *HTTP, "asyncio", "pydantic", *OTHERS]),
        (USE_OF_A_STORE, [*SERVER_PARTS, *HTTP, "asyncio", "pydantic", *OTHERS]),
    ],
)
def test_an_import_brings_nothing_heavy(statement: str, absent: List[str]) -> None:
    seen = after(statement)
    assert set(absent) & set(seen["modules"]) == set()
    assert seen["threads"] == ["MainThread"]


USUAL = """
import sys
from selfdb import SelfDB
with SelfDB({url!r}, "key") as db:
    pair = db.auth.login("ada@example.com", "password")
    assert db.tables.data.insert("t", {{"n": 7}}) == {{"id": "r", "n": 7}}
{then}
"""
PAIR = {"access_token": "a", "refresh_token": "r", "token_type": "bearer", "expires_in": 60, "user": {"id": "u"}}


def test_a_script_that_writes_rows_needs_no_models() -> None:
    with ReplyServer([(200, {}, PAIR), (201, {}, {"id": "r", "n": 7})]) as server:
        seen = after(USUAL.format(url=server.url, then=""))
    assert {*SERVER_PARTS, *HEAVY, "selfdb.storage", "selfdb.realtime", "selfdb.aio"} & set(seen["modules"]) == set()
    assert seen["threads"] == ["MainThread"]


def test_and_has_the_model_of_its_login_when_it_looks() -> None:
    then = f"""
assert pair.access_token == "a" and "pydantic" in sys.modules
import copy, pickle
from selfdb.models import TokenPair
assert isinstance(pair, TokenPair) and pair == TokenPair(**{PAIR!r}) == copy.copy(pair)
assert type(pickle.loads(pickle.dumps(pair))) is TokenPair
"""
    with ReplyServer([(200, {}, PAIR), (201, {}, {"id": "r", "n": 7})]) as server:
        after(USUAL.format(url=server.url, then=then))


def test_an_event_loop_waits_for_no_import() -> None:
    parts = {f"selfdb.{name}" for name in ("auth", "tables", "storage", "realtime", "core.download")}
    assert {*parts, *(f"selfdb.models.{name}" for name in MODELS), "pydantic"} <= set(
        after("from selfdb.aio import SelfDB")["modules"]
    )


def test_the_server_needs_nothing_of_the_client() -> None:
    seen = after("import selfdb.server; selfdb.server.LocalServer")
    assert {"selfdb.client", "selfdb.core", "selfdb.auth", "requests", "websocket"} & set(seen["modules"]) == set()
    assert "fastapi" in seen["modules"]
    assert seen["threads"] == ["MainThread"]


def test_every_exported_name_is_there() -> None:
    import selfdb
    import selfdb.exceptions
    import selfdb.models

    def missing(module: Any) -> List[str]:
        return [name for name in module.__all__ if not hasattr(module, name)]

    assert [missing(module) for module in (selfdb, selfdb.exceptions, selfdb.models)] == [[], [], []]
    assert set(selfdb.__all__) <= set(dir(selfdb))
    with pytest.raises(AttributeError, match="no_such_name"):
        selfdb.no_such_name


PROMISED_ERRORS = [
    "SelfDBError",
    "APIConnectionError",
    "BadRequestError",
    "AuthenticationError",
    "PermissionDeniedError",
    "NotFoundError",
    "ConflictError",
    "InternalServerError",
]
PROMISED_MODELS = [
    "UserCreate",
    "UserUpdate",
    "UserRead",
    "UserRole",
    "TokenPair",
    "LogoutResponse",
    "UserDeleteResponse",
    "TableCreate",
    "TableUpdate",
    "TableRead",
    "ColumnDefinition",
    "ColumnUpdate",
    "TableDataResponse",
    "TableDeleteResponse",
    "RowDeleteResponse",
    "BucketCreate",
    "BucketUpdate",
    "BucketResponse",
    "FileResponse",
    "FileUploadResponse",
    "FileDataResponse",
    "StorageStatsResponse",
    "DeleteResponse",
]


@pytest.mark.parametrize("name", PROMISED_ERRORS)
def test_promised_errors_come_from_both_places(name: str) -> None:
    import selfdb
    from selfdb import exceptions

    assert getattr(selfdb, name) is getattr(exceptions, name)
    assert name in selfdb.__all__


@pytest.mark.parametrize("name", PROMISED_MODELS)
def test_promised_models_can_be_imported(name: str) -> None:
    from selfdb import models

    assert isinstance(getattr(models, name), type)
    assert name in models.__all__
