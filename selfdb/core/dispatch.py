"""Callbacks on a thread of their own: in order, bounded, and never lost without a word."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ..exceptions import InvalidRequestError
from .arguments import whole_number
from .call import acting_thread
from .forks import renew_after_fork

__all__ = ["Dispatcher", "Full", "Job", "Runnable"]

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


class Runnable(Protocol):
    """Something to call: a :class:`Job`, or whatever else has its members.

    :ivar run: called without arguments; what it raises is logged and given to ``on_error``.
    :ivar size: bytes that it holds, for the bound.
    :ivar droppable: whether it may be dropped when the queue is full; marks and reports may not.
    :ivar dropped: called (on whichever thread finds the queue full) when it was dropped.
    """

    @property
    def run(self) -> Callable[[], object]: ...

    @property
    def size(self) -> int: ...

    @property
    def droppable(self) -> bool: ...

    @property
    def dropped(self) -> Callable[[], object] | None: ...


class Job(NamedTuple):
    """A :class:`Runnable` made of its parts."""

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
        self._lock = threading.RLock()  # re-entrant: a signal handler may put where its thread just puts
        self._jobs: deque[Runnable] = deque()
        self._droppable = 0
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._closed = False
        # What wakes the thread, if it sleeps: a queue has no lock that a signal handler could find taken, and waking
        # through it costs a fifth of what a condition takes.
        self._gate: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False

    def has_room(self, size: int = 0) -> bool:
        """Whether one more job of ``size`` bytes would fit; into an empty queue any does."""
        if not self._droppable:
            return True
        return self._droppable < self.full.max_items and self._bytes + size <= self.full.max_bytes

    def put(self, job: Runnable, *, force: bool = False) -> bool:
        """Queue ``job``; returns false if the policy is not to drop, and there is no room.

        :param force: queue it whatever the policy, dropping the oldest if need be.
        """
        return self.put_all((job,), force=force) == 1

    def put_all(self, jobs: Sequence[Runnable], *, force: bool = False) -> int:
        """Queue ``jobs``, each as :meth:`put` does, under one lock and with one wake-up of the thread.

        Returns how many were taken; the rest is not, where the policy is not to drop and there is no room.
        """
        full = self.full
        policy = "drop_oldest" if force else full.policy
        dropped: list[Runnable] = []
        taken = 0
        with self._lock:
            for job in jobs:
                size = job.size
                taken += 1
                if job.droppable:
                    if self._closed:
                        continue
                    # What has_room says, without its call for each event.
                    waiting = self._droppable
                    if waiting and (waiting >= full.max_items or self._bytes + size > full.max_bytes):
                        if policy in ("block", "disconnect"):
                            taken -= 1
                            break
                        if policy == "drop_newest":
                            dropped.append(job)
                            continue
                        self._make_room(size, dropped)
                    self._droppable += 1
                self._jobs.append(job)
                self._bytes += size
            if self._thread is None:
                self._begin()
            elif self._asleep:
                self._wake()
        for lost in dropped:
            if lost.dropped is not None:
                lost.dropped()
        return taken

    def _begin(self) -> None:
        if not self._jobs:
            return
        self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # there are too many, or the interpreter is about to end
            self._thread = None
            log.exception("no thread for callbacks could be started; the next event tries again")

    def _wake(self) -> None:
        if self._asleep:
            self._gate.put(None)  # first: interrupted in between, one call too many is made, and none too few
            self._asleep = False

    def _make_room(self, size: int, dropped: list[Runnable]) -> None:
        kept: list[Runnable] = []
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
        idle = False
        while True:
            with self._lock:
                if self._jobs:
                    job: Runnable | None = self._jobs.popleft()
                    assert job is not None
                    self._bytes -= job.size
                    self._droppable -= job.droppable
                    idle = False
                elif self._closed or idle:
                    self._asleep = False
                    self._thread = None
                    return
                else:
                    job, self._asleep = None, True
            if job is None:
                idle = not self._roused()
                continue
            try:
                job.run()
            except BaseException as error:
                log.exception("a callback failed")
                self._report(error)
            del job  # an idle thread must not keep the last event alive

    def _roused(self) -> bool:
        """Sleep until there is something to do; false when nothing came for too long."""
        try:
            self._gate.get(timeout=self.IDLE_SECONDS)
        except queue.Empty:
            return False
        return True

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
        with self._lock:
            self._closed = True
            self._jobs = deque(job for job in self._jobs if not job.droppable)
            self._bytes = sum(job.size for job in self._jobs)
            self._droppable = 0
            self._wake()

    def reopen(self) -> None:
        """Take jobs again after :meth:`close`."""
        with self._lock:
            self._closed = False
