"""What a program may do wrong around a database, and what it is told then: what, where, and what to do."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import pickle
import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from selfdb.indexie import (
    SKIP,
    BulkError,
    ConstraintError,
    DatabaseClosedError,
    DatabaseCorruptError,
    DataError,
    Indexie,
    IndexieTimeoutError,
    InvalidArgumentError,
    InvalidStateError,
    ModifyError,
    OpenFailedError,
    TransactionInactiveError,
    use_live_query,
)

from .kit import wait_until

LARGE = 2**63 - 1


# Numbers beyond what SQLite knows


@pytest.mark.parametrize("plain", [True, False], ids=["one statement", "row by row"])
@pytest.mark.parametrize(
    "steps, expected",
    [
        ([("limit", 2**70)], [1, 2]),
        ([("offset", 2**70)], []),
        ([("offset", LARGE), ("offset", LARGE)], []),
        ([("offset", 1), ("limit", LARGE)], [2]),
        ([("offset", LARGE), ("limit", LARGE)], []),
    ],
)
def test_c060_any_limit_and_offset(db: Any, plain: bool, steps: Any, expected: List[int]) -> None:
    db.users.bulk_add([{}, {}])
    query = db.users.to_collection() if plain else db.users.filter(lambda row: True)
    for step, number in steps:
        query = getattr(query, step)(number)
    assert [row["id"] for row in query.to_array()] == expected
    assert [row["id"] for row in query] == expected
    assert query.count() == len(expected)
    with db.users.start_transaction(optimistic=True):
        db.users.add({"id": 3})
        assert [row["id"] for row in query.to_array()][: len(expected)] == expected


# Errors in pickles


class Awkward(Exception):
    """It can be written into a pickle and not be read from it."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("awkward")


@pytest.mark.parametrize("key", [lambda: 0, threading.Lock(), Awkward(1, 2)], ids=["function", "lock", "exception"])
def test_an_error_goes_into_a_pickle_whatever_it_carries(db: Any, key: Any) -> None:
    with pytest.raises(DataError) as caught:
        db.users.get(key)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.key) == (DataError, str(caught.value), repr(key))
    error = BulkError("some", failures=[caught.value], failures_by_pos={0: caught.value}, success_count=3)
    again = pickle.loads(pickle.dumps(error))
    assert (again.failures[0].key, again.failures_by_pos[0].key, again.success_count) == (repr(key), repr(key), 3)
    modified = ModifyError("some", failures=[Awkward(1, 2), ConstraintError("b", index="x")], failed_keys=[1])
    again = pickle.loads(pickle.dumps(modified))
    assert again.failures[0] == repr(Awkward(1, 2))
    assert (again.failures[1].index, again.failed_keys) == ("x", [1])


# What cannot be in two places


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize(
    "what",
    ["db", "table", "hooks", "outbox", "live query", "transaction", "overlay", "iteration", "collection", "clause"],
)
def test_what_belongs_to_one_process_says_so(db: Any, what: str, way: Callable[[Any], Any]) -> None:
    made: Dict[str, Callable[[], Any]] = {
        "db": lambda: db,
        "table": lambda: db.users,
        "hooks": lambda: db.users.hook,
        "outbox": lambda: db.outbox,
        "live query": lambda: use_live_query(db.users.count),
        "transaction": lambda: db.transaction("r", "users"),
        "overlay": lambda: db.users.start_transaction(),
        "iteration": lambda: iter(db.users),
        "collection": lambda: db.users.where("age").above(3),
        "clause": lambda: db.users.where("age"),
    }
    thing = made[what]()
    if way is copy.copy and what in ("collection", "clause"):
        assert way(thing) is thing  # nothing changes one
        return
    with pytest.raises(TypeError, match="cannot be pickled"):
        way(thing)


# Where the file is


