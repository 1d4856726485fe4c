"""A system's clock that is set by hours while things wait: nothing hangs, nothing ends before its time."""

from __future__ import annotations

import random
import threading
import time
from email.utils import formatdate
from io import BytesIO
from typing import Any, List

import pytest

from selfdb.aerodb import AeroDBClient, RetryPolicy
from selfdb.aerodb.realtime import client as realtime_client
from selfdb.core.clock import Clock
from selfdb.core.flags import Flag
from tests import soak
from tests.aerodb.realtime_kit import Heard, Make, eventually, joined
from tests.aerodb.services import EMAIL, PASSWORD, data, with_clock
from tests.core.kit import in_threads
from tests.servers.aerodb.realtime import AeroRealtime
from tests.servers.aerodb.server import AeroServer

HOURS = 3600.0


class Erratic(Clock):
    """Its wall clock is another one at each look; real waits are written down and cut short."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.waits: List[float] = []

    def time(self) -> float:
        return time.time() + self._chance.choice((-30 * 24, -5, -1, 0, 1, 5, 30 * 24)) * HOURS

    def wait(self, event: Flag, seconds: float) -> bool:
        self.waits.append(seconds)
        return event.wait(min(seconds, 0.001))


@pytest.fixture
def clock() -> Erratic:
    return Erratic(soak.chance("clocks that are set"))


def read(client: AeroDBClient) -> Any:
    return client.from_("items").select().execute()


def test_c081_waits_between_attempts_are_as_long_as_ever(aero: AeroServer, client_for: Make, clock: Erratic) -> None:
    policy = RetryPolicy(max_attempts=4, initial_delay=1, max_delay=30, jitter=0.0)
    client = with_clock(client_for(aero, retry=policy, timeout=1000), clock)
    aero.instead = [(503, {}, {})] * 3
    data(read(client))
    assert clock.waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("hours", [-5, 5])
def test_c081_a_date_to_wait_for_is_believed_no_longer_than_the_longest_wait(
    aero: AeroServer, client_for: Make, hours: int
) -> None:
    """By a clock that is wrong, the server's "in ten seconds" is hours away, or hours ago."""

    class Wrong(Erratic):
        def time(self) -> float:
            return time.time() + hours * HOURS

    clock = Wrong(random.Random(0))
    policy = RetryPolicy(max_attempts=2, initial_delay=1, max_delay=30, jitter=0.0)
    client = with_clock(client_for(aero, retry=policy, timeout=1000), clock)
    aero.instead = [(503, {"Retry-After": formatdate(time.time() + 10, usegmt=True)}, {})]
    data(read(client))
    assert clock.waits == [30.0 if hours < 0 else 1.0]


def test_c023_a_session_ends_when_the_server_says_so_and_not_before(
    aero: AeroServer, client_for: Make, clock: Erratic
) -> None:
    aero.guarded = True
    client = with_clock(client_for(aero), clock)
    data(client.auth.sign_in(EMAIL, PASSWORD))
    aero.forget()
    for number in range(10):
        data(read(client))
        data(client.storage.from_("photos").upload(f"{number}.txt", BytesIO(b"x")))  # which cannot be sent twice
    assert not any(line == "POST /auth/refresh" for line in aero.lines)


def test_c024_one_refresh_for_all_whatever_the_clock_says(aero: AeroServer, client_for: Make, clock: Erratic) -> None:
    aero.guarded = True
    client = with_clock(client_for(aero), clock)
    data(client.auth.sign_in(EMAIL, PASSWORD))
    for _ in range(3):
        aero.auth.expire(client.auth.get_token() or "")
        aero.forget()
        assert in_threads(8, lambda: read(client).error) == [None] * 8
        assert aero.lines.count("POST /auth/refresh") == 1


def test_c077_the_steps_of_a_connection_are_as_long_as_ever(
    events: AeroRealtime, client_for: Make, clock: Erratic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of a second or so are asked for; a tenth of each is waited, and not before somebody has looked."""
    looked = threading.Semaphore(0)
    asked: List[float] = []
    waited: List[float] = []
    original = realtime_client.Link._pause

    def pause(self: Any, run: Any, seconds: float) -> None:
        assert looked.acquire(timeout=15)
        asked.append(seconds)
        begun = time.monotonic()
        original(self, run, seconds / 10)
        waited.append(time.monotonic() - begun)

    monkeypatch.setattr(realtime_client.Link, "_pause", pause)
    heard = Heard()
    client = with_clock(client_for(events), clock)
    channel = joined(client.channel("posts").on("INSERT", heard))
    for number in range(3):
        events.drop()
        eventually(lambda: channel.state == "reconnecting")
        looked.release()
        events.subscribed(number + 2)
        eventually(lambda: channel.state == "joined")
    events.event("posts", new={"id": 1})
    heard.wait()
    assert len(asked) == len(waited) == 3
    for seconds, took in zip(asked, waited):
        assert 0.5 <= seconds <= 1.5
        assert took >= seconds / 10
