"""Arguments checked before any I/O: what passes, what is refused, and what the refusal says."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from selfdb.core.arguments import choice, flag, text, whole_number
from selfdb.exceptions import BadRequestError, InvalidRequestError


@pytest.mark.parametrize("value, low, high", [(0, 0, None), (5, 1, 5), (1, 1, 5), (10**30, 0, None)])
def test_a_whole_number_in_bounds_passes(value: int, low: int, high: Any) -> None:
    assert whole_number(value, "limit", low, high) == value


@pytest.mark.parametrize(
    "value, message",
    [
        (0, "limit must be from 1 to 5, not 0"),
        (6, "limit must be from 1 to 5, not 6"),
        (True, "limit must be an int, not bool"),
        ("5", "limit must be an int, not str"),
        (2.0, "limit must be an int, not float"),
        (None, "limit must be an int, not NoneType"),
    ],
)
def test_another_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        whole_number(value, "limit", 1, 5)
    assert str(caught.value) == message
    assert isinstance(caught.value, (ValueError, BadRequestError))


def test_a_number_without_upper_bound() -> None:
    with pytest.raises(InvalidRequestError, match=r"^skip must be 0 or more, not -1$"):
        whole_number(-1, "skip", 0)


@pytest.mark.parametrize("value", ["a", "x" * 100, " ", "\u00e9\n"])
def test_a_text_of_the_right_length_passes(value: str) -> None:
    assert text(value, "search", 100) == value


def test_an_empty_text_passes_where_it_may() -> None:
    assert text("", "search", 100, allow_empty=True) == ""


@pytest.mark.parametrize(
    "value, message",
    [
        ("", "search must not be empty"),
        ("x" * 101, "search must have at most 100 characters, not 101"),
        ("a\0b", "search must not contain NUL"),
        (5, "search must be a str, not int"),
        (b"a", "search must be a str, not bytes"),
        (None, "search must be a str, not NoneType"),
        (uuid.UUID(int=1), "search must be a str, not UUID"),
    ],
)
def test_another_text_is_refused_without_being_shown(value: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        text(value, "search", 100)
    assert str(caught.value) == message


def test_a_choice_in_any_case() -> None:
    assert [choice(value, "sort_order", ("asc", "desc")) for value in ("asc", "DESC", "Asc")] == ["asc", "desc", "asc"]


@pytest.mark.parametrize("value", ["up", "", None, 5, [], {}, b"asc"])
def test_no_choice(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^sort_order must be one of asc, desc$"):
        choice(value, "sort_order", ("asc", "desc"))


def test_a_flag() -> None:
    assert flag(True, "public") is True
    assert flag(False, "public") is False
    for value in (0, 1, None, "true"):
        with pytest.raises(InvalidRequestError, match=f"^public must be True or False, not {type(value).__name__}$"):
            flag(value, "public")
