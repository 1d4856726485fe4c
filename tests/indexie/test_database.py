"""A database as a whole: its file and its names, closing, deleting, care, export and import."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

import selfdb.indexie
from selfdb.indexie import (
    ConstraintError,
    DatabaseClosedError,
    DatabaseCorruptError,
    DataError,
    Indexie,
    IndexieTimeoutError,
    InvalidArgumentError,
    InvalidTableError,
    OpenFailedError,
    Timing,
)
from selfdb.indexie.file.connections import Connections

from .kit import wait_until

Make = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where databases of this test lie that have only a name."""
    monkeypatch.setenv("SELFDB_INDEXIE_DIR", str(tmp_path / "data" / "below"))
    return tmp_path / "data" / "below"


def named(name: Any, **options: Any) -> Any:
    db = Indexie(name, **options)
    db.version(1).stores({"s": "++id"})
    return db


NAMES = ["notes", "two words", "a/b\\c", "..", "é\U0001f600", "CON", "x" * 60, ".hidden", "50%", "%41"]


@pytest.mark.parametrize("name", NAMES)
def test_names_become_files(folder: Path, name: str) -> None:
    assert not Indexie.exists(name)
    with named(name) as db:
        db.s.add({})
        assert (db.name, db.path.parent) == (name, folder)
        assert db.path.name.isascii()
    assert Indexie.exists(name)
    assert Indexie.database_names() == [name]
    if os.name != "nt":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with named(name) as db:
        assert db.s.count() == 1
    assert Indexie.delete_database(name)
    assert list(folder.iterdir()) == []


def test_names_side_by_side(folder: Path, tmp_path: Path) -> None:
    for name in NAMES:
        with named(name) as db:
            db.s.add({"name": name})
    (folder / "foreign.txt").touch()
    (folder / "%zz.indexie.db").touch()
    (folder / "a.b.indexie.db").touch()
    assert Indexie.database_names() == sorted(NAMES)
    for name in NAMES:
        with named(name) as db:
            assert db.s.to_array() == [{"name": name, "id": 1}]
    other = tmp_path / "other"
    assert Indexie.database_names(directory=other) == []
    with named("notes", directory=other) as db:
        assert db.s.count() == 0
    assert Indexie.database_names(directory=other) == ["notes"]
    assert Indexie.exists("notes", directory=str(other))
    assert not Indexie.exists("two words", directory=other)


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", 5, None, b"bytes"])
def test_names_that_are_none(name: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        Indexie(name)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_DATA_HOME": "/data"}, Path("/data/selfdb/indexie")),
        ("linux", {"HOME": "/home/ann"}, Path("/home/ann/.local/share/selfdb/indexie")),
        ("darwin", {"HOME": "/Users/ann"}, Path("/Users/ann/Library/Application Support/selfdb/indexie")),
        ("win32", {"LOCALAPPDATA": "/local"}, Path("/local/selfdb/indexie")),
        ("win32", {"HOME": "/home/ann"}, Path("/home/ann/AppData/Local/selfdb/indexie")),
    ],
)
def test_the_place_of_a_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: Dict[str, str], expected: Path
) -> None:
    for name in ("SELFDB_INDEXIE_DIR", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert Indexie("a").path == expected / "a.indexie.db"


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OpenFailedError):
        named("a", directory=tmp_path / "file" / "below").open()


def test_a_private_one(tmp_path: Path) -> None:
    one, other = named(":memory:"), named(":memory:")
    assert one.path is None
    one.s.add({"a": 1})
    results: List[Any] = []
    thread = threading.Thread(target=lambda: results.append(one.s.to_array()))
    thread.start()
    thread.join()
    assert results == [[{"a": 1, "id": 1}]]
    assert other.s.count() == 0
    places = [one._folder, other._folder]
    assert all(place.exists() for place in places)
    one.close()
    other.close()
    assert not any(place.exists() for place in places)
    assert one.open().s.count() == 0
    one.close()


