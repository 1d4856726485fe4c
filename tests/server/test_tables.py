"""Tables over raw HTTP, on both databases: life, names, permissions, lists."""

from __future__ import annotations

import threading
import uuid
from typing import Any, Dict, List

import pytest

from tests.server.tabledata import NOTES, insert, new_table, page, read, route, rows
from tests.support import Http, unique

FIELDS = {
    "id",
    "name",
    "table_schema",
    "public",
    "realtime_enabled",
    "owner_id",
    "description",
    "metadata",
    "row_count",
    "created_at",
    "updated_at",
    "realtime",
    "schema_name",
    "columns",
}


def test_c036_a_table_is_created_with_the_flat_schema(http: Http) -> None:
    schema = {
        "name": {"type": "text", "nullable": False},
        "age": {"type": "integer", "nullable": True},
        "active": {"type": "boolean", "nullable": True, "default": True},
        "nick": {"type": "VARCHAR(20)"},
    }
    body = {
        "name": unique("t"),
        "table_schema": schema,
        "public": False,
        "description": "people",
        "metadata": {"icon": "☺", "n": [1, {"a": None}]},
    }
    answer = http.post("/tables/", json=body, bearer=http.admin)
    assert answer.status_code == 201
    table = answer.json()
    assert set(table) == FIELDS
    assert {key: table[key] for key in body} == body
    assert list(table["table_schema"]) == list(schema)
    assert table["columns"] == [
        {"name": "name", "type": "text", "nullable": False, "default": None},
        {"name": "age", "type": "integer", "nullable": True, "default": None},
        {"name": "active", "type": "boolean", "nullable": True, "default": True},
        {"name": "nick", "type": "VARCHAR(20)", "nullable": True, "default": None},
    ]
    assert table["owner_id"] == http.get("/users/me", bearer=http.admin).json()["id"]
    assert (table["realtime_enabled"], table["realtime"], table["row_count"]) == (False, False, 0)
    assert table["schema_name"] == "public"
    assert table["created_at"] == table["updated_at"]
    assert table["created_at"].endswith("+00:00")
    assert str(uuid.UUID(table["id"])) == table["id"]
    assert read(http, table) == table


def test_c037_a_json_schema_document_is_refused(http: Http) -> None:
    document = {"type": "object", "properties": {"name": {"type": "string"}}}
    answer = http.post("/tables/", json={"name": unique("t"), "table_schema": document}, bearer=http.admin)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "changes",
    [
        {"table_schema": {"price": {"type": "money"}}},
        {"table_schema": {"price": {"type": "varchar(0)"}}},
        {"table_schema": {"price": {"type": "text; drop table x"}}},
        {"table_schema": {"price": {"type": 5}}},
        {"table_schema": {"price": {"type": "text", "size": 5}}},
        {"table_schema": {"price": {"type": "text", "nullable": "yes"}}},
        {"table_schema": {"price": {}}},
        {"table_schema": {}},
        {"table_schema": {"1st": {"type": "text"}}},
        {"table_schema": {"a-b": {"type": "text"}}},
        {"table_schema": {"": {"type": "text"}}},
        {"table_schema": {"ä": {"type": "text"}}},
        {"table_schema": {"c" * 64: {"type": "text"}}},
        {"table_schema": {"a": {"type": "text"}, "A": {"type": "text"}}},
        {"table_schema": {"a": {"type": "text"}, " a ": {"type": "text"}}},
        {"table_schema": {"ID": {"type": "uuid"}}},
        {"table_schema": {"id": {"type": "jsonb"}}},
        {"table_schema": {f"c{number}": {"type": "text"} for number in range(401)}},
        {"name": "1abc"},
        {"name": "Abc"},
        {"name": "a" * 64},
        {"name": "abc\n"},
        {"name": ""},
        {"name": None},
        {"name": "a b"},
        {"public": None},
        {"public": "yes"},
        {"description": "d" * 501},
        {"metadata": []},
        {"schema": {}},
    ],
)
def test_c038_what_is_no_table_is_refused(http: Http, changes: Dict[str, Any]) -> None:
    body = {"name": unique("t"), "table_schema": NOTES, **changes}
    answer = http.post("/tables/", json=body, bearer=http.admin)
    assert answer.status_code == 422, answer.text
    assert {tuple(sorted(finding)) for finding in answer.json()["detail"]} == {("loc", "msg", "type")}
    listed = http.get("/tables/", params={"search": body["name"] or "~", "limit": 1000}, bearer=http.admin)
    assert body["name"] not in [table["name"] for table in listed.json()]


