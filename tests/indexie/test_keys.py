"""Keys: which values are keys, in which order, and how an index sees a document."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any, Callable, List, Tuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdb.indexie import MAX_KEY, MIN_KEY, DataError, InvalidArgumentError
from selfdb.indexie.keys.keys import (
    ARRAYS,
    STRINGS,
    decode,
    encode,
    encode_or_none,
    leading,
    leading_prefix,
    prefix,
    span,
)
from selfdb.indexie.keys.ranges import EMPTY, EVERYTHING, Range, complement, contains, intersection, order, union
from tests import soak

# The order of keys, told a second time and in another way: by what Python compares.

Told = Tuple[Any, ...]


def told(key: Any) -> Told:
    if isinstance(key, bool):
        return (1, key)
    if isinstance(key, (int, float)):
        return (0, key if math.isinf(key) else Fraction(key))
    if isinstance(key, datetime):
        aware = key if key.tzinfo else key.replace(tzinfo=timezone.utc)
        return (2, (aware - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1))
    if isinstance(key, date):
        return told(datetime(key.year, key.month, key.day))
    if isinstance(key, str):
        return (3, [ord(each) for each in key])
    if isinstance(key, bytes):
        return (4, key)
    return (5, [told(each) for each in key])


NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, float(2**53), 2**63 - 1, float(2**63), -(2**63), -0.0, math.inf, -math.inf]),
    st.integers(-(2**63), 2**63 - 1).map(float),
)
TEXTS = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=6),
    st.text(alphabet="\0\x01a\uffff\U0010ffff", max_size=4),
)
BYTES = st.one_of(st.binary(max_size=6), st.lists(st.sampled_from([b"\0", b"\xff", b"a"]), max_size=4).map(b"".join))
DATES = st.one_of(
    st.datetimes(),
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.timezones()),
    st.dates(),
)
ATOMS = st.one_of(NUMBERS, st.booleans(), DATES, TEXTS, BYTES)
KEYS = st.recursive(ATOMS, lambda keys: st.lists(keys, max_size=4), max_leaves=8)

PAIRS = settings(max_examples=soak.amount("SELFDB_IX_KEYS", here=120, long=100_000), deadline=None)


@PAIRS
@given(KEYS, KEYS)
def test_c019_bytes_have_the_order_of_keys(one: Any, other: Any) -> None:
    mine, yours = order(encode(one)), order(encode(other))
    assert (mine < yours, mine == yours) == (told(one) < told(other), told(one) == told(other))


@PAIRS
@given(KEYS)
def test_c019_keys_come_back(key: Any) -> None:
    back = decode(encode(key))
    assert told(back) == told(key)
    assert order(encode(back)) == order(encode(key))


def test_c019_the_order_of_kinds(make_db: Callable[..., Any]) -> None:
    db = make_db({"s": ""})
    moment = datetime(2020, 1, 1)
    for key in [b"a", "a", moment, 5, [1], -1.5, [1, "x"], "", True, False]:
        db.s.add("value", key)
    moment = moment.replace(tzinfo=timezone.utc)
    assert db.s.to_collection().primary_keys() == [-1.5, 5, False, True, moment, "", "a", b"a", [1], [1, "x"]]


def test_c019_strings_by_code_point(make_db: Callable[..., Any]) -> None:
    db = make_db({"s": ""})
    keys = ["\U00010000", "\uffff", "z", "é", "", "Z", "zz", "z\0"]
    for key in keys:
        db.s.add(1, key)
    assert db.s.to_collection().primary_keys() == sorted(keys)


def test_c020_large_numbers_are_exact(make_db: Callable[..., Any]) -> None:
    db = make_db({"s": "id, *n"})
    keys = [2**63 - 1, 2**53, 2**53 + 1]
    for key in keys:
        db.s.add({"id": key, "n": [[key]]})
    assert db.s.to_collection().primary_keys() == sorted(keys)
    assert [row["id"] for row in db.s.where("n").between([2**53], [2**53 + 1], True, True).to_array()] == sorted(keys)[
        :2
    ]
    assert db.s.get(2**53 + 1)["id"] == 2**53 + 1
    for beyond in (2**63, -(2**63) - 1):
        with pytest.raises(DataError, match="64 bits"):
            db.s.add({"id": beyond})
    with pytest.raises(DataError):
        db.s.get([1, 2**63])


class Colour(Enum):
    RED = "red"


class Size(IntEnum):
    L = 3


class Odd(str):
    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(1, 1.0, id="an int and a float"),
        pytest.param(0, -0.0, id="the zeros"),
        pytest.param([1, [2.0]], (1, (2,)), id="lists and tuples"),
        pytest.param(
            datetime(2020, 1, 1, 12), datetime(2020, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))), id="zones"
        ),
        pytest.param(date(2020, 1, 1), datetime(2020, 1, 1), id="a date and its midnight"),
        pytest.param(UUID(int=5), "00000000-0000-0000-0000-000000000005", id="a UUID and its text"),
        pytest.param(b"ab", bytearray(b"ab"), id="bytes"),
        pytest.param(b"ab", memoryview(b"ab"), id="a view of bytes"),
        pytest.param(Colour.RED, "red", id="an Enum and its value"),
        pytest.param(Size.L, 3, id="an IntEnum"),
        pytest.param(Odd("a"), "a", id="a str of another class"),
    ],
)
def test_keys_that_are_equal(one: Any, other: Any) -> None:
    assert encode(one) == encode(other)


NO_KEYS = [
    pytest.param(None, id="None"),
    pytest.param(math.nan, id="NaN"),
    pytest.param(Decimal(1), id="Decimal"),
    pytest.param({1}, id="a set"),
    pytest.param(object(), id="an object"),
    pytest.param("\ud800", id="a lone surrogate"),
    pytest.param([1, None], id="None within a list"),
    pytest.param([[math.nan]], id="NaN within lists"),
    pytest.param([{}], id="a dict within a list"),
    pytest.param(["\ud800"], id="a lone surrogate within a list"),
    pytest.param(MIN_KEY, id="MIN_KEY"),
    pytest.param([1, MAX_KEY], id="MAX_KEY within a list"),
    pytest.param(timedelta(1), id="timedelta"),
    pytest.param(int, id="a class"),
]


@pytest.mark.parametrize("key", NO_KEYS)
@pytest.mark.parametrize("call", ["get", "put", "add", "update", "delete", "equals", "above", "bulk_get"])
def test_c021_what_is_no_key(make_db: Callable[..., Any], key: Any, call: str) -> None:
    db = make_db({"s": ", x"}).open()
    calls = {
        "get": lambda: db.s.get(key),
        "put": lambda: db.s.put({}, key),
        "add": lambda: db.s.add({}, key),
        "update": lambda: db.s.update(key, {"x": 1}),
        "delete": lambda: db.s.delete(key),
        "equals": lambda: db.s.where("x").equals(key),
        "above": lambda: db.s.where("x").above(key),
        "bulk_get": lambda: db.s.bulk_get([1, key]),
    }
    if call == "above" and (key is MIN_KEY or (isinstance(key, list) and MAX_KEY in key)):
        assert calls[call]().to_array() == []  # no key, but a bound
        return
    with pytest.raises(DataError):
        calls[call]()


def test_c021_a_list_within_itself_is_no_key() -> None:
    endless: List[Any] = []
    endless.append(endless)
    with pytest.raises(DataError):
        encode(endless)
    assert encode_or_none(endless) is None


def test_c021_criteria_without_any(make_db: Callable[..., Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        make_db().users.get({})


def test_c021_a_dict_within_a_key(make_db: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="filter"):
        make_db().users.where("age").equals({"a": 1})


def test_c022_rows_without_a_key_are_absent(make_db: Callable[..., Any]) -> None:
    db = make_db()
    db.users.bulk_add([{"age": None}, {"age": {"a": 1}}, {}, {"age": Decimal(3)}, {"age": math.nan}, {"age": 7}])
    assert db.users.where("age").above(MIN_KEY).primary_keys() == [6]
    assert db.users.order_by("age").count() == 1
    assert db.users.count() == len(db.users.to_array()) == 6


@pytest.mark.parametrize(("asked", "found"), [(False, [2, 4]), (True, [1])])
def test_c023_booleans_are_keys(make_db: Callable[..., Any], asked: bool, found: List[int]) -> None:
    db = make_db({"todos": "++id, done"})
    db.todos.bulk_add([{"done": True}, {"done": False}, {"done": 0}, {"done": False}, {}, {"done": 1}])
    assert db.todos.where("done").equals(asked).primary_keys() == found
    assert db.todos.order_by("done").primary_keys() == [3, 6, 2, 4, 1]
    assert db.todos.where("done").equals(0).primary_keys() == [3]


@pytest.mark.parametrize(
    ("tags", "entries"),
    [
        (["a", "a", None, {"x": 1}, "b"], ["a", "b"]),
        ("solo", ["solo"]),
        ([], []),
        (None, []),
        ({"a": 1}, []),
        (("b", "a"), ["a", "b"]),
        ([["a"], "a", 1, 1.0, True], [1, True, "a", ["a"]]),
        (5, [5]),
    ],
)
def test_c027_entries_of_a_multi_entry_index(make_db: Callable[..., Any], tags: Any, entries: List[Any]) -> None:
    db = make_db()
    db.users.add({"tags": tags})
    assert db.users.where("tags").above(MIN_KEY).keys() == entries
    assert db.users.where("tags").above(MIN_KEY).count() == len(entries)
    assert db.integrity_check() == []


def test_c028_compound_indexes(make_db: Callable[..., Any]) -> None:
    db = make_db()
    db.users.bulk_add(
        [
            {"last": "D", "first": "A"},
            {"last": "D", "first": "B"},
            {"last": "D"},
            {"first": "A"},
            {"last": "E", "first": "A"},
            {"last": "D", "first": None},
        ]
    )
    assert db.users.where(["last", "first"]).equals(["D", "A"]).primary_keys() == [1]
    assert db.users.where("[last+first]").equals(["D", "A"]).primary_keys() == [1]
    assert db.users.where("last").equals("D").primary_keys() == [1, 2]
    assert db.users.where("last").above("D").primary_keys() == [5]
    assert db.users.where("last").below("E").primary_keys() == [1, 2]
    assert db.users.where("last").starts_with("").primary_keys() == [1, 2, 5]
    assert db.users.where(["last", "first"]).between(["D", MIN_KEY], ["D", MAX_KEY]).primary_keys() == [1, 2]
    assert db.users.order_by("[last+first]").primary_keys() == [1, 2, 5]


def test_c029_numbers_and_their_text(make_db: Callable[..., Any]) -> None:
    db = make_db({"s": "id"})
    db.s.put({"id": 1, "as": "int"})
    db.s.put({"id": 1.0, "as": "float"})
    db.s.put({"id": "1", "as": "str"})
    assert [row["as"] for row in db.s.to_array()] == ["float", "str"]
    assert db.s.get(1) == db.s.get(1.0) == {"id": 1.0, "as": "float"}


# Ranges


BOUNDS = st.one_of(KEYS, st.sampled_from([MIN_KEY, MAX_KEY]))


def inside(key: Any, lower: Any, upper: Any, lower_open: bool, upper_open: bool) -> bool:
    low = lower is MIN_KEY or (
        lower is not MAX_KEY and (told(lower) < told(key) or (told(lower) == told(key) and not lower_open))
    )
    high = upper is MAX_KEY or (
        upper is not MIN_KEY and (told(key) < told(upper) or (told(key) == told(upper) and not upper_open))
    )
    return low and high


@PAIRS
@given(KEYS, BOUNDS, BOUNDS, st.booleans(), st.booleans())
def test_spans_hold_what_lies_between(key: Any, lower: Any, upper: Any, lower_open: bool, upper_open: bool) -> None:
    assert (encode(key) in span(lower, upper, lower_open, upper_open)) == inside(
        key, lower, upper, lower_open, upper_open
    )


@PAIRS
@given(st.one_of(TEXTS, ATOMS), TEXTS)
def test_prefixes_hold_what_begins_so(key: Any, start: str) -> None:
    assert (encode(key) in prefix(start)) == (isinstance(key, str) and key.startswith(start))
    assert (encode(key) in STRINGS) == isinstance(key, str)
    assert encode([key]) in ARRAYS
    begins = isinstance(key, str) and key.startswith(start)
    assert (encode([1, key]) in leading_prefix([1], start)) == begins
    assert (encode([1, key, 5]) in leading_prefix([1], start)) == begins
    assert encode([2, key, 5]) not in leading_prefix([1], start)


@PAIRS
@given(KEYS, KEYS, BOUNDS, BOUNDS, st.booleans(), st.booleans())
def test_leading_parts_of_compound_keys(
    first: Any, second: Any, lower: Any, upper: Any, lower_open: bool, upper_open: bool
) -> None:
    bounds = span(lower, upper, lower_open, upper_open)
    expected = encode(second) in bounds
    for rest in ([], [1], [MAX_KEY_LIKE]):
        key = encode([first, second, *rest])
        assert (key in leading([first], bounds)) == expected
        assert key in leading([first])
        assert key in leading([first, second])
        assert key in leading([], Range.only(encode(first)))


MAX_KEY_LIKE = [["\U0010ffff"]]


def test_a_prefix_of_the_last_character() -> None:
    assert encode("a\U0010ffffz") in prefix("a\U0010ffff")
    assert encode("b") not in prefix("a\U0010ffff")
    assert encode(b"a") not in prefix("")
    with pytest.raises(DataError):
        prefix(5)  # type: ignore[arg-type]
    with pytest.raises(DataError):
        leading_prefix([1], 5)  # type: ignore[arg-type]
    with pytest.raises(DataError):
        leading([None])


def test_ends_of_the_order_within_arrays() -> None:
    whole = span([1, MIN_KEY], [1, MAX_KEY])
    assert all(encode([1, key]) in whole for key in (-math.inf, "", b"\xff" * 9, [], [[b"\xff"]], [1, 2]))
    assert encode([1]) not in whole
    assert encode([2]) not in whole
    assert encode([1, [5, 5]]) in span([1, [5, MIN_KEY]], [1, [5, MAX_KEY]])
    assert span(MAX_KEY, MAX_KEY) == span(5, MIN_KEY) == EMPTY
    assert span(MIN_KEY, MAX_KEY) == EVERYTHING


SMALL = st.one_of(st.integers(0, 6), st.sampled_from([b"a", b"b", b"c"]))
RANGES = st.builds(Range, st.one_of(st.none(), SMALL), st.one_of(st.none(), SMALL), st.booleans(), st.booleans()).map(
    lambda each: each._replace(
        lower_open=each.lower_open and each.lower is not None, upper_open=each.upper_open and each.upper is not None
    )
)
POINTS = [*(at / 2 for at in range(-1, 14)), b"", b"a", b"aa", b"b", b"bb", b"c", b"d"]


@PAIRS
@given(st.lists(RANGES, max_size=5), RANGES)
def test_sets_of_ranges(ranges: List[Range], bounds: Range) -> None:
    merged, others, cut = union(ranges), complement(ranges), intersection(ranges, bounds)
    for point in POINTS:
        there = contains(ranges, point)
        assert sum(point in each for each in merged) == there
        assert sum(point in each for each in others) == (not there)
        assert sum(point in each for each in cut) == (there and point in bounds)
    for several in (merged, others, cut):
        assert not any(each.empty for each in several)
        assert several == union(several)
    for each in ranges:
        assert each.is_only == (union([each]) == [Range.only(each.lower)] if each.lower is not None else False)
