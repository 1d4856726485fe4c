"""Reads against PostgREST: columns, embedded tables, order, windows, counts, single rows."""

from __future__ import annotations

import json
from typing import Any, Callable, List, Optional

import pytest

from tests.aerodb.kit import invalid, names, parameters, refused, rows, sent
from tests.servers.postgrest import PostgRest

Sql = Callable[..., Any]


def ids(response: Any) -> List[int]:
    return [row["id"] for row in rows(response)]


@pytest.mark.parametrize(
    "columns", ["id, name, email", "id,name,email", " id ,\n\tname , email ", "id,  name,\n    email\n"]
)
def test_c043_white_space_around_commas_is_not_sent(db: Any, rest: PostgRest, columns: str) -> None:
    found = db.from_("users").select(columns).eq("id", 1).execute()
    assert rows(found) == [{"id": 1, "name": "Alice", "email": "alice@example.com"}]
    assert rest.lines == ["GET /rest/v1/users?select=id,name,email&id=eq.1"]


def test_c043_white_space_within_a_name_is(db: Any, rest: PostgRest) -> None:
    found = db.from_("users").select('id , "full name", "a.b" ').eq("id", 1).execute()
    assert rows(found) == [{"id": 1, "full name": "Alice A.", "a.b": 1}]
    assert sent(rest)["select"] == 'id,"full name","a.b"'


def test_c043_without_select_all_columns_come(db: Any, rest: PostgRest) -> None:
    assert len(rows(db.from_("users").execute())[0]) == 16
    assert rest.lines == ["GET /rest/v1/users?select=*"]


@pytest.mark.parametrize("columns", ["", "  ", "id\x01", "id\ud800", 5, None, ["id"]])
def test_c043_other_columns_are_refused(db: Any, rest: PostgRest, columns: Any) -> None:
    invalid(rest, db.from_("users").select(columns).execute())


def test_c043_the_last_select_counts(db: Any, rest: PostgRest) -> None:
    db.from_("users").select("id", count="exact").select("name").execute()
    assert (sent(rest)["select"], rest.requests[-1].header("Prefer")) == ("name", None)


def test_c044_a_to_one_embed_is_an_object_or_none(db: Any, rest: PostgRest) -> None:
    found = rows(db.from_("posts").select("*, author:users(id, name)").order("id").execute())
    assert [row["author"] for row in found] == [
        {"id": 1, "name": "Alice"},
        {"id": 1, "name": "Alice"},
        {"id": 2, "name": "albert"},
        None,
    ]
    assert sent(rest)["select"] == "*,author:users(id,name)"


def test_c044_a_count_is_embedded_as_a_list(db: Any) -> None:
    found = rows(db.from_("users").select("name, posts(count)").lte("id", 3).order("id").execute())
    assert [row["posts"] for row in found] == [[{"count": 2}], [{"count": 1}], [{"count": 0}]]


@pytest.mark.parametrize(
    "columns, found",
    [
        ("nm:name", {"nm": "Alice"}),
        ("age::text", {"age": "30"}),
        ("k:meta->>k", {"k": "v"}),
        ("posts(title, comments(text))", {"posts": [
            {"title": "first", "comments": [{"text": "one"}, {"text": "two"}]},
            {"title": "second", "comments": [{"text": "three"}]},
        ]}),
        ("name, posts!author_id(title)", {"name": "Alice", "posts": [{"title": "first"}, {"title": "second"}]}),
    ],
)  # fmt: skip
def test_c044_the_grammar_is_passed_through(db: Any, columns: str, found: Any) -> None:
    query = db.from_("users").select(columns).eq("id", 1)
    assert rows(query.execute()) == [found]


def test_c044_a_spread_embed(db: Any) -> None:
    assert rows(db.from_("posts").select("title, ...users(author_name:name)").eq("id", 1).execute()) == [
        {"title": "first", "author_name": "Alice"}
    ]


def test_c044_an_aggregate(db: Any) -> None:
    assert rows(db.from_("posts").select("views.sum()").execute()) == [{"sum": 65}]


def test_c045_an_inner_embed_drops_parents(db: Any) -> None:
    found = db.from_("posts").select("title, users!inner(name)").eq("users.name", "albert").execute()
    assert rows(found) == [{"title": "third", "users": {"name": "albert"}}]


