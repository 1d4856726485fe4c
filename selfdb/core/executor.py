"""Worker threads of one event loop: calls hop to them and back with as few wake-ups as possible."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .call import Call, CallAbandoned, enter_call
from .places import STUCK_SECONDS, Places, Worker
from .strand import Strand

__all__ = ["Executor", "Job"]

IDLE_SECONDS = 30.0

PLACES = 1 if getattr(sys, "_is_gil_enabled", lambda: True)() else max(1, (os.cpu_count() or 1) // 2)
"""Threads that may compute at a time, see :class:`~selfdb.core.places.Places`."""


class Job(Call):
    """A call on its way through a worker thread.

    :ivar future: what the loop waits for; it is not given the outcome of a call that was given up.
    :ivar executor: of that loop.
    :ivar strand: what it belongs to, if anything.
    """

    __slots__ = (
        "_away",
        "_places",
        "_thread",
        "_worker",
        "arguments",
        "context",
        "error",
        "executor",
        "function",
        "future",
        "keywords",
        "result",
        "strand",
    )

    def __init__(
        self,
        executor: Executor,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self._worker: Worker[Job] | None = None
        self._places = executor._places
        self._thread = 0
        self._away = 0
        self.executor = executor
        self.strand: Strand | None = None
        self.future: asyncio.Future[Any] = executor.loop.create_future()
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.context = contextvars.copy_context()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, worker: Worker[Job], places: Places[Job]) -> None:
        """Make the call, on the thread of ``worker`` and ``places``, in the context of who asked for it."""
        self._worker = worker
        self._places = places  # of another executor than its own, if its strand began on another loop
        self._thread = threading.get_ident()
        try:
            self.result = self.context.run(self._run)
        except BaseException as error:  # noqa: BLE001 - carried to who waits for it
            self.error = error
        # The context leads here, and what a large answer or body takes is not to wait for the garbage collector.
        del self.context, self.function, self.arguments, self.keywords

    def _run(self) -> Any:
        enter_call(self)
        try:
            self.check()
            return self.function(*self.arguments, **self.keywords)
        finally:
            self.finish()

    def leave(self) -> None:
        """It waits: another thread may compute meanwhile."""
        worker = self._worker
        if worker is not None and threading.get_ident() == self._thread:  # and not one that the call has started
            self._away += 1
            if self._away == 1 and worker.has_place:
                worker.has_place = False
                self._places.give()

    def come_back(self) -> None:
        """It has waited, and wants to compute again."""
        worker = self._worker
        if worker is not None and threading.get_ident() == self._thread:
            self._away -= 1
            if self._away == 0:
                worker.has_place = self._places.take()

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
    """At most 64 daemon threads, started as they are needed, and gone after ``idle`` seconds without work (by default
    `IDLE_SECONDS`). ``submit`` belongs to the loop, ``close`` to anybody.

    The standard executor is not used: the interpreter's exit waits for its threads, and each of its results wakes
    the loop by itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: float | None = None) -> None:
        self.loop = loop
        self._idle = IDLE_SECONDS if idle is None else idle
        self._done: deque[Job] = deque()
        self._waking = False
        self._places: Places[Job] = Places(PLACES, self._start)
        self._watched = False
        self._strands: set[Strand] = set()

    def submit(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        strand: Strand | None = None,
    ) -> Job:
        """Have ``function`` called by a worker, that of ``strand`` if it belongs to one; returns at once."""
        job = Job(self, function, arguments, keywords)
        if strand is not None and strand.put(job):
            return job
        if job.strand is not None:
            self._strands.add(job.strand)
        try:
            waits = self._places.put(job)
        except RuntimeError as error:
            job.abandon()  # who comes later must not do what was said to have failed
            if job.strand is not None:
                self._strands.discard(job.strand)
                for other in job.strand.failed():
                    other.error = error
                    other.executor._done.append(other)
                    other.executor._wake()
            raise
        if waits and not self._watched:
            self._watched = True
            self.loop.call_later(STUCK_SECONDS, self._watch, -1)
        return job

    def _watch(self, seen: int) -> None:
        changes = self._places.watch(seen)
        self._watched = changes is not None
        if changes is not None:
            self.loop.call_later(STUCK_SECONDS, self._watch, changes)

    def _start(self, worker: Worker[Job]) -> None:
        threading.Thread(target=self._work, args=(worker,), name="selfdb-aio", daemon=True).start()

    def _work(self, worker: Worker[Job]) -> None:
        job = worker.job
        while job is not None:
            strand = job.strand
            if strand is not None:
                strand.enter()
            job.run(worker, self._places)
            executor = job.executor
            executor._done.append(job)
            # An idle thread must not keep an answer alive.
            job = worker.job = None
            executor._wake()
            if strand is not None:
                job = strand.next(worker, self._places)
                if job is not None:
                    continue
                self._strands.discard(strand)
            job = self._places.next(worker, self._idle)

    def _wake(self) -> None:
        """Have the loop see what is done."""
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
        for strand in tuple(self._strands):
            strand.close()
        self._places.close()
