"""``SelfDB.local()``: a server and a signed-in client of it in one line."""

from __future__ import annotations

import builtins
import sys
import threading
from pathlib import Path
from typing import Any, List

import pytest

from selfdb import APIConnectionError, AuthenticationError, ClientClosedError, SelfDB, SelfDBError
from selfdb.models import UserRole
from tests.core.kit import wait_until
from tests.servers.process import ServeProcess


def test_a_temporary_server_goes_with_its_client() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with SelfDB.local() as db:
        assert db.auth.me().role is UserRole.ADMIN
        table = db.tables.create({"name": "notes", "table_schema": {"a": {"type": "text"}}})
        db.tables.data.insert(table.id, {"a": "x"})
        assert db.tables.data.query(table.id).count() == 1
        url, key = db.base_url, db.api_key
    with pytest.raises(ClientClosedError):
        db.status()
    with SelfDB(url, key, max_retries=0) as late, pytest.raises(APIConnectionError):
        late.status()
    wait_until(lambda: {thread.name for thread in threading.enumerate()} <= before)


def test_closing_a_clone_does_not_stop_the_server() -> None:
    with SelfDB.local() as db:
        db.with_options(timeout=5).close()
        db.as_guest().close()
        assert db.status().initialized


def test_a_folder_is_kept(tmp_path: Path) -> None:
    for expected in (0, 1, 2):
        with SelfDB.local(tmp_path / "data") as db:
            if not expected:
                db.tables.create({"name": "notes", "table_schema": {"a": {"type": "text"}}})
            table = db.tables.get_by_name("notes")
            assert db.tables.data.query(table.id).count() == expected
            db.tables.data.insert(table.id, {"a": "x"})


def test_it_attaches_to_a_folder_that_is_served(tmp_path: Path) -> None:
    with SelfDB.local(tmp_path) as first:
        with SelfDB.local(str(tmp_path)) as second:
            assert second.base_url == first.base_url
            second.tables.create({"name": "notes", "table_schema": {"a": {"type": "text"}}})
        assert first.tables.get_by_name("notes").name == "notes"  # still served: it was not the second one's


def test_it_attaches_to_another_process(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data", api_key="key-of-the-process") as process:
        with SelfDB.local(tmp_path / "data") as db:
            assert db.base_url == process.url
            assert db.api_key == "key-of-the-process"
            assert db.auth.me().role is UserRole.ADMIN
        with SelfDB(process.url, process.api_key) as late:
            assert late.status().initialized


def test_options_are_those_of_a_client() -> None:
    with SelfDB.local(timeout=7, headers={"X-One": "1"}, max_retries=0) as db:
        assert db.with_options(timeout=1).status().initialized
    with pytest.raises(ValueError, match="timeout"):
        SelfDB.local(timeout=-1)
    with pytest.raises(TypeError):
        SelfDB.local(base_url="http://127.0.0.1:9")


def test_a_wrong_password_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationError):
        SelfDB.local(tmp_path, password="not-the-password")
    with SelfDB.local(tmp_path) as db:  # the folder is free again
        db.auth.users.update(db.auth.me().id, {"password": "another-password"})
    with SelfDB.local(tmp_path, password="another-password") as db:
        assert db.auth.me().role is UserRole.ADMIN


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SelfDBError, match="did not start"):
        SelfDB.local(tmp_path / "file")


@pytest.mark.parametrize("missing", ["uvicorn", "sqlalchemy", "fastapi"])
def test_a_missing_extra_names_the_way_out(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *arguments, **options)

    kept = {name: module for name, module in sys.modules.items() if name.startswith("selfdb.server")}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    try:
        with pytest.raises(SelfDBError) as caught:
            SelfDB.local()
    finally:
        monkeypatch.undo()
        for name in [name for name in sys.modules if name.startswith("selfdb.server")]:
            if name not in kept:
                del sys.modules[name]
        sys.modules.update(kept)
        if "selfdb.server" in kept:
            import selfdb

            selfdb.server = kept["selfdb.server"]  # type: ignore[attr-defined]
    assert missing in str(caught.value)
    assert 'pip install ".[server]"' in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)


def test_several_that_begin_at_once_share_one_server(tmp_path: Path) -> None:
    """As jobs that a scheduler starts in the same second: one serves the folder, the others attach to it."""
    start = threading.Barrier(4)
    clients: List[SelfDB] = []
    failures: List[BaseException] = []

    def begin() -> None:
        start.wait(60)
        try:
            clients.append(SelfDB.local(tmp_path))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    try:
        assert failures == []
        assert len({db.base_url for db in clients}) == 1
        assert [db.auth.me().role for db in clients] == [UserRole.ADMIN] * 4
    finally:
        for db in clients:
            db.close()


def test_a_folder_that_somebody_holds_without_serving_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfdb import client
    from selfdb.server.folderlock import FolderLock

    monkeypatch.setattr(client, "_LOCAL_PATIENCE", 0.2)
    lock = FolderLock(tmp_path)
    try:
        with pytest.raises(SelfDBError, match="in use"):
            SelfDB.local(tmp_path)
    finally:
        lock.release()


def test_a_folder_whose_database_is_broken(tmp_path: Path) -> None:
    (tmp_path / "selfdb.sqlite3").write_bytes(b"this is no database" * 1000)
    with pytest.raises(SelfDBError, match="did not start"):
        SelfDB.local(tmp_path)