def test_c001_a_relative_path_means_the_same_file_wherever_the_program_goes(
    make_db: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    monkeypatch.chdir(one)
    by_path, by_name = make_db(file=Path("x.db")), Indexie("x", directory="named")
    by_name.version(1).stores({"users": "++id"})
    by_path.users.add({})
    monkeypatch.chdir(other)  # as a daemon does
    with by_name:
        by_name.users.add({})
        counts: List[int] = []
        thread = threading.Thread(target=lambda: counts.extend((by_path.users.count(), by_name.users.count())))
        thread.start()
        thread.join()
    assert counts == [1, 1]
    by_path.close()
    assert by_path.open().users.count() == 1
    assert by_path.path == one / "x.db"
    assert list(other.iterdir()) == []
    assert (one / "named" / "x.indexie.db").is_file()


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be deleted there")
def test_c018_a_file_that_is_deleted_while_it_is_open(db: Any, path: Path) -> None:
    db.users.add({})
    for each in path.parent.iterdir():
        each.unlink()
    errors: List[BaseException] = []

    def count() -> None:
        try:
            db.users.count()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=count)  # which has no connection yet
    thread.start()
    thread.join()
    # Which of the two depends on whether it was given a connection that somebody else had.
    assert [type(error) in (OpenFailedError, DatabaseCorruptError) for error in errors] == [True]
    assert "was deleted" in str(errors[0])
    assert not path.exists(), "no empty file is put in its place"
    db.close()
    assert db.open().users.count() == 0


NAME = "x" * 300


@pytest.mark.parametrize(
    "place, said",
    [
        ("folder", "folder (a folder)"),
        ("missing/x.db", "x.db (nothing is where its folder should be)"),
        ("file/x.db", "x.db (a file is where its folder should be)"),
        (NAME, NAME),
    ],
    ids=["a folder", "no folder", "a file for a folder", "a long name"],
)
def test_c018_an_error_of_opening_says_which_file(
    make_db: Callable[..., Any], tmp_path: Path, place: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OpenFailedError) as caught:
        make_db(file=tmp_path / place).open()
    assert said in str(caught.value)
    with pytest.raises(OpenFailedError) as caught:
        make_db(None, file=tmp_path / place).open()
    assert (tmp_path / place).name in str(caught.value)


