"""Whether the server is up: asked once, or watched in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import Any

from ..core.dispatch import Dispatcher, Job
from ..core.encoding import decode_json
from ..core.flags import Flag
from ..core.forks import renew_after_fork
from ..core.marks import blocking, passing
from ..exceptions import InvalidRequestError
from .calls import Calls, problem
from .envelope import AeroDBResponse
from .parsing import object_of, text_at
from .types import HealthStatus

__all__ = ["HealthClient", "Transition"]

UNKNOWN, UP, DOWN = "unknown", "up", "down"

FAILURES = 2
"""In a row, before the server counts as down."""

Transition = Callable[[str, str], Any]
"""Called as ``on_change(old, new)``."""


class HealthClient:
    """The state of the server. May be shared by threads; callbacks run on the client's dispatch thread.

    :param calls: makes the exchanges.
    :param dispatcher: calls the callbacks.
    """

    def __init__(self, calls: Calls, dispatcher: Dispatcher) -> None:
        self._calls = calls
        self._dispatcher = dispatcher
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self._lock = threading.RLock()
        self._watch: _Watch | None = None
        self._state = UNKNOWN

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._state} of {self._calls.url}>"

    @property
    def state(self) -> str:
        """``unknown``, ``up`` or ``down``, as far as :meth:`start` has found out."""
        return self._state

    @blocking
    def check(self) -> AeroDBResponse[HealthStatus]:
        """Ask the server how it is; any answer of success means that it is well.

        ``GET /health``
        """

        def work() -> AeroDBResponse[HealthStatus]:
            clock = self._calls.transport.pool.clock
            begun = clock.monotonic()
            answer = self._calls.send("GET", "/health", bearer=False, renewable=False)
            took = (clock.monotonic() - begun) * 1000
            try:
                body = object_of(decode_json(answer.content))
            except ValueError:
                body = {}
            status = HealthStatus(
                True,
                text_at(body, "status") or "ok",
                text_at(body, "version"),
                took,
                datetime.fromtimestamp(clock.time(), timezone.utc),
            )
            return AeroDBResponse(status, None, status=answer.status)

        return self._calls.enveloped(work)

    @passing(callbacks=("on_change",))
    def start(self, interval: float = 30, on_change: Transition | None = None) -> AeroDBResponse[None]:
        """Ask every ``interval`` seconds, on a daemon thread, and call ``on_change(old, new)`` when the state changes.

        Two failures in a row make it ``down``, one success makes it ``up``. Called again it begins anew.
        """

        def work() -> AeroDBResponse[None]:
            if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not 0 < interval <= 86400:
                raise InvalidRequestError("interval must be a number of seconds above 0 and at most 86400")
            if on_change is not None and not callable(on_change):
                raise InvalidRequestError("on_change must be callable")
            watch = _Watch(float(interval), on_change)
            thread = threading.Thread(target=self._poll, args=(watch,), name="selfdb-aerodb-health", daemon=True)
            with self._lock:
                self.stop()
                self._watch = watch
                try:
                    thread.start()
                except RuntimeError:
                    self._watch = None
                    raise problem("CLIENT_ERROR", "no thread could be started") from None
            return AeroDBResponse(None, None)

        return self._calls.enveloped(work)

    def stop(self) -> None:
        """Ask no more; the state is ``unknown`` again. Returns at once, and may be called from a callback."""
        with self._lock:
            watch, self._watch = self._watch, None
            self._state = UNKNOWN
        if watch is not None:
            watch.stopped.set()

    def _poll(self, watch: _Watch) -> None:
        clock = self._calls.transport.pool.clock
        while not watch.stopped.is_set():
            well = self.check().ok
            if self._calls.closed:
                return
            with self._lock:
                if self._watch is not watch:
                    return
                self._note(watch, well)
            clock.wait(watch.stopped, watch.interval)

    def _note(self, watch: _Watch, well: bool) -> None:
        watch.failures = 0 if well else watch.failures + 1
        new = UP if well else DOWN if watch.failures >= FAILURES else self._state
        old, self._state = self._state, new
        if new != old and watch.on_change is not None:
            self._dispatcher.put(Job(partial(watch.on_change, old, new), droppable=False))


class _Watch:
    """One life of the thread that asks."""

    def __init__(self, interval: float, on_change: Transition | None) -> None:
        self.interval = interval
        self.on_change = on_change
        self.stopped = Flag()
        self.failures = 0