def test_c045_the_same_by_its_alias(db: Any, rest: PostgRest) -> None:
    found = db.from_("posts").select("title, author:users!inner(name)").eq("author.name", "albert").execute()
    assert rows(found) == [{"title": "third", "author": {"name": "albert"}}]
    assert sent(rest)["author.name"] == "eq.albert"


def test_c045_without_inner_the_parents_stay(db: Any) -> None:
    found = db.from_("posts").select("title, users(name)").eq("users.name", "albert").order("id").execute()
    assert [row["users"] for row in rows(found)] == [None, None, {"name": "albert"}, None]


def test_c045_a_filter_on_what_is_not_selected(db: Any) -> None:
    error = refused(db.from_("posts").select("title").eq("users.name", "albert").execute())
    assert (error.status, error.code) == (400, "PGRST108")
    assert error.message
    assert error.hint


def test_c047_two_orders_are_joined(db: Any, rest: PostgRest) -> None:
    found = db.from_("users").select("id, role").order("role", ascending=False).order("id").execute()
    assert ids(found) == [5, 6, 2, 3, 4, 8, 1, 7]
    assert sent(rest)["order"] == "role.desc,id.asc"


@pytest.mark.parametrize(
    "ascending, nulls_first, text, at",
    [
        (True, None, "age.asc", -1),
        (False, None, "age.desc", 0),
        (True, True, "age.asc.nullsfirst", 0),
        (True, False, "age.asc.nullslast", -1),
        (False, True, "age.desc.nullsfirst", 0),
        (False, False, "age.desc.nullslast", -1),
    ],
)
def test_c047_where_nulls_stand(
    db: Any, rest: PostgRest, ascending: bool, nulls_first: Optional[bool], text: str, at: int
) -> None:
    found = rows(db.from_("users").select("age").order("age", ascending, nulls_first).execute())
    assert found[at] == {"age": None}
    assert [row["age"] for row in found].count(None) == 1
    assert sent(rest)["order"] == text


@pytest.mark.parametrize("arguments", [("",), (5,), ("a\n",), ("age", "asc"), ("age", True, "first"), ("..",), (".",)])
def test_c047_other_orders_are_refused(db: Any, rest: PostgRest, arguments: Any) -> None:
    invalid(rest, db.from_("users").order(*arguments).execute())


def test_c047_order_and_limit_of_an_embedded_table(db: Any, rest: PostgRest) -> None:
    query = (
        db.from_("users").select("name, posts(title)").order("views", ascending=False, on="posts").limit(1, on="posts")
    )
    assert rows(query.order("id").limit(2).execute()) == [
        {"name": "Alice", "posts": [{"title": "second"}]},
        {"name": "albert", "posts": [{"title": "third"}]},
    ]
    assert sent(rest) == {
        "select": "name,posts(title)",
        "posts.order": "views.desc",
        "order": "id.asc",
        "posts.limit": "1",
        "limit": "2",
    }


def test_the_parameters_have_their_order(db: Any, rest: PostgRest) -> None:
    query = db.from_("users").offset(1).limit(3).order("id").eq("active", True).select("id").gt("id", 0)
    assert ids(query.execute()) == [4, 5, 8]
    assert [name for name, _ in parameters(rest)] == ["select", "active", "id", "order", "limit", "offset"]


def test_c048_no_rows_at_all(db: Any, rest: PostgRest) -> None:
    assert rows(db.from_("users").select("*").limit(0).execute()) == []
    assert sent(rest)["limit"] == "0"


@pytest.mark.parametrize(
    "step, arguments",
    [
        ("limit", (-1,)),
        ("limit", ("x",)),
        ("limit", (True,)),
        ("limit", (1.5,)),
        ("limit", (None,)),
        ("limit", (2**63,)),
        ("limit", (10**5000,)),
        ("offset", (-1,)),
        ("offset", ("1",)),
        ("range", (5, 2)),
        ("range", (-1, 2)),
        ("range", (0, "5")),
        ("range", (None, 5)),
    ],
)
def test_c048_other_windows_are_refused(db: Any, rest: PostgRest, step: str, arguments: Any) -> None:
    invalid(rest, getattr(db.from_("users"), step)(*arguments).execute())


def test_c049_a_range_is_inclusive(db: Any, rest: PostgRest) -> None:
    assert ids(db.from_("users").select("id").order("id").range(2, 3).execute()) == [3, 4]
    assert sent(rest) == {"select": "id", "order": "id.asc", "limit": "2", "offset": "2"}


