"""The change log by itself: what a commit tells, in how much room, and what is forgotten of it."""

from __future__ import annotations

import sqlite3
from typing import Any, Dict, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdb.indexie.file.log import (
    CREATE,
    EVERYTHING,
    KEEP_BYTES,
    KEEP_ROWS,
    KEY,
    MAX_BODY,
    MAX_ROWS,
    NEWEST,
    SINCE,
    ChangeSet,
    append,
    decode,
    prune,
)
from selfdb.indexie.schema.specs import IndexSpec, StoreSpec

USERS = StoreSpec(
    "users",
    ("id",),
    False,
    True,
    (IndexSpec("email", ("email",), unique=True), IndexSpec("tags", ("tags",), multi=True)),
)
TODOS = StoreSpec("todos", ("id",))

keys = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=12),
    st.sampled_from([b"", b'"\\\x00\xff']),
)


def told(body: bytes) -> Dict[str, Optional[Dict[str, List[Any]]]]:
    return {
        name: None if found is None else {index: list(each) for index, each in found.items()}
        for name, found in decode(body).items()
    }


class TestChangeSet:
    def test_a_row_is_told_by_its_key_and_by_its_old_and_new_index_keys(self) -> None:
        changes = ChangeSet()
        changes.record(USERS, 1, None, (b"0a", (b"0x", b"0y")))
        changes.record(USERS, 2, (b"0b", ()), (b"0c", (b"0y",)))
        changes.record(USERS, 3, (None, (b"0z",)), None)
        changes.record(TODOS, 9, None, ())
        assert told(changes.encode()) == {
            "users": {KEY: [1, 2, 3], "email": [b"0a", b"0b", b"0c"], "tags": [b"0x", b"0y", b"0z"]},
            "todos": {KEY: [9]},
        }

    def test_a_key_is_told_once(self) -> None:
        changes = ChangeSet()
        for name in (b"0a", b"0b"):
            changes.record(USERS, 1, (name, ()), (b"0a", ()))
        assert told(changes.encode()) == {"users": {KEY: [1], "email": [b"0a", b"0b"]}}

    def test_nothing_is_false(self) -> None:
        assert not ChangeSet()

    @settings(max_examples=200, deadline=None)
    @given(st.lists(keys, min_size=1, max_size=6))
    def test_every_key_comes_back_as_it_was(self, several: List[Any]) -> None:
        changes = ChangeSet()
        for key in several:
            changes.record(USERS, key, None, (key, (key,)))
        found = decode(changes.encode())["users"]
        assert found is not None
        expected = list(dict.fromkeys(several))
        for index in (KEY, "email", "tags"):
            assert [(type(key), key) for key in found[index]] == [(type(key), key) for key in expected]

    def test_more_rows_than_are_told_one_by_one_are_the_whole_store(self) -> None:
        changes = ChangeSet()
        for key in range(MAX_ROWS):
            changes.record(TODOS, key, None, ())
        assert told(changes.encode()) == {"todos": {KEY: list(range(MAX_ROWS))}}
        changes.record(USERS, 1, None, (None, ()))
        changes.record(TODOS, MAX_ROWS, None, ())
        assert told(changes.encode()) == {"todos": None, "users": {KEY: [1]}}

    def test_a_body_that_would_be_too_long_is_the_whole_stores(self) -> None:
        changes = ChangeSet()
        changes.record(USERS, b"0" + b"k" * (MAX_BODY - 200), None, (None, ()))
        assert told(changes.encode())["users"] is not None
        changes.record(USERS, b"0" + b"l" * 200, None, (None, ()))
        assert told(changes.encode()) == {"users": None}
        assert len(changes.encode()) <= MAX_BODY

    def test_names_that_would_be_too_long_are_everything(self) -> None:
        changes = ChangeSet()
        changes.whole(StoreSpec("s" * MAX_BODY, ("id",)))
        assert told(changes.encode()) == {EVERYTHING: None}

    def test_a_cleared_store_and_a_new_schema(self) -> None:
        changes = ChangeSet()
        changes.record(USERS, 1, None, (None, ()))
        changes.whole(USERS)
        assert changes
        assert told(changes.encode()) == {"users": None}
        changes.everything()
        assert told(changes.encode()) == {EVERYTHING: None}

    @pytest.mark.parametrize("over", [False, True], ids=["rows", "more rows than are told"])
    def test_what_was_undone_is_not_told(self, over: bool) -> None:
        changes = ChangeSet()
        changes.record(USERS, 1, None, (b"0a", ()))
        mark = changes.mark()
        changes.record(USERS, 2, None, (b"0b", ()))
        for key in range(MAX_ROWS + 1 if over else 1):
            changes.record(TODOS, key, None, ())
            changes.record(USERS, key, None, (None, ()))
        changes.whole(TODOS)
        changes.back_to(mark)
        assert told(changes.encode()) == {"users": {KEY: [1], "email": [b"0a"]}}
        changes.back_to(ChangeSet().mark())
        assert not changes

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"users": 1}', b'{"users": {":id": 1}}', b"\xff"])
    def test_a_body_that_cannot_be_read_is_everything(self, body: bytes) -> None:
        assert decode(body) == {EVERYTHING: None}


