"""Importing is cheap: nothing heavy comes along, no thread starts, and every promised name is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

ROOT = Path(__file__).parents[2]
SERVER_PARTS = ["alembic", "argon2", "fastapi", "jwt", "psycopg", "sqlalchemy", "starlette", "uvicorn", "selfdb.server"]

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
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen: Dict[str, List[str]] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize(
    "statement, absent",
    [
        ("import selfdb", [*SERVER_PARTS, "pydantic", "requests", "urllib3", "websocket"]),
        ("import selfdb.exceptions", [*SERVER_PARTS, "pydantic", "requests", "urllib3", "websocket"]),
        ("from selfdb import SelfDB", [*SERVER_PARTS, "websocket"]),
        ("import selfdb; selfdb.SelfDB('http://127.0.0.1:9', 'k').close()", [*SERVER_PARTS, "websocket"]),
        ("import selfdb.models", [*SERVER_PARTS, "requests", "websocket"]),
        ("import selfdb.cli", [*SERVER_PARTS, "requests", "websocket"]),
    ],
)
def test_an_import_brings_nothing_heavy(statement: str, absent: List[str]) -> None:
    seen = after(statement)
    assert set(absent) & set(seen["modules"]) == set()
    assert seen["threads"] == ["MainThread"]


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
