"""Python values to JSON and back: every type that is taken, every refusal, and no value in any message."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_serializer

from selfdb.core.encoding import decode_json, encode_json, encode_text
from selfdb.exceptions import InvalidRequestError

SECRET = "hunter2-the-secret"
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
HALF_PAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


class Colour(enum.Enum):
    RED = "red"
    MANY = ("r", 1)
    DAY = datetime.date(2024, 2, 29)


class Moment(enum.Enum):
    NAIVE = datetime.datetime(2024, 2, 29)


class Level(enum.IntEnum):
    LOW = 1


class Word(str, enum.Enum):
    YES = "yes"


@dataclasses.dataclass
class Point:
    x: int
    when: datetime.date
    inner: Optional[Point] = None


class Model(BaseModel):
    amount: decimal.Decimal
    first_name: str = Field(default="Ada", serialization_alias="firstName")
    points: List[Point] = []


@pytest.mark.parametrize(
    "value, sent",
    [
        (None, b"null"),
        (True, b"true"),
        (7, b"7"),
        (2**64, b"18446744073709551616"),
        (0.1, b"0.1"),
        ("a\"\n\u00e9\U0001f600", '"a\\"\\n\u00e9\U0001f600"'.encode()),
        ("\0", b'"\\u0000"'),
        ([1, (2, 3)], b"[1,[2,3]]"),
        ({"a": {"b": []}}, b'{"a":{"b":[]}}'),
        (ID, b'"12345678-1234-5678-1234-567812345678"'),
        (datetime.date(2024, 2, 29), b'"2024-02-29"'),
        (datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.timezone.utc), b'"2024-02-29T01:02:03+00:00"'),
        (datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=HALF_PAST), b'"2024-02-29T01:02:03.000004+05:30"'),
        (decimal.Decimal("1.10"), b'"1.10"'),
        (decimal.Decimal("1E+3"), b'"1E+3"'),
        (Colour.RED, b'"red"'),
        (Colour.MANY, b'["r",1]'),
        (Colour.DAY, b'"2024-02-29"'),
        (Level.LOW, b"1"),
        (Word.YES, b'"yes"'),
        (Point(1, datetime.date(2024, 1, 1), Point(2, datetime.date(2024, 1, 2))),
         b'{"x":1,"when":"2024-01-01","inner":{"x":2,"when":"2024-01-02","inner":null}}'),
        (Model(amount=decimal.Decimal("2.50")), b'{"amount":"2.50","firstName":"Ada","points":[]}'),
        ({"deep": [{"id": ID}]}, b'{"deep":[{"id":"12345678-1234-5678-1234-567812345678"}]}'),
        ({7: "a", True: "b", None: "c", 2.5: "d"}, b'{"7":"a","true":"b","null":"c","2.5":"d"}'),
        ({Word.YES: 1}, b'{"yes":1}'),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_sent_as_what(value: Any, sent: bytes) -> None:
    assert encode_json(value) == sent
    assert json.loads(sent) == decode_json(sent)


def looped_list() -> Any:
    loop: List[Any] = [SECRET]
    loop.append(loop)
    return loop


def looped_dataclass() -> Any:
    point = Point(1, datetime.date(2024, 1, 1))
    point.inner = point
    return point


def nested(depth: int) -> Any:
    value: Any = SECRET
    for _ in range(depth):
        value = [value]
    return value


REFUSED: Dict[str, Any] = {
    "nan": (float("nan"), "no JSON form"),
    "nan in lists": ([SECRET, [float("nan")]], "no JSON form"),
    "infinity": ({SECRET: float("-inf")}, "no JSON form"),
    "nan as a key": ({float("nan"): SECRET}, "no JSON form"),
    "decimal nan": (decimal.Decimal("sNaN"), "not a finite number"),
    "decimal infinity": (decimal.Decimal("Infinity"), "not a finite number"),
    "naive datetime": (datetime.datetime(2024, 2, 29, 1, 2), "without a time zone is ambiguous.*timezone.utc"),
    "naive datetime in an enum": ([Moment.NAIVE], "time zone"),
    "bytes": (SECRET.encode(), "type bytes has no JSON form; decode it, or encode it as base64 text"),
    "bytearray": (bytearray(SECRET.encode()), "type bytearray .*base64"),
    "path": (Path(SECRET), "type .*Path has no JSON form$"),
    "set": ({SECRET}, "type set has no JSON form"),
    "time": (datetime.time(1, 2), "type time has no JSON form"),
    "object": (object(), "type object has no JSON form"),
    "class of a dataclass": (Point, "type type has no JSON form"),
    "class of a model": (Model, "no JSON form"),
    "uuid key": ({ID: SECRET}, "keys must be str, int, float, bool or None, not UUID"),
    "tuple key": ({(SECRET,): 1}, "keys must be str.*not tuple"),
    "lone surrogate": (SECRET + "\ud800", "lone surrogate"),
    "lone surrogate in a key": ({SECRET + "\udfff": 1}, "lone surrogate"),
    "circular list": (looped_list(), "Circular reference"),
    "circular dataclass": (looped_dataclass(), "Circular reference|too deeply"),
    "absurdly deep": (nested(100_000), "nested too deeply"),
    "an int of 5000 digits": (10**5000, "no JSON form"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_without_naming_a_value(name: str) -> None:
    value, message = REFUSED[name]
    with pytest.raises(InvalidRequestError, match=message) as caught:
        encode_json({"row": value})
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    for shown in (str(caught.value), repr(caught.value)):
        assert SECRET not in shown
        assert "2024" not in shown


@dataclasses.dataclass
class Named:
    name: str


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("\ud800", "a text"),
        ({"email": "a", "user": {"names": ["x", ("y", "\ud800")]}}, r"user\.names\[1\]\[1\]"),
        ({"a": 1, "rows": [{"\udfff": 1}]}, r"a name in rows\[0\]"),
        ({"\udfff": 1}, "a name"),
        ({1: "\udfff"}, "1"),
        ([Named("\ud800")], "a text"),
    ],
)
def test_a_broken_text_is_told_by_its_place(value: Any, where: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"\A{where} holds a lone surrogate, which is no text\Z"):
        encode_json(value)


def test_what_a_model_raises_by_itself_stays_an_invalid_request() -> None:
    class Odd(BaseModel):
        value: int = 1

        @field_serializer("value")
        def refuse(self, value: int) -> int:
            raise TypeError("not this one")

    with pytest.raises(InvalidRequestError, match="not this one"):
        encode_json([Odd()])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet=st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_plain_values_come_back_as_they_went(value: Any) -> None:
    assert decode_json(encode_json(value)) == value


def test_text_in_utf_8() -> None:
    assert encode_text("\u00e9\0\U0001f600", "data") == "\u00e9\0\U0001f600".encode()
    with pytest.raises(InvalidRequestError, match="data holds a lone surrogate") as caught:
        encode_text(SECRET + "\ud800", "data")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "content, value",
    [
        (b'{"a": 1}', {"a": 1}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b' "\\ud800" ', "\ud800"),
        (b"1.5e3", 1500.0),
    ],
)
def test_what_is_read(content: bytes, value: Any) -> None:
    assert decode_json(content) == value


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b"\xff\xfe\x00", b"[1] 2", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_json(content: bytes) -> None:
    with pytest.raises(ValueError):
        decode_json(content)
