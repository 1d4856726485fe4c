"""Whether the server is up."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, List, Tuple

import pytest

from selfdb.aerodb import AeroDBClient
from tests.aerodb.services import code, data
from tests.servers.aerodb.server import AeroServer

Make = Callable[..., AeroDBClient]

DOWN = (503, {}, {"error": "down", "code": 503})
UP = (200, {}, {"status": "ok"})
SOON = 0.005


class Changes:
    """What `on_change` was told, and where."""

    def __init__(self) -> None:
        self.heard: List[Tuple[str, str]] = []
        self.threads: List[str] = []
        self._changed = threading.Condition()

    def __call__(self, old: str, new: str) -> None:
        with self._changed:
            self.heard.append((old, new))
            self.threads.append(threading.current_thread().name)
            self._changed.notify_all()

    def wait(self, count: int) -> List[Tuple[str, str]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= count, 15), self.heard
            return list(self.heard)


def wait_for(ready: Callable[[], Any]) -> None:
    end = time.monotonic() + 15
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_c084_a_check_says_how_the_server_is(aero: AeroServer, client: AeroDBClient) -> None:
    status = data(client.health.check())
    assert (status.ok, status.status, status.version) == (True, "ok", "1.2.3")
    assert 0 < status.latency_ms < 15_000
    assert abs(status.checked_at - datetime.now(timezone.utc)) < timedelta(seconds=30)
    assert aero.lines == ["GET /health"]
    assert client.health.state == "unknown"


@pytest.mark.parametrize("reply", [(204, {}, b""), (200, {}, b"fine"), (299, {}, [1])], ids=["204", "text", "list"])
def test_c084_any_success_means_that_it_is_well(aero: AeroServer, client: AeroDBClient, reply: Any) -> None:
    aero.health = reply
    status = data(client.health.check())
    assert (status.ok, status.status, status.version) == (True, "ok", None)


@pytest.mark.parametrize("status", [401, 500, 503])
def test_c084_a_refusal_is_an_error(aero: AeroServer, signed_in: AeroDBClient, status: int) -> None:
    aero.health = (status, {}, {"error": "no", "code": status})
    assert (code(signed_in.health.check()), len(aero.requests)) == (str(status), 1)


def test_c084_changes_are_told_and_nothing_else(aero: AeroServer, client: AeroDBClient) -> None:
    changes = Changes()
    assert client.health.start(SOON, on_change=changes).ok
    assert changes.wait(1) == [("unknown", "up")]
    assert client.health.state == "up"
    aero.health = DOWN
    assert changes.wait(2)[1:] == [("up", "down")]
    assert client.health.state == "down"
    asked = len(aero.requests)
    wait_for(lambda: len(aero.requests) > asked + 3)
    aero.health = UP
    assert changes.wait(3)[2:] == [("down", "up")]
    asked = len(aero.requests)
    wait_for(lambda: len(aero.requests) > asked + 3)
    assert changes.heard == [("unknown", "up"), ("up", "down"), ("down", "up")]
    assert set(changes.threads) == {"selfdb-aerodb-dispatch"}


def test_c084_one_failure_is_none(aero: AeroServer, client: AeroDBClient) -> None:
    changes = Changes()
    turn = iter([UP, DOWN, UP, DOWN, UP] * 2)

    def alternate(request: Any) -> None:
        aero.health = next(turn, UP)

    aero.before = alternate
    client.health.start(SOON, on_change=changes)
    wait_for(lambda: len(aero.requests) > 12)
    assert changes.wait(1) == [("unknown", "up")]


@pytest.mark.parametrize(
    "replies, states",
    [
        ([UP, DOWN, DOWN, UP], ["unknown", "up", "up", "down", "up"]),
        ([DOWN, DOWN, DOWN, UP], ["unknown", "unknown", "down", "down", "up"]),
        ([DOWN, UP, DOWN, UP], ["unknown", "unknown", "up", "up", "up"]),
    ],
)
def test_c084_two_failures_make_it_down_and_one_success_up(
    aero: AeroServer, client: AeroDBClient, replies: List[Any], states: List[str]
) -> None:
    """What it is taken for whenever it is asked next."""
    seen: List[str] = []
    turn = iter(replies)

    def note(request: Any) -> None:
        seen.append(client.health.state)
        aero.health = next(turn, UP)

    aero.before = note
    client.health.start(SOON)
    wait_for(lambda: len(seen) >= len(states))
    assert seen[: len(states)] == states


def test_c084_a_server_that_never_was_up_is_down_after_two(aero: AeroServer, client: AeroDBClient) -> None:
    changes = Changes()
    aero.health = DOWN
    client.health.start(SOON, on_change=changes)
    assert changes.wait(1) == [("unknown", "down")]
    assert len(aero.requests) >= 2


def test_c084_stopped_it_asks_no_more(aero: AeroServer, client: AeroDBClient) -> None:
    stopped = threading.Event()

    def stop(old: str, new: str) -> None:
        client.health.stop()
        stopped.set()

    client.health.start(SOON, on_change=stop)
    assert stopped.wait(15)
    assert client.health.state == "unknown"
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "selfdb-aerodb-health"])
    client.health.stop()


def test_c084_started_again_it_begins_anew(aero: AeroServer, client: AeroDBClient) -> None:
    first, second = Changes(), Changes()
    client.health.start(SOON, on_change=first)
    first.wait(1)
    client.health.start(SOON, on_change=second)
    assert second.wait(1) == [("unknown", "up")]
    aero.health = DOWN
    second.wait(2)
    assert first.heard == [("unknown", "up")]


def test_c084_a_callback_that_fails_stops_nothing(aero: AeroServer, client: AeroDBClient, caplog: Any) -> None:
    changes = Changes()

    def fail(old: str, new: str) -> None:
        changes(old, new)
        raise RuntimeError("mine")

    client.health.start(SOON, on_change=fail)
    changes.wait(1)
    aero.health = DOWN
    assert changes.wait(2) == [("unknown", "up"), ("up", "down")]


def test_c084_close_ends_the_thread(aero: AeroServer, client: AeroDBClient) -> None:
    client.health.start(30)
    wait_for(lambda: client.health.state == "up")
    client.close()
    wait_for(lambda: not [thread for thread in threading.enumerate() if thread.name == "selfdb-aerodb-health"])


@pytest.mark.parametrize("options", [{"interval": 0}, {"interval": "x"}, {"interval": True}, {"on_change": 5}], ids=str)
def test_wrong_arguments_are_refused(aero: AeroServer, client: AeroDBClient, options: Any) -> None:
    assert code(client.health.start(**options)) == "VALIDATION_ERROR"
    assert aero.requests == []
