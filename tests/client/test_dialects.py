"""Servers that speak a little differently: what is learnt, what is understood, and that nothing is guessed."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from selfdb import ConflictError, NotFoundError, SelfDB, SelfDBError, UnprocessableEntityError
from selfdb.models import ColumnDefinition, ColumnUpdate, TableCreate
from tests.client.conftest import Recorded, Script

Connect = Callable[..., SelfDB]

SCHEMA = {"name": {"type": "text"}}
TABLE = {"id": "t", "name": "notes", "table_schema": SCHEMA}
WANTS_SCHEMA = (422, {}, {"detail": [{"loc": ["body", "schema"], "msg": "Field required", "type": "missing"}]})


def create(db: SelfDB) -> Any:
    return db.tables.create(TableCreate(name="notes", table_schema=SCHEMA))


# The small server


def test_c055_one_refusal_one_resend_and_then_straight(recorded: Recorded) -> None:
    recorded.will(WANTS_SCHEMA, (201, {}, TABLE), (201, {}, TABLE))
    assert create(recorded.db).id == "t"
    create(recorded.db)
    bodies = [request.json for request in recorded.server.requests]
    assert bodies == [
        {"name": "notes", "table_schema": SCHEMA, "public": False},
        {"name": "notes", "schema": SCHEMA, "public": False},
        {"name": "notes", "schema": SCHEMA, "public": False},
    ]


def test_c055_clones_know_what_their_client_learnt(recorded: Recorded) -> None:
    clone = recorded.db.with_options(timeout=9)
    recorded.will(WANTS_SCHEMA, *[(201, {}, TABLE)] * 4)
    create(clone)
    create(recorded.db)
    create(recorded.db.as_user("another"))
    recorded.db.with_raw_response.tables.create({"name": "notes", "table_schema": SCHEMA})
    assert ["schema" in request.json for request in recorded.server.requests] == [False, True, True, True, True]


def test_c055_the_resend_may_fail_too(recorded: Recorded) -> None:
    recorded.will(WANTS_SCHEMA, (409, {}, {"detail": "Table name already exists"}))
    with pytest.raises(ConflictError):
        create(recorded.db)
    assert len(recorded.lines) == 2


def test_c055_the_idempotency_key_goes_with_both(recorded: Recorded) -> None:
    recorded.will(WANTS_SCHEMA, (201, {}, TABLE))
    recorded.db.tables.create({"name": "notes", "table_schema": SCHEMA}, idempotency_key="k")
    assert [request.header("Idempotency-Key") for request in recorded.server.requests] == ["k", "k"]


@pytest.mark.parametrize(
    "detail",
    [
        [{"loc": ["body", "name"], "msg": "bad", "type": "missing"}],
        [{"loc": ["body", "schema"], "msg": "bad", "type": "dict_type"}],
        [{"loc": ["query", "schema"], "msg": "bad", "type": "missing"}],
        "schema is missing",
        [],
    ],
)
def test_c055_another_422_teaches_nothing(recorded: Recorded, detail: Any) -> None:
    recorded.will((422, {}, {"detail": detail}), (201, {}, TABLE))
    with pytest.raises(UnprocessableEntityError):
        create(recorded.db)
    create(recorded.db)
    assert recorded.last.json["table_schema"] == SCHEMA


def test_c055_a_server_that_always_wants_it_is_asked_twice_only(recorded: Recorded) -> None:
    recorded.will(WANTS_SCHEMA, WANTS_SCHEMA, WANTS_SCHEMA)
    for asked in (2, 3):
        with pytest.raises(UnprocessableEntityError):
            create(recorded.db)
        assert len(recorded.lines) == asked


LITERALS = [
    ("open", "'open'"),
    ("it's", "'it''s'"),
    ("", "''"),
    (True, "true"),
    (False, "false"),
    (0, "0"),
    (-7, "-7"),
    (1.5, "1.5"),
]


@pytest.mark.parametrize("value, literal", LITERALS)
def test_c055_defaults_for_the_small_server(recorded: Recorded, value: Any, literal: str) -> None:
    recorded.will(WANTS_SCHEMA, (201, {}, TABLE), TABLE, TABLE)
    create(recorded.db)
    recorded.db.tables.columns.add("t", ColumnDefinition(name="a", type="text", default_value=value))
    assert recorded.last.json == {
        "name": "a",
        "type": "text",
        "nullable": True,
        "default_value": value,
        "default": literal,
    }
    recorded.db.tables.columns.update("t", "a", ColumnUpdate(default_value=value))
    assert recorded.last.json == {"default_value": value, "default": literal}


def test_c055_dropping_a_default_on_the_small_server(recorded: Recorded) -> None:
    recorded.will(WANTS_SCHEMA, (201, {}, TABLE), TABLE, TABLE)
    create(recorded.db)
    recorded.db.tables.columns.update("t", "a", ColumnUpdate(default_value=None))
    assert recorded.last.json == {"default_value": None, "default": None}
    recorded.db.tables.columns.add("t", {"name": "b", "type": "text"})
    assert recorded.last.json == {"name": "b", "type": "text", "nullable": True}


def test_c047_other_servers_get_no_literal(recorded: Recorded) -> None:
    recorded.will(TABLE)
    recorded.db.tables.columns.add("t", ColumnDefinition(name="a", type="text", default="x"))
    assert recorded.last.json == {"name": "a", "type": "text", "nullable": True, "default_value": "x"}


# Column replies that are no table

STATUSES: Dict[str, Any] = {
    "add": {"status": "column_added", "column": "a"},
    "update": {"status": "column_updated", "column": "a"},
    "no changes": {"status": "no_changes"},
    "remove": {"status": "column_deleted", "column": "a"},
}
COLUMN_CALLS: Dict[str, Callable[[Any], Any]] = {
    "add": lambda columns: columns.add("a b", {"name": "a", "type": "text"}),
    "update": lambda columns: columns.update("a b", "a", {"nullable": True}),
    "no changes": lambda columns: columns.update("a b", "a", {}),
    "remove": lambda columns: columns.remove("a b", "a"),
}


@pytest.mark.parametrize("call", COLUMN_CALLS)
def test_c054_the_table_is_fetched(recorded: Recorded, call: str) -> None:
    recorded.will(STATUSES[call], TABLE)
    table = COLUMN_CALLS[call](recorded.db.tables.columns)
    assert (table.id, table.table_schema) == ("t", SCHEMA)
    assert recorded.lines[1:] == ["GET /tables/a%20b"]


def test_c054_an_empty_reply(recorded: Recorded) -> None:
    recorded.will((204, {}, b""), TABLE)
    assert recorded.db.tables.columns.remove("t", "a").id == "t"


def test_c054_a_raw_answer_is_the_servers_own(recorded: Recorded) -> None:
    recorded.will(STATUSES["add"], TABLE)
    answer = COLUMN_CALLS["add"](recorded.db.with_raw_response.tables.columns)
    assert answer.json() == STATUSES["add"]
    assert len(recorded.lines) == 1
    assert answer.parse().id == "t"


@pytest.mark.parametrize("reply", [TABLE, {"table": TABLE}])
def test_c054_a_table_is_not_fetched_again(recorded: Recorded, reply: Any) -> None:
    recorded.will(reply)
    assert recorded.db.tables.columns.remove("t", "a").table_schema == SCHEMA
    assert len(recorded.lines) == 1


# Replies in other shapes

WANTED = {"name": {"type": "text", "nullable": False}, "age": {"type": "integer"}}
LISTED = [{"name": "name", "type": "text", "nullable": False}, {"name": "age", "type": "integer"}]


@pytest.mark.parametrize(
    "columns",
    [
        {"table_schema": WANTED},
        {"schema": WANTED},
        {"schema": {"columns": LISTED}},
        {"columns": LISTED},
        {"columns": WANTED},
        {"table_schema": WANTED, "columns": LISTED, "schema_name": "public"},
    ],
)
def test_c056_schemas_in_every_shape(recorded: Recorded, columns: Dict[str, Any]) -> None:
    recorded.will({"id": "t", "name": "n", **columns})
    table = recorded.db.tables.get("t")
    assert table.table_schema == WANTED
    assert table.columns == LISTED


@pytest.mark.parametrize("key", ["realtime", "realtime_enabled"])
def test_c056_realtime_in_either_spelling(recorded: Recorded, key: str) -> None:
    recorded.will({"id": "t", "name": "n", key: True}, {"table": {"id": "t", "name": "n", key: True}})
    assert recorded.db.tables.get("t").realtime_enabled
    assert recorded.db.tables.get("t").realtime


BUCKET = {"id": "b", "name": "uploads", "public": True}


@pytest.mark.parametrize("wrapped", [lambda item: item, lambda item: {"success": True, "bucket": item}])
def test_c078_a_bucket_in_every_wrapping(recorded: Recorded, wrapped: Callable[[Any], Any]) -> None:
    recorded.will(wrapped(BUCKET))
    assert recorded.db.storage.buckets.get("b").name == "uploads"


@pytest.mark.parametrize(
    "wrapped",
    [lambda items: items, lambda items: {"success": True, "buckets": items, "total": 1}, lambda items: {"data": items}],
)
def test_c078_buckets_in_every_wrapping(recorded: Recorded, wrapped: Callable[[List[Any]], Any]) -> None:
    recorded.will(wrapped([BUCKET]))
    assert [bucket.id for bucket in recorded.db.storage.buckets.list()] == ["b"]


@pytest.mark.parametrize("status", ["row_inserted", "row_updated"])
@pytest.mark.parametrize("call", ["insert", "update_row"])
def test_c062_a_wrapped_row_is_unwrapped(recorded: Recorded, call: str, status: str) -> None:
    recorded.will({"status": status, "data": {"id": 1, "text": "hi"}})
    data = recorded.db.tables.data
    row = data.insert("t", {"text": "hi"}) if call == "insert" else data.update_row("t", 1, {"text": "hi"})
    assert row == {"id": 1, "text": "hi"}


@pytest.mark.parametrize(
    "row",
    [
        {"status": "row_inserted", "data": {"a": 1}, "id": 5},
        {"status": "row_inserted", "data": [1]},
        {"status": "row_inserted", "data": None},
        {"status": "open", "data": {"a": 1}},
        {"status": "row_inserted"},
        {"data": {"a": 1}},
    ],
)
def test_c062_a_row_with_such_columns_is_not(recorded: Recorded, row: Dict[str, Any]) -> None:
    recorded.will(row)
    assert recorded.db.tables.data.insert("t", {"x": 1}) == row


@pytest.mark.parametrize("body", [[], "x", 3, None])
def test_c062_what_is_no_row(recorded: Recorded, body: Any) -> None:
    recorded.will((200, {}, body if isinstance(body, list) else b'"x"'))
    with pytest.raises(SelfDBError, match="not a row"):
        recorded.db.tables.data.insert("t", {"x": 1})


ROWS = [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    "reply",
    [
        {"data": ROWS, "total": 12, "page": 2, "page_size": 5},
        {"data": ROWS, "total": 12, "page": 2, "pageSize": 5},
        {
            "data": ROWS,
            "metadata": {"total_count": 12, "page": 2, "page_size": 5, "total_pages": 3, "columns": ["id"]},
        },
    ],
)
def test_c077_pages_of_every_server(recorded: Recorded, reply: Dict[str, Any]) -> None:
    recorded.will(reply, reply)
    for page in (recorded.db.tables.data.fetch("t"), recorded.db.tables.data.query("t").execute()):
        assert (page.data, page.total, page.page, page.page_size) == (ROWS, 12, 2, 5)


@pytest.mark.parametrize("key", ["total_buckets", "buckets_count"])
def test_c090_stats_in_either_spelling(recorded: Recorded, key: str) -> None:
    recorded.will({"total_files": 1, "total_size": 5, key: 2})
    assert recorded.db.storage.files.stats().total_buckets == 2


# The two upload routes

UPLOADED = {"success": True, "bucket": "uploads", "path": "/a.txt", "size": 3, "file_id": "f"}
NO_ROUTE = (404, {}, {"detail": "Not Found"})
MODERN = "POST /storage/buckets/b/files?filename=a.txt"
LEGACY = "POST /storage/files/upload?bucket_id=b&filename=a.txt&content_type=text%2Fplain"


@pytest.mark.parametrize("refusal", [NO_ROUTE, (405, {}, {"detail": "Method Not Allowed"}), (405, {}, b"")])
@pytest.mark.parametrize("source", [b"abc", "abc", "iterator"])
def test_c082_one_retry_and_then_straight(recorded: Recorded, refusal: Script, source: Any) -> None:
    data = (part for part in (b"a", b"bc")) if source == "iterator" else source
    recorded.will(refusal, (201, {}, UPLOADED), (201, {}, UPLOADED))
    assert recorded.db.storage.files.upload("b", "a.txt", data).file_id == "f"
    recorded.db.with_options(timeout=9).storage.files.upload("b", "a.txt", b"abc")
    assert recorded.lines == [MODERN, LEGACY, LEGACY]
    assert [request.body for request in recorded.server.requests] == [b"abc"] * 3


def test_c082_a_bucket_that_is_missing_is_no_missing_route(recorded: Recorded) -> None:
    recorded.will((404, {}, {"detail": "Bucket not found"}))
    with pytest.raises(NotFoundError, match="Bucket not found"):
        recorded.db.storage.files.upload("b", "a.txt", b"abc")
    assert recorded.lines == [MODERN]


@pytest.mark.parametrize("body", [b"", b"Not Found", {"detail": "not found"}, {"detail": "Not Found", "path": "/"}])
def test_c082_only_the_exact_words_mean_a_missing_route(recorded: Recorded, body: Any) -> None:
    recorded.will((404, {}, body))
    with pytest.raises(NotFoundError):
        recorded.db.storage.files.upload("b", "a.txt", b"abc")
    assert len(recorded.lines) == 1


def test_c082_a_server_that_has_the_route_keeps_it(recorded: Recorded) -> None:
    """Once an upload went through, the words mean something else: the route is not tried again elsewhere."""
    recorded.will((201, {}, UPLOADED), NO_ROUTE)
    recorded.db.storage.files.upload("b", "a.txt", b"abc")
    with pytest.raises(NotFoundError):
        recorded.db.storage.files.upload("b", "a.txt", b"abc")
    assert recorded.lines == [MODERN, MODERN]


def test_c082_neither_route(recorded: Recorded) -> None:
    recorded.will(NO_ROUTE, NO_ROUTE, (201, {}, UPLOADED))
    with pytest.raises(NotFoundError):
        recorded.db.storage.files.upload("b", "a.txt", b"abc")
    recorded.db.storage.files.upload("b", "a.txt", b"abc")
    assert recorded.lines == [MODERN, LEGACY, MODERN]


def test_c082_raw_answers_learn_too(recorded: Recorded) -> None:
    recorded.will(NO_ROUTE, (201, {}, UPLOADED), (201, {}, UPLOADED))
    assert recorded.db.with_raw_response.storage.files.upload("b", "a.txt", b"abc").parse().file_id == "f"
    recorded.db.storage.files.upload("b", "a.txt", b"abc")
    assert recorded.lines == [MODERN, LEGACY, LEGACY]


def test_c082_the_embedded_server_has_both(server: Any, http: Any, connect: Connect, new_bucket: Any) -> None:
    db = connect(server)
    db.access_token = http.admin
    bucket = new_bucket(db)
    first = db.storage.files.upload(bucket.id, "a.txt", b"abc")
    query = {"bucket_id": bucket.id, "filename": "a.txt", "content_type": "text/plain"}
    second = http.post("/storage/files/upload", params=query, data=b"abcd", bearer=http.admin).json()
    assert second["file_id"] == first.file_id
    assert db.storage.files.get(first.file_id).size == 4


# Replies with more in them than we know


@pytest.mark.parametrize(
    "call, reply",
    [
        (lambda db: db.auth.me(), {"id": "u", "email": "a@b.c"}),
        (lambda db: db.tables.get("t"), TABLE),
        (lambda db: db.tables.data.fetch("t"), {"data": [], "total": 0}),
        (lambda db: db.storage.buckets.get("b"), BUCKET),
        (lambda db: db.storage.files.get("f"), {"id": "f", "name": "a"}),
        (lambda db: db.storage.files.list(), {"data": [], "total": 0}),
        (lambda db: db.storage.files.stats(), {"total_files": 0}),
        (lambda db: db.storage.files.upload("b", "a.txt", b"x"), UPLOADED),
        (lambda db: db.auth.logout(), {"message": "m"}),
        (lambda db: db.auth.login("a@b.c", "p"), {"access_token": "a"}),
        (lambda db: db.auth.users.delete("u"), {"message": "m"}),
        (lambda db: db.status(), {"initialized": True}),
    ],
)
def test_c098_unknown_keys_are_ignored(recorded: Recorded, call: Callable[[SelfDB], Any], reply: Any) -> None:
    recorded.will({**reply, "colour": "red", "nested": {"a": [1, {}]}})
    assert not hasattr(call(recorded.db), "colour")