def test_after_closing_the_file_is_all_there_is(make_db: Make, path: Path, tmp_path: Path) -> None:
    db = make_db()
    db.users.bulk_add([{"name": "x" * 200} for _ in range(500)])
    threads = [threading.Thread(target=db.users.count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    list(db.users.to_collection())
    db.close()
    assert [each.name for each in path.parent.iterdir() if each.is_file()] == [path.name]
    copy = tmp_path / "copy.db"
    shutil.copyfile(path, copy)
    other = make_db(file=copy)
    assert other.users.count() == 500


def test_closing_beside_other_threads(make_db: Make) -> None:
    db = make_db()
    db.users.bulk_add([{"name": str(at)} for at in range(2000)])
    errors: List[BaseException] = []
    begun = threading.Barrier(5)

    def work(operation: Callable[[], Any]) -> None:
        begun.wait()
        try:
            while True:
                operation()
        except DatabaseClosedError:
            pass
        except BaseException as error:
            errors.append(error)

    operations = [
        lambda: db.users.to_array(),
        lambda: db.users.get(5),
        lambda: db.users.add({"name": "more"}),
        lambda: list(db.users.to_collection()),
    ]
    threads = [threading.Thread(target=work, args=(each,)) for each in operations]
    for thread in threads:
        thread.start()
    begun.wait()
    db.close()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []
    assert make_db().integrity_check() == []


def test_an_iteration_outlives_its_database_no_longer(make_db: Make) -> None:
    db = make_db()
    db.users.bulk_add([{"name": "x" * 1000} for at in range(3000)])
    rows = iter(db.users.to_collection())
    next(rows)
    db.close()
    with pytest.raises(DatabaseClosedError):
        list(rows)


def test_threads_that_end_leave_no_connections(make_db: Make, path: Path) -> None:
    db = make_db()
    db.users.add({"name": "a"})

    def files() -> int:
        count = 0
        for each in os.listdir("/proc/self/fd"):
            try:
                count += str(path) in os.readlink(f"/proc/self/fd/{each}")
            except OSError:
                continue  # the listing's own
        return count

    if not os.path.exists("/proc/self/fd"):
        pytest.fail("this test looks at /proc")
    for _ in range(40):
        thread = threading.Thread(target=lambda: db.users.get(1))
        thread.start()
        thread.join()
    assert files() <= 3 * 12
    db.close()
    assert files() == 0


# Deleting


def test_deleting(make_db: Make, path: Path) -> None:
    assert not Indexie.delete_database(path)
    db = make_db()
    db.users.add({})
    with pytest.raises(IndexieTimeoutError, match="open"):
        Indexie.delete_database(path, timeout=0.1)
    assert db.users.count() == 1
    db.close()
    assert Indexie.delete_database(path)
    assert list(path.parent.iterdir()) == []
    assert db.open().users.count() == 0


def test_deleting_what_another_process_has_open(make_db: Make, path: Path, peer: Callable[..., Any]) -> None:
    db = make_db()
    db.users.add({})
    db.close()
    other = peer()
    other.run("from selfdb.indexie import Indexie; db = Indexie(path).open()")
    with pytest.raises(IndexieTimeoutError):
        Indexie.delete_database(path, timeout=0.1)
    assert other.run("result = db.users.add({})") == 2
    other.run("db.close()")
    assert Indexie.delete_database(path)


def test_deleting_waits(make_db: Make, path: Path) -> None:
    db = make_db().open()
    timer = threading.Timer(0.2, db.close)
    timer.start()
    assert Indexie.delete_database(path, timeout=30)
    timer.join()


def test_deleting_what_is_no_database_of_ours(path: Path) -> None:
    path.write_bytes(b"important" * 1000)
    with pytest.raises(DatabaseCorruptError):
        Indexie.delete_database(path)
    assert path.read_bytes() == b"important" * 1000


# Care


def test_vacuum_and_checkpoint(make_db: Make, path: Path) -> None:
    db = make_db().open()
    db.users.bulk_add([{"name": "x" * 1000} for _ in range(2000)])
    db.checkpoint()
    large = path.stat().st_size
    assert large > 2_000_000
    assert path.with_name(path.name + "-wal").stat().st_size == 0
    db.users.where("id").above(10).delete()
    db.vacuum()
    db.checkpoint()
    assert path.stat().st_size < large / 4
    assert db.users.count() == 10
    assert db.integrity_check() == []


def test_care_beside_a_reader(make_db: Make) -> None:
    db = make_db()
    db.users.bulk_add([{"name": "x" * 1000} for _ in range(1000)])
    rows = iter(db.users.to_collection())
    next(rows)
    db.users.where("id").above(10).delete()
    db.checkpoint()
    db.vacuum()
    assert len(list(rows)) == 999
    assert db.users.count() == 10


def test_care_has_to_wait_for_a_transaction(make_db: Make) -> None:
    db = make_db(busy_timeout=0.1).open()
    with db.transaction("rw", "users"):
        for call in (db.vacuum, db.checkpoint):
            with pytest.raises(IndexieTimeoutError):
                call()


DAMAGES = [
    pytest.param("UPDATE s1 SET i2 = x'30' WHERE k = 1", "name", id="an index column"),
    pytest.param("UPDATE s1 SET i2 = NULL WHERE k = 1", "name", id="a row that is absent"),
    pytest.param("UPDATE m1_4 SET x = x'3039' WHERE x = x'3061'", "tags", id="another entry"),
    pytest.param("DELETE FROM m1_4 WHERE k = 1", "tags", id="an entry that lacks"),
    pytest.param("INSERT INTO m1_4 (x, k) VALUES (5, 77)", "tags", id="an entry of no row"),
    pytest.param("UPDATE s1 SET d = '{\"id\":1}' WHERE k = 1", "name", id="a document"),
]


@pytest.mark.parametrize(("sql", "index"), DAMAGES)
def test_integrity_check_looks_into_the_indexes(make_db: Make, path: Path, sql: str, index: str) -> None:
    db = make_db()
    db.users.bulk_add([{"name": "a", "tags": ["a", "b"]}, {"name": "b"}])
    assert db.integrity_check() == []
    raw = sqlite3.connect(path)
    with raw:
        raw.execute(sql)
    raw.close()
    wrong = db.integrity_check()
    assert wrong
    assert any(f"users: the index {index} " in each for each in wrong)


def test_a_place_without_a_write_ahead_log(
    make_db: Make, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(sqlite3.Connection):
        def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
            return super().execute("PRAGMA journal_mode" if sql == "PRAGMA journal_mode = WAL" else sql, *arguments)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **named: connect(*args, **named, factory=Refusing))
    db = make_db(busy_timeout=5)
    with caplog.at_level(logging.WARNING, "selfdb.indexie"):
        db.open()
    assert "write-ahead log" in caplog.text
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            db.users.to_array()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for at in range(100):
            db.users.add({"name": str(at)})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert db.users.count() == 100
    assert db.integrity_check() == []


# JSON


def filled(db: Any) -> None:
    db.users.bulk_add(
        [{"name": f"é{at}", "email": str(at), "tags": [at], "at": datetime(2020, 1, 1)} for at in range(5)]
    )
    db.users.delete(5)
    db.loose.put({"$ix": 1}, [1, "a"])
    db.loose.put("text", datetime(2020, 1, 1, tzinfo=timezone.utc))
    db.loose.put(b"bytes", b"\0\xff")


TWO = {"users": "++id, &email, *tags", "loose": "++"}


def content(db: Any) -> Any:
    return [table.to_collection().items() for table in db.tables]


@pytest.mark.parametrize("form", ["path", "str", "file"])
def test_export_and_import(make_db: Make, tmp_path: Path, form: str) -> None:
    db = make_db(TWO)
    filled(db)
    there = tmp_path / "export.json"
    buffer = io.StringIO()
    target: Any = {"path": there, "str": str(there), "file": buffer}[form]
    assert db.export_json(target) == 7
    text = buffer.getvalue() if form == "file" else there.read_text("utf-8")
    told = json.loads(text)
    assert (told["format"], told["verno"], list(told["stores"])) == ("selfdb.indexie", 1, ["users", "loose"])
    assert not list(tmp_path.glob("*.part"))

    other = make_db(TWO, file=tmp_path / "other.db")
    other.users.add({"email": "theirs"})
    other.loose.put("stays", 77)
    buffer.seek(0)
    assert other.import_json(target) == 7
    assert other.users.to_array() == db.users.to_array()
    assert other.loose.get(77) == "stays"
    assert other.users.where("tags").equals(2).count() == 1
    assert other.integrity_check() == []
    assert other.users.add({}) == 6  # the generator goes on where the exported one stood

    buffer.seek(0)
    assert other.import_json(target, clear=True) == 7
    assert content(other) == content(db)


@pytest.mark.parametrize("in_overlay", [False, True], ids=["the file", "an overlay"])
def test_an_import_over_rows_that_have_changed_places_since(make_db: Make, in_overlay: bool) -> None:
    db = make_db(TWO)
    db.users.bulk_add([{"email": "a"}, {"email": "b"}, {"email": "c", "tags": ["x"]}])
    before, buffer = db.users.to_array(), io.StringIO()
    db.export_json(buffer)
    db.users.update(1, {"email": "moving"})
    db.users.update(2, {"email": "a"})
    db.users.update(1, {"email": "b"})
    db.users.add({"email": "d"})
    buffer.seek(0)
    if in_overlay:
        with db.users.start_transaction() as tx:
            db.import_json(buffer)
            tx.commit()
    else:
        db.import_json(buffer)
    assert db.users.to_array() == [*before, {"email": "d", "id": 4}]
    assert db.users.where("email").equals("a").primary_keys() == [1]
    assert db.integrity_check() == []
    with selfdb.indexie.use_live_query(db.users.to_array, distinct=False) as live:
        buffer.seek(0)
        db.import_json(buffer)  # which changes nothing any more
        assert live.settle(10)
        assert live.version == 1


def test_an_import_tells_no_hook(make_db: Make, tmp_path: Path) -> None:
    db = make_db(TWO)
    filled(db)
    db.export_json(tmp_path / "e")
    other = make_db(TWO, file=tmp_path / "other.db")
    other.users.hook.on_add(lambda payload: None, name="told")
    other.import_json(tmp_path / "e")
    assert other.outbox.pending() == 0


def export(**stores: Any) -> str:
    return json.dumps({"format": "selfdb.indexie", "stores": {name: {"rows": rows} for name, rows in stores.items()}})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("", InvalidArgumentError, id="nothing"),
        pytest.param("[]", InvalidArgumentError, id="a list"),
        pytest.param('{"format": "other", "stores": {}}', InvalidArgumentError, id="another format"),
        pytest.param('{"format": "selfdb.indexie"}', InvalidArgumentError, id="no stores"),
        pytest.param(export(users=5), InvalidArgumentError, id="rows that are none"),
        pytest.param(export(users=[[1]]), InvalidArgumentError, id="half a row"),
        pytest.param(export(users=[[1, {"id": 8}]])[:-3], InvalidArgumentError, id="a text that was cut"),
        pytest.param(export(nosuch=[]), InvalidTableError, id="no such store"),
        pytest.param(export(users=[[1, {"name": "x"}]]), DataError, id="no key"),
        pytest.param(export(loose=[[None, 5]]), DataError, id="no valid key"),
        pytest.param(
            export(users=[[8, {"id": 8, "email": "a"}], [9, {"id": 9, "email": "a"}]]), ConstraintError, id="a clash"
        ),
    ],
)
@pytest.mark.parametrize("clear", [False, True])
def test_an_import_that_fails_changes_nothing(make_db: Make, text: str, error: type, clear: bool) -> None:
    db = make_db(TWO)
    filled(db)
    before = content(db)
    with pytest.raises(error):
        db.import_json(io.StringIO(text), clear=clear)
    assert content(db) == before
    assert db.integrity_check() == []


