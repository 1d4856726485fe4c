"""Values of every type through the wire and back, on both databases, and against PostgreSQL's own rules."""

from __future__ import annotations

import json
import math
import re
import uuid
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfdb.server.columntypes import ColumnType, parse_type
from selfdb.server.jsonvalues import canonical, dumps
from tests.server.tabledata import changed, insert, new_table, refused, route, rows
from tests.support import Http

# The tables of a run are shared by all of its examples, which find their rows by id.
EXAMPLES = settings(
    max_examples=20, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
WHOLE = st.integers(-(2**31), 2**31 - 1)
BIG = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = st.datetimes(
    min_value=datetime(1, 1, 2),
    max_value=datetime(9999, 12, 30),
    timezones=st.builds(timezone, st.builds(timedelta, minutes=st.integers(-15 * 60, 15 * 60))),
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
CENTS = st.integers(-(10**10) + 1, 10**10 - 1)

VALUES: Dict[str, st.SearchStrategy[Tuple[Any, Any]]] = {
    "text": TEXTS.map(lambda text: (text, text)),
    "varchar(40)": TEXTS.map(lambda text: (text, text)),
    "integer": WHOLE.map(lambda number: (number, number)),
    "bigint": BIG.map(lambda number: (number, number)),
    "boolean": st.booleans().map(lambda flag: (flag, flag)),
    "timestamp": MOMENTS.map(
        lambda moment: (moment.isoformat(), moment.astimezone(timezone.utc).isoformat(timespec="microseconds"))
    ),
    "jsonb": DOCUMENTS.map(lambda document: (document, document)),
    "uuid": st.uuids().map(lambda value: (str(value).upper(), str(value))),
    "float": FLOATS.map(lambda number: (number, number)),
    "decimal": CENTS.map(lambda cents: (cents / 100, cents / 100)),
    "date": st.dates().map(lambda day: (day.isoformat(), day.isoformat())),
}


@pytest.mark.parametrize("type_", list(VALUES))
def test_c057_values_come_back_as_they_went(http: Http, type_: str) -> None:
    table = new_table(http, {"v": {"type": type_}})

    @EXAMPLES
    @given(VALUES[type_])
    def check(pair: Tuple[Any, Any]) -> None:
        sent, expected = pair
        row = insert(http, table, {"v": sent})
        assert row["v"] == expected
        assert same_kind(row["v"], expected)
        answer = http.get(route(table, "data"), params={"sort_by": "created_at", "page_size": 1}, bearer=http.admin)
        assert answer.json()["data"] == [row]
        assert same_kind(answer.json()["data"][0]["v"], row["v"])

    check()


def same_kind(one: Any, other: Any) -> bool:
    """Whether two equal JSON values are of the same JSON type; numbers that are equal are alike."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, float)):
        return isinstance(other, (int, float))
    if isinstance(one, list):
        return all(same_kind(*pair) for pair in zip(one, other))
    if isinstance(one, dict):
        return all(same_kind(one[key], other[key]) for key in one)
    return type(one) is type(other)


def test_c057_nulls_come_back_as_nulls(http: Http) -> None:
    table = new_table(http, {f"v{number}": {"type": type_} for number, type_ in enumerate(VALUES)})
    empty = insert(http, table, {"v0": None, "v6": None})
    assert {empty[f"v{number}"] for number in range(len(VALUES))} == {None}
    assert rows(http, table) == [empty]


@pytest.mark.parametrize(
    "type_, sent, stored",
    [
        ("integer", 5, "5"),
        ("integer", "+5", "5"),
        ("bigint", 9007199254740993, "9007199254740993"),
        ("boolean", "t", "true"),
        ("float", 5, "5.0"),
        ("float", -0.0, "0.0"),
        ("float", "1e-7", "1e-7"),
        ("decimal", 12.5, "12.5"),
        ("decimal", 12, "12.0"),
        ("decimal", "0.005", "0.01"),
        ("decimal", "-0.005", "-0.01"),
        ("decimal", 99999999.99, "99999999.99"),
        ("decimal", "-0.001", "0.0"),
        ("timestamp", "2025-01-02T03:04:05.678901+00:00", '"2025-01-02T03:04:05.678901+00:00"'),
        ("timestamp", "2025-01-02 03:04:05.6789014Z", '"2025-01-02T03:04:05.678901+00:00"'),
        ("timestamp", "2025-01-02 03:04", '"2025-01-02T03:04:00.000000+00:00"'),
        ("timestamp", "2025-01-02T03:04:05 -0330", '"2025-01-02T06:34:05.000000+00:00"'),
        ("timestamp", "2024-12-31T23:59:59.9999999", '"2025-01-01T00:00:00.000000+00:00"'),
        ("date", "2025-01-02T23:04:05-05:00", '"2025-01-02"'),
        ("uuid", "{a0eebc999c0b4ef8bb6d6bb9bd380a11}", '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"'),
        ("jsonb", {"bb": 1, "a": {"y": 1, "x": 2}}, '{"a":{"x":2,"y":1},"bb":1}'),
        (
            "jsonb",
            [1.0, 1e20, 1e-7, -0.0, 3.602879701896397e16],
            "[1.0,100000000000000000000,1e-7,0.0,36028797018963968]",
        ),
        ("jsonb", "now()", '"now()"'),
        ("jsonb", False, "false"),
        ("jsonb", 0, "0"),
        ("jsonb", {}, "{}"),
        ("jsonb", "", '""'),
    ],
)
def test_c057_the_spelling_is_equal_on_both_databases(http: Http, type_: str, sent: Any, stored: str) -> None:
    table = new_table(http, {"v": {"type": type_}})
    insert(http, table, {"v": sent})
    for answer in (
        http.post(route(table, "data"), json={"v": sent}, bearer=http.admin),
        http.get(route(table, "data"), bearer=http.admin),
    ):
        assert f'"v":{stored},' in answer.text


@pytest.mark.parametrize(
    "type_, values",
    [
        ("integer", ["", "x", "5.0", "0x10", "5 5", "\u0665", "1_000", True, 1.5, 2**31, -(2**31) - 1, 1e300, [], {}]),
        ("bigint", [2**63, -(2**63) - 1, str(2**63), "9" * 5000, 1e19]),
        ("boolean", ["", "x", "o", "tru e", "truex", "2", 1, 0, 1.0, []]),
        (
            "timestamp",
            ["", "x", "now", "infinity", "2025-13-01", "2025-02-30", "2025-01-02T25:00", "2025-01-02T03:04:05+16:00",
             "0001-01-01T00:00+01:00", "9999-12-31T23:59:59-01:00", "0000-01-01", "12025-01-01", 1735787045, True],
        ),
        ("uuid", ["", "x", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "g" * 32, "a0eebc99-9c0b4ef8-bb6d6bb9bd380a11", 5]),
        ("float", ["", "x", "nan", "Infinity", "-inf", "1e999", "1e", "0x1p3", 10**400, True, []]),
        ("decimal", ["x", 100000000, "99999999.995", "1e30", "NaN", False]),
        ("date", ["", "x", "2025-02-30", "today", 20250102]),
        ("varchar(3)", ["abcd", "    ", 5, 1.5, True, []]),
        ("text", [5, 1.5, True, [], {}]),
    ],
)  # fmt: skip
def test_c060_values_of_another_type_are_refused(http: Http, type_: str, values: List[Any]) -> None:
    table = new_table(http, {"v": {"type": type_, "nullable": False}})
    for value in values:
        detail = refused(http, table, {"v": value})
        assert '"v"' in detail
        assert len(detail) < 120


def test_c060_documents_that_no_database_keeps_alike_are_refused(http: Http) -> None:
    table = new_table(http, {"v": {"type": "jsonb"}})
    refused(http, table, {"v": 2**1024})
    insert(http, table, {"v": 2**1024 - 1})
    headers = {"Content-Type": "application/json"}
    for body in ("[" * 200 + "]" * 200, '{"v": ' * 200 + "1" + "}" * 200):
        answer = http.post(route(table, "data"), data=f'{{"v": {body}}}', headers=headers, bearer=http.admin)
        assert answer.status_code == 422


def test_c057_varchar_counts_characters(http: Http) -> None:
    table = new_table(http, {"v": {"type": "varchar(3)"}, "w": {"type": "varchar"}, "x": {"type": "string"}})
    assert insert(http, table, {"v": "😀é" + "e"})["v"] == "😀ée"
    assert insert(http, table, {"w": "x" * 255})["w"] == "x" * 255
    refused(http, table, {"w": "x" * 256})
    refused(http, table, {"x": "x" * 256})


def test_c057_types_have_other_names(http: Http) -> None:
    names = ["INT", "Bool", " datetime ", "json", "String", "VARCHAR ( 7 )", "UUID"]
    table = new_table(http, {f"v{number}": {"type": name} for number, name in enumerate(names)})
    row = insert(http, table, {"v0": 1, "v1": "f", "v2": "2025-01-02", "v3": [1], "v4": "x", "v5": "y"})
    assert [row[f"v{number}"] for number in range(6)] == [1, False, "2025-01-02T00:00:00.000000+00:00", [1], "x", "y"]
    assert table["table_schema"]["v2"] == {"type": " datetime "}
    assert changed(http, table, "v0", {"type": "integer"})["table_schema"]["v0"] == {"type": "integer"}


# -- against PostgreSQL itself -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask(postgres: Any) -> Iterator[Callable[[str, Any], Any]]:
    """``ask(expression, text)``: what PostgreSQL makes of ``text``; ``None`` when it refuses."""
    import psycopg

    url = postgres.create_database()
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("SET TimeZone = 'UTC'")

    def answer(expression: Any, text: Any) -> Any:
        try:
            (value,) = connection.execute(expression, (text,)).fetchone()  # type: ignore[misc]
        except psycopg.DataError:
            return None
        return value

    yield answer
    connection.close()
    postgres.drop_database(url)


BOOLEANS = [
    "t",
    "tr",
    "tru",
    "true",
    "truee",
    "y",
    "ye",
    "yes",
    "n",
    "no",
    "of",
    "off",
    "o",
    "on",
    "onn",
    "1",
    "0",
    "2",
]


def coerced(column_type: ColumnType, text: Any) -> Any:
    try:
        return column_type.coerce(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    "type_, texts",
    [
        ("integer", st.from_regex(r"\A[ \t]{0,1}[+-]{0,2}[0-9]{0,11}[ .x]{0,1}\Z")),
        ("bigint", st.from_regex(r"\A[+-]{0,1}[0-9]{16,20}\Z")),
        (
            "boolean",
            st.sampled_from(
                [
                    "t",
                    "tr",
                    "tru",
                    "true",
                    "truee",
                    "y",
                    "ye",
                    "yes",
                    "n",
                    "no",
                    "of",
                    "off",
                    "o",
                    "on",
                    "onn",
                    "1",
                    "0",
                    "2",
                    "f",
                    "fa",
                    "false",
                    "TRUE",
                ]
            ),
        ),
        ("boolean", st.text(" tTrRuUeEfoOnN10", max_size=4)),
        ("uuid", st.from_regex(r"\A[{]?[0-9a-fA-F]{32}[}]?\Z")),
        ("uuid", st.uuids().map(lambda value: "{" + str(value).upper() + "}")),
    ],
)
def test_c060_text_is_read_as_postgresql_reads_it(ask: Callable[..., Any], type_: str, texts: Any) -> None:
    column_type = parse_type(type_)

    @settings(EXAMPLES, max_examples=150)
    @given(texts)
    def check(text: str) -> None:
        expected = ask(f"SELECT %s::text::{type_}", text)
        assert coerced(column_type, text) == (str(expected) if type_ == "uuid" and expected else expected)

    check()


def test_c060_decimals_round_as_postgresql_rounds_them(ask: Callable[..., Any]) -> None:
    @settings(EXAMPLES, max_examples=150)
    @given(
        st.decimals(-(10**9), 10**9, allow_nan=False, places=4) | st.sampled_from([Decimal("0.005"), Decimal("-1e-9")])
    )
    def check(number: Decimal) -> None:
        expected = ask("SELECT %s::text::numeric(10,2)", str(number))
        assert coerced(parse_type("decimal"), str(number)) == (None if expected is None else float(expected))
        if expected is not None:
            assert expected == number.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP)

    check()


def test_c060_moments_are_read_as_postgresql_reads_them(ask: Callable[..., Any]) -> None:
    @settings(EXAMPLES, max_examples=150)
    @given(MOMENTS, st.sampled_from(["T", " "]), st.sampled_from(["auto", "seconds", "minutes", "milliseconds"]))
    def check(moment: datetime, separator: str, precision: str) -> None:
        text = moment.isoformat(separator, precision)
        expected = ask("SELECT %s::text::timestamptz", text)
        assert coerced(parse_type("timestamp"), text) == expected.isoformat(timespec="microseconds")

    check()


def test_c057_documents_are_spelled_as_postgresql_spells_them(ask: Callable[..., Any]) -> None:
    @settings(EXAMPLES, max_examples=150)
    @given(DOCUMENTS)
    def check(document: Any) -> None:
        kept = canonical(document)
        assert kept == document
        assert dumps(kept) == ask("SELECT (%s::jsonb)::text", json.dumps(kept))

    check()


def test_c057_floats_survive_as_text() -> None:
    @settings(EXAMPLES, max_examples=200)
    @given(FLOATS)
    def check(number: float) -> None:
        kept = json.loads(dumps(canonical(number)))
        assert kept == number
        assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", dumps(canonical(number)))
        assert parse_type("float").coerce(repr(number)) == number
        assert math.copysign(1, parse_type("float").coerce(-0.0)) == 1

    check()


def test_c057_every_id_that_is_generated_is_a_random_uuid(http: Http) -> None:
    table = new_table(http, {"v": {"type": "text"}})
    assert uuid.UUID(insert(http, table, {"v": "x"})["id"]).version == 4
