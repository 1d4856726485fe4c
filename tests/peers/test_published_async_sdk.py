"""The published asynchronous SDK 0.0.5, unmodified and in an environment of its own, drives `selfdb serve`."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import requests

from tests.conftest import unavailable
from tests.servers.process import ServeProcess

RELEASE = "0.0.5"
KEY = "selfdb-key-of-the-peer"
CALLS = Path(__file__).with_name("async_sdk_calls.py")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a virtual environment that holds that SDK; made once for all processes of this run."""
    if sys.version_info < (3, 10):
        unavailable(f"release {RELEASE} of the asynchronous SDK needs Python 3.10")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "async-sdk"
    python = folder / "bin" / "python"
    with (shared / "async-sdk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return python
        for command in (
            [sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)],
            [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", f"selfdb=={RELEASE}"],
        ):
            # Not in the checkout: there, our own folder would shadow the package that is to be installed.
            done = subprocess.run(command, cwd=shared, capture_output=True, text=True, check=False, timeout=280)
            if done.returncode != 0:
                unavailable(f"release {RELEASE} of the asynchronous SDK could not be installed: {done.stderr[-500:]}")
        (folder / "complete").touch()
    return python


@pytest.fixture(scope="module")
def serving(
    backend: str, tmp_path_factory: pytest.TempPathFactory, start_postgres: Callable[[], Any]
) -> Iterator[ServeProcess]:
    cluster = start_postgres() if backend == "postgresql" else None
    database = cluster.create_database() if cluster else None
    try:
        with ServeProcess(tmp_path_factory.mktemp("peer") / "data", api_key=KEY, database=database) as process:
            yield process
    finally:
        if cluster and database:
            cluster.drop_database(database)


@pytest.fixture(scope="module")
def results(environment: Path, serving: ServeProcess, tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Any]:
    """What every call returned, by name."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables.update(SELFDB_PEER_URL=serving.url, SELFDB_PEER_KEY=KEY)
    done = subprocess.run(
        [str(environment), "-I", str(CALLS)],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, f"{done.stderr}\nthe server:\n{serving.output}"
    found: Dict[str, Any] = json.loads(done.stdout)
    return found


def names(items: List[Dict[str, Any]], key: str = "name") -> List[str]:
    return [item[key] for item in items]


def picked(value: Dict[str, Any], *keys: str) -> List[Any]:
    return [value[key] for key in keys]


def test_the_first_login_is_as_promised(serving: ServeProcess) -> None:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            serving.url + "/users/token",
            json={"email": "admin@example.com", "password": "password"},
            headers={"X-API-Key": KEY},
            timeout=30,
        )
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "bearer"
    assert answer.json()["access_token"]
    assert answer.json()["refresh_token"]


def test_it_is_the_published_release(results: Dict[str, Any]) -> None:
    assert results["version"] == RELEASE
    assert "site-packages" in results["home"]


def test_users(results: Dict[str, Any]) -> None:
    pairs = [results[name] for name in ("auth.login", "auth.refresh", "auth.refresh successor")]
    assert len({pair["access_token"] for pair in pairs}) == len({pair["refresh_token"] for pair in pairs}) == 3
    assert {pair["token_type"] for pair in pairs} == {"bearer"}
    assert results["auth.refresh access"]["status"] == 401
    assert picked(results["auth.me"], "email", "role") == ["admin@example.com", "ADMIN"]
    assert results["auth.login wrong"]["text"].endswith("Incorrect email or password")
    assert results["auth.me anonymous"]["status"] == 401
    created = results["auth.users.create"]
    assert picked(created, "class", "email", "firstName", "lastName", "role") == [
        "UserRead",
        "eve@example.com",
        "Eve",
        "Peer",
        "USER",
    ]
    assert created["created_at"]["time"].endswith("+00:00")
    assert results["auth.users.create again"]["text"].endswith("Email already taken")
    assert (results["auth.count"], results["auth.count search"]) == (2, 1)
    assert names(results["auth.users.list"], "email") == ["admin@example.com", "eve@example.com"]
    assert names(results["auth.users.list search"], "email") == ["eve@example.com"]
    assert results["auth.users.list bad"]["status"] == 422
    assert results["auth.users.get"] == created
    assert picked(results["auth.users.update"], "id", "firstName") == [created["id"], "Evelyn"]
    assert results["auth.login user"]["access_token"]


def test_tables(results: Dict[str, Any]) -> None:
    table = results["tables.create"]
    assert picked(table, "class", "name", "schema_name", "public", "realtime", "description") == [
        "TableRead",
        "users",
        "public",
        True,
        False,
        "People",
    ]
    assert table["owner_id"] == results["auth.me"]["id"]
    assert names(table["columns"]) == ["name", "age", "active"]
    assert table["columns"][0] == {"name": "name", "type": "text", "nullable": False, "default": None}
    assert results["tables.create again"]["text"].endswith("Table name already exists")
    assert (results["tables.count"], results["tables.count search"]) == (1, 1)
    assert results["tables.list"] == [table]
    assert results["tables.get"] == table
    assert results["tables.update other"]["text"].endswith("You can only modify tables you own")
    assert picked(results["tables.update"], "id", "name", "realtime") == [table["id"], "people", True]
    assert results["tables.get after"]["text"].endswith("Table not found")


def test_columns(results: Dict[str, Any]) -> None:
    assert names(results["tables.columns.add"]["columns"]) == ["name", "age", "active", "city"]
    city = results["tables.columns.add"]["columns"][3]
    assert picked(city, "type", "nullable", "default") == ["varchar", True, "Bern"]
    assert names(results["tables.columns.update"]["columns"]) == ["name", "age", "active", "town"]
    assert names(results["tables.columns.remove"]["columns"]) == ["name", "active", "town"]


def test_rows(results: Dict[str, Any]) -> None:
    ada = results["tables.data.insert Ada"]
    assert picked(ada, "name", "active", "town") == ["Ada", True, "Bern"]
    assert ada["id"]
    assert ada["created_at"]
    assert results["tables.data.insert bad"]["status"] == 400
    fetched = results["tables.data.fetch"]
    assert picked(fetched, "class", "total", "page", "page_size") == ["TableDataResponse", 3, 1, 2]
    assert names(fetched["data"]) == ["50% Cid", "Ada"]
    assert names(results["tables.data.fetch search"]["data"]) == ["50% Cid"]
    assert picked(results["tables.data.query"], "total", "page", "page_size") == [3, 1, 50]
    assert names(results["tables.data.query"]["data"]) == ["Bob", "Ada", "50% Cid"]
    assert names(results["tables.data.query page 2"]["data"]) == ["Bob"]
    assert picked(results["tables.data.update_row"], "id", "name", "town") == [ada["id"], "Ada", "Thun"]
    assert picked(results["tables.data.update_row by name"], "name", "active") == ["Bob", False]
    assert sorted(names(results["tables.data.fetch after"]["data"])) == ["50% Cid", "Bob"]


def test_buckets(results: Dict[str, Any]) -> None:
    bucket = results["buckets.create"]
    assert picked(bucket, "class", "name", "public", "description", "file_size_limit", "file_count") == [
        "BucketResponse",
        "public-docs",
        True,
        "Papers",
        1 << 20,
        0,
    ]
    assert results["buckets.create again"]["status"] == 409
    assert (results["buckets.count"], results["buckets.count search"]) == (1, 1)
    assert results["buckets.list"] == [bucket]
    assert results["buckets.get"] == bucket
    assert picked(results["buckets.update"], "id", "description", "public") == [bucket["id"], "Letters", True]
    assert results["buckets.delete"] == {"message": "Bucket deleted", "deleted_id": bucket["id"]}
    assert results["buckets.get after"]["status"] == 404


def test_files(results: Dict[str, Any]) -> None:
    uploaded = results["files.upload"]
    assert picked(uploaded, "class", "success", "bucket", "path", "size") == [
        "FileUploadResponse",
        True,
        "public-docs",
        "/docs/notes.pdf",
        4096,
    ]
    assert results["files.upload stream"]["path"] == "/ü #1+.txt"
    sizes = 4096 + len(b"text") + len(b"hers")
    assert picked(results["files.stats"], "total_files", "total_size", "total_buckets") == [3, sizes, 1]
    assert (results["files.total_count"], results["files.total_count search"]) == (3, 1)
    assert (results["files.count"], results["files.count search"]) == (3, 1)
    listed = results["files.list"]
    assert picked(listed, "total", "page", "page_size") == [3, 1, 50]
    assert sorted(names(listed["data"])) == ["hers.txt", "notes.pdf", "ü #1+.txt"]
    file = results["files.get"]
    assert picked(file, "id", "name", "bucket_name", "path", "size", "mime_type") == [
        uploaded["file_id"],
        "notes.pdf",
        "public-docs",
        "/docs/notes.pdf",
        4096,
        "application/pdf",
    ]
    assert results["files.update_metadata"]["metadata"] == {"tag": "archive"}
    assert results["files.download"] is True
    assert results["files.download text"] == {"hex": b"hers".hex()}
    assert results["files.download absent"]["status"] == 404
    assert results["files.delete other"]["status"] == 403
    assert results["files.delete"] == {"message": "File deleted", "deleted_id": uploaded["file_id"]}
    assert results["files.get after"]["status"] == 404


def test_farewell(results: Dict[str, Any]) -> None:
    assert results["auth.logout"]["message"]
    assert results["tokens after logout"] == [None, None]
    assert results["auth.logout_all"]["message"]
    assert results["auth.refresh after logout_all"]["status"] == 401
    assert results["auth.users.get after"]["text"].endswith("User not found")
    assert results["wrong key"]["text"].endswith("Invalid API key")


def test_what_this_sdk_cannot_parse_is_done_all_the_same(results: Dict[str, Any]) -> None:
    """These three answer 204, as the real server does; that SDK wants JSON there."""
    calls = ("tables.data.delete_row", "tables.delete", "auth.users.delete")
    assert [results[name] for name in calls] == ["204"] * 3
