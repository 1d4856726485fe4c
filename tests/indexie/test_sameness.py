"""When two results are the same to everybody."""

from __future__ import annotations

import copy
import datetime
import decimal
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdb.indexie.live.sameness import same

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(values)
def test_a_copy_is_the_same(value: Any) -> None:
    assert same(value, copy.deepcopy(value))


@settings(max_examples=100, deadline=None)
@given(values, values)
def test_what_looks_different_is_not_the_same(one: Any, other: Any) -> None:
    if repr(one) == repr(other):
        assert same(one, other)
    elif same(one, other):  # the order of a dict's members, and how a zero is signed, make no difference
        assert one == other or "nan" in repr(one)


class Raises:
    def __eq__(self, other: object) -> bool:
        raise TypeError("not today")

    __hash__ = None  # type: ignore[assignment]


class Array:
    def __eq__(self, other: object) -> Any:
        class Ambiguous:
            def __bool__(self) -> bool:
                raise ValueError("which of them?")

        return Ambiguous()

    __hash__ = None  # type: ignore[assignment]


def deep() -> Any:
    value: Any = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "one, other, expected",
    [
        (1, True, False),
        (1, 1.0, False),
        ([0], [False], False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ((1, 2), [1, 2], False),
        ([1, 2], [1], False),
        (math.nan, float("nan"), True),
        ([{"x": math.nan}], [{"x": float("nan")}], True),
        (math.nan, 1.0, False),
        (decimal.Decimal("1.0"), decimal.Decimal("1"), True),
        ({1, 2}, {2, 1}, True),
        (datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1), False),
        (None, 0, False),
        (Raises(), Raises(), False),
        (Array(), Array(), False),
        (deep(), deep(), False),
    ],
)
def test_same(one: Any, other: Any, expected: bool) -> None:
    assert same(one, other) is expected
    assert same(one, one)
