"""Renewing a session on a transport's own account, before anybody was refused."""

from __future__ import annotations

from typing import Any, Callable, List

from selfdb.core.tokens import Tokens
from selfdb.core.transport import Transport
from tests.core.calls import ACCESS, REFRESH

NOBODY = "http://127.0.0.1:9"


def test_without_a_way_to_renew_there_is_nothing_new(connect: Callable[..., Transport]) -> None:
    transport = connect(NOBODY)
    assert transport.renew(ACCESS) is None
    assert transport.keeper.current() == Tokens(ACCESS, REFRESH)


def test_it_renews_with_the_refresh_token_within_the_deadline_of_a_call(connect: Callable[..., Transport]) -> None:
    asked: List[Any] = []

    def renewer(transport: Transport, refresh_token: str, deadline: Any) -> Tokens:
        asked.append((transport, refresh_token, 0 < deadline.remaining() <= 7))
        return Tokens("new", "new-refresh")

    transport = connect(NOBODY, renewer=renewer, deadline=7)
    assert transport.renew(ACCESS) == Tokens("new", "new-refresh")
    assert asked == [(transport, REFRESH, True)]
    assert transport.keeper.current() == Tokens("new", "new-refresh")
    # The token that it is told of has been replaced already: nobody is asked again.
    assert transport.renew(ACCESS) == Tokens("new", "new-refresh")
    assert len(asked) == 1
