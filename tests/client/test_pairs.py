"""What a log-in returns is the same whether the program has imported pydantic or not: a model, or the same error."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, Dict, Tuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

import selfdb.auth
from selfdb.core.response import Response
from selfdb.exceptions import SelfDBError
from selfdb.models import TokenPair

PAIR: Dict[str, Any] = {"access_token": "a", "refresh_token": "r", "token_type": "bearer", "expires_in": 60, "user": {}}
TEXTS = some.one_of(some.just("token"), some.text(), some.sampled_from(["", "a b", "\u00e9", "\ud800", "a\n", "1"]))
VALUES = some.recursive(
    some.one_of(some.none(), some.booleans(), some.integers(), some.just(10**30), some.floats(), TEXTS),
    lambda inner: some.one_of(some.lists(inner, max_size=2), some.dictionaries(TEXTS, inner, max_size=2)),
    max_leaves=4,
)
BODIES = some.dictionaries(some.sampled_from([*PAIR, "other"]), VALUES).flatmap(
    lambda changed: some.just({**PAIR, **changed})
)


def outcome(content: bytes, *, imported: bool) -> Tuple[Any, ...]:
    """What comes of an answer in a program that has ``imported`` pydantic, or has not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selfdb.auth, "sys", SimpleNamespace(modules={"pydantic": None} if imported else {}))
        response = Response(200, {}, content, method="POST", path="/users/token", private=True)
        try:
            tokens, pair = selfdb.auth._tokens(response), selfdb.auth._pair(response)
        except SelfDBError as error:
            return type(error), str(error), error.response_body
    assert isinstance(pair, TokenPair)
    return tokens, pair.model_fields_set, repr(pair.model_dump())


@settings(max_examples=200, deadline=None)
@given(VALUES | BODIES)
@example(PAIR)
@example({"access_token": "a"})
@example({**PAIR, "user": None, "refresh_token": None, "expires_in": None})
@example({**PAIR, "user": {"\ud800": 1}})
@example({**PAIR, "user": {"name": "\ud800", "\u00e9": [True, 1.5]}})
@example({**PAIR, "token_type": "\ud800"})
@example({**PAIR, "token_type": None})
@example({**PAIR, "expires_in": "60"})
@example({**PAIR, "expires_in": 60.0})
@example({**PAIR, "expires_in": 1.5})
@example({**PAIR, "expires_in": True})
@example({**PAIR, "access_token": ""})
@example({**PAIR, "refresh_token": "a b"})
@example([])
def test_a_pair_is_the_same_with_pydantic_and_without(body: Any) -> None:
    content = json.dumps(body).encode()
    assert outcome(content, imported=False) == outcome(content, imported=True)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"\xff\xff", b'{"access_token": ', b"[" * 100_000, b'\xef\xbb\xbf{"access_token": "a"}']
)
def test_so_is_what_is_no_json_or_begins_with_a_mark(content: bytes) -> None:
    assert outcome(content, imported=False) == outcome(content, imported=True)


def test_an_ordinary_pair_needs_no_model_until_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(selfdb.auth, "sys", SimpleNamespace(modules={}))
    monkeypatch.setattr(selfdb.auth, "_PAIR", lambda response: looked.append(response) or TokenPair(access_token="a"))
    pair = selfdb.auth._pair(Response(200, {}, json.dumps(PAIR).encode()))
    assert looked == []
    assert pair.access_token == "a"
    assert len(looked) == 1
