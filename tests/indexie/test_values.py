"""Documents: what can be stored comes back the same; what cannot is refused, and says where it stands."""

from __future__ import annotations

import math
from collections import OrderedDict, UserDict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Callable, Dict, List, Optional
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from selfdb.indexie import DatabaseCorruptError, DataCloneError
from selfdb.indexie.keys.values import dump, load
from tests import soak

PARTS: Dict[str, Any] = {
    "aware": datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    "naive": datetime(2020, 1, 2, 3, 4, 5),
    "folded": datetime(2020, 10, 25, 2, 30, fold=1),
    "date": date(1, 1, 1),
    "time": time(23, 59, 59, 999999),
    "aware_time": time(1, 2, tzinfo=timezone.utc),
    "delta": timedelta(days=-1, seconds=5, microseconds=7),
    "decimal": Decimal("1.50"),
    "uuid": UUID(int=2**127 + 5),
    "bytes": bytes(range(256)),
    "set": {1, "a", (1, (2, b"x")), frozenset({3})},
    "frozenset": frozenset({datetime(2020, 1, 1), math.inf}),
    "infinities": [math.inf, -math.inf],
    "zeros": [0, 0.0, -0.0],
    "nested": {"list": [{"deep": [Decimal(0), {"a": None}]}], "empty": [{}, [], ""]},
    "large": 10**40,
    "text": '\0 é \U0010ffff \u2028 " \\',
    "truth": [True, False, None],
}


