"""Writes against PostgREST: what each sends, what comes back, what the table holds then."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Callable, List, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel

from selfdb.aerodb import filters
from tests.aerodb.kit import invalid, parameters, refused, rows, sent
from tests.servers.postgrest import PostgRest

Sql = Callable[..., Any]


class Person(BaseModel):
    id: Optional[int] = None
    name: str
    role: str = "nobody"


@dataclass
class Note:
    text: str


def people(sql: Sql) -> List[Any]:
    return list(sql("SELECT * FROM users ORDER BY id"))


def test_c054_a_dict_is_inserted(db: Any, rest: PostgRest, sql: Sql) -> None:
    response = db.from_("users").insert({"name": "new", "role": "user"})
    (row,) = rows(response)
    assert (row["id"], row["name"], row["role"], row["tags"], response.status) == (9, "new", "user", [], 201)
    assert rest.lines == ["POST /rest/v1/users"]
    assert rest.requests[0].body == b'{"name":"new","role":"user"}'
    assert rest.requests[0].header("Prefer") == "return=representation"
    assert rest.requests[0].header("Content-Type") == "application/json"
    assert sql("SELECT name FROM users WHERE id = 9") == [("new",)]


@pytest.mark.parametrize("kind", [list, tuple])
def test_c054_a_list_is_inserted(db: Any, rest: PostgRest, kind: Any) -> None:
    response = db.from_("users").insert(kind([{"name": "one"}, {"name": "two"}]))
    assert [(row["id"], row["name"]) for row in rows(response)] == [(9, "one"), (10, "two")]
    assert rest.requests[0].query == ""


def test_c054_nothing_is_inserted(db: Any, sql: Sql) -> None:
    response = db.from_("users").insert([])
    assert (rows(response), response.status) == ([], 201)
    assert len(people(sql)) == 8


def test_c054_columns_of_what_comes_back(db: Any, rest: PostgRest) -> None:
    assert rows(db.from_("users").select("id, name").insert({"name": "new"})) == [{"id": 9, "name": "new"}]
    assert sent(rest) == {"select": "id,name"}


def test_c054_one_row_comes_back_as_itself(db: Any) -> None:
    assert rows(db.from_("users").select("id").single().insert({"name": "new"})) == {"id": 9}
    assert rows(db.from_("users").select("id").maybe_single().insert({"name": "new"})) == {"id": 10}


def test_c054_two_rows_for_single_change_nothing(db: Any, sql: Sql) -> None:
    error = refused(db.from_("users").single().insert([{"name": "one"}, {"name": "two"}]))
    assert (error.status, error.code) == (406, "PGRST116")
    assert len(people(sql)) == 8


def test_c054_a_count_of_what_was_inserted(db: Any, rest: PostgRest) -> None:
    response = db.from_("users").insert([{"name": "one"}, {"name": "two"}], count="exact")
    assert (len(rows(response)), response.count) == (2, 2)
    assert rest.requests[0].header("Prefer") == "return=representation,count=exact"
    assert db.from_("users").select("id", count="exact").insert({"name": "three"}).count == 1


@pytest.mark.parametrize("verb", ["update", "delete"])
@pytest.mark.parametrize("returning", ["representation", "minimal"])
def test_c059_a_count_of_what_was_changed(db: Any, rest: PostgRest, verb: str, returning: str) -> None:
    query = db.from_("comments").eq("post_id", 1)
    data = () if verb == "delete" else ({"text": "other"},)
    response = getattr(query, verb)(*data, returning=returning, count="exact")
    assert (len(rows(response)), response.count) == (2 if returning == "representation" else 0, 2)
    assert rest.requests[0].header("Prefer") == f"return={returning},count=exact"


def test_c058_upsert_of_nothing(db: Any, sql: Sql) -> None:
    assert rows(db.from_("users").upsert([])) == []
    assert len(people(sql)) == 8


def test_c054_every_type_that_json_lacks(db: Any, sql: Sql) -> None:
    when = datetime(2024, 1, 1, tzinfo=timezone.utc)
    row = {"name": UUID(int=1), "ts": when, "balance": Decimal("0.1"), "meta": {"a": [1, None]}, "tags": ["x,y", ""]}
    (found,) = rows(db.from_("users").select("name, ts, balance, meta, tags").insert(row))
    assert found == {**row, "name": str(UUID(int=1)), "ts": "2024-01-01T00:00:00+00:00", "balance": 0.1}


def test_c054_a_model_sends_what_was_set(db: Any, rest: PostgRest) -> None:
    (row,) = rows(db.from_("users").insert(Person(name="new")))
    assert (row["id"], row["role"]) == (9, None)
    assert json.loads(rest.requests[0].body) == {"name": "new"}
    (row,) = rows(db.from_("users").insert([Person(name="other", role="x")]))
    assert (row["id"], row["role"]) == (10, "x")


def test_c054_a_dataclass(db: Any) -> None:
    assert rows(db.from_("notes").select("text").insert(Note("hi"))) == [{"text": "hi"}]


def test_c055_rows_that_differ(db: Any, rest: PostgRest) -> None:
    data = [{"name": "one", "age": 1}, {"name": "two", "role": "user", "full name": "T,w.o"}]
    found = rows(db.from_("users").select("name, age, role, balance, full name").insert(data))
    assert found == [
        {"name": "one", "age": 1, "role": None, "balance": 100, "full name": None},
        {"name": "two", "age": None, "role": "user", "balance": 100, "full name": "T,w.o"},
    ]
    assert sent(rest)["columns"] == 'name,age,role,"full name"'


@pytest.mark.parametrize("missing_default, balance", [(False, None), (True, 100)])
def test_c055_what_a_row_lacks(db: Any, rest: PostgRest, missing_default: bool, balance: Any) -> None:
    data = [{"name": "one", "balance": 5}, {"name": "two"}]
    found = rows(db.from_("users").select("balance").insert(data, missing_default=missing_default))
    assert found == [{"balance": 5}, {"balance": balance}]
    wishes = "return=representation,missing=default" if missing_default else "return=representation"
    assert rest.requests[0].header("Prefer") == wishes


ODD = ["a,b", "c.d", 'e"f', "g\\h", "(i)", "k:l", "m n", "ü", "o-p", "1q", "select", "r->s", "limit", "T", "*"]


@pytest.mark.parametrize("name", ODD)
def test_c055_columns_of_any_name(db: Any, sql: Sql, name: str) -> None:
    assert rows(db.from_("odd").insert([{name: 1}, {name: 2, "other": 9}, {"other": 10}]))[1][name] == 2
    at = name.replace('"', '""')
    assert sql(f'SELECT "{at}" FROM odd ORDER BY "{at}" NULLS LAST') == [(1,), (2,), (None,)]


def test_c055_columns_of_all_names(db: Any) -> None:
    found = rows(db.from_("odd").insert([{name: 1} for name in ODD]))
    assert [[name for name, value in row.items() if name != "id" and value == 1] for row in found] == [[n] for n in ODD]


@pytest.mark.parametrize("name", ODD[:-1])  # a column called "*" cannot be selected at all
def test_c046_columns_of_any_name_are_filtered_in_quotes(db: Any, name: str) -> None:
    assert db.from_("odd").insert([{name: 1}, {name: 2}]).ok
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    column = f'"{escaped}"'
    for query in (
        db.from_("odd").eq(column, 2),
        db.from_("odd").in_(column, [2, 3]),
        db.from_("odd").or_(filters.eq(column, 2), filters.gt(column, 5)),
        db.from_("odd").select(f"id, {column}").in_(column, [2, None]).order(column).limit(1),
    ):
        assert [row[name] for row in rows(query.execute())] == [2]
    walked = [row[name] for row in db.from_("odd").stream(size=1, key=column)]
    assert walked == [1, 2]


@pytest.mark.parametrize("columns", ["name, age", ["name", "age"], ("name", "age")])
def test_c055_named_columns(db: Any, rest: PostgRest, columns: Any) -> None:
    data = [{"name": "one", "role": "left out"}, {"name": "two", "age": 2}]
    found = rows(db.from_("users").select("name, age, role").insert(data, columns=columns))
    assert found == [{"name": "one", "age": None, "role": None}, {"name": "two", "age": 2, "role": None}]
    assert sent(rest)["columns"] == "name,age"


def test_c055_rows_alike_need_no_columns(db: Any, rest: PostgRest) -> None:
    assert db.from_("users").insert([{"name": "one", "age": 1}, {"age": 2, "name": "two"}]).ok
    assert rest.requests[0].query == ""


@pytest.mark.parametrize("columns", ["", [], [""], 5, [5], {"name": 1}])
def test_c055_other_columns_are_refused(db: Any, rest: PostgRest, columns: Any) -> None:
    invalid(rest, db.from_("users").insert({"name": "x"}, columns=columns))


def test_c056_a_duplicate(db: Any, sql: Sql) -> None:
    error = refused(db.from_("users").insert({"name": "x", "email": "alice@example.com"}))
    assert (error.status, error.code, error.may_have_been_applied) == (409, "23505", False)
    assert error.details == "Key (email)=(alice@example.com) already exists."
    assert len(people(sql)) == 8


def test_c056_an_unknown_column(db: Any) -> None:
    error = refused(db.from_("users").insert({"name": "x", "nowhere": 1}))
    assert (error.status, error.code) == (400, "PGRST204")


def test_c056_a_wrong_literal(db: Any) -> None:
    assert refused(db.from_("users").insert({"name": "x", "age": "old"})).code == "22P02"


@pytest.mark.parametrize(
    "data", [5, "x", None, [5], ["x"], [[]], {"a"}, b"{}", iter([{}]), {5: 1}, [{"a": 1}, {5: 1}], Person, [None]]
)
@pytest.mark.parametrize("verb", ["insert", "upsert", "update"])
def test_c057_other_data_are_refused(db: Any, rest: PostgRest, verb: str, data: Any) -> None:
    invalid(rest, getattr(db.from_("users").all_rows(), verb)(data))


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a\n", "a\0", "a\ud800"])
@pytest.mark.parametrize("verb", ["insert", "upsert", "update"])
def test_c057_names_of_columns_are_checked(db: Any, rest: PostgRest, verb: str, name: str) -> None:
    query = db.from_("users").all_rows()
    invalid(rest, getattr(query, verb)({"age": 1, name: 1}))
    if verb != "update":
        invalid(rest, getattr(query, verb)([{"age": 1}, {name: 1}]))


@pytest.mark.parametrize("data", [[], [{"age": 1}]])
def test_c057_a_list_is_no_update(db: Any, rest: PostgRest, data: Any) -> None:
    invalid(rest, db.from_("users").eq("id", 1).update(data))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), datetime(2024, 1, 1), b"x", "\ud800", object()])
@pytest.mark.parametrize("verb", ["insert", "upsert", "update"])
def test_c057_values_without_a_form_are_refused(db: Any, rest: PostgRest, verb: str, value: Any) -> None:
    message = invalid(
        rest, getattr(db.from_("users").eq("id", 1) if verb == "update" else db.from_("users"), verb)({"name": value})
    )
    assert message


def test_c058_upsert_updates_what_exists(db: Any, rest: PostgRest) -> None:
    data = [{"name": "Al", "email": "alice@example.com"}, {"name": "new", "email": "new@example.com"}]
    response = db.from_("users").select("id, name, role").upsert(data, on_conflict="email")
    found = rows(response)
    assert found[0] == {"id": 1, "name": "Al", "role": "admin"}
    assert (found[1]["name"], len(found), response.status) == ("new", 2, 201)
    assert sent(rest) == {"select": "id,name,role", "on_conflict": "email"}
    assert rest.requests[0].header("Prefer") == "return=representation,resolution=merge-duplicates"


def test_c058_upsert_of_what_exists_alone(db: Any, rest: PostgRest) -> None:
    response = db.from_("users").select("id, name").upsert({"id": 1, "name": "Al"})
    assert (rows(response), response.status) == ([{"id": 1, "name": "Al"}], 200)
    assert "on_conflict" not in rest.requests[0].query


def test_c058_duplicates_are_ignored(db: Any, rest: PostgRest, sql: Sql) -> None:
    data = {"name": "Al", "email": "alice@example.com"}
    assert rows(db.from_("users").upsert(data, on_conflict=["email"], ignore_duplicates=True)) == []
    assert rest.requests[0].header("Prefer") == "return=representation,resolution=ignore-duplicates"
    assert sql("SELECT name FROM users WHERE id = 1") == [("Alice",)]


def test_c058_columns_go_before_the_conflict(db: Any, rest: PostgRest) -> None:
    data = [{"name": "Al", "email": "alice@example.com"}, {"name": "new", "age": 1}]
    assert db.from_("users").upsert(data, on_conflict="email", missing_default=True, count="exact").ok
    assert parameters(rest) == [("columns", "name,email,age"), ("on_conflict", "email")]
    assert rest.requests[0].header("Prefer") == (
        "return=representation,resolution=merge-duplicates,missing=default,count=exact"
    )


@pytest.mark.parametrize(
    "options", [{"on_conflict": ""}, {"on_conflict": 5}, {"ignore_duplicates": 1}, {"returning": "all"}]
)
def test_c058_other_arguments_are_refused(db: Any, rest: PostgRest, options: Any) -> None:
    invalid(rest, db.from_("users").upsert({"name": "x"}, **options))


def test_c059_update_returns_what_it_changed(db: Any, rest: PostgRest, sql: Sql) -> None:
    response = db.from_("users").select("id, age").eq("role", "admin").update({"age": 1})
    assert (sorted(row["id"] for row in rows(response)), response.status) == ([1, 7], 200)
    assert sql("SELECT count(*) FROM users WHERE age = 1") == [(2,)]
    assert rest.lines == ["PATCH /rest/v1/users?select=id,age&role=eq.admin"]
    assert (rest.requests[0].body, rest.requests[0].header("Prefer")) == (b'{"age":1}', "return=representation")


def test_c059_update_of_nothing(db: Any) -> None:
    response = db.from_("users").eq("id", 99).update({"age": 1})
    assert (rows(response), response.status) == ([], 200)


def test_c059_update_with_nothing(db: Any, sql: Sql) -> None:
    before = people(sql)
    assert rows(db.from_("users").eq("id", 1).update({})) == []
    assert people(sql) == before


def test_c059_an_explicit_none_clears(db: Any, sql: Sql) -> None:
    assert db.from_("users").eq("id", 1).update({"age": None}).ok
    assert sql("SELECT age FROM users WHERE id = 1") == [(None,)]


def test_c059_a_model_changes_what_was_set(db: Any, rest: PostgRest) -> None:
    assert db.from_("users").eq("id", 1).update(Person(name="Al")).ok
    assert rest.requests[0].body == b'{"name":"Al"}'


def test_c059_maybe_single_of_nothing(db: Any) -> None:
    response = db.from_("users").eq("id", 99).maybe_single().update({"age": 1})
    assert (response.data, response.error) == (None, None)


@pytest.mark.parametrize("verb", ["update", "delete"])
@pytest.mark.parametrize("step", ["single", "maybe_single"])
def test_c059_two_rows_for_single_change_nothing(db: Any, sql: Sql, verb: str, step: str) -> None:
    before = people(sql)
    query = getattr(db.from_("users").in_("id", [5, 6]), step)()
    error = refused(query.delete() if verb == "delete" else query.update({"age": 1}))
    assert (error.status, error.code) == (406, "PGRST116")
    assert people(sql) == before


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_c059_one_row_comes_back_as_itself(db: Any, sql: Sql, verb: str) -> None:
    query = db.from_("users").select("id").eq("id", 5).single()
    assert rows(query.delete() if verb == "delete" else query.update({"age": 1})) == {"id": 5}


def test_c059_order_is_not_sent(db: Any, rest: PostgRest) -> None:
    assert db.from_("users").eq("id", 1).order("id").update({"age": 1}).ok
    assert db.from_("users").order("id").insert({"name": "x"}).ok
    assert [request.query for request in rest.requests] == ["id=eq.1", ""]


def test_c059_delete_returns_what_it_deleted(db: Any, rest: PostgRest, sql: Sql) -> None:
    assert rows(db.from_("comments").select("text").eq("post_id", 1).delete()) == [{"text": "one"}, {"text": "two"}]
    assert rest.lines == ["DELETE /rest/v1/comments?select=text&post_id=eq.1"]
    assert rest.requests[0].body == b""
    assert sql("SELECT count(*) FROM comments") == [(1,)]
    assert rows(db.from_("comments").eq("post_id", 1).delete()) == []


def write(query: Any, verb: str) -> Any:
    return query.delete() if verb == "delete" else query.update({"name": "gone"})


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_c060_a_write_without_a_filter_is_refused(db: Any, rest: PostgRest, sql: Sql, verb: str) -> None:
    before = people(sql)
    error = refused(write(db.from_("users").select("id").order("id"), verb))
    assert (error.code, error.status, error.may_have_been_applied) == ("UNFILTERED_WRITE", None, False)
    assert "all_rows()" in error.message
    assert verb in error.message
    assert rest.requests == []
    assert people(sql) == before


@pytest.mark.parametrize("verb", ["update", "delete"])
@pytest.mark.parametrize(
    "step", [lambda query: query.match({}), lambda query: query.single(), lambda query: query.select("id")]
)
def test_c060_what_chooses_no_rows_is_no_filter(
    db: Any, rest: PostgRest, verb: str, step: Callable[[Any], Any]
) -> None:
    assert refused(write(step(db.from_("users")), verb)).code == "UNFILTERED_WRITE"
    assert rest.requests == []


@pytest.mark.parametrize("verb", ["update", "delete"])
@pytest.mark.parametrize(
    "step",
    [
        lambda query: query.eq("author.name", "Alice"),
        lambda query: query.in_("author.id", [1, None]),
        lambda query: query.eq("author.limit", 1),
        lambda query: query.or_("name.eq.Alice,age.gt.5", on="author"),
        lambda query: query.limit(1, on="author").order("id", on="author"),
    ],
    ids=["eq", "in", "reserved", "or", "limit"],
)
def test_c060_a_filter_on_an_embedded_table_is_none(
    db: Any, rest: PostgRest, sql: Sql, verb: str, step: Callable[[Any], Any]
) -> None:
    query = step(db.from_("posts").select("id, author:users!inner(name)"))
    assert refused(query.delete() if verb == "delete" else query.update({"views": 0})).code == "UNFILTERED_WRITE"
    assert rest.requests == []


def test_c060_the_server_would_have_changed_all_of_them(db: Any, sql: Sql) -> None:
    query = db.from_("posts").select("id, author:users!inner(name)").eq("author.name", "albert")
    assert query.all_rows().update({"views": 0}).ok
    assert sql("SELECT count(*) FROM posts WHERE views = 0") == [(4,)]


def test_c060_all_rows_permits_an_update(db: Any, rest: PostgRest) -> None:
    assert len(rows(db.from_("users").all_rows().update({"age": 1}))) == 8
    assert rest.lines == ["PATCH /rest/v1/users"]


def test_c060_all_rows_permits_a_delete(db: Any, rest: PostgRest, sql: Sql) -> None:
    assert len(rows(db.from_("comments").all_rows().delete())) == 3
    assert sql("SELECT count(*) FROM comments") == [(0,)]


@pytest.mark.parametrize("verb", ["update", "delete"])
@pytest.mark.parametrize(
    "step",
    [
        lambda query: query.limit(1),
        lambda query: query.offset(1),
        lambda query: query.range(0, 1),
        lambda query: query.eq("id", 1).limit(1),
        lambda query: query.eq("id", 1).range(0, 0).order("id"),
        lambda query: query.all_rows().limit(1),
        lambda query: query.eq("id", 1).select("id", count="exact", head=True),
    ],
)
def test_c060_a_window_is_refused(db: Any, rest: PostgRest, sql: Sql, verb: str, step: Callable[[Any], Any]) -> None:
    before = people(sql)
    invalid(rest, write(step(db.from_("users")), verb))
    assert people(sql) == before


@pytest.mark.parametrize("verb", ["insert", "upsert"])
@pytest.mark.parametrize("step", [lambda query: query.eq("id", 1), lambda query: query.limit(1)])
def test_c060_an_insert_knows_neither(db: Any, rest: PostgRest, verb: str, step: Callable[[Any], Any]) -> None:
    invalid(rest, getattr(step(db.from_("users")), verb)({"name": "x"}))


def test_c060_there_is_no_switch_for_a_whole_client(rest: PostgRest, client_of: Callable[..., Any]) -> None:
    with pytest.raises(TypeError):
        client_of(rest.url, allow_unfiltered_writes=True)


def test_c061_a_row_that_others_need(db: Any, sql: Sql) -> None:
    error = refused(db.from_("users").eq("id", 1).delete())
    assert (error.status, error.code) == (409, "23503")
    assert "posts" in error.details
    assert len(people(sql)) == 8


@pytest.mark.parametrize("returning", ["minimal", "headers-only"])
@pytest.mark.parametrize(
    "verb, status, change",
    [
        ("insert", 201, "SELECT count(*) = 9 FROM users"),
        ("upsert", 201, "SELECT count(*) = 9 FROM users"),
        ("update", 204, "SELECT name = 'gone' FROM users WHERE id = 8"),
        ("delete", 204, "SELECT count(*) = 7 FROM users"),
    ],
)
def test_c062_nothing_need_come_back(
    db: Any, rest: PostgRest, sql: Sql, returning: str, verb: str, status: int, change: str
) -> None:
    query = db.from_("users") if verb in ("insert", "upsert") else db.from_("users").eq("id", 8)
    response = getattr(query, verb)(*(() if verb == "delete" else ({"name": "gone"},)), returning=returning)
    assert (response.data, response.error, response.status) == ([], None, status)
    assert sql(change) == [(True,)]
    assert rest.requests[0].header("Prefer").split(",")[0] == f"return={returning}"


@pytest.mark.parametrize("verb", ["insert", "upsert", "update", "delete"])
@pytest.mark.parametrize("wish", ["everything", "", 5])
@pytest.mark.parametrize("option", ["returning", "count"])
def test_c062_other_wishes_are_refused(db: Any, rest: PostgRest, verb: str, option: str, wish: Any) -> None:
    query = db.from_("users") if verb in ("insert", "upsert") else db.from_("users").eq("id", 8)
    invalid(rest, getattr(query, verb)(*(() if verb == "delete" else ({"name": "gone"},)), **{option: wish}))


def test_c062_single_needs_a_row_to_come_back(db: Any, rest: PostgRest) -> None:
    invalid(rest, db.from_("users").eq("id", 8).single().update({"name": "gone"}, returning="minimal"))


@pytest.mark.parametrize(
    "step", [("eq", "id", 1), ("order", "id"), ("execute",), ("select",), ("all_rows",), ("limit", 1)]
)
@pytest.mark.parametrize("verb", ["update", "delete", "insert", "execute"])
def test_a6_filters_go_before_the_call(db: Any, verb: str, step: Any) -> None:
    query = db.from_("users")
    response = getattr(query, verb)(*(() if verb in ("delete", "execute") else ({"name": "x"},)))
    with pytest.raises(AttributeError, match=r"filters go before update\(\)"):
        getattr(response, step[0])(*step[1:])


def test_a6_other_attributes_are_as_ever(db: Any) -> None:
    response = db.from_("users").execute()
    with pytest.raises(AttributeError, match="has no attribute 'nowhere'"):
        _ = response.nowhere
    assert not hasattr(response, "_table")