def test_c018_an_error_of_a_foreign_file_says_which(make_db: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    with pytest.raises(DatabaseCorruptError, match="junk: the file is no database"):
        make_db(file=tmp_path / "junk").open()


@pytest.mark.parametrize(
    "ask", ["names of a file", "exists", "delete"], ids=["database_names", "exists", "delete_database"]
)
def test_questions_about_files_raise_errors_of_ours(tmp_path: Path, ask: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OpenFailedError) as caught:
        if ask == "exists":
            Indexie.exists(NAME, directory=tmp_path)
        elif ask == "delete":
            Indexie.delete_database(NAME, directory=tmp_path)
        else:
            Indexie.database_names(directory=tmp_path / "file")
    assert isinstance(caught.value.__cause__, OSError)
    assert not Indexie.exists(tmp_path / "file" / "x")
    assert not Indexie.delete_database(tmp_path / "file" / "x")


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that other users may look into; pytest's own is closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="selfdb-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_c018_a_file_that_may_only_be_read(make_db: Callable[..., Any], common: Path, peer: Any, closed: str) -> None:
    file = common / "x.db"
    with make_db({"users": "++id"}, file=file) as db:
        db.users.add({})
    file.chmod(0o444)
    if closed == "folder":
        common.chmod(0o555)
    said = peer().run(
        "import os, traceback\n"
        "from selfdb.indexie import Indexie, OpenFailedError\n"
        "def attempt():\n"
        "    db = Indexie(file)\n"
        "    db.version(1).stores({'users': '++id'})\n"
        "    try:\n"
        "        db.open().users.add({})\n"
        "    except OpenFailedError as error:\n"
        "        return str(error)\n"
        "    finally:\n"
        "        db.close()\n"
        "attempt()\n"  # what it needs is imported by then
        "if not os.getuid():\n"
        "    os.setuid(65534)\n"  # root may write everything
        "result = attempt()\n",
        file=file,
    )
    assert "may only be read" in said or "cannot be opened" in said
    assert str(file) in said or "write" in said, "either it was not opened, or the write failed"


# Arguments


@pytest.mark.parametrize(
    "call",
    [
        lambda db: db.open(timeout="x"),
        lambda db: db.open(timeout=-1),
        lambda db: db.open(timeout=float("nan")),
        lambda db: db.close(flush_timeout=None),
        lambda db: db.close(flush_timeout=-1),
        lambda db: db.transaction("rw", 5),
        lambda db: db.transaction("rw", None),
        lambda db: db.transaction("rw", [], lambda: None),
        lambda db: db.start_transaction(5),
        lambda db: db.start_transaction([5]),
        lambda db: db.start_transaction([]),
        lambda db: db.outbox.retire(5),
        lambda db: db.outbox.flush("x"),
        lambda db: db.users.order_by(5),
        lambda db: Indexie("x", timing=5),  # type: ignore[arg-type]
        lambda db: Indexie("x", busy_timeout=True),
        lambda db: Indexie(Path("a\0b")),
        lambda db: db.import_json(io.BytesIO(b"{}")),
    ],
)
def test_an_argument_that_is_wrong_is_refused_at_the_call(db: Any, call: Callable[[Any], object]) -> None:
    with pytest.raises(InvalidArgumentError):
        call(db)
    assert db.is_open


# What is closed stays closed


@pytest.mark.parametrize(
    "ask",
    [
        lambda db: db.outbox.pending(),
        lambda db: db.outbox.entries(),
        lambda db: db.outbox.flush(1),
        lambda db: db.outbox.retry(1),
        lambda db: db.outbox.drop(1),
        lambda db: db.outbox.retire("users"),
        lambda db: db.users.count(),
        lambda db: db.integrity_check(),
        lambda db: db.vacuum(),
        lambda db: db.checkpoint(),
        lambda db: db.export_json(io.StringIO()),
        lambda db: use_live_query(db.users.count),
        lambda db: db.transaction("rw", "users").__enter__(),
        lambda db: db.transaction("r", "users").__enter__(),
        lambda db: db.users.attach_schema(None) or next(iter(db.users)),
    ],
)
def test_c088_nothing_but_open_opens_a_closed_database(db: Any, ask: Callable[[Any], object]) -> None:
    db.close()
    with pytest.raises(DatabaseClosedError):
        ask(db)
    assert not db.is_open


@pytest.mark.parametrize("how", ["flush", "close"])
def test_c088_a_flush_that_waits_does_not_open_it_again(db: Any, how: str) -> None:
    def fail(payload: Any) -> None:
        raise ConnectionError

    db.users.hook.on_add(fail, name="fail")
    db.users.add({})
    ended: List[BaseException] = []
    waiting = threading.Event()

    def flush() -> None:
        waiting.set()
        try:
            db.outbox.flush(30) if how == "flush" else db.close(flush_timeout=30)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=flush)
    thread.start()
    waiting.wait(10)
    wait_until(lambda: db.outbox.entries()[0].last_error)
    db.close()
    thread.join(10)
    assert not thread.is_alive()
    assert not db.is_open
    assert all(isinstance(error, DatabaseClosedError) for error in ended)
    assert how == "flush" or not ended


@pytest.mark.parametrize("whose", ["its own", "another process's"])
def test_c072_who_waits_for_the_lock_learns_that_the_database_was_closed(
    make_db: Callable[..., Any], whose: str
) -> None:
    db, other = make_db(busy_timeout=60).open(), make_db().open()
    holder = db if whose == "its own" else other
    ended: List[BaseException] = []

    def write() -> None:
        try:
            db.users.add({})
        except BaseException as error:
            ended.append(error)

    with holder.transaction("rw", "users"):
        thread = threading.Thread(target=write)
        thread.start()
        if whose == "its own":
            wait_until(lambda: db._connections._turns._waiting)
        else:
            wait_until(lambda: db._connections._writer.holder)
        db.close()
        thread.join(10)
        assert not thread.is_alive()
    assert [type(error) for error in ended] == [DatabaseClosedError]
    assert other.users.count() == 0


