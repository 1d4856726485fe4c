"""Callbacks on a thread of their own: in order, bounded, and never lost without a word."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..exceptions import InvalidRequestError
from .arguments import whole_number
from .call import acting_thread
from .forks import renew_after_fork

__all__ = ["Dispatcher", "Full", "Job"]

log = logging.getLogger("selfdb.dispatch")

MAX_ITEMS = 10_000
MAX_BYTES = 64 * 1024 * 1024

_POLICIES = ("drop_oldest", "drop_newest", "block", "disconnect")


class Full(NamedTuple):
    """What to do when the queue is full.

    :ivar policy: ``drop_oldest``, ``drop_newest``, ``block`` (stop reading for up to ``block_seconds``, then drop
        the oldest) or ``disconnect``.
    :ivar max_items: jobs that may wait.
    :ivar max_bytes: bytes that they may hold.
    :ivar block_seconds: how long ``block`` may hold up the reader; below the time in which a heartbeat is answered.
    """

    policy: str = "drop_oldest"
    max_items: int = MAX_ITEMS
    max_bytes: int = MAX_BYTES
    block_seconds: float = 5.0

    def checked(self) -> Full:
        """This, if its values are in range.

        :raises InvalidRequestError: if not.
        """
        if self.policy not in _POLICIES:
            raise InvalidRequestError(f"the policy must be one of {', '.join(_POLICIES)}")
        whole_number(self.max_items, "max_items", 1)
        whole_number(self.max_bytes, "max_bytes", 1)
        if not 0 < self.block_seconds <= 8:
            raise InvalidRequestError("block_seconds must be above 0 and at most 8")
        return self


class Job(NamedTuple):
    """Something to call.

    :ivar run: called without arguments; what it raises is logged and given to ``on_error``.
    :ivar size: bytes that it holds, for the bound.
    :ivar droppable: whether it may be dropped when the queue is full; marks and reports may not.
    :ivar dropped: called (on whichever thread finds the queue full) when it was dropped.
    """

    run: Callable[[], object]
    size: int = 0
    droppable: bool = True
    dropped: Callable[[], object] | None = None


class Dispatcher:
    """One daemon thread that calls jobs in the order in which they came.

    ``put`` and ``close`` may be called from any thread, from a job too. The thread starts with the first job and
    ends when it has had nothing to do for a while; a forked child begins with an empty queue.

    :param on_error: given what a job raised; called on the thread.
    """

    IDLE_SECONDS = 30.0

    def __init__(
        self,
        full: Full | None = None,
        on_error: Callable[[BaseException], object] | None = None,
        name: str = "selfdb-dispatch",
    ) -> None:
        self.full = (full or Full()).checked()
        self._on_error = on_error
        self._name = name
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self._changed = threading.Condition()  # re-entrant: a signal handler may put where its thread just puts
        self._jobs: deque[Job] = deque()
        self._droppable = 0
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def has_room(self, size: int = 0) -> bool:
        """Whether one more job of ``size`` bytes would fit; into an empty queue any does."""
        if not self._droppable:
            return True
        return self._droppable < self.full.max_items and self._bytes + size <= self.full.max_bytes

    def put(self, job: Job, *, force: bool = False) -> bool:
        """Queue ``job``; returns false if the policy is not to drop, and there is no room.

        :param force: queue it whatever the policy, dropping the oldest if need be.
        """
        dropped: list[Job] = []
        with self._changed:
            if self._closed and job.droppable:
                return True
            if job.droppable and not self.has_room(job.size):
                if self.full.policy in ("block", "disconnect") and not force:
                    return False
                if self.full.policy != "drop_newest" or force:
                    self._make_room(job.size, dropped)
                else:
                    dropped.append(job)
            if not dropped or dropped[0] is not job:
                self._append(job)
        for lost in dropped:
            if lost.dropped is not None:
                lost.dropped()
        return True

    def _append(self, job: Job) -> None:
        self._jobs.append(job)
        self._bytes += job.size
        self._droppable += job.droppable
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # there are too many, or the interpreter is about to end
                self._thread = None
                log.exception("no thread for callbacks could be started; the next event tries again")
        else:
            self._changed.notify()

    def _make_room(self, size: int, dropped: list[Job]) -> None:
        kept: list[Job] = []
        while self._jobs and not self.has_room(size):
            oldest = self._jobs.popleft()
            if oldest.droppable:
                dropped.append(oldest)
                self._bytes -= oldest.size
                self._droppable -= 1
            else:
                kept.append(oldest)
        self._jobs.extendleft(reversed(kept))

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs and not self._closed:
                    self._changed.wait(self.IDLE_SECONDS)
                if not self._jobs:
                    self._thread = None
                    return
                job = self._jobs.popleft()
                self._bytes -= job.size
                self._droppable -= job.droppable
            try:
                job.run()
            except BaseException as error:
                log.exception("a callback failed")
                self._report(error)
            del job  # an idle thread must not keep the last event alive

    def _report(self, error: BaseException) -> None:
        if self._on_error is None:
            return
        try:
            self._on_error(error)
        except BaseException:  # sys.exit() too: without this thread nobody is told of anything any more
            log.exception("the error callback failed")

    def runs_here(self) -> bool:
        """Whether this is part of a callback, so that no other can run before it has ended."""
        return acting_thread() is self._thread

    def close(self) -> None:
        """Take no more events and forget those that wait; reports still come, and a job under way ends by itself.

        The thread ends when there is nothing more to do.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
            self._jobs = deque(job for job in self._jobs if not job.droppable)
            self._bytes = sum(job.size for job in self._jobs)
            self._droppable = 0

    def reopen(self) -> None:
        """Take jobs again after :meth:`close`."""
        with self._changed:
            self._closed = False
