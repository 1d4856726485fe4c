"""Filters against PostgREST: which rows each finds, and how it is written."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Callable, List

import pytest

from selfdb.aerodb import filters
from tests.aerodb.kit import AWKWARD, invalid, names, parameters, refused, rows, sent
from tests.servers.postgrest import PostgRest

Sql = Callable[..., Any]


def test_c028_eq_finds_only_what_is_equal(db: Any, rest: PostgRest) -> None:
    assert names(db.from_("users").select("*").eq("role", "admin").execute()) == ["Alice", "a&b=c+d #é"]
    assert sent(rest) == {"select": "*", "role": "eq.admin"}
    assert "role=eq.admin" in rest.requests[-1].query


def test_c029_two_filters_of_one_column_are_both_sent(db: Any, rest: PostgRest) -> None:
    found = db.from_("users").select("name").gte("age", 18).lte("age", 65).execute()
    assert names(found) == ["(paren)", "50% off", "Alice", "Bob, Jr.", 'Say "hi"']
    assert parameters(rest) == [("select", "name"), ("age", "gte.18"), ("age", "lte.65")]


@pytest.mark.parametrize(
    "step, sign", [("eq", "="), ("neq", "<>"), ("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")]
)
@pytest.mark.parametrize(
    "column, value",
    [
        ("age", 30),
        ("born", date(1990, 1, 2)),
        ("name", "Alice"),
        ("ts", datetime(2024, 3, 1, tzinfo=timezone.utc)),
        ("balance", Decimal("100.00")),
        ("active", True),
        ("age", 30.0),
    ],
    ids=["int", "date", "text", "timestamp", "decimal", "bool", "float"],
)
def test_c030_comparisons_find_what_sql_finds(db: Any, sql: Sql, step: str, sign: str, column: str, value: Any) -> None:
    if isinstance(value, float):  # PostgreSQL reads no 30.0 as an integer
        column = "balance"
    found = getattr(db.from_("users").select("name"), step)(column, value).execute()
    assert names(found) == sorted(name for (name,) in sql(f"SELECT name FROM users WHERE {column} {sign} %s", value))


@pytest.mark.parametrize("name", AWKWARD)
def test_c031_text_is_sent_as_it_is(db: Any, rest: PostgRest, name: str) -> None:
    assert names(db.from_("users").select("name").eq("name", name).execute()) == [name]
    assert sent(rest)["name"] == f"eq.{name}"


def test_c032_in_finds_each_of_them(db: Any, rest: PostgRest) -> None:
    assert names(db.from_("users").select("name").in_("name", AWKWARD).execute()) == sorted(AWKWARD)
    assert sent(rest)["name"] == r'in.("Bob, Jr.","(paren)","Say \"hi\"","back\\slash","a&b=c+d #é")'


@pytest.mark.parametrize("name", AWKWARD)
def test_c032_in_finds_each_alone(db: Any, name: str) -> None:
    assert names(db.from_("users").select("name").in_("name", [name]).execute()) == [name]


def test_c033_in_of_nothing_finds_nothing(db: Any, rest: PostgRest) -> None:
    response = db.from_("users").select("*").in_("id", []).execute()
    assert rows(response) == []
    assert sent(rest)["id"] == "in.()"


def test_c033_not_in_of_nothing_finds_everything(db: Any) -> None:
    assert len(rows(db.from_("users").not_("role", "in", []).execute())) == 8


def test_c034_in_with_none_finds_null_too(db: Any, rest: PostgRest) -> None:
    found = db.from_("users").select("name").in_("role", ["admin", None]).execute()
    assert names(found) == sorted(["Alice", "a&b=c+d #é", 'Say "hi"', "back\\slash"])
    assert sent(rest)["or"] == "(role.in.(admin),role.is.null)"


def test_c034_in_of_none_alone_finds_null(db: Any) -> None:
    assert names(db.from_("users").select("name").in_("role", [None]).execute()) == sorted(['Say "hi"', "back\\slash"])


def test_c034_not_in_with_none_finds_the_rest(db: Any) -> None:
    found = db.from_("users").select("name").not_("role", "in", ["admin", None]).execute()
    assert names(found) == ["(paren)", "50% off", "Bob, Jr.", "albert"]


def test_c034_in_with_none_on_an_embedded_table(db: Any, rest: PostgRest) -> None:
    found = (
        db.from_("posts").select("title, author:users!inner(name, role)").in_("author.role", ["user", None]).execute()
    )
    assert [row["title"] for row in rows(found)] == ["third"]
    assert sent(rest)["author.or"] == "(role.in.(user),role.is.null)"


def test_c035_eq_none_is_is_null(db: Any, rest: PostgRest) -> None:
    equal = names(db.from_("users").select("name").eq("deleted_at", None).execute())
    assert sent(rest)["deleted_at"] == "is.null"
    assert equal == names(db.from_("users").select("name").is_("deleted_at", None).execute())
    assert sent(rest)["deleted_at"] == "is.null"
    other = names(db.from_("users").select("name").neq("deleted_at", None).execute())
    assert sent(rest)["deleted_at"] == "not.is.null"
    assert (other, len(equal)) == (["albert", "back\\slash"], 6)


@pytest.mark.parametrize("step", ["eq", "neq"])
def test_c035_denied_none_is_the_complement(db: Any, step: str) -> None:
    whole = names(db.from_("users").select("name").execute())
    found = names(getattr(db.from_("users").select("name"), step)("deleted_at", None).execute())
    denied = names(db.from_("users").select("name").not_("deleted_at", step, None).execute())
    assert sorted(found + denied) == whole


@pytest.mark.parametrize("value, found", [(True, 4), (False, 2), (None, 2), ("unknown", 2)])
def test_c036_is_knows_these_values(db: Any, value: Any, found: int) -> None:
    assert len(rows(db.from_("users").is_("active", value).execute())) == found


@pytest.mark.parametrize("value", ["maybe", "null", "", 1, 0, "true", []])
def test_c036_is_refuses_others(db: Any, rest: PostgRest, value: Any) -> None:
    assert "active" in invalid(rest, db.from_("users").select("*").is_("active", value).execute())


def test_c037_a_star_is_a_percent_sign(db: Any, rest: PostgRest) -> None:
    percent = names(db.from_("users").select("name").like("name", "Al%").execute())
    assert "name=like.Al%25" in rest.requests[-1].query
    assert percent == names(db.from_("users").select("name").like("name", "Al*").execute()) == ["Alice"]


def test_c037_an_escaped_percent_sign_is_itself(db: Any) -> None:
    assert names(db.from_("users").select("name").like("name", "50\\%%").execute()) == ["50% off"]
    assert names(db.from_("users").select("name").like("name", "5\\%%").execute()) == []


@pytest.mark.parametrize("name", [*AWKWARD, "50% off"])
def test_c037_an_escaped_text_matches_itself(db: Any, name: str) -> None:
    assert names(db.from_("users").select("name").like("name", filters.escape_like(name)).execute()) == [name]


def test_c037_a_star_cannot_be_escaped() -> None:
    with pytest.raises(ValueError, match="use eq"):
        filters.escape_like("a*b")


def test_c038_ilike_ignores_case(db: Any) -> None:
    assert names(db.from_("users").select("name").ilike("name", "AL%").execute()) == ["Alice", "albert"]
    assert names(db.from_("users").select("name").like("name", "AL%").execute()) == []


@pytest.mark.parametrize(
    "column, operator, value, text, where",
    [
        ("role", "in", ["admin", "user"], "not.in.(admin,user)", "role NOT IN ('admin', 'user')"),
        ("role", "in_", ["admin"], "not.in.(admin)", "role NOT IN ('admin')"),
        ("name", "like", "A%", "not.like.A%", "name NOT LIKE 'A%%'"),
        ("name", "ilike", "A%", "not.ilike.A%", "name NOT ILIKE 'A%%'"),
        ("role", "is", None, "not.is.null", "role IS NOT NULL"),
        ("active", "is_", True, "not.is.true", "active IS NOT TRUE"),
        ("age", "gt", 30, "not.gt.30", "NOT age > 30"),
        ("role", "eq", "admin", "not.eq.admin", "NOT role = 'admin'"),
        ("tags", "contains", ["red"], 'not.cs.{"red"}', "NOT tags @> '{red}'"),
    ],
)
def test_c039_not_denies(
    db: Any, rest: PostgRest, sql: Sql, column: str, operator: str, value: Any, text: str, where: str
) -> None:
    found = db.from_("users").select("name").not_(column, operator, value).execute()
    assert names(found) == sorted(name for (name,) in sql(f"SELECT name FROM users WHERE {where.replace('%%', '%')}"))
    assert sent(rest)[column] == text


def test_c040_or_is_the_union(db: Any, rest: PostgRest) -> None:
    found = db.from_("users").select("name").or_(filters.eq("name", "Bob, Jr."), filters.gt("age", 50)).execute()
    assert names(found) == ["50% off", "Bob, Jr.", "a&b=c+d #é"]
    assert sent(rest)["or"] == '(name.eq."Bob, Jr.",age.gt.50)'


def test_c040_or_takes_the_servers_own_grammar(db: Any, rest: PostgRest) -> None:
    found = db.from_("users").select("name").or_("age.gt.65,role.eq.guest").execute()
    assert names(found) == ["(paren)", "50% off", "a&b=c+d #é"]
    assert sent(rest)["or"] == "(age.gt.65,role.eq.guest)"


def test_c040_and_within_or(db: Any, rest: PostgRest) -> None:
    both = filters.and_(filters.eq("role", "guest"), filters.lt("age", 20))
    found = db.from_("users").select("name").or_(filters.eq("name", "Alice"), both).execute()
    assert names(found) == ["(paren)", "Alice"]
    assert sent(rest)["or"] == "(name.eq.Alice,and(role.eq.guest,age.lt.20))"


def test_c040_two_ors_both_have_to_hold(db: Any, rest: PostgRest) -> None:
    query = db.from_("users").select("name").or_("role.eq.admin,role.eq.user").or_("age.lt.20,age.gt.65")
    assert names(query.execute()) == ["a&b=c+d #é", "albert"]
    assert [name for name, _ in parameters(rest)] == ["select", "or", "or"]


@pytest.mark.parametrize(
    "condition, parameter, text, found",
    [
        (filters.not_or("role.eq.admin", filters.gt("age", 50)), "not.or", "(role.eq.admin,age.gt.50)", 2),
        (filters.and_("role.eq.admin", "age.eq.30"), "and", "(role.eq.admin,age.eq.30)", 1),
        (filters.not_and("role.eq.admin", "age.eq.30"), "not.and", "(role.eq.admin,age.eq.30)", 6),
        (filters.or_(filters.in_("role", ["guest", None]), "age.eq.30"), "or",
            "(or(role.in.(guest),role.is.null),age.eq.30)", 5),
        (filters.or_(filters.contains("tags", ["a,b"]), "age.eq.30"), "or", r'(tags.cs."{\"a,b\"}",age.eq.30)', 2),
        (filters.or_(filters.is_("active", None), filters.not_("active", "is", True)), "or",
            "(active.is.null,active.not.is.true)", 4),
        (filters.or_(filters.not_("role", "in", ["admin", None]), "age.eq.40"), "or",
            "(not.or(role.in.(admin),role.is.null),age.eq.40)", 5),
        (filters.or_(filters.filter("name", "in", '("Bob, Jr.",Alice)'), "age.eq.18"), "or",
            '(name.in.("Bob, Jr.",Alice),age.eq.18)', 3),
    ],
)  # fmt: skip
def test_c040_every_kind_of_condition(
    db: Any, rest: PostgRest, condition: Any, parameter: str, text: str, found: int
) -> None:
    assert len(rows(db.from_("users").and_(condition).execute())) == found
    assert sent(rest)[parameter] == text


@pytest.mark.parametrize("outer", ["not_or", "not_and"])
@pytest.mark.parametrize("inner", ["or_", "and_", "not_or", "not_and"])
def test_c040_what_is_denied_stays_denied(db: Any, outer: str, inner: str) -> None:
    found = {row["id"] for row in rows(db.from_("users").and_(getattr(filters, inner)("id.eq.1")).execute())}
    denied = getattr(filters, outer)(getattr(filters, inner)("id.eq.1"))
    assert {row["id"] for row in rows(db.from_("users").and_(denied).execute())} == set(range(1, 9)) - found


def test_c040_one_condition_in_and(db: Any, rest: PostgRest) -> None:
    assert names(db.from_("users").select("name").and_(filters.eq("name", "Bob, Jr.")).execute()) == ["Bob, Jr."]
    assert sent(rest)["and"] == '(name.eq."Bob, Jr.")'


@pytest.mark.parametrize("on_where", ["or_", "and_"])
def test_c040_conditions_on_an_embedded_table(db: Any, rest: PostgRest, on_where: str) -> None:
    query = db.from_("users").select("name, posts(title)").eq("name", "Alice")
    found = getattr(query, on_where)(filters.eq("title", "first"), filters.lt("views", 20), on="posts").execute()
    assert rows(found) == [{"name": "Alice", "posts": [{"title": "first"}]}]
    assert sent(rest)[f"posts.{on_where[:-1]}"] == "(title.eq.first,views.lt.20)"


def test_c040_not_or_on_an_embedded_table(db: Any, rest: PostgRest) -> None:
    query = db.from_("users").select("name, posts(title)").eq("name", "Alice")
    found = query.and_(filters.not_or("title.eq.first"), on="posts").execute()
    assert rows(found) == [{"name": "Alice", "posts": [{"title": "second"}]}]
    assert sent(rest)["posts.not.or"] == "(title.eq.first)"


@pytest.mark.parametrize(
    "conditions", [("",), ("  ",), (), (5,), (filters.or_(),), (filters.eq("a", object()),), ("a\0",)]
)
@pytest.mark.parametrize("step", ["or_", "and_"])
def test_c041_an_empty_or_is_refused(db: Any, rest: PostgRest, step: str, conditions: Any) -> None:
    invalid(rest, getattr(db.from_("users").select("*"), step)(*conditions).execute())


def test_c042_a_plus_sign_arrives(db: Any, rest: PostgRest) -> None:
    when = datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    found = db.from_("users").select("name").gte("ts", when).execute()
    assert names(found) == ["50% off", 'Say "hi"']
    assert "2024-05-01T14:00:00%2B02:00" in rest.requests[-1].query
    assert names(db.from_("users").select("name").gte("ts", when.astimezone(timezone.utc)).execute()) == names(found)


@pytest.mark.parametrize(
    "step, column, value, text, found",
    [
        ("contains", "tags", ["red"], 'cs.{"red"}', 3),
        ("contains", "tags", ["a,b"], 'cs.{"a,b"}', 1),
        ("contains", "tags", ('say "hi"',), r'cs.{"say \"hi\""}', 1),
        ("contains", "tags", [], "cs.{}", 7),
        ("contained_by", "tags", ["red", "blue"], 'cd.{"red","blue"}', 3),
        ("overlaps", "tags", ["green", "blue"], 'ov.{"green","blue"}', 3),
        ("contains", "meta", {"k": "v"}, 'cs.{"k":"v"}', 2),
        ("contained_by", "meta", {"k": "w", "x": 1}, 'cd.{"k":"w","x":1}', 2),
        ("overlaps", "span", "[5,25)", "ov.[5,25)", 2),
        ("contains", "span", "[2,3]", "cs.[2,3]", 1),
        ("contained_by", "span", "[0,100)", "cd.[0,100)", 2),
    ],
)
def test_arrays_ranges_and_json(
    db: Any, rest: PostgRest, step: str, column: str, value: Any, text: str, found: int
) -> None:
    assert len(rows(getattr(db.from_("users").select("name"), step)(column, value).execute())) == found
    assert sent(rest)[column] == text


def test_c046_a_json_path(db: Any, rest: PostgRest) -> None:
    assert names(db.from_("users").select("name").eq("meta->>k", "v").execute()) == ["Alice", "a&b=c+d #é"]
    assert sent(rest)["meta->>k"] == "eq.v"
    assert names(db.from_("users").select("name").eq("meta->n->>m", "deep").execute()) == ["Alice"]
    assert names(db.from_("users").select("name").or_(filters.eq("meta->n->>m", "deep")).execute()) == ["Alice"]


def test_c046_a_column_with_a_dot(db: Any, rest: PostgRest) -> None:
    assert names(db.from_("users").select("name").eq('"a.b"', 1).execute()) == ["Alice"]
    assert sent(rest)['"a.b"'] == "eq.1"
    assert names(db.from_("users").select("name").or_(filters.eq('"a.b"', 2)).execute()) == ["albert"]


def test_c046_a_column_with_a_blank(db: Any) -> None:
    assert names(db.from_("users").select("name").eq("full name", "Alice A.").execute()) == ["Alice"]
    assert rows(db.from_("users").select("full name").eq("id", 1).execute()) == [{"full name": "Alice A."}]


@pytest.mark.parametrize(
    "step, value, text, found",
    [
        ("eq", 5, "(limit.eq.5)", ["Bob, Jr."]),
        ("in_", [1, 2], "(limit.in.(1,2))", ["Alice", "albert"]),
        ("gt", 1, "(limit.gt.1)", ["Bob, Jr.", "albert"]),
    ],
)
def test_c046_a_column_called_limit(
    db: Any, rest: PostgRest, step: str, value: Any, text: str, found: List[str]
) -> None:
    assert names(getattr(db.from_("users").select("name"), step)("limit", value).limit(5).execute()) == found
    assert sent(rest) == {"select": "name", "and": text, "limit": "5"}


def test_c046_a_column_called_limit_of_an_embedded_table(db: Any, rest: PostgRest) -> None:
    query = db.from_("posts").select("id, comments!inner(text)")
    assert rows(query.eq("comments.limit", 2).execute()) == [{"id": 1, "comments": [{"text": "two"}]}]
    assert sent(rest)["comments.and"] == "(limit.eq.2)"


def test_match_is_eq_of_each(db: Any, rest: PostgRest) -> None:
    assert names(db.from_("users").match({"role": "admin", "deleted_at": None, "age": 30}).execute()) == ["Alice"]
    assert parameters(rest)[1:] == [("role", "eq.admin"), ("deleted_at", "is.null"), ("age", "eq.30")]


@pytest.mark.parametrize(
    "column, operator, value, text, found",
    [
        ("name", "fts", "Alice", "fts.Alice", 1),
        ("name", "plfts(simple)", "jr bob", "plfts(simple).jr bob", 1),
        ("name", "match", "^[Aa]l", "match.^[Aa]l", 2),
        ("name", "imatch", "^AL", "imatch.^AL", 2),
        ("name", "not.eq", "Alice", "not.eq.Alice", 7),
        ("name", "like(any)", ["Al%", "al%"], 'like(any).{"Al%","al%"}', 2),
        ("id", "in", "(1,2)", "in.(1,2)", 2),
        ("id", "in", [1, 2], "in.(1,2)", 2),
        ("id", "not.in", [1, 2], "not.in.(1,2)", 6),
        ("role", "is", None, "is.null", 2),
        ("role", "not.is", None, "not.is.null", 6),
        ("age", "isdistinct", 30, "isdistinct.30", 7),
        ("span", "sl", "[15,18)", "sl.[15,18)", 1),
    ],
)
def test_filter_reaches_every_operator(
    db: Any, rest: PostgRest, column: str, operator: str, value: Any, text: str, found: int
) -> None:
    assert len(rows(db.from_("users").filter(column, operator, value).execute())) == found
    assert sent(rest)[column] == text


def test_filter_of_a_reserved_column(db: Any, rest: PostgRest) -> None:
    assert names(db.from_("users").filter("limit", "in", "(1,5)").execute()) == ["Alice", "Bob, Jr."]
    assert sent(rest)["and"] == "(limit.in.(1,5))"


@pytest.mark.parametrize("operator", ["", "eq.", "EQ!", "in.(1)", "not.", "or=(", 5, None])
@pytest.mark.parametrize("step", ["filter", "not_"])
def test_an_operator_of_another_form_is_refused(db: Any, rest: PostgRest, step: str, operator: Any) -> None:
    invalid(rest, getattr(db.from_("users"), step)("id", operator, "1").execute())


def test_an_unknown_operator_is_the_servers_to_refuse(db: Any) -> None:
    error = refused(db.from_("users").filter("id", "nearly", "1").execute())
    assert (error.status, error.code) == (400, "PGRST100")