def test_the_outbox_is_not_there_while_the_database_is_opened(make_db: Callable[..., Any]) -> None:
    db = make_db()

    @db.on_populate
    def ask() -> None:
        with pytest.raises(InvalidStateError):
            db.outbox.pending()

    db.open()
    assert db.outbox.pending() == 0


def test_c097_an_overlay_ends_with_its_database(db: Any) -> None:
    with db.users.start_transaction(optimistic=True) as tx:
        db.users.add({})
        db.close()
        db.open()
        assert (tx.active, db.users.count()) == (False, 0)
        with pytest.raises(TransactionInactiveError):
            tx.commit()
    assert db.users.count() == 0


def test_a_database_that_is_deleted_while_it_is_open_stays(db: Any, path: Path) -> None:
    db.users.add({})
    with pytest.raises(IndexieTimeoutError, match=path.name):
        Indexie.delete_database(path, timeout=0.05)
    assert db.users.count() == 1
    db.close()
    assert Indexie.delete_database(path)
    assert not Indexie.delete_database(path)
    assert list(path.parent.iterdir()) == []


def test_c018_integrity_check_names_the_rows_that_cannot_be_read(db: Any, path: Path) -> None:
    db.users.bulk_add([{"name": "a", "tags": ["x"]}, {"name": "b", "tags": ["y"]}, {"name": "c"}])
    assert db.integrity_check() == []
    db.close()
    with contextlib.closing(sqlite3.connect(path)) as raw, raw:
        (table,) = raw.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE TABLE s1 %' OR sql LIKE 'CREATE TABLE s1(%'"
        ).fetchone()
        raw.execute(f"UPDATE {table} SET d = '{{broken' WHERE k = 2")
    db.open()
    assert db.integrity_check() == ["users: the row of the key 2: a stored document cannot be read"]
    with pytest.raises(DatabaseCorruptError):
        db.users.get(2)
    assert db.users.get(1)["name"] == "a"


def test_two_objects_of_one_process_take_turns(make_db: Callable[..., Any]) -> None:
    one, other = make_db(busy_timeout=0.05).open(), make_db(busy_timeout=0.05).open()
    with one.transaction("rw", "users"):
        one.users.add({})
        assert other.users.count() == 0
        with pytest.raises(IndexieTimeoutError, match="another Indexie of this one"):
            other.users.add({})
    other.users.add({})
    assert one.users.count() == 2


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda users: users.update(1, lambda row: SKIP), id="c042 SKIP"),
        pytest.param(lambda users: users.to_collection().modify(lambda row: SKIP), id="c042 SKIP of all"),
        pytest.param(lambda users: users.update(1, {"age": 3}), id="c042 the same value"),
        pytest.param(lambda users: users.put({"id": 1, "age": 3}), id="c042 the same document"),
        pytest.param(lambda users: users.delete(99), id="c047 delete"),
        pytest.param(lambda users: users.bulk_delete([98, 99]), id="c047 bulk_delete"),
        pytest.param(lambda users: users.where("age").above(99).delete(), id="c047 delete of a query"),
        pytest.param(lambda users: users.db.logs.clear(), id="c047 clear"),
        pytest.param(lambda users: users.update(99, {"age": 1}, missing="ignore"), id="c040 an absent row"),
    ],
)
def test_c042_c047_what_changes_nothing_leaves_nothing_in_the_outbox(
    make_db: Callable[..., Any], write: Callable[[Any], Any]
) -> None:
    db = make_db({"users": "++id, age", "logs": "++id"}).open()
    db.users.add({"id": 1, "age": 3})
    for table in (db.users, db.logs):
        table.hook.on_add(lambda payload: None, name="add")
        table.hook.on_update(lambda payload: None, name="update")
        table.hook.on_delete(lambda payload: None, name="delete")
    db.outbox.pause()
    write(db.users)
    assert db.outbox.entries() == []
    assert db.users.to_array() == [{"id": 1, "age": 3}]
