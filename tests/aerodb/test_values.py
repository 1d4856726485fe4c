"""The text of a value in a query, and how names and values are put into an address; without a server."""

from __future__ import annotations

import enum
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfdb.aerodb import filters
from selfdb.aerodb.query import Query, joined_names, query_string, selected, tidy
from selfdb.aerodb.values import array, encoded, quoted, text_of
from selfdb.exceptions import InvalidRequestError


class Colour(enum.Enum):
    RED = "red"
    SEVEN = 7


class Name(str, enum.Enum):
    ANN = "ann"


class Count(enum.IntEnum):
    TWO = 2


ZONE = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    "value, text",
    [
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (-(10**30), "-1000000000000000000000000000000"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+5"), "100000"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("1E+9999"), "1E+9999"),
        ("a,b", "a,b"),
        ("", ""),
        (date(2024, 1, 2), "2024-01-02"),
        (time(12, 30), "12:30:00"),
        (datetime(2024, 1, 2, 3, 4, 5, 6, ZONE), "2024-01-02T03:04:05.000006+02:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Colour.SEVEN, "7"),
        (Name.ANN, "ann"),
        (Count.TWO, "2"),
        ({"k": ["v", None, 1.5], "ü": True}, '{"k":["v",null,1.5],"ü":true}'),
        (MappingProxyType({"k": 1}), '{"k":1}'),
        ([1, "a"], '[1,"a"]'),
    ],
)
def test_the_text_of_a_value(value: Any, text: str) -> None:
    assert text_of(value, "x") == text
    assert filters.eq("c", value).parameter() == ("c", f"eq.{text}")


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("-Infinity"),
        datetime(2024, 1, 1),
        pytest.param(10**5000, id="digits"),
        b"bytes",
        bytearray(),
        object(),
        {1, 2},
        timedelta(1),
        "a\0",
        "\ud800",
        {"a": "\ud800"},
        {"a": float("nan")},
        b"x\0",
    ],
)
def test_what_has_no_text(value: Any) -> None:
    for refuse in (lambda: text_of(value, "born"), lambda: array([value], "born"), lambda: array([[value]], "born")):
        if isinstance(value, set):  # which is an array by itself
            continue
        with pytest.raises(InvalidRequestError) as caught:
            refuse()
        assert "\0" not in str(caught.value)
        assert "born" in str(caught.value) or isinstance(value, dict)
    refused = filters.eq("born", value)
    assert isinstance(refused, filters.Refused)
    assert "born" in refused.why or isinstance(value, dict)


@pytest.mark.parametrize("step", ["gt", "gte", "lt", "lte", "like", "ilike", "contains", "contained_by", "overlaps"])
def test_none_has_a_meaning_only_where_it_can_be_null(step: str) -> None:
    refused = getattr(filters, step)("c", None)
    assert isinstance(refused, filters.Refused)
    assert "c must not be None" in refused.why


@pytest.mark.parametrize("name", ["select", "order", "limit", "offset", "or", "and", "not", "columns", "on_conflict"])
def test_c046_a_column_with_the_name_of_a_parameter_goes_into_and(name: str) -> None:
    assert filters.eq(name, 5).parameter() == ("and", f"({name}.eq.5)")
    assert filters.eq(f"posts.{name}", 5).parameter() == ("posts.and", f"({name}.eq.5)")
    assert filters.in_(name, ["a,b", "c"]).parameter() == ("and", f'({name}.in.("a,b",c))')


def test_a_naive_datetime_is_told_the_way_out() -> None:
    with pytest.raises(InvalidRequestError, match=r"timezone\.utc.*isoformat"):
        text_of(datetime(2024, 1, 1), "ts")


@pytest.mark.parametrize("text", ["active", "5", "-15", "a-b_c", "é", "a=b&c", "100%", "a*", "#", "+", "é'", "null"])
def test_what_stands_bare_within_a_list(text: str) -> None:
    assert quoted(text) == text


@pytest.mark.parametrize(
    "text, result",
    [
        ("", '""'),
        *((f"a{special}b", f'"a{special}b"') for special in ",.:() {}\t\n\u2028\x1f"),
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        ('\\"', r'"\\\""'),
    ],
)
def test_what_is_quoted_within_a_list(text: str, result: str) -> None:
    assert quoted(text) == result


@pytest.mark.parametrize(
    "value, text",
    [
        (["a"], '{"a"}'),
        (("a", "b,c"), '{"a","b,c"}'),
        ({"x"}, '{"x"}'),
        (frozenset(["x"]), '{"x"}'),
        ([], "{}"),
        ([None, "NULL", ""], '{NULL,"NULL",""}'),
        ([1, True, Decimal("1.5"), Colour.RED], '{"1","true","1.5","red"}'),
        ([["a", "b"], ["c", None]], '{{"a","b"},{"c",NULL}}'),
        (['say "hi"', "back\\slash", "{}"], r'{"say \"hi\"","back\\slash","{}"}'),
        ([{"k": "v"}], r'{"{\"k\":\"v\"}"}'),
        ({"k": "v"}, '{"k":"v"}'),
        ("[1,5)", "[1,5)"),
        ("{a,b}", "{a,b}"),
        (5, "5"),
    ],
)
def test_the_text_of_an_array(value: Any, text: str) -> None:
    assert array(value, "x") == text