def test_c049_a_range_of_one(db: Any) -> None:
    assert ids(db.from_("users").select("id").order("id").range(2, 2).execute()) == [3]


@pytest.mark.parametrize("count", ["exact", "planned", "estimated"])
def test_c050_a_count_comes_with_a_page(db: Any, rest: PostgRest, sql: Sql, count: str) -> None:
    sql("ANALYZE users")
    response = db.from_("users").select("*", count=count).limit(2).execute()
    assert (len(rows(response)), response.count, response.status) == (2, 8, 206)
    assert rest.requests[-1].header("Prefer") == f"count={count}"


def test_c050_without_one_there_is_none(db: Any) -> None:
    response = db.from_("users").select("*").limit(2).execute()
    assert (response.count, response.status, response.from_cache) == (None, 200, False)


@pytest.mark.parametrize("count", ["all", "", 5, True])
def test_c050_other_counts_are_refused(db: Any, rest: PostgRest, count: Any) -> None:
    invalid(rest, db.from_("users").select("*", count=count).execute())


def test_c051_behind_the_end_with_a_count(db: Any) -> None:
    response = db.from_("users").select("*", count="exact").offset(9).execute()
    error = refused(response)
    assert (error.status, error.code, response.count, response.status) == (416, "PGRST103", 8, 416)


def test_c051_at_the_end_with_a_count(db: Any) -> None:
    response = db.from_("users").select("*", count="exact").offset(8).execute()
    assert (rows(response), response.count, response.status) == ([], 8, 206)


@pytest.mark.parametrize("offset", [8, 9, 1000])
def test_c051_without_a_count(db: Any, offset: int) -> None:
    response = db.from_("users").select("*").offset(offset).execute()
    assert (rows(response), response.count, response.status) == ([], None, 200)


def test_c052_head_returns_the_count_alone(db: Any, rest: PostgRest) -> None:
    response = db.from_("users").select("*", count="exact", head=True).eq("role", "admin").execute()
    assert (response.data, response.error, response.count) == (None, None, 2)
    assert rest.lines == ["HEAD /rest/v1/users?select=*&role=eq.admin"]


def test_c052_head_of_a_table_that_is_not_there(db: Any) -> None:
    response = db.from_("nowhere").select("*", count="exact", head=True).execute()
    error = refused(response)
    assert (error.status, response.count) == (404, None)


def test_c053_a_single_row_is_a_dict(db: Any, rest: PostgRest) -> None:
    assert rows(db.from_("users").select("id, name").eq("id", 1).single().execute()) == {"id": 1, "name": "Alice"}
    assert rest.requests[-1].header("Accept") == "application/vnd.pgrst.object+json"


@pytest.mark.parametrize("many, details", [(False, "The result contains 0 rows"), (True, "The result contains 8 rows")])
def test_c053_single_refuses_another_number(db: Any, many: bool, details: str) -> None:
    query = db.from_("users").select("*")
    error = refused((query if many else query.eq("id", 99)).single().execute())
    assert (error.status, error.code, error.details) == (406, "PGRST116", details)


def test_c053_maybe_single_is_the_row(db: Any) -> None:
    assert rows(db.from_("users").select("name").eq("id", 1).maybe_single().execute()) == {"name": "Alice"}


def test_c053_maybe_single_without_a_row(db: Any) -> None:
    response = db.from_("users").select("*").eq("id", 99).maybe_single().execute()
    assert (response.data, response.error, response.ok) == (None, None, True)
    assert response.unwrap() is None


@pytest.mark.parametrize("ids", [(1, 2), tuple(range(1, 9)), (1, 2, 3)])
def test_c053_maybe_single_of_several(db: Any, ids: Any) -> None:
    error = refused(db.from_("users").select("*").in_("id", ids).maybe_single().execute())
    assert (error.status, error.code) == (406, "PGRST116")


@pytest.mark.parametrize(
    "details",
    ["Results contain 0 rows, application/vnd.pgrst.object+json requires 1 row", "The result contains 0 rows"],
)
def test_c053_other_versions_say_it_in_other_words(db: Any, rest: PostgRest, details: str) -> None:
    """As their documents have it: 11 and before, and 13 and later."""
    body = {"code": "PGRST116", "message": "Cannot coerce the result to a single JSON object", "details": details}
    rest.instead = lambda request: (406, {}, json.dumps({**body, "hint": None}).encode())
    response = db.from_("users").maybe_single().execute()
    assert (response.data, response.error) == (None, None)


