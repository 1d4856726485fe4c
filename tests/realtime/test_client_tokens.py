"""Access tokens of a connection: pushed where they are taken, renewed in time, and the end when they are refused."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any, Callable, Iterator, List

import pytest

from selfdb import SelfDB
from selfdb.core.clock import Clock
from selfdb.core.tokens import Tokens
from selfdb.core.transport import Transport
from selfdb.exceptions import APIConnectionError, AuthenticationError, PermissionDeniedError
from selfdb.realtime.client import Realtime
from selfdb.realtime.credentials import Credentials
from tests.core.calls import transport_to
from tests.core.kit import wait_until
from tests.realtime.clients import TOPIC, Watched, client, phoenix, watched
from tests.realtime.phoenix import Phoenix

__all__ = ["client", "phoenix", "watched"]


def token(name: str, end: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"sub": name, "exp": end}).encode()).decode().rstrip("=")
    return f"head.{claims}.{name}"


def used(server: Phoenix) -> List[str]:
    """The names of the tokens in the handshakes."""
    return [target.rpartition(".")[2] if "token=" in target else "none" for target in server.targets]


class HandClock(Clock):
    """Real time for waits; the time of day moves by hand."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._began = time.time()

    def time(self) -> float:
        return self._began + self.ahead


class World:
    """A realtime client on a transport with a clock of the test and a renewer that counts."""

    def __init__(self, server: Phoenix, **options: Any) -> None:
        self.server = server
        self.clock = HandClock()
        self.asked: List[str] = []
        self.outcome: Any = None
        self.transport: Transport = transport_to(
            server, clock=self.clock, tokens=Tokens(self.token("one", 3600), "refresh"), renewer=self.renew, **options
        )
        self.realtime = Realtime(self.transport)
        self.errors: List[BaseException] = []
        self.realtime.on_error(self.errors.append)

    def token(self, name: str, seconds: float) -> str:
        return token(name, self.clock.time() + seconds)

    def renew(self, transport: Transport, refresh: str, deadline: Any) -> Tokens:
        self.asked.append(refresh)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome or Tokens(self.token(f"renewed{len(self.asked)}", 3600), f"refresh{len(self.asked)}")


@pytest.fixture
def world(phoenix: Callable[..., Phoenix]) -> Iterator[World]:
    made = World(phoenix())
    yield made
    made.realtime.disconnect()
    made.transport.pool.close()


def test_r08_the_token_of_the_moment_is_used_for_each_connection(watched: Watched) -> None:
    watched.db.access_token = token("one", time.time() + 3600)
    watched.realtime.connect()
    watched.db.access_token = token("two", time.time() + 3600)
    watched.server.cut()
    assert used(watched.server) == ["one", "two"]


def test_r29_a_new_token_is_pushed_where_it_is_taken(watched: Watched) -> None:
    watched.server.accepts = ["access_token"]
    watched.db.access_token = token("one", time.time() + 3600)
    watched.realtime.connect()
    watched.realtime.channel(TOPIC).subscribe()
    fresh = watched.db.access_token = token("two", time.time() + 3600)
    watched.server.wait(lambda: watched.server.seen("access_token"))
    (frame,) = watched.server.seen("access_token")
    assert frame[0] == watched.server.join_ref(TOPIC)
    assert frame[2:] == [TOPIC, "access_token", {"access_token": fresh}]
    assert watched.server.seen("phx_join")[0][4] == {}
    assert len(watched.server.sockets) == 1


def test_r29_where_it_is_not_taken_the_connection_is_opened_anew_just_before_the_end(world: World) -> None:
    world.realtime.connect()
    channel = world.realtime.channel(TOPIC).subscribe()
    world.transport.keeper.set(Tokens(world.token("two", 7200), "refresh"))
    world.clock.ahead = 3600 - 30
    world.realtime._link.wake()
    time_of_ticks(world, 2)
    assert used(world.server) == ["one"]
    world.clock.ahead = 3600 - 1.5
    world.realtime._link.wake()
    wait_until(lambda: used(world.server) == ["one", "two"])
    wait_until(lambda: channel.state == "joined")
    assert world.server.seen("access_token") == []


def time_of_ticks(world: World, count: int) -> None:
    """Wait until the thread has looked around ``count`` times."""
    seen: List[int] = []
    tick = world.realtime.tick
    world.realtime.tick = lambda: (seen.append(1), tick())[1]  # type: ignore[method-assign]
    for _ in range(count):
        before = len(seen)
        world.realtime._link.wake()
        wait_until(lambda before=before: len(seen) > before)  # type: ignore[misc]
    world.realtime.tick = tick  # type: ignore[method-assign]


def test_r29_it_is_renewed_in_the_background_and_then_pushed(world: World) -> None:
    world.server.accepts = ["access_token"]
    world.realtime.connect()
    world.realtime.channel(TOPIC).subscribe()
    world.clock.ahead = 3600 - 59
    world.realtime._link.wake()
    world.server.wait(lambda: world.server.seen("access_token"))
    assert world.server.seen("access_token")[0][4]["access_token"].endswith(".renewed1")
    assert world.asked == ["refresh"]
    assert used(world.server) == ["one"]


def test_a_renewal_that_fails_is_not_repeated_at_each_look(world: World) -> None:
    world.outcome = APIConnectionError("no network")
    world.realtime.connect()
    world.clock.ahead = 3600 - 59
    world.realtime._link.wake()
    wait_until(lambda: len(world.asked) == 1)
    time_of_ticks(world, 5)
    assert len(world.asked) == 1
    assert world.realtime.connected