def test_c038_the_longest_names_work(http: Http) -> None:
    name = unique("n").ljust(63, "x")
    table = new_table(http, {"c" * 63: {"type": "text"}}, name=name)
    assert table["name"] == name
    insert(http, table, {"c" * 63: "x"})


def test_c038_the_most_columns_hold_a_row_of_long_texts(http: Http) -> None:
    names = [f"c{number}" for number in range(400)]
    table = new_table(http, {name: {"type": "text"} for name in names})
    # Texts that do not compress, so that PostgreSQL has to keep each apart from its row.
    row = {name: uuid.uuid4().hex * 70 for name in names}
    assert insert(http, table, row).items() >= row.items()
    assert rows(http, table)[0].items() >= row.items()
    one_more = http.post(route(table, "columns"), json={"name": "more", "type": "text"}, bearer=http.admin)
    assert one_more.status_code == 400


def test_c038_blanks_around_a_column_name_are_stripped(http: Http) -> None:
    table = new_table(http, {"  name ": {"type": "text"}})
    assert table["table_schema"] == {"name": {"type": "text"}}


def test_c039_a_table_named_users_harms_nobody(make_server: Any, backend: str) -> None:
    http = Http(make_server(backend=backend))
    before = http.get("/users/count", bearer=http.admin).json()
    for name in ("users", "tables", "select", "order", "_selfdb_users"[1:], "t"):
        table = new_table(http, {"email": {"type": "text"}}, name=name)
        insert(http, table, {"email": "x@example.com"})
        assert rows(http, table)[0]["email"] == "x@example.com"
    assert http.get("/users/count", bearer=http.admin).json() == before
    assert http.login()


def test_c040_a_duplicate_name_is_refused(http: Http) -> None:
    table = new_table(http)
    insert(http, table, {"title": "first"})
    again = http.post(
        "/tables/", json={"name": table["name"], "table_schema": {"x": {"type": "text"}}}, bearer=http.admin
    )
    assert (again.status_code, again.json()) == (409, {"detail": "Table name already exists"})
    assert [row["title"] for row in rows(http, table)] == ["first"]


def test_c040_of_many_at_once_one_gets_the_name(http: Http) -> None:
    name, admin = unique("t"), http.admin
    statuses: List[int] = []
    barrier = threading.Barrier(6)

    def create() -> None:
        barrier.wait(30)
        body = {"name": name, "table_schema": NOTES}
        statuses.append(http.post("/tables/", json=body, bearer=admin).status_code)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [201, 409, 409, 409, 409, 409]


def test_c041_nobody_creates_a_table_unnamed(http: Http) -> None:
    answer = http.post("/tables/", json={"name": unique("t"), "table_schema": NOTES})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    # Who is asking is settled before what is asked for.
    assert http.post("/tables/", data=b"{", headers={"Content-Type": "application/json"}).status_code == 401


def test_c042_realtime_is_switched_by_its_own_name(http: Http) -> None:
    table = new_table(http)
    answer = http.patch(route(table), json={"realtime_enabled": True}, bearer=http.admin)
    assert answer.status_code == 200
    after = answer.json()
    assert (after["realtime_enabled"], after["realtime"]) == (True, True)
    changed = {"realtime_enabled", "realtime", "updated_at"}
    assert {key: after[key] for key in FIELDS - changed} == {key: table[key] for key in FIELDS - changed}
    assert after["updated_at"] > table["updated_at"]
    assert http.patch(route(table), json={"realtime": True}, bearer=http.admin).status_code == 422


def test_c042_an_empty_change_changes_nothing(http: Http) -> None:
    table = new_table(http)
    answer = http.patch(route(table), json={}, bearer=http.admin)
    assert (answer.status_code, answer.json()) == (200, table)


def test_c042_null_clears_what_may_be_empty(http: Http) -> None:
    table = new_table(http, description="d", metadata={"a": 1})
    answer = http.patch(route(table), json={"description": None, "metadata": None}, bearer=http.admin)
    assert (answer.json()["description"], answer.json()["metadata"]) == (None, None)
    for key in ("name", "public", "realtime_enabled"):
        assert http.patch(route(table), json={key: None}, bearer=http.admin).status_code == 422