@pytest.mark.parametrize(
    "code, details", [("PGRST106", "0 rows"), ("PGRST116", None), ("PGRST116", "100 rows"), (None, "")]
)
def test_c053_another_406_is_an_error(db: Any, rest: PostgRest, code: Any, details: Any) -> None:
    rest.instead = lambda request: (406, {}, json.dumps({"code": code, "message": "no", "details": details}).encode())
    assert refused(db.from_("users").maybe_single().execute()).status == 406


def test_c064_an_unknown_table_of_a_later_version(db: Any, rest: PostgRest) -> None:
    """As the documents of 13 have it."""
    body = {"code": "PGRST205", "message": "Could not find the table", "details": None, "hint": "Perhaps you meant x"}
    rest.instead = lambda request: (404, {}, json.dumps(body).encode())
    error = refused(db.from_("nowhere").execute())
    assert (error.status, error.code, error.details, error.hint) == (404, "PGRST205", None, "Perhaps you meant x")


def test_c053_maybe_single_of_ten_rows_is_not_none(db: Any, sql: Sql) -> None:
    sql("INSERT INTO users (name) VALUES ('nine'), ('ten')")
    error = refused(db.from_("users").select("*").maybe_single().execute())
    assert error.details == "The result contains 10 rows"


def test_c063_another_schema_is_named_by_its_header(rest: PostgRest, client_of: Callable[..., Any]) -> None:
    api2 = client_of(rest.url, schema="api2")
    assert names(api2.from_("things").select("name").execute()) == ["thing"]
    assert rest.requests[-1].header("Accept-Profile") == "api2"
    assert rest.requests[-1].header("Content-Profile") is None
    assert api2.from_("things").select("*", count="exact", head=True).execute().count == 1
    assert rest.requests[-1].header("Accept-Profile") == "api2"


@pytest.mark.parametrize("verb", ["insert", "upsert", "update", "delete"])
def test_c063_a_write_names_it_by_another(rest: PostgRest, client_of: Callable[..., Any], verb: str) -> None:
    table = client_of(rest.url, schema="api2").from_("things")
    table = table.eq("id", 1) if verb in ("update", "delete") else table
    made = getattr(table, verb)(*(() if verb == "delete" else ({"name": "new"},)))
    assert [row["name"] for row in rows(made)] == ["thing" if verb == "delete" else "new"]
    assert rest.requests[-1].header("Content-Profile") == "api2"
    assert rest.requests[-1].header("Accept-Profile") is None


def test_c063_a_function_of_it(rest: PostgRest, client_of: Callable[..., Any]) -> None:
    assert rows(client_of(rest.url, schema="api2").rpc("greet", {"name": "Eve"})) == "hello Eve"
    assert rest.requests[-1].header("Content-Profile") == "api2"


@pytest.mark.parametrize("verb", ["execute", "insert", "rpc"])
def test_c063_an_unknown_schema_is_refused(rest: PostgRest, client_of: Callable[..., Any], verb: str) -> None:
    client = client_of(rest.url, schema="nowhere")
    table = client.from_("things")
    response = {
        "execute": lambda: table.execute(),
        "insert": lambda: table.insert({"name": "x"}),
        "rpc": lambda: client.rpc("greet"),
    }[verb]()
    error = refused(response)
    assert (error.status, error.code) == (406, "PGRST106")


def test_c063_the_usual_schema_has_no_header(db: Any, rest: PostgRest) -> None:
    db.from_("users").execute()
    db.from_("users").insert({"name": "x"})
    assert {request.header(name) for request in rest.requests for name in ("Accept-Profile", "Content-Profile")} == {
        None
    }


def test_c064_an_unknown_table(db: Any) -> None:
    error = refused(db.from_("nowhere").select("*").execute())
    assert (error.status, error.code) == (404, "42P01")


def test_c064_an_unknown_column(db: Any) -> None:
    error = refused(db.from_("users").select("nowhere").execute())
    assert (error.status, error.code) == (400, "42703")
    assert refused(db.from_("users").eq("nowhere", 1).execute()).code == "42703"


def test_c064_what_may_not_be_seen(db: Any) -> None:
    error = refused(db.from_("secrets").select("*").execute())
    assert (error.status, error.code) == (401, "42501")


