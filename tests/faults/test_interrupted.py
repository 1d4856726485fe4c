"""Ctrl-C at any point of a call: the next one gets its own answer, no lock stays held and no connection is lost."""

from __future__ import annotations

import gc
import json
import sys
import threading
from pathlib import Path
from typing import Any, Callable

import pytest
import urllib3

import selfdb
from selfdb.core.request import Request
from tests import soak
from tests.conftest import Tls
from tests.core.calls import transport_to
from tests.core.kit import wait_until
from tests.servers.replies import ReplyServer
from tests.ways import ORDINARY, SHORT

EVERY = soak.amount("SELFDB_INTERRUPTED_EVERY", here=37, long=1)
"""Every how many of the points of an ordinary call."""
POINTS = {SHORT: 350, ORDINARY: 1200}
"""That a call has at least."""

#: Not `requests`: where `Session.send` has caught the end of its generator of redirects, CPython 3.11 never lets go of
#: a frame that a tracer interrupts, nor of the answer and the socket in it.
WATCHED = tuple(str(Path(package.__file__ or "").parent) for package in (selfdb, urllib3))


class Point:
    """Raises `KeyboardInterrupt` at point number ``at`` that this thread comes to: a call, a line or a return."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ""

    def __enter__(self) -> Point:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exception: Any) -> None:
        sys.settrace(None)

    def _trace(self, frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(WATCHED):
            return None
        self.left -= 1
        if self.left == 0:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {event}"
            sys.settrace(None)
            raise KeyboardInterrupt
        return self._trace


def served() -> int:
    """Connections that the server has a thread for."""
    return sum(thread.name == "reply" for thread in threading.enumerate())


# Between a socket's making and the line that keeps it nobody can close it but the interpreter.
@pytest.mark.usefixtures("unheard")
@pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")
@pytest.mark.timeout(3600 if soak.LONG else 300)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
def test_g02_an_interrupt_at_any_point_crosses_no_answer(
    method: str, secure: bool, lane: str, tls: Tls, replies: Callable[..., ReplyServer]
) -> None:
    def echo(request: Any) -> Any:
        return 200, {}, json.dumps(request.target).encode()

    server = replies(echo, tls=tls.server if secure else None)
    transport = transport_to(server.url, verify=tls.ca if secure else None)
    number = 0

    def ask() -> None:
        nonlocal number
        number += 1
        body = b"{}" if method == "POST" else None
        content_type = "application/json" if method == "POST" else None
        request = Request(method, "/echo", f"?number={number}", body, content_type)
        assert transport.exchange(request).json() == f"/echo?number={number}"

    every = max(1, EVERY * POINTS[lane] // POINTS[ORDINARY])
    points = every if every == 1 else 1 + soak.chance(f"interrupts of {method}").randrange(every)
    interrupted = 0
    try:
        ask()
        while True:
            with Point(points) as point:
                try:
                    ask()
                except KeyboardInterrupt:
                    interrupted += 1
            ask()  # gets its own answer, whatever was left behind
            assert transport.pool.budget.left == 500, point.where
            if point.left > 0:
                break  # that call was over before it came there
            points += every
        assert interrupted >= POINTS[lane] // every - 1
        del point
        gc.collect()
        wait_until(lambda: served() <= 1)  # of the connections that were given up none stays open
        soak.figure(
            "G02",
            f"{method} {'TLS' if secure else 'TCP'}, {lane}: interrupted at {interrupted} points, 0 answers crossed",
        )
    finally:
        transport.pool.close()
        gc.collect()  # what was being put together at that point may have had circles in it
