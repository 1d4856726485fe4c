"""Idempotency keys: each write done once however often it is sent, and nothing repeated that must not be."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import pytest

from selfdb import APIConnectionError, InvalidRequestError, SelfDB, UnprocessableEntityError
from tests.client.conftest import Recorded
from tests.servers import scripted as steps
from tests.support import unique

Connect = Callable[..., SelfDB]


class Write(NamedTuple):
    """``make`` prepares; ``call`` writes with a key; ``other`` is the same write with another body, if it has one."""

    make: Callable[[SelfDB], Any]
    call: Callable[[SelfDB, Any, str], Any]
    other: Any = None


SCHEMA = {"a": {"type": "text"}}


def _user(email: str, name: str = "Ada") -> Dict[str, Any]:
    return {"email": email, "password": "password123", "firstName": name, "lastName": "B"}


def _table(db: SelfDB) -> Any:
    return db.tables.create({"name": unique("t"), "table_schema": SCHEMA})


def _row(db: SelfDB) -> Tuple[str, str]:
    table = _table(db)
    return table.id, db.tables.data.insert(table.id, {"a": "old"})["id"]


def _bucket(db: SelfDB) -> Any:
    return db.storage.buckets.create({"name": unique("b")})


def _file(db: SelfDB) -> str:
    return db.storage.files.upload(_bucket(db).id, "f", b"x").file_id


def _new_user(db: SelfDB) -> str:
    return db.auth.users.create(_user(f"{unique('u')}@example.com")).id


WRITES: Dict[str, Write] = {
    "users.create": Write(
        lambda db: f"{unique('u')}@example.com",
        lambda db, email, key: db.auth.users.create(_user(email), idempotency_key=key),
        lambda db, email, key: db.auth.users.create(_user(email, "Eve"), idempotency_key=key),
    ),
    "users.update": Write(
        _new_user,
        lambda db, known, key: db.auth.users.update(known, {"firstName": "A"}, idempotency_key=key),
        lambda db, known, key: db.auth.users.update(known, {"firstName": "B"}, idempotency_key=key),
    ),
    "users.delete": Write(_new_user, lambda db, known, key: db.auth.users.delete(known, idempotency_key=key)),
    "tables.create": Write(
        lambda db: unique("t"),
        lambda db, name, key: db.tables.create({"name": name, "table_schema": SCHEMA}, idempotency_key=key),
        lambda db, name, key: db.tables.create(
            {"name": name, "table_schema": SCHEMA, "public": True}, idempotency_key=key
        ),
    ),
    "tables.update": Write(
        _table,
        lambda db, table, key: db.tables.update(table.id, {"public": True}, idempotency_key=key),
        lambda db, table, key: db.tables.update(table.id, {"public": False}, idempotency_key=key),
    ),
    "tables.delete": Write(_table, lambda db, table, key: db.tables.delete(table.id, idempotency_key=key)),
    "columns.add": Write(
        _table,
        lambda db, table, key: db.tables.columns.add(table.id, {"name": "b", "type": "text"}, idempotency_key=key),
        lambda db, table, key: db.tables.columns.add(table.id, {"name": "c", "type": "text"}, idempotency_key=key),
    ),
    "columns.update": Write(
        _table,
        lambda db, table, key: db.tables.columns.update(table.id, "a", {"new_name": "b"}, idempotency_key=key),
        lambda db, table, key: db.tables.columns.update(table.id, "a", {"new_name": "c"}, idempotency_key=key),
    ),
    "columns.remove": Write(
        lambda db: db.tables.create({"name": unique("t"), "table_schema": {**SCHEMA, "b": {"type": "text"}}}),
        lambda db, table, key: db.tables.columns.remove(table.id, "b", idempotency_key=key),
    ),
    "data.insert": Write(
        _table,
        lambda db, table, key: db.tables.data.insert(table.id, {"a": "x"}, idempotency_key=key),
        lambda db, table, key: db.tables.data.insert(table.id, {"a": "y"}, idempotency_key=key),
    ),
    "data.update_row": Write(
        _row,
        lambda db, ids, key: db.tables.data.update_row(*ids, {"a": "x"}, idempotency_key=key),
        lambda db, ids, key: db.tables.data.update_row(*ids, {"a": "y"}, idempotency_key=key),
    ),
    "data.delete_row": Write(_row, lambda db, ids, key: db.tables.data.delete_row(*ids, idempotency_key=key)),
    "buckets.create": Write(
        lambda db: unique("b"),
        lambda db, name, key: db.storage.buckets.create({"name": name}, idempotency_key=key),
        lambda db, name, key: db.storage.buckets.create({"name": name, "public": True}, idempotency_key=key),
    ),
    "buckets.update": Write(
        _bucket,
        lambda db, bucket, key: db.storage.buckets.update(bucket.id, {"public": True}, idempotency_key=key),
        lambda db, bucket, key: db.storage.buckets.update(bucket.id, {"public": False}, idempotency_key=key),
    ),
    "buckets.delete": Write(_bucket, lambda db, bucket, key: db.storage.buckets.delete(bucket.id, idempotency_key=key)),
    "files.update_metadata": Write(
        _file,
        lambda db, known, key: db.storage.files.update_metadata(known, {"n": 1}, idempotency_key=key),
        lambda db, known, key: db.storage.files.update_metadata(known, {"n": 2}, idempotency_key=key),
    ),
    "files.delete": Write(_file, lambda db, known, key: db.storage.files.delete(known, idempotency_key=key)),
}


def test_every_write_takes_a_key() -> None:
    """All that take one are in the table; uploads and sessions never do."""
    import inspect

    db = SelfDB("http://127.0.0.1:9", "key")
    parts = {
        "users": db.auth.users,
        "tables": db.tables,
        "columns": db.tables.columns,
        "data": db.tables.data,
        "buckets": db.storage.buckets,
        "files": db.storage.files,
        "auth": db.auth,
    }
    found = {
        f"{part}.{name}"
        for part, namespace in parts.items()
        for name in dir(namespace)
        if not name.startswith("_")
        and inspect.isroutine(getattr(namespace, name))
        and "idempotency_key" in inspect.signature(getattr(namespace, name)).parameters
    }
    assert found == set(WRITES)


@pytest.mark.parametrize("name", WRITES)
def test_the_second_call_gets_the_first_answer(admin: SelfDB, name: str) -> None:
    write = WRITES[name]
    thing, key = write.make(admin), unique("k")
    first, second = write.call(admin, thing, key), write.call(admin, thing, key)
    assert first == second
    if name == "data.insert":
        assert admin.tables.data.query(thing.id).count() == 1


@pytest.mark.parametrize("name", [name for name, write in WRITES.items() if write.other])
def test_the_same_key_for_another_body(admin: SelfDB, name: str) -> None:
    write = WRITES[name]
    thing, key = write.make(admin), unique("k")
    write.call(admin, thing, key)
    with pytest.raises(UnprocessableEntityError):
        write.other(admin, thing, key)
    assert write.call(admin, thing, key)  # the first answer is still there


def test_another_key_is_another_write(admin: SelfDB) -> None:
    table = _table(admin)
    for key in (unique("k"), unique("k")):
        admin.tables.data.insert(table.id, {"a": "x"}, idempotency_key=key)
    assert admin.tables.data.query(table.id).count() == 2


def test_keys_of_two_users_do_not_meet(user: SelfDB, someone: Callable[[], SelfDB]) -> None:
    table = user.tables.create({"name": unique("t"), "table_schema": SCHEMA, "public": True})
    key = unique("k")
    for db in (user, someone()):
        db.tables.data.insert(table.id, {"a": "x"}, idempotency_key=key)
    assert user.tables.data.query(table.id).count() == 2


KEYS_THAT_ARE_NONE = ["", "x" * 256, "a b", "a\nb", "ü", 5, b"key"]


@pytest.mark.parametrize("name", WRITES)
def test_keys_that_are_none(recorded: Recorded, name: str) -> None:
    things: Dict[str, Any] = {"data.update_row": ("t", "r"), "data.delete_row": ("t", "r")}

    class Thing:
        id = "t"

    thing = things.get(name, Thing() if "users" not in name and "files" not in name else "u")
    if name in ("tables.create", "buckets.create", "users.create"):
        thing = "abc"
    for key in KEYS_THAT_ARE_NONE:
        with pytest.raises(InvalidRequestError, match="idempotency_key"):
            WRITES[name].call(recorded.db, thing, key)  # type: ignore[arg-type]
    assert recorded.lines == []


# Repeating


ROW = b'{"id": 1, "a": "x"}'


def _keys(server: Any) -> List[Any]:
    return [request.header("Idempotency-Key") for request in server.requests]


def test_a_keyed_write_is_repeated_once_the_server_has_acknowledged_one(
    scripted: Callable[..., Any], connect: Connect
) -> None:
    server = scripted(
        [steps.read(), steps.reply(201, ROW, {"Idempotency-Key": "k1"}), steps.read(), steps.reset()],
        [steps.read(), steps.reply(201, ROW, {"Idempotency-Key": "k2"}), steps.close()],
    )
    db = connect(server, max_retries=2)
    db.tables.data.insert("t", {"a": "x"}, idempotency_key="k1")
    assert db.tables.data.insert("t", {"a": "x"}, idempotency_key="k2") == {"id": 1, "a": "x"}
    assert _keys(server) == ["k1", "k2", "k2"]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "another"}])
def test_without_an_acknowledgement_it_is_not(
    scripted: Callable[..., Any], connect: Connect, headers: Dict[str, str]
) -> None:
    server = scripted([steps.read(), steps.reply(201, ROW, headers), steps.read(), steps.reset()])
    db = connect(server, max_retries=2)
    db.tables.data.insert("t", {"a": "x"}, idempotency_key="k1")
    with pytest.raises(APIConnectionError) as caught:
        db.tables.data.insert("t", {"a": "x"}, idempotency_key="k2")
    assert caught.value.may_have_been_applied


def test_writes_without_a_key_are_not_repeated_on_such_a_server(scripted: Callable[..., Any], connect: Connect) -> None:
    server = scripted(
        [steps.read(), steps.reply(201, ROW, {"Idempotency-Key": "k1"}), steps.read(), steps.reset()],
    )
    db = connect(server, max_retries=2)
    db.tables.data.insert("t", {"a": "x"}, idempotency_key="k1")
    with pytest.raises(APIConnectionError):
        db.tables.data.insert("t", {"a": "x"})


def test_idempotent_writes_keep_their_key_over_all_attempts(recorded: Recorded) -> None:
    db = recorded.db.with_options(idempotent_writes=True, max_retries=2)
    recorded.will((429, {"Retry-After": "0"}, b""), (201, {}, ROW), (201, {}, ROW))
    db.tables.data.insert("t", {"a": "x"})
    db.tables.data.insert("t", {"a": "x"})
    first, again, second = _keys(recorded.server)
    assert first == again
    assert first != second


def test_sessions_and_uploads_never_carry_one(recorded: Recorded) -> None:
    db = recorded.db.with_options(idempotent_writes=True)
    pair = {"access_token": "a", "refresh_token": "r"}
    uploaded = {"success": True, "bucket": "b", "path": "/a", "size": 0, "file_id": "f"}
    recorded.will(pair, pair, (201, {}, uploaded), {"message": "m"}, pair, {"message": "m"})
    db.auth.login("a@b.c", "password")
    db.auth.refresh()
    db.storage.files.upload("b", "a", b"")
    db.auth.logout()
    db.auth.login("a@b.c", "password")
    db.auth.logout_all()
    assert _keys(recorded.server) == [None] * 6


def test_idempotent_writes_on_the_embedded_server(server: Any, http: Any, connect: Connect) -> None:
    db = connect(server, idempotent_writes=True)
    db.access_token = http.admin
    table = _table(db)
    rows = [db.tables.data.insert(table.id, {"a": "x"}) for _ in range(3)]
    assert len({row["id"] for row in rows}) == 3
    answer = db.with_raw_response.tables.data.insert(table.id, {"a": "x"})
    assert len(answer.headers["Idempotency-Key"]) == 32
    report = db.tables.data.insert_many(table.id, [{"a": "y"}] * 5)
    assert len(report.done) == 5
    assert db.tables.get(table.id).row_count == 9
