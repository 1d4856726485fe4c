"""Columns over raw HTTP, on both databases: added, adopted, renamed, converted, removed."""

from __future__ import annotations

import uuid
from typing import Any, Dict, List

import pytest

from selfdb.server import datatables
from tests.server.tabledata import NOTES, changed, column, insert, new_table, read, refused, route, rows
from tests.support import Http


def add(http: Http, table: Dict[str, Any], **body: Any) -> Any:
    return http.post(route(table, "columns"), json=body, bearer=http.admin)


def added(http: Http, table: Dict[str, Any], **body: Any) -> Dict[str, Any]:
    answer = add(http, table, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def values(http: Http, table: Dict[str, Any], name: str) -> List[Any]:
    return [row[name] for row in rows(http, table)]


def test_c047_a_new_column_gives_old_rows_its_default(http: Http) -> None:
    table = new_table(http)
    for number in range(3):
        insert(http, table, {"title": f"t{number}"})
    after = added(http, table, name="status", type="text", nullable=False, default_value="new")
    assert after["table_schema"]["status"] == {"type": "text", "nullable": False, "default": "new"}
    assert after["columns"][-1] == {"name": "status", "type": "text", "nullable": False, "default": "new"}
    assert after["updated_at"] > table["updated_at"]
    assert read(http, table) == after
    assert values(http, table, "status") == ["new", "new", "new"]
    assert insert(http, table, {"title": "x"})["status"] == "new"
    assert insert(http, table, {"title": "x", "status": "own"})["status"] == "own"
    refused(http, table, {"title": "x", "status": None})


@pytest.mark.parametrize(
    "type_, default, stored",
    [
        ("integer", "5", 5),
        ("bigint", 2**40, 2**40),
        ("boolean", "t", True),
        ("boolean", False, False),
        ("timestamp", "2025-01-02", "2025-01-02T00:00:00.000000+00:00"),
        ("jsonb", {"b": 1, "a": [None]}, {"b": 1, "a": [None]}),
        ("jsonb", "now()", "now()"),
        ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("text", "now()", "now()"),
        ("text", "'; drop table x; --", "'; drop table x; --"),
        ("decimal", "1.005", 1.01),
        ("float", 1, 1.0),
        ("date", "2025-01-02", "2025-01-02"),
    ],
)
def test_c047_a_default_is_a_literal_of_the_type(http: Http, type_: str, default: Any, stored: Any) -> None:
    table = new_table(http, {"c": {"type": type_, "default": default}})
    assert table["table_schema"]["c"]["default"] == default
    insert(http, table, {"id": str(uuid.uuid4())})
    after = added(http, table, name="d", type=type_, default_value=default)
    assert after["table_schema"]["d"] == {"type": type_, "default": default}
    (row,) = rows(http, table)
    assert (row["c"], row["d"]) == (stored, stored)


def test_c047_functions_are_known_by_name(http: Http) -> None:
    schema = {
        "at": {"type": "timestamp", "default": "NOW()"},
        "then": {"type": "timestamp", "default": "current_timestamp"},
        "day": {"type": "date", "default": "now()"},
        "a": {"type": "uuid", "default": "gen_random_uuid()"},
        "b": {"type": "uuid", "default": " UUID_generate_v4() "},
    }
    table = new_table(http, schema)
    assert table["table_schema"] == schema
    first, second = insert(http, table, {"day": "2025-01-02"}), insert(http, table, {"b": None})
    assert first["at"] == first["then"] == first["created_at"]
    assert second["day"] == second["created_at"][:10]
    assert len({first["a"], first["b"], second["a"]}) == 3
    assert second["b"] is None
    added(http, table, name="each", type="uuid", nullable=False, default_value="gen_random_uuid()")
    assert len(set(values(http, table, "each"))) == 2
    added(http, table, name="since", type="timestamp", nullable=False, default_value="now()")
    assert len(set(values(http, table, "since"))) == 1


@pytest.mark.parametrize(
    "type_, default",
    [
        ("integer", "abc"),
        ("integer", True),
        ("integer", "now()"),
        ("integer", "1); drop table x"),
        ("boolean", 1),
        ("timestamp", "gen_random_uuid()"),
        ("timestamp", "pg_sleep(1)"),
        ("uuid", "now()"),
        ("varchar(3)", "four"),
        ("text", 5),
    ],
)
def test_c047_a_default_of_another_type_is_refused(http: Http, type_: str, default: Any) -> None:
    body = {"name": "never", "table_schema": {"c": {"type": type_, "default": default}}}
    answer = http.post("/tables/", json=body, bearer=http.admin)
    assert answer.status_code == 400
    assert '"c"' in answer.json()["detail"]
    table = new_table(http)
    assert add(http, table, name="c", type=type_, default_value=default).status_code == 400
    assert read(http, table) == table


def test_c047_older_names_of_a_default_are_understood(http: Http) -> None:
    table = new_table(http)
    body = {"name": "status", "type": "text", "nullable": True, "default": "x", "primary_key": False, "unique": False}
    assert added(http, table, **body)["table_schema"]["status"]["default"] == "x"
    assert changed(http, table, "status", {"default": "y"})["table_schema"]["status"]["default"] == "y"
    assert "unique" not in read(http, table)["table_schema"]["status"]


def test_c048_a_column_that_cannot_be_added_is_refused(http: Http) -> None:
    table = new_table(http)
    assert add(http, table, name="title", type="text").status_code == 409
    assert add(http, table, name="TITLE", type="text").status_code == 409
    assert add(http, table, name="ID", type="uuid").status_code == 409
    assert add(http, table, name="price", type="money").status_code == 422
    assert add(http, table, name="1st", type="text").status_code == 422
    assert add(http, table, name="x").status_code == 422
    assert read(http, table) == table
    added(http, table, name="early", type="text", nullable=False)
    insert(http, table, {"title": "x", "early": "y"})
    late = add(http, table, name="late", type="text", nullable=False)
    assert late.status_code == 400
    assert "late" not in read(http, table)["table_schema"]
    assert "late" not in rows(http, table)[0]


def test_c049_a_renamed_column_keeps_its_data(http: Http) -> None:
    table = new_table(http)
    insert(http, table, {"title": "kept", "amount": 5})
    after = changed(http, table, "title", {"new_name": "headline"})
    assert list(after["table_schema"]) == ["headline", "amount"]
    assert after["table_schema"]["headline"] == NOTES["title"]
    (row,) = rows(http, table, sort_by="headline", search="KEPT")
    assert row["headline"] == "kept"
    assert "title" not in row
    refused(http, table, {"title": "x", "headline": "y"})
    for taken in ("amount", "AMOUNT", "created_at", "id", "Updated_At"):
        assert column(http, table, "headline", {"new_name": taken}).status_code == 409
    assert column(http, table, "headline", {"new_name": "1st"}).status_code == 422
    assert column(http, table, "title", {"new_name": "x"}).status_code == 404
    assert changed(http, table, "headline", {"new_name": "HeadLine"})["columns"][0]["name"] == "HeadLine"
    # A name that is free again may be taken by another column, whose values are its own.
    added(http, table, name="title", type="integer", default_value=7)
    assert rows(http, table)[0].items() >= {"HeadLine": "kept", "title": 7, "amount": 5}.items()


def test_c049_columns_can_swap_their_names(http: Http) -> None:
    table = new_table(http, {"a": {"type": "text"}, "b": {"type": "integer"}})
    insert(http, table, {"a": "text", "b": 1})
    for old, new in (("a", "spare"), ("b", "a"), ("spare", "b")):
        changed(http, table, old, {"new_name": new})
    assert rows(http, table)[0].items() >= {"a": 1, "b": "text"}.items()
    assert read(http, table)["table_schema"] == {"b": {"type": "text"}, "a": {"type": "integer"}}


@pytest.mark.parametrize(
    "source, target, before, after",
    [
        ("integer", "text", [5, None, -7], ["5", None, "-7"]),
        ("text", "integer", ["5", " 42 ", None], [5, 42, None]),
        ("integer", "bigint", [5, 2**31 - 1], [5, 2**31 - 1]),
        ("bigint", "integer", [5, None], [5, None]),
        ("integer", "boolean", [1, 0, None], [True, False, None]),
        ("boolean", "text", [True, False], ["true", "false"]),
        ("text", "boolean", ["yes", "OFF"], [True, False]),
        ("integer", "float", [5], [5.0]),
        ("float", "integer", [5.0, -2.0], [5, -2]),
        ("float", "decimal", [0.125, -1.0], [0.13, -1.0]),
        ("decimal", "text", [12.5, 0.05], ["12.50", "0.05"]),
        ("text", "varchar(3)", ["abc", None], ["abc", None]),
        ("text", "timestamp", ["2025-01-02T03:04:05+01:00"], ["2025-01-02T02:04:05.000000+00:00"]),
        ("timestamp", "text", ["2025-01-02T03:04:05Z"], ["2025-01-02T03:04:05.000000+00:00"]),
        ("timestamp", "date", ["2025-01-02T03:04:05Z"], ["2025-01-02"]),
        ("date", "timestamp", ["2025-01-02"], ["2025-01-02T00:00:00.000000+00:00"]),
        ("text", "uuid", ["A0EEBC999C0B4EF8BB6D6BB9BD380A11"], ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        ("text", "jsonb", ["[1]", "x"], ["[1]", "x"]),
        ("jsonb", "text", [{"bb": 1, "a": [True, None]}, "x"], ['{"a": [true, null], "bb": 1}', "x"]),
        ("jsonb", "integer", [5, "6", None], [5, 6, None]),
    ],
)
def test_c050_values_are_cast(http: Http, source: str, target: str, before: List[Any], after: List[Any]) -> None:
    table = new_table(http, {"c": {"type": source}, "other": {"type": "text"}})
    for value in before:
        insert(http, table, {"c": value, "other": "kept"})
    reply = changed(http, table, "c", {"type": target})
    assert reply["table_schema"]["c"] == {"type": target}
    assert values(http, table, "c") == after
    assert [type(value) for value in values(http, table, "c")] == [type(value) for value in after]
    assert set(values(http, table, "other")) == {"kept"}
    assert read(http, table)["row_count"] == len(before)


@pytest.mark.parametrize(
    "source, target, before",
    [
        ("text", "integer", ["5", "abc", "7"]),
        ("text", "varchar(3)", ["abc", "abcd"]),
        ("bigint", "integer", [1, 2**31]),
        ("float", "integer", [1.0, 1.5]),
        ("integer", "boolean", [1, 5]),
        ("boolean", "integer", [True]),
        ("integer", "timestamp", [5]),
        ("text", "uuid", ["x"]),
        ("jsonb", "integer", [[1]]),
    ],
)
def test_c050_what_cannot_be_cast_changes_nothing(http: Http, source: str, target: str, before: List[Any]) -> None:
    table = new_table(http, {"c": {"type": source}})
    for value in before:
        insert(http, table, {"c": value})
    held, shown = rows(http, table), read(http, table)
    answer = column(http, table, "c", {"type": target, "new_name": "d"})
    assert answer.status_code == 400
    detail = answer.json()["detail"]
    assert '"c"' in detail
    assert "abc" not in detail
    assert rows(http, table) == held
    assert read(http, table) == shown
    insert(http, table, {"c": before[0]})


@pytest.mark.parametrize("count", [6, 7, 8])
def test_c050_rows_are_cast_chunk_by_chunk(http: Http, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(datatables, "CHUNK", 3)
    table = new_table(http, {"c": {"type": "integer"}})
    for number in range(count):
        insert(http, table, {"c": number})
    changed(http, table, "c", {"type": "text"})
    assert values(http, table, "c") == [str(number) for number in range(count)]
    added(http, table, name="each", type="uuid", default_value="gen_random_uuid()")
    assert len(set(values(http, table, "each"))) == count


def test_c050_a_default_goes_through_a_cast(http: Http) -> None:
    table = new_table(http, {"c": {"type": "integer", "default": 5}})
    assert changed(http, table, "c", {"type": "text"})["table_schema"]["c"] == {"type": "text", "default": "5"}
    assert insert(http, table, {"id": str(uuid.uuid4())})["c"] == "5"
    changed(http, table, "c", {"default_value": "abc", "type": "varchar"})
    shown = read(http, table)
    assert column(http, table, "c", {"type": "timestamp"}).status_code == 400
    assert read(http, table) == shown
    rows_now = rows(http, table)
    assert column(http, table, "c", {"type": "boolean", "default_value": None}).status_code == 400  # "5"
    assert rows(http, table) == rows_now
    after = changed(http, table, "c", {"type": "integer", "default_value": None})
    assert after["table_schema"]["c"] == {"type": "integer"}
    clock = new_table(http, {"c": {"type": "timestamp", "default": "now()"}})
    assert column(http, clock, "c", {"type": "text"}).status_code == 400
    assert changed(http, clock, "c", {"type": "date"})["table_schema"]["c"]["default"] == "now()"


def test_c050_an_id_can_change_its_type(http: Http) -> None:
    table = new_table(http, {"id": {"type": "integer"}})
    insert(http, table, {"id": 5})
    changed(http, table, "id", {"type": "text"})
    refused(http, table, {"id": "5"}, status=409)
    insert(http, table, {"id": "05"})
    assert column(http, table, "id", {"type": "integer"}).status_code == 409  # both would be 5
    assert values(http, table, "id") == ["5", "05"]
    assert column(http, table, "id", {"type": "jsonb"}).status_code == 400
    http.delete(route(table, "data", "05"), bearer=http.admin)
    changed(http, table, "id", {"type": "bigint"})
    assert insert(http, table, {"id": 9})["id"] == 9
    refused(http, table, {"id": 9}, status=409)


def test_c051_an_explicit_null_drops_the_default(http: Http) -> None:
    table = new_table(http, {"c": {"type": "integer", "nullable": True, "default": 5}})
    assert changed(http, table, "c", {})["table_schema"] == table["table_schema"]
    assert changed(http, table, "c", {"nullable": True}) == table
    after = changed(http, table, "c", {"default_value": None})
    assert after["table_schema"]["c"] == {"type": "integer", "nullable": True}
    assert insert(http, table, {"id": str(uuid.uuid4())})["c"] is None
    after = changed(http, table, "c", {"default_value": "7"})
    assert insert(http, table, {"id": str(uuid.uuid4())})["c"] == 7
    assert column(http, table, "c", {"default_value": "x"}).status_code == 400
    assert values(http, table, "c") == [None, 7]
    for key in ("new_name", "type", "nullable"):
        assert column(http, table, "c", {key: None}).status_code == 422


def test_c051_nullability_changes_with_the_rows(http: Http) -> None:
    table = new_table(http, {"c": {"type": "text"}})
    row = insert(http, table, {"c": None})
    shown = read(http, table)
    assert column(http, table, "c", {"nullable": False}).status_code == 400
    assert read(http, table) == shown
    http.patch(route(table, "data", row["id"]), json={"c": "x"}, bearer=http.admin)
    assert changed(http, table, "c", {"nullable": False})["table_schema"]["c"] == {"type": "text", "nullable": False}
    refused(http, table, {"c": None})
    refused(http, table, {"id": str(uuid.uuid4())})
    changed(http, table, "c", {"nullable": True})
    insert(http, table, {"c": None})


def test_c052_a_removed_column_is_gone(http: Http) -> None:
    table = new_table(http)
    insert(http, table, {"title": "x", "amount": 5})
    answer = http.delete(route(table, "columns", "amount"), bearer=http.admin)
    assert (answer.status_code, answer.json()["table_schema"]) == (200, {"title": NOTES["title"]})
    assert "amount" not in rows(http, table)[0]
    refused(http, table, {"title": "x", "amount": 5})
    assert http.delete(route(table, "columns", "amount"), bearer=http.admin).status_code == 404
    assert http.delete(route(table, "columns", "Title"), bearer=http.admin).status_code == 404
    # The same name may come back, empty.
    added(http, table, name="amount", type="text")
    assert rows(http, table)[0]["amount"] is None


@pytest.mark.parametrize(
    "schema", [NOTES, {"id": {"type": "uuid"}}, {"id": {"type": "integer"}, "a": {"type": "text"}}]
)
def test_c052_id_stays(http: Http, schema: Dict[str, Any]) -> None:
    table = new_table(http, schema)
    assert http.delete(route(table, "columns", "id"), bearer=http.admin).status_code == 400
    assert column(http, table, "id", {"new_name": "key"}).status_code == 400
    for name in ("created_at", "updated_at"):
        assert http.delete(route(table, "columns", name), bearer=http.admin).status_code == 400
        assert column(http, table, name, {"new_name": "x"}).status_code == 400
    assert read(http, table) == table


@pytest.mark.parametrize(
    "name", ["select", "Order", "seq", "c1", "row_value", "_", "table", "MixedCase", "limit", "id_1"]
)
def test_c053_any_legal_name_works_everywhere(http: Http, name: str) -> None:
    table = new_table(http, {name: {"type": "text"}, "other": {"type": "integer"}})
    for text in ("beta", "Alpha", None):
        insert(http, table, {name: text})
    assert [row[name] for row in rows(http, table, sort_by=name, sort_order="asc")] == ["Alpha", "beta", None]
    assert [row[name] for row in rows(http, table, search="ALPHA")] == ["Alpha"]
    answer = http.patch(
        route(table, "data", "beta"), params={"id_column": name}, json={name: "gamma"}, bearer=http.admin
    )
    assert (answer.status_code, answer.json()[name]) == (200, "gamma")
    changed(http, table, name, {"type": "varchar(9)", "nullable": True, "default_value": "d"})
    changed(http, table, name, {"new_name": name + "2"})
    answer = http.delete(route(table, "data", "gamma"), params={"id_column": name + "2"}, bearer=http.admin)
    assert answer.status_code == 204
    assert http.delete(route(table, "columns", name + "2"), bearer=http.admin).status_code == 200
    assert set(rows(http, table)[0]) == {"id", "created_at", "updated_at", "other"}


def test_a_system_column_is_adopted_by_its_type_only(http: Http) -> None:
    table = new_table(http)
    before = insert(http, table, {"title": "x"})
    assert add(http, table, name="created_at", type="text").status_code == 409
    assert add(http, table, name="id", type="integer").status_code == 409
    after = added(http, table, name="created_at", type="timestamp")
    assert after["table_schema"]["created_at"] == {"type": "timestamp"}
    assert rows(http, table) == [before]
    assert insert(http, table, {"title": "y"})["created_at"] > before["created_at"]
    assert add(http, table, name="created_at", type="timestamp").status_code == 409
    assert added(http, table, name="id", type="uuid", nullable=False)["table_schema"]["id"]
    # Given back, it stays what it was.
    http.delete(route(table, "columns", "created_at"), bearer=http.admin)
    assert "created_at" not in read(http, table)["table_schema"]
    assert rows(http, table)[0] == before


def test_a_system_column_returns_when_what_replaced_it_goes(http: Http) -> None:
    table = new_table(http, {"created_at": {"type": "text"}, "a": {"type": "text"}})
    row = insert(http, table, {"created_at": "long ago", "a": "x"})
    assert row["created_at"] == "long ago"
    changed(http, table, "created_at", {"new_name": "since"})
    (row,) = rows(http, table)
    assert row["since"] == "long ago"
    assert row["created_at"].endswith("+00:00")
    assert list(read(http, table)["table_schema"]) == ["since", "a"]