def exactly(value: Any) -> Any:
    """What tells apart what Python calls equal."""
    if isinstance(value, dict):
        return [(key, exactly(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [exactly(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, map(exactly, value)))
    fold = getattr(value, "fold", 0)
    return type(value), repr(value), fold


@pytest.mark.parametrize("part", PARTS)
def test_c024_it_comes_back(make_db: Callable[..., Any], part: str) -> None:
    db = make_db({"s": ""})
    for value in (PARTS[part], {"part": PARTS[part]}, [[PARTS[part]]]):
        db.s.put(value, 1)
        assert exactly(db.s.get(1)) == exactly(value)


def test_c024_nan_comes_back(make_db: Callable[..., Any]) -> None:
    db = make_db({"s": ""})
    db.s.put({"nan": [math.nan], "set": {math.nan}, "d": Decimal("NaN")}, 1)
    row = db.s.get(1)
    assert math.isnan(row["nan"][0])
    assert math.isnan(row["set"].pop())
    assert row["d"].is_nan()


def test_c024_in_another_process(make_db: Callable[..., Any], peer: Callable[..., Any]) -> None:
    db = make_db({"s": "++id"}).open()
    db.s.add(PARTS)
    there = peer().run("from selfdb.indexie import Indexie; result = Indexie(path).s.get(1)")
    assert exactly(there) == exactly({**PARTS, "id": 1})


def test_c024_after_reopening(make_db: Callable[..., Any]) -> None:
    db = make_db({"s": "++id"})
    db.s.add(PARTS)
    db.close()
    assert exactly(make_db(None).s.get(1)) == exactly({**PARTS, "id": 1})


def test_c024_a_zone_becomes_its_offset() -> None:
    moment = datetime(2020, 7, 1, 12, tzinfo=ZoneInfo("UTC"))
    _, text = dump({"at": moment})
    assert load(text)["at"] == moment
    assert load(text)["at"].utcoffset() == moment.utcoffset()


MARKED = [
    {"$ix": 1},
    {"$ix": ["dt", "x"]},
    {"$ix": ["o", {"$ix": 1}]},
    {"$ix": {"$ix": {"$ix": None}}},
    {"a": [{"$ix": datetime(2020, 1, 1)}]},
    {"$ix": 1, "more": {"$ix": []}},
    {'"$ix"': '{"$ix":1}'},
    {"$ix": math.nan},
    {"at": datetime(2020, 1, 1), "user": {"$ix": ["d", "2020-01-01"]}},
]


@pytest.mark.parametrize("document", MARKED[:-2])
def test_c025_dicts_that_look_like_ours(make_db: Callable[..., Any], document: Any) -> None:
    db = make_db({"s": ""})
    db.s.add(document, 1)
    assert exactly(db.s.get(1)) == exactly(document)


def test_c025_beside_what_is_written_so() -> None:
    document = MARKED[-1]
    assert exactly(load(dump(document)[1])) == exactly(document)
    assert math.isnan(load(dump(MARKED[-2])[1])["$ix"])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    st.datetimes(timezones=st.one_of(st.none(), st.just(timezone.utc))),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.binary(max_size=8),
    st.sampled_from(["$ix", "dt", "o"]),
)
NAMES = st.one_of(st.text(st.characters(exclude_categories=("Cs",)), max_size=4), st.just("$ix"))
DOCUMENTS = st.recursive(
    st.one_of(SCALARS, st.frozensets(SCALARS, max_size=3)),
    lambda each: st.one_of(st.lists(each, max_size=3), st.dictionaries(NAMES, each, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=soak.amount("SELFDB_IX_DOCUMENTS", here=120, long=50_000), deadline=None)
@given(DOCUMENTS)
def test_c024_any_document_comes_back(document: Any) -> None:
    clean, text = dump(document)
    assert exactly(clean) == exactly(document) == exactly(load(text))


def cycle() -> Any:
    around: Dict[str, Any] = {"list": []}
    around["list"].append({"again": around})
    return around


def deep(levels: int) -> Any:
    value: List[Any] = []
    for _ in range(levels):
        value = [value]
    return {"deep": value}


@dataclass(frozen=True)
class Point:
    x: int


@pytest.mark.parametrize(
    ("document", "place"),
    [
        pytest.param({"a": {"b": [1, lambda: 0]}}, "a.b[1]", id="a function"),
        pytest.param(cycle(), "list[0].again", id="a cycle"),
        pytest.param({1: 2}, "", id="a key that is no string"),
        pytest.param({"a": {None: 2}}, "a", id="a key that is None"),
        pytest.param({"a": {True: 2}}, "a", id="a key that is a bool"),
        pytest.param({"a": ["x", "\ud800"]}, "a[1]", id="a lone surrogate"),
        pytest.param({"a": {"\udfff": 1}}, "a", id="a lone surrogate as a key"),
        pytest.param({"s": {"\ud800"}}, "s[0]", id="a lone surrogate in a set"),
        pytest.param({"a": int}, "a", id="a class"),
        pytest.param({"a": BaseModel}, "a", id="a model's class"),
        pytest.param({"a": Point}, "a", id="a data class's class"),
        pytest.param({"a": deque([1])}, "a", id="a deque"),
        pytest.param({"a": 1j}, "a", id="a complex number"),
        pytest.param({"a": (each for each in "x")}, "a", id="a generator"),
        pytest.param({"a": 10**5000}, "a", id="a number without text"),
        pytest.param({"a": {Point(1)}}, "a[0]", id="an object in a set"),
        pytest.param(deep(100_000), None, id="too deep"),
        pytest.param({"at": datetime(2020, 1, 1), "f": math.nan, "g": object()}, "g", id="beside what is no JSON"),
    ],
)
@pytest.mark.parametrize("how", ["add", "put", "update", "bulk_add"])
def test_c026_what_cannot_be_stored(make_db: Callable[..., Any], document: Any, place: Optional[str], how: str) -> None:
    db = make_db({"s": "++"})
    db.s.put({"there": 1}, 1)
    with pytest.raises(DataCloneError) as caught:
        if how == "update":
            db.s.update(1, {"new": document})
        elif how == "bulk_add":
            try:
                db.s.bulk_add([{"good": 1}, document])
            except Exception as error:
                raise getattr(error, "failures", [error])[0] from error
        elif how == "add":
            db.s.add(document)
        else:
            db.s.put(document, 1)
    if place is not None and how != "update":
        assert caught.value.path == place
    str(caught.value).encode()
    assert db.s.to_array() == [{"there": 1}]


class Colour(Enum):
    RED = {"r": 255}


class Size(IntEnum):
    L = 3


class Words(str, Enum):
    HI = "hi"


class Model(BaseModel):
    name: str
    at: datetime
    inner: Optional[Point] = None


@dataclass
class Record:
    name: str
    parts: List[Any] = field(default_factory=list)


Pair = namedtuple("Pair", "a b")


class Stamp(datetime):
    pass


class Money(Decimal):
    pass


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        pytest.param((1, (2,)), [1, [2]], id="tuples"),
        pytest.param(Pair(1, 2), [1, 2], id="a named tuple"),
        pytest.param(
            Model(name="a", at=datetime(2020, 1, 1)),
            {"name": "a", "at": datetime(2020, 1, 1), "inner": None},
            id="a model",
        ),
        pytest.param(Record("a", [Point(1)]), {"name": "a", "parts": [{"x": 1}]}, id="data classes"),
        pytest.param(OrderedDict(b=1, a=2), {"b": 1, "a": 2}, id="an ordered dict"),
        pytest.param(UserDict({"b": {1}}), {"b": {1}}, id="a mapping"),
        pytest.param(Colour.RED, {"r": 255}, id="an Enum"),
        pytest.param({"s": Size.L, Words.HI: Words.HI}, {"s": 3, "hi": "hi"}, id="Enums of plain kinds"),
        pytest.param(bytearray(b"a"), b"a", id="a bytearray"),
        pytest.param(memoryview(b"a"), b"a", id="a view of bytes"),
        pytest.param(
            Stamp(2020, 1, 1, tzinfo=timezone.utc), datetime(2020, 1, 1, tzinfo=timezone.utc), id="a datetime's class"
        ),
        pytest.param({Money("1.0")}, {Decimal("1.0")}, id="a decimal's class"),
    ],
)
def test_what_becomes_plain(make_db: Callable[..., Any], given: Any, stored: Any) -> None:
    db = make_db({"s": ""})
    for wrap in (lambda value: value, lambda value: {"in": [value]}):
        db.s.put(wrap(given), 1)
        assert exactly(db.s.get(1)) == exactly(wrap(stored))


def test_indexes_see_what_was_made_plain(make_db: Callable[..., Any]) -> None:
    db = make_db({"s": "++id, name, inner.x, size"})
    db.s.add(Model(name="a", at=datetime(2020, 1, 1), inner=Point(5)))
    db.s.add({"size": Size.L})
    assert db.s.where("name").equals("a").count() == db.s.where("inner.x").equals(5).count() == 1
    assert db.s.where("size").equals(3).primary_keys() == [2]


def test_c030_what_is_given_is_not_kept_nor_changed(make_db: Callable[..., Any]) -> None:
    db = make_db()
    given = {"name": "Ann", "tags": ["a"], "address": {"city": "Oslo"}}
    before = {"name": "Ann", "tags": ["a"], "address": {"city": "Oslo"}}
    assert db.users.add(given) == 1
    assert given == before
    given["tags"].append("b")
    given["address"]["city"] = "Rome"
    row = db.users.get(1)
    assert row == {**before, "id": 1}
    row["address"]["city"] = "Bonn"
    row["tags"].clear()
    assert db.users.get(1) == {**before, "id": 1}
    changes = {"address": {"city": "Rome"}}
    db.users.update(1, changes)
    changes["address"]["city"] = "Bonn"
    assert db.users.get(1)["address"] == {"city": "Rome"}
    assert db.users.where("address.city").equals("Rome").count() == 1


def test_c030_the_order_of_a_dict_is_kept(make_db: Callable[..., Any]) -> None:
    db = make_db()
    db.users.add({"z": 1, "a": {"y": 1, "b": 2}})
    row = db.users.get(1)
    assert list(row)[:2] == ["z", "a"]
    assert list(row["a"]) == ["y", "b"]


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": nul}', '{"$ix":["new kind",1]}', '{"$ix":["dt","no date"]}', '{"$ix":[]}']
)
def test_text_that_is_no_document(text: str) -> None:
    with pytest.raises(DatabaseCorruptError):
        load(text)
