"""What tests of realtime's faults share: a client that stands without a socket, a clock that moves by hand, and a
client with everything that it was told."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from typing import Any, Callable, Iterator, List, Optional, Set

from selfdb import SelfDB
from selfdb.core.clock import Clock
from selfdb.core.websocket import LinkState
from selfdb.exceptions import APIConnectionError
from selfdb.models import RealtimePayload
from selfdb.realtime.client import Realtime
from tests.pace import SERVERS
from tests.realtime.phoenix import Phoenix
from tests.servers.scripted import PeerGone

BOUND = 60.0
SLACK = 5.0
TOPIC = "table:orders"


def until(condition: Callable[[], Any], seconds: float = BOUND) -> None:
    """Wait for ``condition``, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.002)


class HandClock(Clock):
    """Moves by ``advance`` only; who waits by it goes on when its time has come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._now = 1000.0
        self.jumped = 0.0
        self.looks = 0
        """How often the thread of a link has asked for the time, or waits by it."""

    def monotonic(self) -> float:
        self._looked()
        return self._now

    def _looked(self) -> None:
        if threading.current_thread().name == "selfdb-link":
            self.looks += 1

    def time(self) -> float:
        return 1_700_000_000.0 + self._now + self.jumped

    def advance(self, seconds: float) -> None:
        with self._changed:
            self._now += seconds
            self._changed.notify_all()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        end = self._now + seconds
        with self._changed:
            while not event.is_set() and self._now < end:
                self._looked()
                self._changed.wait(0.005)  # nobody tells when the event is set
        return event.is_set()


class Fed:
    """Stands where the link of a client is: the test's own thread is the link's, and feeds the client."""

    def __init__(self, realtime: Realtime) -> None:
        self.state = LinkState.CONNECTED
        self.last_message_at = None
        self.sent: List[Any] = []
        self.got: List[Any] = []
        self.errors: List[BaseException] = []
        self.realtime = realtime
        realtime.on_error(self.errors.append)
        realtime.channel(TOPIC).on("GOOD", self._got)
        realtime._link = self  # type: ignore[assignment]
        realtime.opened()

    def _got(self, payload: RealtimePayload) -> None:
        assert payload.new is not None
        self.got.append(payload.new["id"])

    def join(self, *, again: bool = False) -> str:
        """Joined, over a new connection if it is to be ``again``; returns the join's ref."""
        if again:
            self.realtime.lost(APIConnectionError("the connection was lost"))
            self.realtime.opened()
        if self.realtime.channel(TOPIC).state == "closed":
            self.realtime._perform(self.realtime._machine.join(TOPIC, time.monotonic(), None, 10.0))
        ref = str(self.realtime._machine.channel(TOPIC).join_ref)
        self.feed([ref, ref, TOPIC, "phx_reply", {"status": "ok", "response": {"accepts": ["access_token"]}}])
        assert self.realtime.channel(TOPIC).state == "joined"
        return ref

    def feed(self, frame: Any) -> None:
        self.realtime.received([(1, json.dumps(frame).encode())])

    def still_works(self, number: int) -> None:
        """After whatever came, a good event of a new connection arrives."""
        self.join(again=True)
        self.feed([None, None, TOPIC, "GOOD", {"event": "GOOD", "table": "orders", "new": {"id": number}, "old": None}])
        until(lambda: number in self.got)

    def runs_here(self) -> bool:
        return True

    def send(self, data: Any) -> None:
        self.sent.append(data)

    def discard_unsent(self) -> int:
        return 0

    def drop(self, reason: str) -> None:
        self.sent.append(("drop", reason))

    def wake(self) -> None:
        pass

    def stop(self) -> None:
        self.state = LinkState.DISCONNECTED

    def close(self, timeout: Optional[float] = None) -> int:
        self.stop()
        return 0


class Subscriber:
    """A client with one joined channel, and what it was told; for a scripted `Phoenix`."""

    def __init__(self, server: Phoenix, db: SelfDB, **options: Any) -> None:
        self.server = server
        self.db = db
        self.realtime = db.realtime
        self.got: List[Any] = []
        self.errors: List[BaseException] = []
        self.states: List[str] = []
        self.realtime.on_error(self.errors.append)
        self.realtime.on_state_change(self.states.append)
        self.channel = self.realtime.channel(TOPIC).on("INSERT", self._inserted)
        self.realtime.connect(**options)
        self.channel.subscribe()
        self._number = 0

    def _inserted(self, payload: RealtimePayload) -> None:
        if payload.new is not None:
            self.got.append(payload.new.get("id"))

    def still_works(self) -> None:
        """A good event comes, over this connection or over the next, within a bound."""
        self._number += 1
        mark = f"good {self._number}"
        end = time.monotonic() + BOUND
        while mark not in self.got:
            assert time.monotonic() < end, f"no event came: {self.realtime.state}, {self.channel.state}"
            with contextlib.suppress(PeerGone, OSError):  # the connection is on its way out
                self.server.insert(TOPIC, mark)
            with contextlib.suppress(AssertionError):
                until(lambda: mark in self.got, 0.05)  # else by the next one, as soon as it is joined


class Ours(logging.Handler):
    """Collects what the package logs; nothing of it may say that the package itself failed."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: List[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def faults(self) -> List[str]:
        return [record.getMessage() for record in self.records if record.levelno >= logging.ERROR]

    @property
    def text(self) -> str:
        return "\n".join(record.getMessage() for record in self.records)


@contextlib.contextmanager
def our_log() -> Iterator[Ours]:
    handler, logger = Ours(), logging.getLogger("selfdb")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def our_threads() -> Set[str]:
    """The names of the clients' threads that live; servers that tests share in this process have their own."""
    names = {thread.name for thread in threading.enumerate() if thread.is_alive()}
    return {name for name in names if name.startswith("selfdb") and not name.startswith(SERVERS)}


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))
