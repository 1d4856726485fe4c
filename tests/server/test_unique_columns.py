"""Unique columns over raw HTTP, on both databases: declared, kept through changes, and what they refuse."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List

import pytest
import sqlalchemy as sa

from selfdb.server.shapes import MAX_KEY_BYTES, Layout
from tests.server.tabledata import changed, column, insert, new_table, read, refused, route, rows
from tests.support import Http

CODES: Dict[str, Any] = {"n": {"type": "integer"}, "code": {"type": "text", "unique": True}}
TWICE = 'A row with this "code" already exists'


def add(http: Http, table: Dict[str, Any], **body: Any) -> Any:
    return http.post(route(table, "columns"), json=body, bearer=http.admin)


def added(http: Http, table: Dict[str, Any], **body: Any) -> Dict[str, Any]:
    answer = add(http, table, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def change(http: Http, table: Dict[str, Any], row: Dict[str, Any], values: Dict[str, Any]) -> Any:
    return http.patch(route(table, "data", str(row["id"])), json=values, bearer=http.admin)


def unchanged(http: Http, table: Dict[str, Any], answer: Any, status: int) -> str:
    """The answer refused with this status and left ``table`` and ``rows`` alone; the reason."""
    assert answer.status_code == status, answer.text
    assert read(http, table) == table
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    return detail


def test_c048_a_column_can_be_added_as_unique(http: Http) -> None:
    table = new_table(http, {"n": {"type": "integer"}})
    old = [insert(http, table, {"n": number}) for number in range(3)]
    after = added(http, table, name="code", type="text", nullable=True, unique=True)
    assert after["table_schema"] == {
        "n": {"type": "integer"},
        "code": {"type": "text", "nullable": True, "unique": True},
    }
    assert after["columns"][-1] == {"name": "code", "type": "text", "nullable": True, "default": None}
    assert read(http, table) == after
    first = insert(http, table, {"code": "secret"})
    assert refused(http, table, {"code": "secret"}, status=409) == TWICE
    assert insert(http, table, {"n": 9})["code"] is None, "nulls do not collide"
    assert insert(http, table, {"code": "Secret"})["code"] == "Secret"
    assert change(http, table, old[0], {"code": "other"}).status_code == 200
    held = rows(http, table)
    answer = change(http, table, old[0], {"n": 99, "code": "secret"})
    assert (answer.status_code, answer.json()) == (409, {"detail": TWICE})
    assert rows(http, table) == held
    assert change(http, table, first, {"code": "secret", "n": 1}).status_code == 200, "its own value"
    assert http.delete(route(table, "data", first["id"]), bearer=http.admin).status_code == 204
    insert(http, table, {"code": "secret"})


@pytest.mark.parametrize(
    "type_, first, same, other",
    [
        ("varchar(5)", "a", "a", "a "),
        ("integer", 5, "5", 6),
        ("bigint", 2**40, 2.0**40, 2**40 + 1),
        ("boolean", True, "yes", False),
        ("timestamp", "2025-01-02T03:04:05Z", "2025-01-02T04:04:05+01:00", "2025-01-02T03:04:05.000001Z"),
        (
            "uuid",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
            "00000000-0000-0000-0000-000000000000",
        ),
        ("decimal", 0.1, "0.104", 0.11),
        ("float", 0.0, "-0", 5e-324),
        ("date", "2025-01-02", "2025-01-02T23:00:00", "2025-01-03"),
    ],
)
def test_c048_equal_values_of_each_type_collide(http: Http, type_: str, first: Any, same: Any, other: Any) -> None:
    table = new_table(http, {"a": {"type": "text"}, "code": {"type": type_, "unique": True}})
    assert table["table_schema"]["code"] == {"type": type_, "unique": True}
    kept = insert(http, table, {"code": first})
    assert refused(http, table, {"code": same}, status=409) == TWICE
    moved = insert(http, table, {"code": other})
    answer = change(http, table, moved, {"code": same})
    assert (answer.status_code, answer.json()) == (409, {"detail": TWICE})
    assert rows(http, table) == [kept, moved]


def test_c048_a_unique_column_of_a_new_table_is_shown_where_it_is_true(http: Http) -> None:
    schema = {
        "id": {"type": "integer", "unique": True},
        "a": {"type": "text", "unique": False},
        "b": {"type": "text", "nullable": False, "unique": True, "default": "x"},
    }
    table = new_table(http, schema)
    assert table["table_schema"] == {**schema, "a": {"type": "text"}}
    for flag in (None, 1, "true"):
        body = {"name": "never", "table_schema": {"a": {"type": "text", "unique": flag}}}
        assert http.post("/tables/", json=body, bearer=http.admin).status_code == 422
        assert add(http, table, name="c", type="text", unique=flag).status_code == 422
    assert insert(http, table, {"a": "same"})["b"] == "x"
    assert refused(http, table, {"a": "same"}, status=409) == 'A row with this "b" already exists'
    assert refused(http, table, {"id": 1, "b": "y"}, status=409) == 'A row with this "id" already exists'


def test_c048_a_default_that_rows_would_share_is_refused(http: Http) -> None:
    table = new_table(http, {"n": {"type": "integer"}})
    insert(http, table, {"n": 1})
    assert added(http, table, name="one", type="text", nullable=False, default_value="d", unique=True)
    assert rows(http, table)[0]["one"] == "d"
    assert refused(http, table, {"n": 2}, status=409) == 'A row with this "one" already exists'
    insert(http, table, {"n": 2, "one": "e"})
    table, held = read(http, table), rows(http, table)
    for type_, default in (("text", "hush"), ("integer", 7), ("timestamp", "now()")):
        answer = add(http, table, name="two", type=type_, default_value=default, unique=True)
        detail = unchanged(http, table, answer, 409)
        assert detail == 'Column "two" cannot be unique: rows of the table would share a value'
    assert rows(http, table) == held
    after = added(http, table, name="two", type="uuid", nullable=False, default_value="gen_random_uuid()", unique=True)
    assert after["table_schema"]["two"]["unique"] is True
    assert len({row["two"] for row in rows(http, table)}) == 2


def test_c048_a_unique_column_is_refused_like_any_other(http: Http) -> None:
    table = new_table(http, CODES)
    assert add(http, table, name="code", type="text", unique=True).status_code == 409
    insert(http, table, {"code": "x"})
    table = read(http, table)
    answer = add(http, table, name="late", type="text", nullable=False, unique=True)
    assert '"late"' in unchanged(http, table, answer, 400)


def test_c048_a_second_primary_key_is_refused(http: Http) -> None:
    table = new_table(http)
    for name in ("key", "id"):
        answer = add(http, table, name=name, type="uuid", primary_key=True, unique=True)
        assert unchanged(http, table, answer, 400) == "The table already has a primary key"
    _, stranger = http.new_user()
    body = {"name": "key", "type": "uuid", "primary_key": True}
    assert http.post(route(table, "columns"), json=body, bearer=stranger).status_code == 403
    assert http.post(route(table, "columns"), json={**body, "primary_key": 1}, bearer=http.admin).status_code == 422


def test_c048_json_cannot_be_unique(http: Http) -> None:
    table = new_table(http, CODES)
    detail = unchanged(http, table, add(http, table, name="doc", type="json", unique=True), 400)
    assert detail == 'Column "doc" cannot be of type jsonb: it is unique'
    detail = unchanged(http, table, column(http, table, "code", {"type": "jsonb"}), 400)
    assert detail == 'Column "code" cannot be of type jsonb: it is unique'
    body = {"name": "never", "table_schema": {"doc": {"type": "jsonb", "unique": True}}}
    assert http.post("/tables/", json=body, bearer=http.admin).status_code == 400


def test_c048_texts_of_a_unique_column_are_short(http: Http) -> None:
    longest = "é" * (MAX_KEY_BYTES // 2)
    table = new_table(http, CODES)
    row = insert(http, table, {"code": longest})
    assert row["code"] == longest
    assert '"code"' in refused(http, table, {"code": longest + "x"})
    assert change(http, table, row, {"code": longest + "x"}).status_code == 400
    table = read(http, table)
    answer = add(http, table, name="other", type="text", default_value=longest + "x", unique=True)
    assert '"other"' in unchanged(http, table, answer, 400)
    assert '"code"' in unchanged(http, table, column(http, table, "code", {"default_value": longest + "x"}), 400)
    body = {"name": "never", "table_schema": {"a": {"type": "text", "unique": True, "default": longest + "x"}}}
    assert http.post("/tables/", json=body, bearer=http.admin).status_code == 400
    assert added(http, table, name="other", type="text", default_value=longest, unique=True)


def test_of_several_values_that_are_taken_the_oldest_column_is_named(http: Http) -> None:
    schema = {name: {"type": "integer", "unique": True} for name in ("a", "b", "c")}
    table = new_table(http, {"id": {"type": "integer"}, **schema})
    insert(http, table, {"a": 1, "b": 1, "c": 1})
    row = insert(http, table, {"a": 2, "b": 2, "c": 2})
    for given, named in (
        ({"id": 1, "a": 1, "b": 1, "c": 1}, "id"),
        ({"a": 1, "b": 1, "c": 1}, "a"),
        ({"a": None, "c": 1, "b": 1}, "b"),
        ({"a": 2, "c": 1}, "a"),
        ({"c": 1}, "c"),
    ):
        assert refused(http, table, given, status=409) == f'A row with this "{named}" already exists'
    for given, named in (({"c": 1, "b": 1}, "b"), ({"a": 2, "b": 2, "c": 1}, "c")):
        answer = change(http, table, row, given)
        assert (answer.status_code, answer.json()["detail"]) == (409, f'A row with this "{named}" already exists')


def test_c049_a_renamed_column_stays_unique(http: Http) -> None:
    table = new_table(http, CODES)
    insert(http, table, {"code": "x"})
    after = changed(http, table, "code", {"new_name": "Select", "nullable": False})
    assert after["table_schema"]["Select"] == {"type": "text", "nullable": False, "unique": True}
    assert refused(http, table, {"Select": "x"}, status=409) == 'A row with this "Select" already exists'
    added(http, table, name="code", type="text")
    for number in range(2):
        insert(http, table, {"Select": f"y{number}", "code": "free"})


def test_c050_a_unique_column_stays_unique_through_a_cast(http: Http) -> None:
    table = new_table(http, CODES)
    for code in ("5", "05", None, None):
        insert(http, table, {"code": code})
    table, held = read(http, table), rows(http, table)
    detail = unchanged(http, table, column(http, table, "code", {"type": "integer", "new_name": "d"}), 409)
    assert detail == 'Column "code" cannot be cast to integer: it is unique, and rows would share a value'
    assert rows(http, table) == held
    assert refused(http, table, {"code": "05"}, status=409) == TWICE
    assert change(http, table, held[1], {"code": "6"}).status_code == 200
    assert changed(http, table, "code", {"type": "integer"})["table_schema"]["code"] == {
        "type": "integer",
        "unique": True,
    }
    assert [row["code"] for row in rows(http, table)] == [5, 6, None, None]
    assert refused(http, table, {"code": " 6 "}, status=409) == TWICE
    insert(http, table, {"code": None})
    changed(http, table, "code", {"type": "varchar(9)"})
    assert refused(http, table, {"code": "6"}, status=409) == TWICE


def test_c052_a_unique_column_can_be_removed(http: Http) -> None:
    table = new_table(http, CODES)
    insert(http, table, {"code": "x"})
    answer = http.delete(route(table, "columns", "code"), bearer=http.admin)
    assert (answer.status_code, answer.json()["table_schema"]) == (200, {"n": {"type": "integer"}})
    added(http, table, name="code", type="text", default_value="same")
    insert(http, table, {"n": 2})
    assert [row["code"] for row in rows(http, table)] == ["same", "same"]


def test_a_system_column_can_be_adopted_as_unique(http: Http) -> None:
    table = new_table(http, {"n": {"type": "integer"}})
    then = "2001-02-03T04:05:06.000000+00:00"
    insert(http, table, {"n": 1, "created_at": then})
    twin = insert(http, table, {"n": 2, "created_at": then})
    table = read(http, table)
    answer = add(http, table, name="created_at", type="timestamp", unique=True)
    assert '"created_at"' in unchanged(http, table, answer, 409)
    assert change(http, table, twin, {"created_at": "2001-02-03"}).status_code == 200
    after = added(http, table, name="created_at", type="timestamp", unique=True)
    assert after["table_schema"]["created_at"] == {"type": "timestamp", "unique": True}
    assert refused(http, table, {"created_at": then}, status=409) == 'A row with this "created_at" already exists'
    assert added(http, table, name="id", type="uuid", unique=True)["table_schema"]["id"]["unique"] is True
    # Given back, it is what it was, and may be adopted again.
    assert http.delete(route(table, "columns", "created_at"), bearer=http.admin).status_code == 200
    insert(http, table, {"created_at": then})
    assert "unique" not in added(http, table, name="created_at", type="timestamp")["table_schema"]["created_at"]
    insert(http, table, {"created_at": then})


def test_an_adopted_unique_column_can_be_renamed_or_removed_with_nulls(http: Http) -> None:
    table = new_table(http, {"n": {"type": "integer"}})
    added(http, table, name="created_at", type="timestamp", nullable=True, unique=True)
    for number in range(2):
        insert(http, table, {"n": number, "created_at": None})
    assert http.delete(route(table, "columns", "created_at"), bearer=http.admin).status_code == 200
    assert len({row["created_at"] for row in rows(http, table)}) == 1
    added(http, table, name="updated_at", type="timestamp", unique=True)
    after = changed(http, table, "updated_at", {"new_name": "since"})
    assert after["table_schema"]["since"] == {"type": "timestamp", "unique": True}
    row = insert(http, table, {"n": 3, "since": "2001-02-03"})
    assert refused(http, table, {"since": row["since"]}, status=409) == 'A row with this "since" already exists'


def test_c124_one_of_many_equal_values_wins(http: Http) -> None:
    table = new_table(http, CODES, public=True)

    def put(_: int) -> Any:
        return http.post(route(table, "data"), json={"code": "x"})

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(put, range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert {answer.json()["detail"] for answer in answers if answer.status_code == 409} == {TWICE}
    assert read(http, table)["row_count"] == 1


def test_c124_rows_that_trade_their_values_never_break(http: Http) -> None:
    table = new_table(http, CODES)
    pair: List[Dict[str, Any]] = [insert(http, table, {"code": code}) for code in ("a", "b")]
    gate = threading.Barrier(2)

    def trade(number: int) -> List[int]:
        gate.wait(30)
        row = pair[number]
        return [change(http, table, row, {"code": code}).status_code for code in "abab"]

    with ThreadPoolExecutor(2) as pool:
        statuses = {status for found in pool.map(trade, range(2)) for status in found}
    assert 409 in statuses
    assert statuses <= {200, 409}
    assert sorted(row["code"] for row in rows(http, table)) == ["a", "b"]


def test_c122_a_folder_of_before_unique_columns_still_opens(make_server: Any, tmp_path: Path) -> None:
    server = make_server(path=tmp_path)
    http = Http(server)
    table = new_table(http, {"title": {"type": "text", "nullable": False}, "code": {"type": "text"}})
    insert(http, table, {"title": "x", "code": "same"})
    server.stop()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'selfdb.sqlite3'}")
    with engine.begin() as connection:
        stored = connection.exec_driver_sql("SELECT table_schema FROM _selfdb_tables").scalar_one()
        assert "unique" not in stored, "a layout without unique columns is what it always was"
    engine.dispose()
    http = Http(make_server(path=tmp_path))
    assert read(http, table)["table_schema"] == table["table_schema"]
    insert(http, table, {"title": "y", "code": "same"})
    added(http, table, name="key", type="text", unique=True)
    insert(http, table, {"title": "z", "code": "same", "key": "k"})
    assert refused(http, table, {"title": "z", "key": "k"}, status=409) == 'A row with this "key" already exists'


def test_c122_a_stored_layout_without_the_key_is_not_unique() -> None:
    stored = {
        "tag": "t",
        "next_number": 3,
        "columns": [
            {"name": "id", "number": 1, "declared": None, "system": True},
            {"name": "a", "number": 2, "declared": {"type": "text"}, "system": False},
        ],
    }
    layout = Layout.load(stored)
    assert [item.unique for item in layout.columns] == [True, False]
    assert layout.dump() == stored


def test_unique_columns_outlive_a_restart(make_server: Any, tmp_path: Path) -> None:
    server = make_server(path=tmp_path)
    http = Http(server)
    table = new_table(http, CODES)
    insert(http, table, {"code": "x"})
    server.stop()
    http = Http(make_server(path=tmp_path))
    assert read(http, table)["table_schema"] == CODES
    assert refused(http, table, {"code": "x"}, status=409) == TWICE


def test_the_description_knows_unique_columns(http: Http) -> None:
    schemas = http.get("/openapi.json").json()["components"]["schemas"]
    for name in ("AddColumn", "ColumnSpec", "ColumnDeclared"):
        flag = schemas[name]["properties"]["unique"]
        assert (flag["type"], flag["default"]) == ("boolean", False)
        assert "unique" not in schemas[name]["required"]