def test_c043_a_renamed_table_keeps_its_rows_and_frees_its_name(http: Http) -> None:
    table = new_table(http)
    insert(http, table, {"title": "kept"})
    name = unique("t")
    answer = http.patch(route(table), json={"name": name}, bearer=http.admin)
    assert (answer.status_code, answer.json()["name"]) == (200, name)
    assert read(http, table)["name"] == name
    assert [row["title"] for row in rows(http, table)] == ["kept"]
    other = new_table(http, name=table["name"])
    assert rows(http, other) == []
    clash = http.patch(route(other), json={"name": name}, bearer=http.admin)
    assert (clash.status_code, clash.json()) == (409, {"detail": "Table name already exists"})


def test_c044_a_private_table_is_its_owners(http: Http) -> None:
    _, owner = http.new_user()
    _, stranger = http.new_user()
    table = new_table(http, bearer=owner)
    data = route(table, "data")
    anonymous = http.get(route(table))
    assert anonymous.status_code == 401
    assert anonymous.headers["WWW-Authenticate"] == "Bearer"
    assert http.get(data).status_code == 401
    assert http.post(data, json={"title": "x"}).status_code == 401
    refusal = http.get(route(table), bearer=stranger)
    assert (refusal.status_code, refusal.json()) == (403, {"detail": "You do not have access to this table"})
    assert http.get(data, bearer=stranger).status_code == 403
    assert http.post(data, json={"title": "x"}, bearer=stranger).status_code == 403
    assert http.patch(route(table), json={"public": True}, bearer=stranger).status_code == 403
    assert http.delete(route(table), bearer=stranger).status_code == 403
    assert http.post(route(table, "columns"), json={"name": "n", "type": "text"}, bearer=stranger).status_code == 403
    for bearer in (owner, http.admin):
        assert http.get(route(table), bearer=bearer).json()["id"] == table["id"]
        assert http.post(data, json={"title": "x"}, bearer=bearer).status_code == 201
        assert http.get(data, bearer=bearer).status_code == 200
    query = {"search": table["name"]}
    for bearer, seen in ((None, 0), (stranger, 0), (owner, 1), (http.admin, 1)):
        assert len(http.get("/tables/", params=query, bearer=bearer).json()) == seen
        assert http.get("/tables/count", params=query, bearer=bearer).json() == {"count": seen}
    assert http.patch(route(table), json={"public": True}, bearer=owner).status_code == 200
    for bearer in (None, stranger):
        assert http.get(route(table), bearer=bearer).status_code == 200
        assert http.get("/tables/count", params=query, bearer=bearer).json() == {"count": 1}


def test_c044_only_the_owner_and_administrators_change_a_public_table(http: Http) -> None:
    _, owner = http.new_user()
    _, stranger = http.new_user()
    table = new_table(http, bearer=owner, public=True)
    for method, path, body in (
        ("PATCH", route(table), {"description": "x"}),
        ("POST", route(table, "columns"), {"name": "more", "type": "text"}),
        ("PATCH", route(table, "columns", "amount"), {"type": "bigint"}),
        ("DELETE", route(table, "columns", "amount"), None),
        ("DELETE", route(table), None),
    ):
        assert http.request(method, path, json=body).status_code == 401
        refusal = http.request(method, path, json=body, bearer=stranger)
        assert (refusal.status_code, refusal.json()) == (403, {"detail": "You can only modify tables you own"})
    assert read(http, table) == table
    assert http.patch(route(table), json={"description": "x"}, bearer=owner).status_code == 200
    assert http.delete(route(table), bearer=http.admin).status_code == 204


def test_c045_lists_are_stable_pages_without_overlap(http: Http) -> None:
    mark = unique("m")
    tables = [new_table(http, name=f"{mark}_{number}") for number in (3, 1, 4, 0, 2)]
    by_name = sorted(table["name"] for table in tables)

    def names(**query: Any) -> List[str]:
        answer = http.get("/tables/", params={"search": mark, **query}, bearer=http.admin)
        assert answer.status_code == 200
        return [table["name"] for table in answer.json()]

    assert names(sort_by="name", sort_order="asc") == by_name
    assert names(sort_by="name", sort_order="desc") == by_name[::-1]
    assert names(sort_by="name") == by_name[::-1]
    assert names() == [table["name"] for table in reversed(tables)]
    assert names(sort_by="created_at", sort_order="asc") == [table["name"] for table in tables]
    pages = [names(sort_by="name", sort_order="asc", skip=skip, limit=2) for skip in (0, 2, 4, 6)]
    assert pages == [by_name[:2], by_name[2:4], by_name[4:], []]
    http.patch(route(tables[1]), json={"description": "changed"}, bearer=http.admin)
    assert names(sort_by="updated_at", limit=1) == [tables[1]["name"]]


