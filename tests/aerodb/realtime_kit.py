"""What tests of events share: a server, a client of it, and a handler that keeps what it hears."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Iterator, List

import pytest

from selfdb.aerodb import AeroDBClient, RealtimeChannel, RealtimePayload
from selfdb.aerodb.realtime import client as realtime_client
from tests.servers.aerodb.realtime import AeroRealtime

Make = Callable[..., AeroDBClient]


@pytest.fixture
def events() -> Iterator[AeroRealtime]:
    server = AeroRealtime().start()
    yield server
    server.stop()


@pytest.fixture
def live(events: AeroRealtime, client_for: Make) -> AeroDBClient:
    """A client of it."""
    return client_for(events)


@pytest.fixture
def quick_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime_client, "STEPS", (0.01, 0.02))


class Heard:
    """A handler that keeps what it is called with."""

    def __init__(self) -> None:
        self.payloads: List[RealtimePayload] = []
        self.threads: List[str] = []
        self._changed = threading.Condition()

    def __call__(self, payload: RealtimePayload) -> None:
        with self._changed:
            self.payloads.append(payload)
            self.threads.append(threading.current_thread().name)
            self._changed.notify_all()

    def wait(self, count: int = 1) -> List[RealtimePayload]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.payloads) >= count, 15), self.payloads
            return list(self.payloads)

    @property
    def types(self) -> List[str]:
        return [payload.type for payload in self.payloads]


def eventually(ready: Callable[[], Any]) -> None:
    end = time.monotonic() + 15
    while not ready():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def joined(channel: RealtimeChannel) -> RealtimeChannel:
    channel.subscribe(timeout=15)
    assert (channel.state, channel.subscribed, channel.acknowledged) == ("joined", True, True)
    assert channel.last_error is None
    return channel
