"""The knobs of a call: what is given arrives, zero and False and None above all; what makes no sense is refused."""

from __future__ import annotations

from typing import Any, Dict

import pytest
from hypothesis import given, strategies

from selfdb.core.options import NOT_GIVEN, CallOptions, NotGiven, check_field_value, check_headers, check_key
from selfdb.exceptions import InvalidRequestError

OTHER = CallOptions(
    connect=1, read=2, deadline=3, stream_deadline=4, headers={"X-A": "1"}, keyed_writes=True
)  # fmt: skip


def as_dict(options: CallOptions) -> Dict[str, Any]:
    return options._asdict()


@pytest.mark.parametrize(
    ("given_options", "expected"),
    [
        ({}, {}),
        ({"timeout": 7}, {"connect": 7.0, "read": 7.0}),
        ({"timeout": None}, {"connect": None, "read": None}),
        ({"timeout": (3, 9.5)}, {"connect": 3.0, "read": 9.5}),
        ({"timeout": [None, 9]}, {"connect": None, "read": 9.0}),
        ({"timeout": (3, None)}, {"connect": 3.0, "read": None}),
        ({"timeout": 0.001}, {"connect": 0.001, "read": 0.001}),
        ({"deadline": 5}, {"deadline": 5.0}),
        ({"deadline": None}, {"deadline": None}),
        ({"stream_deadline": 5}, {"stream_deadline": 5.0}),
        ({"stream_deadline": None}, {"stream_deadline": None}),
        ({"headers": {}}, {}),
        ({"headers": {"X-B": ""}}, {"headers": {"X-A": "1", "X-B": ""}}),
        ({"headers": {"X-A": "2"}}, {"headers": {"X-A": "2"}}),
        ({"idempotent_writes": False}, {"keyed_writes": False}),
        ({"idempotent_writes": True}, {"keyed_writes": True}),
    ],
)
def test_each_option_reaches_and_the_others_stay(given_options: Dict[str, Any], expected: Dict[str, Any]) -> None:
    before = as_dict(OTHER)
    changed = OTHER.changed(**given_options)
    assert as_dict(changed) == {**before, **expected}
    assert as_dict(OTHER) == before, "options are immutable"


@pytest.mark.parametrize("retries", [0, 1, 10])
def test_the_number_of_retries_reaches(retries: int) -> None:
    changed = OTHER.changed(max_retries=retries)
    assert changed.retry.max_retries == retries
    assert changed._replace(retry=OTHER.retry) == OTHER
    assert changed.retry.random is OTHER.retry.random


def test_headers_which_may_hold_secrets_are_not_shown() -> None:
    shown = repr(OTHER._replace(headers={"X-A": "canary"}))
    assert shown.startswith("CallOptions(connect=1, read=2, deadline=3, stream_deadline=4, retry=RetryPolicy(")
    assert shown.endswith("), keyed_writes=True)")
    assert "canary" not in shown


def test_the_defaults_are_bounded() -> None:
    options = CallOptions()
    assert (options.connect, options.read, options.deadline, options.stream_deadline) == (5, 30, 60, None)
    assert options.retry.max_retries == 2
    assert options.keyed_writes is False


@pytest.mark.parametrize(
    "value", [0, -1, 0.0, -0.5, float("nan"), float("inf"), 1e10, True, False, "5", b"5", {}, object()]
)
@pytest.mark.parametrize("name", ["timeout", "deadline", "stream_deadline"])
def test_what_is_no_number_of_seconds_is_refused(name: str, value: Any) -> None:
    what = "deadline" if "deadline" in name else "timeout"
    with pytest.raises(InvalidRequestError, match=what):
        OTHER.changed(**{name: value})


@pytest.mark.parametrize("value", [(), (1,), (1, 2, 3), (0, 1), (1, "2"), (True, 1), [1, -1]])
def test_what_is_no_pair_of_seconds_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="timeout"):
        OTHER.changed(timeout=value)


@pytest.mark.parametrize("value", [-1, True, False, 1.5, "2", None])
def test_what_is_no_number_of_retries_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="max_retries"):
        OTHER.changed(max_retries=value)


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_what_is_no_switch_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match="idempotent_writes"):
        OTHER.changed(idempotent_writes=value)


def test_an_argument_left_out_is_false_and_says_so() -> None:
    assert not NOT_GIVEN
    assert repr(NotGiven()) == "NOT_GIVEN"


# Headers

RESERVED = frozenset({"x-api-key"})


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Trace": "abc"}, {"x_y.z~1": "tab is none, blanks inside are fine"}, {"X-Latin": "Grüße"}, {"X": ""}],
)
def test_headers_that_are_fine_are_copied(headers: Dict[str, str]) -> None:
    checked = check_headers(headers, RESERVED)
    assert checked == headers
    assert checked is not headers


@pytest.mark.parametrize("headers", [None, 5, "X-A: 1", ["X-A"], [("X-A", "1")], {"X-A"}])
def test_headers_are_a_mapping(headers: Any) -> None:
    with pytest.raises(InvalidRequestError, match="headers must be a mapping"):
        check_headers(headers, RESERVED)


@pytest.mark.parametrize("name", ["", "X A", "X:", "X\r\nY", "Ü", "X\n", "(x)", 5, None, b"X"])
def test_names_that_are_none_are_refused(name: Any) -> None:
    with pytest.raises(InvalidRequestError, match="not a header name"):
        check_headers({name: "canary"}, RESERVED)


@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X-Api-KEY"])
def test_names_that_are_ours_are_refused_without_their_value(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="set by the client itself") as caught:
        check_headers({name: "canary"}, RESERVED)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("value", ["canary\r\nX-Evil: 1", "canary\n", " canary", "canary\t", "canary\x00", "canary日"])
def test_values_that_break_out_of_their_line_are_refused_and_not_shown(value: str) -> None:
    with pytest.raises(InvalidRequestError, match="X-A") as caught:
        check_headers({"X-A": value}, RESERVED)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("value", [5, None, b"x", True])
def test_values_are_text(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"must be a str, not {type(value).__name__}"):
        check_headers({"X-A": value}, RESERVED)


def test_a_field_value_has_a_longest() -> None:
    check_field_value("x" * 16384, "it")
    with pytest.raises(InvalidRequestError, match="it is too long: 16385 characters, at most 16384 can go"):
        check_field_value("x" * 16385, "it")


@given(strategies.text())
def test_a_field_value_that_passes_fits_into_one_line(value: str) -> None:
    try:
        check_field_value(value, "it")
    except InvalidRequestError:
        return
    assert value.encode("latin-1") == value.strip().encode("latin-1")
    assert len(f"X: {value}".splitlines()) == 1 or "\x85" in value
    assert not any(ord(character) < 32 for character in value)


@pytest.mark.parametrize("key", ["k", "a" * 255, "!~", "0c9b"])
def test_idempotency_keys(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "a\n", "ü", "\x7f", None, 5, b"k"])
def test_idempotency_keys_that_are_none(key: Any) -> None:
    with pytest.raises(InvalidRequestError, match="idempotency_key"):
        check_key(key)