def test_an_export_that_fails_leaves_what_was_there(
    make_db: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = make_db(TWO)
    filled(db)
    there = tmp_path / "e"
    there.write_text("before")
    monkeypatch.setattr(selfdb.indexie.maintenance, "dump", lambda value: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        db.export_json(there)
    assert there.read_text() == "before"
    assert not list(tmp_path.glob("*.part"))


# The rest


def test_the_store_loads_nothing_of_http() -> None:
    code = (
        "import sys, tempfile, pathlib; from selfdb.indexie import *; "
        "db = Indexie(pathlib.Path(tempfile.mkdtemp()) / 'a.db'); db.version(1).stores({'s': '++id'}); "
        "live = use_live_query(lambda: db.s.to_array()); db.s.add({}); live.close(); db.close(); "
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('requests', 'urllib3', 'http', 'websocket', 'pydantic') or name.startswith(('selfdb.core.http', "
        "'selfdb.core.transport', 'selfdb.core.pool', 'selfdb.client'))])"
    )
    root = str(Path(__file__).parents[2])
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"


def test_all_names_are_there() -> None:
    for name in selfdb.indexie.__all__:
        assert getattr(selfdb.indexie, name) is not None
    assert set(selfdb.indexie.__all__) <= set(dir(selfdb.indexie))
    with pytest.raises(AttributeError):
        selfdb.indexie.nosuch


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), "1", None, True])
def test_intervals_are_seconds(seconds: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        Timing(lease=seconds)


def test_intervals_scale_together() -> None:
    scaled = Timing().scaled(0.5)
    assert (scaled.lease, scaled.poll_interval) == (Timing().lease / 2, Timing().poll_interval / 2)


def test_sharing_the_file_with_another_handle(make_db: Make) -> None:
    one, other = make_db(), make_db()
    assert one.users.add({"name": "one"}) == 1
    assert other.users.add({"name": "other"}) == 2
    assert [row["name"] for row in one.users.to_array()] == ["one", "other"]


def test_connections_that_are_closed_say_so(path: Path) -> None:
    none = Connections.closed_ones()
    for call in (none.reader, none.taken, lambda: none.acquire_writer(None, object())):
        with pytest.raises(DatabaseClosedError):
            call()


def test_a_handle_that_is_forgotten_leaves_no_thread(make_db: Make) -> None:
    db = make_db()
    live = selfdb.indexie.use_live_query(lambda: db.users.count())
    assert any(thread.name.startswith("selfdb-indexie") for thread in threading.enumerate())
    live.close()
    db.close()
    wait_until(lambda: not any(thread.name.startswith("selfdb-indexie") for thread in threading.enumerate()))
