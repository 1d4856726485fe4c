"""Moments between two lines at which another thread comes, each brought about: sessions, the cache, subscriptions."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any, Callable, List, Optional

import pytest

from selfdb.aerodb import AeroDBClient, OfflineCache, Session
from selfdb.aerodb import cache as cache_module
from selfdb.aerodb.session import SessionBook
from selfdb.core.clock import Deadline
from selfdb.core.tokens import TokenKeeper, Tokens
from tests.aerodb.realtime_kit import Make, eventually
from tests.aerodb.services import EMAIL, PASSWORD, code, data
from tests.servers.aerodb.realtime import AeroRealtime
from tests.servers.aerodb.server import AeroServer


class Renewing:
    """A transport that gives one session after the other."""

    def __init__(self) -> None:
        self.count = 0

    def exchange(self, request: Any, deadline: Any) -> Any:
        self.count += 1
        text = f'{{"access_token": "access-{self.count}", "refresh_token": "refresh", "expires_in": 60}}'
        return SimpleNamespace(status_code=200, headers={}, content=text.encode())


@pytest.fixture
def book() -> SessionBook:
    return SessionBook(TokenKeeper(), "key", time.time, {})


@pytest.mark.parametrize("user", ["ann", None])
def test_c085_whose_rows_they_are_is_the_same_in_each_moment_of_a_renewal(
    book: SessionBook, user: Optional[str]
) -> None:
    """Between the server's answer and the first use of the new token reads are made too, and kept."""
    book.take(Session("access-0", "refresh"), user)
    transport: Any = Renewing()
    whose = book.identity()
    for _ in range(3):
        fresh: Tokens = book.renew(transport, "refresh", Deadline(None))
        assert book.identity() == whose
        book.keeper.set(fresh)
        assert book.identity() == whose
        session = book.current()
        assert session is not None
        assert (session.access_token, session.expires_in) == (fresh.access, 60)


def test_c023_who_signs_in_at_the_end_of_a_renewal_is_known_afterwards(
    book: SessionBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    book.take(Session("access-0", "refresh"), "ann")
    other = Session("of-bob", "refresh-of-bob", 4_000_000_000, 900, "bearer")
    signing_in = threading.Thread(target=lambda: book.take(other, "bob"))
    current = book.keeper.current
    looks: List[int] = []

    def looked_at() -> Any:
        tokens = current()
        looks.append(1)
        if len(looks) == 2:  # it has found that nobody else has signed in
            signing_in.start()
            signing_in.join(0.1)
        return tokens

    monkeypatch.setattr(book.keeper, "current", looked_at)
    transport: Any = Renewing()
    book.renew(transport, "refresh", Deadline(None))
    signing_in.join(10)
    assert book.current() == other


def test_c072_the_servers_word_that_comes_in_the_last_moment_counts(events: AeroRealtime, live: AeroDBClient) -> None:
    events.acknowledges = False
    channel = live.channel("posts").subscribe()
    events.subscribed()
    settled = channel._settled

    def too_early() -> bool:
        found = settled()
        channel._settled = settled  # type: ignore[method-assign]
        events.say({"type": "subscribed", "channel": "posts"})
        eventually(lambda: channel.acknowledged)
        return found

    channel._settled = too_early  # type: ignore[method-assign]
    channel.subscribe(timeout=0)
    assert (channel.state, channel.acknowledged, channel.last_error) == ("joined", True, None)


# Rows on their way to the cache


def overtaken(client: AeroDBClient, *, before: Callable[[], Any] = int, after: Callable[[], Any] = int) -> None:
    """Read, with something else done right before the request goes out, or before its answer is kept."""
    exchange = client._calls._exchange

    def exchange_between(request: Any) -> Any:
        client._calls._exchange = exchange  # type: ignore[method-assign]
        before()
        answer = exchange(request)
        after()
        return answer

    client._calls._exchange = exchange_between  # type: ignore[method-assign]
    data(client.from_("items").execute())


@pytest.mark.parametrize("what", ["a write", "a clear", "many writes", "a write elsewhere"])
def test_c085_rows_from_before_a_change_are_not_kept_behind_it(
    aero: AeroServer, client_for: Make, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(cache_module, "_FORGETS", 3)
    cache = OfflineCache()
    reader, writer = client_for(aero, cache=cache), client_for(aero, cache=cache)

    def change() -> None:
        if what == "a clear":
            cache.clear()
        else:
            data(writer.from_("others" if what == "a write elsewhere" else "items").insert({"id": 1}))
        for number in range(10 if what == "many writes" else 0):
            data(writer.from_(f"table{number}").insert({"id": 1}))

    overtaken(reader, after=change)
    aero.stop()
    response = reader.from_("items").execute()
    if what == "a write elsewhere":
        assert response.from_cache
    else:
        assert code(response) == "NETWORK_ERROR"


def test_c085_what_is_read_while_somebody_else_signs_in_is_nobodys(aero: AeroServer, client_for: Make) -> None:
    aero.auth.add("bob@example.com", PASSWORD)
    client = client_for(aero, cache=OfflineCache())
    data(client.auth.sign_in(EMAIL, PASSWORD))
    overtaken(client, before=lambda: data(client.auth.sign_in("bob@example.com", PASSWORD)))
    data(client.auth.sign_in(EMAIL, PASSWORD))
    aero.stop()
    assert code(client.from_("items").execute()) == "NETWORK_ERROR"