def test_an_array_of_too_many_dimensions() -> None:
    nested: Any = "x"
    for _ in range(7):
        nested = [nested]
    with pytest.raises(InvalidRequestError, match="deep"):
        array(nested, "tags")


@pytest.mark.parametrize("value", [None, 5, "text", b"x", {"a": 1}, object()])
def test_in_takes_lists_only(value: Any) -> None:
    assert isinstance(filters.in_("c", value), filters.Refused)


@pytest.mark.parametrize(
    "value", [[1, 2], (1, 2), range(1, 3), {1: 0, 2: 0}.keys(), iter([1, 2]), [1, 1, 2, 1.0, Decimal(2)]]
)
def test_in_takes_any_iterable_and_each_value_once(value: Any) -> None:
    assert filters.in_("c", value).parameter() == ("c", "in.(1,2)")


def test_values_that_cannot_be_read_are_remembered() -> None:
    found = filters.in_("c", (1 // number for number in (1, 0)))
    assert isinstance(found, filters.Refused)
    assert "ZeroDivisionError" in found.why


@pytest.mark.parametrize("text", [None, 5, b"x", ["x"]], ids=str)
def test_only_text_is_escaped_for_like(text: Any) -> None:
    with pytest.raises(InvalidRequestError, match="must be a str, not"):
        filters.escape_like(text)


def test_a_lone_empty_text_is_doubled() -> None:
    assert filters.in_("c", [""]).parameter() == ("c", 'in.("","")')
    assert filters.in_("c", ["", ""]).parameter() == ("c", 'in.("","")')
    assert filters.in_("c", ["", "a"]).parameter() == ("c", 'in.("",a)')
    assert filters.in_("c", ["", None]).parameter() == ("or", '(c.in.("",""),c.is.null)')


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_an_address_says_what_was_meant(value: str, name: str) -> None:
    text = query_string([(name, value)])
    assert text.isascii()
    assert not set(text) & set(' "<>\\^`{|}#+;\x7f')
    assert parse_qsl(text[1:], keep_blank_values=True, strict_parsing=True) == [(name, value)]


def test_a_plus_sign_is_encoded() -> None:
    assert encoded("+00:00") == "%2B00:00"
    assert encoded("100%") == "100%25"


@pytest.mark.parametrize(
    "columns, result",
    [
        ("id, name", "id,name"),
        (" id ", "id"),
        ("a , b", "a,b"),
        ("posts ( id , title )", "posts(id,title)"),
        ('"a , b" , c', '"a , b",c'),
        (r'"a \" , b" , c', r'"a \" , b",c'),
        ("full name, id", "full name,id"),
        ("*,\n    author:users (\n        id,\n        name\n    )\n", "*,author:users(id,name)"),
    ],
)
def test_white_space_of_select(columns: str, result: str) -> None:
    assert tidy(columns) == result


@pytest.mark.parametrize(
    "select, column, found",
    [
        (None, "id", True),
        ("*", "id", True),
        ("a,id", "id", True),
        ("id::text", "id", True),
        ("x:id", "id", False),
        ("id:x", "id", False),
        ("a,b(id)", "id", False),
        ("a,b(*)", "id", False),
        ("a,...b(id)", "id", False),
        ('"id,x"', "id", False),
        ('"a.b",c', '"a.b"', True),
        ("ids", "id", False),
    ],
)
def test_whether_a_column_is_selected(select: Any, column: str, found: bool) -> None:
    assert selected(select, column) is found


@pytest.mark.parametrize(
    "names, result",
    [
        (["a", "b_c"], "a,b_c"),
        (["full name", "a.b"], '"full name","a.b"'),
        (['qu"ote', "back\\slash"], r'"qu\"ote","back\\slash"'),
        (["ü", "1a", ""], '"ü","1a",""'),
    ],
)
def test_names_of_columns(names: Any, result: str) -> None:
    assert joined_names(names) == result


@pytest.mark.parametrize(
    "column, path, leaf",
    [
        ("id", "", "id"),
        ("users.id", "users.", "id"),
        ("a.b.c", "a.b.", "c"),
        ('"a.b"', "", '"a.b"'),
        ('u."a.b"', "u.", '"a.b"'),
        (r'"a\".b".c', r'"a\".b".', "c"),
        ("meta->>a.b", "", "meta->>a.b"),
        ("u.meta->a->>b.c", "u.", "meta->a->>b.c"),
    ],
)
def test_the_path_of_a_column(column: str, path: str, leaf: str) -> None:
    assert filters.split_path(column) == (path, leaf)


@pytest.mark.parametrize(
    "make",
    [
        lambda column: filters.eq(column, 1),
        lambda column: filters.in_(column, [1]),
        lambda column: filters.is_(column, None),
        lambda column: filters.filter(column, "eq", "1"),
        lambda column: filters.not_(column, "eq", 1),
    ],
)
@pytest.mark.parametrize("column", ["", " ", ".", "..", "a\n", "a\0", "\x1b", "\x9f", "\ud800", 5, None])
def test_names_of_columns_are_checked(make: Any, column: Any) -> None:
    refused = make(column)
    assert isinstance(refused, filters.Refused)
    assert refused.why.startswith("column ")


def test_nothing_of_a_condition_is_shown() -> None:
    assert repr(filters.or_(filters.eq("email", "ann@example.com"))) == "<Tree>"


def test_a_query_is_a_value() -> None:
    assert Query() == Query()
    assert Query().parameters() == [("select", "*")]
    assert Query().write_parameters() == []