def test_c045_search_looks_into_name_and_description_literally(http: Http) -> None:
    mark = unique("m")
    found = new_table(http, description=f"Über {mark.upper()} 50%")
    new_table(http, name=f"{mark}x")

    def names(search: str) -> List[str]:
        return [item["name"] for item in http.get("/tables/", params={"search": search}, bearer=http.admin).json()]

    assert names(f"üBER {mark}") == [found["name"]]
    assert names(f"{mark} 50%") == [found["name"]]
    assert names(f"{mark[:-1]}_") == []
    assert names(f"{mark}%") == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 1001},
        {"skip": -1},
        {"skip": 2**31},
        {"sort_by": "owner_id"},
        {"sort_order": "up"},
        {"search": "x" * 101},
    ],
)
def test_c045_list_parameters_out_of_bounds_are_refused(http: Http, query: Dict[str, Any]) -> None:
    assert http.get("/tables/", params=query, bearer=http.admin).status_code == 422


def test_c045_unknown_query_keys_are_refused(http: Http) -> None:
    table = new_table(http)
    for path in ("/tables/", "/tables/count", route(table, "data")):
        answer = http.get(path, params={"b": 1, "search": "x", "a": 2}, bearer=http.admin)
        assert (answer.status_code, answer.json()) == (400, {"detail": "Unknown query parameters: b, a"})


def test_c046_a_deleted_table_is_gone_and_its_name_free(http: Http) -> None:
    table = new_table(http)
    insert(http, table, {"title": "x"})
    answer = http.delete(route(table), bearer=http.admin)
    assert (answer.status_code, answer.content) == (204, b"")
    gone = http.get(route(table), bearer=http.admin)
    assert (gone.status_code, gone.json()) == (404, {"detail": "Table not found"})
    assert http.delete(route(table), bearer=http.admin).status_code == 404
    again = new_table(http, name=table["name"])
    assert again["id"] != table["id"]
    assert page(http, again) == {"data": [], "total": 0, "page": 1, "page_size": 100}
    assert again["row_count"] == 0


@pytest.mark.parametrize(
    "table_id", ["nonexistent-id", "00000000-0000-4000-8000-000000000000", "%00", "%ff", "x" * 300]
)
def test_c046_an_unknown_or_malformed_id_is_not_found(http: Http, table_id: str) -> None:
    path = f"/tables/{table_id}"
    for method, rest, body in (
        ("GET", "", None),
        ("PATCH", "", {}),
        ("DELETE", "", None),
        ("GET", "/data", None),
        ("POST", "/data", {"a": 1}),
        ("PATCH", "/data/1", {"a": 1}),
        ("DELETE", "/data/1", None),
        ("POST", "/columns", {"name": "a", "type": "text"}),
        ("PATCH", "/columns/a", {}),
        ("DELETE", "/columns/a", None),
    ):
        answer = http.request(method, path + rest, json=body, bearer=http.admin)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Table not found"})


def test_a_deleted_user_takes_the_tables_along(http: Http) -> None:
    user, bearer = http.new_user()
    table = new_table(http, bearer=bearer, public=True)
    http.post(route(table, "data"), json={"title": "x"}, bearer=bearer)
    assert http.delete(f"/users/{user['id']}", bearer=http.admin).status_code == 204
    assert http.get(route(table), bearer=http.admin).status_code == 404
    assert http.get(route(table, "data")).status_code == 404
    new_table(http, name=table["name"])


def test_a_write_with_an_idempotency_key_happens_once(http: Http) -> None:
    table = new_table(http, public=True)
    headers = {"Idempotency-Key": unique("k")}
    answers = [http.post(route(table, "data"), json={"title": "x"}, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert page(http, table)["total"] == 1
    assert read(http, table)["row_count"] == 1
    # Whoever may not insert any more is not told what an insert once answered.
    http.patch(route(table), json={"public": False}, bearer=http.admin)
    assert http.post(route(table, "data"), json={"title": "x"}, headers=headers).status_code == 401
