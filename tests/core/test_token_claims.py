"""What an access token says of itself: when it ends, and for how long it was given out."""

from __future__ import annotations

import base64
import json
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdb.core.clock import Clock
from selfdb.core.tokens import TokenKeeper, Tokens, expiry_of, lifetime_of, subject_of


def jwt_with(payload: bytes) -> str:
    return f"head.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.signature"


@pytest.mark.parametrize(
    "payload, end",
    [
        (b'{"exp": 1700000000}', 1700000000.0),
        (b'{"exp": 1700000000.5}', 1700000000.5),
        (b'{"exp": "1700000000"}', 1700000000.0),
        (b'{"exp": null}', None),
        (b'{"exp": [1]}', None),
        (b'{"exp": "soon"}', None),
        (b'{"exp": NaN}', None),
        (b'{"exp": -Infinity}', None),
        (b'{"exp": 1e999}', None),
        (b'{"exp": 1' + b"0" * 400 + b"}", None),
        (b'{"exp": 1' + b"0" * 5000 + b"}", None),
        (b'{"sub": "x"}', None),
        (b'"text"', None),
        (b"[]", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_expiry_of_what_a_token_may_say(payload: bytes, end: Optional[float]) -> None:
    assert expiry_of(jwt_with(payload)) == end


@settings(max_examples=60, deadline=None)
@given(st.text() | st.text(alphabet="aA0._-=\u00e9").map(lambda text: f".{text}.") | st.binary().map(jwt_with))
def test_expiry_of_any_text_is_a_time_or_none(text: str) -> None:
    end = expiry_of(text)
    assert end is None or end - end == 0.0, "neither NaN nor infinite"


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4))
def test_expiry_of_any_claim_is_a_time_or_none(claim: Any) -> None:
    end = expiry_of(jwt_with(json.dumps({"exp": claim}).encode()))
    assert end is None or end - end == 0.0


@pytest.mark.parametrize(
    "payload, seconds",
    [
        (b'{"iat": 1700000000, "exp": 1700000900}', 900.0),
        (b'{"iat": 1700000000, "exp": 1700000000}', None),
        (b'{"iat": 1700000000}', None),
        (b'{"exp": 1700000000}', None),
    ],
)
def test_for_how_long_a_token_was_given_out(payload: bytes, seconds: Optional[float]) -> None:
    assert lifetime_of(jwt_with(payload)) == seconds


def test_expires_within() -> None:
    class At(Clock):
        def time(self) -> float:
            return 1000.0

    def within(exp: Any) -> bool:
        keeper = TokenKeeper(clock=At())
        keeper.set(Tokens(jwt_with(json.dumps({"exp": exp}).encode())))
        return keeper.expires_within(30.0)

    assert [within(exp) for exp in (990, 1029, 1030, 2000, None)] == [True, True, False, False, False]
    assert not TokenKeeper(clock=At()).expires_within(30.0), "who is signed out has nothing to renew"


@pytest.mark.parametrize(
    "payload, subject",
    [
        (b'{"sub": "ann"}', "ann"),
        (b'{"sub": ""}', None),
        (b'{"sub": 5}', None),
        (b'{"exp": 5}', None),
        (b'"text"', None),
        (b"\xff", None),
    ],
)
def test_whose_it_says_that_it_is(payload: bytes, subject: Optional[str]) -> None:
    assert subject_of(jwt_with(payload)) == subject
