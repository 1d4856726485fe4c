"""Worker threads of one event loop: calls hop to them and back with as few wake-ups as possible."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .call import Call, CallAbandoned, enter_call
from .places import Places

__all__ = ["Executor", "Job"]

MAX_THREADS = 64
"""As many as a client keeps connections."""

IDLE_SECONDS = 30.0

PLACES = 1 if getattr(sys, "_is_gil_enabled", lambda: True)() else max(1, (os.cpu_count() or 1) // 2)
"""Threads that may compute at a time, see :class:`~selfdb.core.places.Places`."""


class Job(Call):
    """A call on its way through a worker thread.

    :ivar future: what the loop waits for; it is not given the outcome of a call that was given up.
    """

    __slots__ = (
        "_away",
        "_has_place",
        "_places",
        "_thread",
        "arguments",
        "context",
        "error",
        "function",
        "future",
        "keywords",
        "result",
    )

    def __init__(
        self,
        future: asyncio.Future[Any],
        places: Places,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self._places = places
        self._has_place = False
        self._thread = 0
        self._away = 0
        self.future = future
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.context = contextvars.copy_context()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, begun: Callable[[], object]) -> None:
        """Make the call, on a worker thread, in the context of who asked for it.

        :param begun: called when there is a place for it.
        """
        self._has_place = self._places.take(begins=True)
        begun()
        try:
            self.result = self.context.run(self._run)
        except BaseException as error:  # noqa: BLE001 - carried to who waits for it
            self.error = error
        # The context leads here, and what a large answer or body takes is not to wait for the garbage collector.
        del self.context, self.function, self.arguments, self.keywords

    def _run(self) -> Any:
        enter_call(self)
        self._thread = threading.get_ident()
        try:
            self.check()
            return self.function(*self.arguments, **self.keywords)
        finally:
            self._give_place()
            self.finish()

    def leave(self) -> None:
        """It waits: another thread may compute meanwhile."""
        if threading.get_ident() == self._thread:  # and not one that the call has started
            self._away += 1
            if self._away == 1:
                self._give_place()

    def come_back(self) -> None:
        """It has waited, and wants to compute again."""
        if threading.get_ident() == self._thread:
            self._away -= 1
            if self._away == 0:
                self._has_place = self._places.take(begins=False)

    def _give_place(self) -> None:
        if self._has_place:
            self._has_place = False
            self._places.give()

    def land(self) -> None:
        """Give the outcome to who waits for it; on the loop."""
        future, result, error = self.future, self.result, self.error
        self.result = self.error = None  # the latter leads to frames that lead here
        try:
            if future.done():
                return
            if error is None:
                future.set_result(result)
            elif isinstance(error, CallAbandoned):
                future.cancel()
            else:
                future.set_exception(error)
        finally:
            del error


class Executor:
    """At most 64 daemon threads, started as they are needed. ``submit`` belongs to the loop, ``close`` to anybody.

    The standard executor is not used: the interpreter's exit waits for its threads, and each of its results wakes
    the loop by itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: deque[Job] = deque()
        self._waking = False
        self._places = Places(PLACES)
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._growing = False
        self._closed = False

    def submit(self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Job:
        """Have ``function`` called by a worker; returns at once."""
        job = Job(self.loop.create_future(), self._places, function, arguments, keywords)
        with self._lock:  # or it could be put behind the last word of a queue that nobody asks any more
            self._jobs.put(job)
        try:
            self._grow()
        except RuntimeError:
            job.abandon()  # who comes later must not do what was said to have failed
            raise
        return job

    def _grow(self) -> None:
        """Start a thread if there is more to do than there are idle ones, and none is just about to start."""
        with self._lock:
            if self._growing or self._threads >= MAX_THREADS or self._jobs.qsize() <= self._idle:
                return
            self._growing = True
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="selfdb-aio", daemon=True).start()
        except RuntimeError:  # there are too many in this process
            with self._lock:
                self._growing = False
                self._threads -= 1
                alone = not self._threads
            if alone:
                raise  # else those that we have go on

    def _work(self) -> None:
        jobs, begins = self._jobs, True
        while True:
            with self._lock:
                self._idle += 1
                if begins:
                    begins = self._growing = False
            try:
                job = jobs.get(timeout=0 if self._closed and jobs is self._jobs else IDLE_SECONDS)
                ended = False
            except queue.Empty:
                job, ended = None, True
            with self._lock:
                self._idle -= 1
                if ended and jobs.empty() and jobs is self._jobs:
                    self._threads -= 1
                    return
            if job is None:
                jobs = self._jobs
                continue
            job.run(self._grow)
            self._done.append(job)
            del job  # an idle thread must not keep an answer alive
            if not self._waking:
                self._waking = True
                try:
                    self.loop.call_soon_threadsafe(self._land)
                except RuntimeError:  # the loop is closed, and nobody waits any more
                    self._done.clear()

    def _land(self) -> None:
        # First, so that a result which is too late for this round wakes the loop again.
        self._waking = False
        while self._done:
            self._done.popleft().land()

    def close(self) -> None:
        """Let the threads go when they have done what is queued. A later call has one started for itself."""
        with self._lock:
            self._closed = True
            # Each thread takes one word of the end from the queue that it knows, and none that is another's.
            jobs, self._jobs = self._jobs, queue.SimpleQueue()
            for _ in range(self._threads):
                jobs.put(None)