def test_c120_a_token_that_ended_is_renewed_once_it_is_refused(world: World) -> None:
    world.realtime.connect()
    channel = world.realtime.channel(TOPIC).subscribe()
    world.server.refuse = [401]
    world.server.live.say_close(1008, "token expired")
    world.server.wait(lambda: len(world.server.sockets) == 2)
    wait_until(lambda: channel.state == "joined")
    assert used(world.server) == ["one", "one", "renewed1"]
    assert world.errors == []


@pytest.mark.parametrize("status, kind", [(401, AuthenticationError), (403, PermissionDeniedError)])
def test_c120_a_refusal_after_the_one_renewal_is_final(world: World, status: int, kind: type) -> None:
    world.realtime.connect()
    channel = world.realtime.channel(TOPIC).subscribe()
    stream = channel.events(timeout=15)
    world.server.refuse = [status] * 5
    world.server.break_off()
    wait_until(lambda: world.realtime.state == "disconnected")
    with pytest.raises(kind):
        next(stream)
    wait_until(lambda: len(world.errors) == 1)
    assert type(world.errors[0]) is kind
    assert channel.state == "closed"
    assert not channel.alive
    assert world.asked == ["refresh"]
    assert used(world.server) == ["one", "one", "renewed1"]


def test_c120_without_a_way_to_renew_the_unchanged_token_ends_it(watched: Watched) -> None:
    watched.db.access_token = token("one", time.time() + 3600)
    watched.realtime.connect()
    watched.server.refuse = [401] * 5
    watched.server.break_off()
    wait_until(lambda: watched.realtime.state == "disconnected" and bool(watched.errors))
    assert isinstance(watched.errors[0], AuthenticationError)
    assert used(watched.server) == ["one", "one"]


def test_c102_the_first_connection_renews_once_too(world: World) -> None:
    world.server.refuse = [401]
    world.realtime.connect()
    assert used(world.server) == ["one", "renewed1"]
    world.realtime.disconnect()
    world.server.refuse = [401] * 5
    with pytest.raises(AuthenticationError):
        world.realtime.connect()
    assert used(world.server)[2:] == ["renewed1", "renewed2"]


def test_a_renewal_that_cannot_be_made_now_is_no_refusal(world: World) -> None:
    """The network is gone: whoever was connected goes on trying, and a first connection says what it met."""
    world.outcome = APIConnectionError("no network")
    world.realtime.connect()
    world.server.refuse = [401, 401]
    world.server.break_off()
    world.server.wait(lambda: len(world.server.sockets) == 2)
    assert world.errors == []
    world.realtime.disconnect()
    world.server.refuse = [401]
    with pytest.raises(AuthenticationError):
        world.realtime.connect()


def test_the_times_of_a_short_token_are_parts_of_its_life(world: World) -> None:
    credentials = Credentials(world.transport)
    assert credentials.next_due() is None
    credentials.take(world.token("short", 8))
    assert credentials.next_due() == pytest.approx(6, abs=0.5)
    world.clock.ahead += 6.5
    assert credentials.next_due() == pytest.approx(0.5, abs=0.5)
    assert not credentials.ends_soon()
    world.clock.ahead += 1
    assert credentials.ends_soon()
    assert credentials.next_due() is None
    credentials.take(world.token("long", 3600))
    assert credentials.next_due() == pytest.approx(3540, abs=1)
    credentials.take("not a token with an end")
    assert credentials.next_due() is None
    assert not credentials.ends_soon()


def test_a_short_token_is_renewed_once(world: World) -> None:
    credentials = Credentials(world.transport)
    short = world.token("short", 8)
    world.transport.keeper.set(Tokens(short, "refresh"))
    credentials.take(short)
    credentials.renew_in_time()
    world.clock.ahead += 7
    for _ in range(3):
        credentials.renew_in_time()
    wait_until(lambda: world.asked == ["refresh"])
    wait_until(lambda: "selfdb-realtime-renew" not in [thread.name for thread in threading.enumerate()])
    assert (credentials.newer() or "").endswith(".renewed1")


def test_without_a_refresh_token_nothing_is_asked(watched: Watched) -> None:
    watched.db.access_token = token("one", time.time() + 1)
    credentials = Credentials(watched.db._transport)
    credentials.take(watched.db.access_token)
    credentials._renew_at = 0.0
    credentials.renew_in_time()
    assert credentials._renewing is None
    assert credentials.newer() is None


def test_signing_in_after_connecting_reaches_the_server(watched: Watched) -> None:
    watched.server.accepts = ["access_token"]
    watched.realtime.connect()
    watched.realtime.channel(TOPIC).subscribe()
    watched.db.access_token = token("late", time.time() + 3600)
    watched.server.wait(lambda: watched.server.seen("access_token"))


def test_a_session_that_is_signed_out_stays_connected_until_the_server_objects(watched: Watched) -> None:
    watched.db.access_token = token("one", time.time() + 3600)
    watched.realtime.connect()
    watched.db.access_token = None
    watched.server.cut()
    assert used(watched.server) == ["one", "none"]


def test_a_client_is_what_it_says() -> None:
    with SelfDB("http://127.0.0.1:9", "key") as db:
        assert isinstance(db.realtime, Realtime)