class Log:
    """A log in a file of its own, and the commits that were appended."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute("CREATE TABLE _ix_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID")
        for sql in CREATE:
            self.connection.execute(sql)

    def append(self, bytes_of_body: int = 0, keep_rows: int = KEEP_ROWS) -> int:
        seq, total, *_ = self.connection.execute(NEWEST).fetchone()
        changes = ChangeSet()
        changes.record(TODOS, b"0" + b"k" * bytes_of_body, None, ())
        append(self.connection.execute, seq + 1, total, changes, keep_rows)
        return int(seq) + 1

    def since(self, seq: int, limit: int = 1_000_000) -> List[Any]:
        return self.connection.execute(SINCE, (seq, limit)).fetchall()


@pytest.fixture
def written() -> Any:
    made = Log()
    yield made
    made.connection.close()


class TestTable:
    def test_a_new_file_has_its_first_row(self, written: Log) -> None:
        assert written.connection.execute(NEWEST).fetchone() == (0, 0, "{}", 0)
        assert decode(written.connection.execute("SELECT body FROM _ix_log").fetchone()[0]) == {}

    def test_commits_after_a_seq_come_in_order(self, written: Log) -> None:
        for _ in range(5):
            written.append()
        assert [row[0] for row in written.since(2)] == [3, 4, 5]
        assert [row[0] for row in written.since(2, 2)] == [3, 4]
        assert all(row[2] is None for row in written.since(0))

    def test_no_more_rows_are_kept_than_were_asked_for(self, written: Log) -> None:
        for _ in range(64 * 4):
            newest = written.append(keep_rows=100)
        rows = written.since(-1)
        assert [row[0] for row in rows] == list(range(newest - 99, newest + 1))
        assert {row[2] for row in rows} == {newest - 100}

    def test_no_more_bytes_are_kept_than_there_is_room_for(self, written: Log) -> None:
        for _ in range(64 * 6):
            newest = written.append(bytes_of_body=31_000)
        sizes = [len(row[1]) for row in written.since(-1)]
        assert KEEP_BYTES - 32_000 < sum(sizes) <= KEEP_BYTES
        oldest, watermark = written.since(-1)[0][0], written.since(-1)[0][2]
        assert watermark == oldest - 1
        assert newest == written.since(-1)[-1][0]

    def test_the_newest_stays_whatever_it_takes(self, written: Log) -> None:
        written.append(bytes_of_body=1000)
        seq, total, *_ = written.connection.execute(NEWEST).fetchone()
        prune(written.connection.execute, seq, total, keep_rows=0, keep_bytes=10)
        assert [row[0] for row in written.since(-1)] == [seq]
        assert written.since(-1)[0][2] == seq - 1

    def test_where_nothing_is_too_old_nothing_is_noted(self, written: Log) -> None:
        written.append()
        prune(written.connection.execute, 1, 100)
        assert written.since(-1)[0][2] is None