@pytest.mark.parametrize(
    "name, params, found",
    [
        ("add", {"a": 1, "b": 2}, 3),
        ("nothing", None, None),
        ("nothing", {}, None),
        ("no_number", None, None),
    ],
)
def test_c064_a_function_gives_what_it_returns(db: Any, rest: PostgRest, name: str, params: Any, found: Any) -> None:
    response = db.rpc(name, params)
    assert (response.data, response.error) == (found, None)
    assert rest.lines == [f"POST /rest/v1/rpc/{name}"]


def test_c064_a_function_of_rows(db: Any) -> None:
    assert ids(db.rpc("admins")) == [1, 7]


@pytest.mark.parametrize("name, params", [("nowhere", None), ("add", {"a": 1}), ("add", {"a": 1, "c": 2})])
def test_c064_an_unknown_function(db: Any, name: str, params: Any) -> None:
    error = refused(db.rpc(name, params))
    assert (error.status, error.code) == (404, "PGRST202")


@pytest.mark.parametrize(
    "name, params", [("", None), ("..", None), ("a\n", None), (5, None), ("add", [1]), ("add", {"a": {1}})]
)
def test_c064_what_is_no_call_of_a_function(db: Any, rest: PostgRest, name: Any, params: Any) -> None:
    invalid(rest, db.rpc(name, params))


@pytest.mark.parametrize("table", ["", ".", "..", " ", "a\0", "a\n", "a\x7f", "a\ud800", 5, None, "x" * 20_000])
@pytest.mark.parametrize("verb", ["execute", "insert", "delete", "stream"])
def test_names_of_tables_are_checked(db: Any, rest: PostgRest, table: Any, verb: str) -> None:
    query = db.from_(table).all_rows()
    if verb == "stream":
        stream = query.stream()
        with pytest.raises(Exception, match=r"table|bytes"):
            next(stream)
        assert stream.error.code == "VALIDATION_ERROR"
        assert rest.requests == []
        return
    response = query.insert({}) if verb == "insert" else getattr(query, verb)()
    invalid(rest, response)


@pytest.mark.parametrize("table", ["rpc/add", "a/../users", "a b", "ü", "users?x=1", "users#", "a%2Fb"])
def test_a_table_is_one_segment_of_the_path(db: Any, rest: PostgRest, table: str) -> None:
    assert refused(db.from_(table).execute()).status == 404
    assert rest.requests[-1].target.count("/") == 4 - 1
    assert "?select=*" in rest.requests[-1].target


def test_c065_two_queries_do_not_influence_each_other(db: Any, rest: PostgRest) -> None:
    one = db.from_("users").select("id").eq("role", "admin").order("id")
    other = db.from_("users").select("name").eq("role", "guest").limit(1)
    assert ids(one.execute()) == [1, 7]
    assert names(other.execute()) == ["(paren)"]
    assert ids(one.execute()) == [1, 7]
    assert rest.lines[0] == rest.lines[2] == "GET /rest/v1/users?select=id&role=eq.admin&order=id.asc"
    assert rest.lines[1] == "GET /rest/v1/users?select=name&role=eq.guest&limit=1"


def test_c065_a_step_leaves_what_it_was_taken_from(db: Any, rest: PostgRest) -> None:
    base = db.from_("users").select("id").eq("role", "admin")
    for step in (
        lambda: base.gt("id", 3), lambda: base.order("id"), lambda: base.limit(1), lambda: base.offset(1),
        lambda: base.range(0, 0), lambda: base.single(), lambda: base.select("name", count="exact", head=True),
        lambda: base.or_("id.eq.1"), lambda: base.match({"id": 1}), lambda: base.all_rows(), lambda: base.limit(-1),
    ):  # fmt: skip
        assert step() is not base
        base.execute()
        assert rest.lines[-1] == "GET /rest/v1/users?select=id&role=eq.admin"
    assert rest.requests[-1].header("Prefer") is None


def test_c065_the_first_wrong_argument_is_told(db: Any, rest: PostgRest) -> None:
    query = db.from_("users").limit(-1).is_("active", "maybe").eq("id", 1)
    assert "limit" in invalid(rest, query.execute())
    assert "limit" in invalid(rest, query.limit(1).delete())


def test_nothing_of_a_query_is_shown(db: Any) -> None:
    assert repr(db.from_("users").eq("email", "secret@example.com")) == "<QueryBuilder of /rest/v1/users>"
