"""Who computes: how many threads at a time, and which of them does what next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Places", "Worker"]

JobT = TypeVar("JobT")

MAX_THREADS = 64
"""As many as a client keeps connections."""

STUCK_SECONDS = 0.05
"""When no place has changed hands for so long, those who hold them wait for something that nobody told us of."""


class Worker(Generic[JobT]):
    """A thread that does one job after another.

    :ivar job: what it is to do next.
    :ivar has_place: whether it may compute, as far as we know.
    """

    __slots__ = ("gate", "has_place", "job", "started")

    def __init__(self) -> None:
        self.gate = _closed_gate()
        self.job: JobT | None = None
        self.has_place = False
        self.started = False


class Places(Generic[JobT]):
    """Places to compute, and jobs that wait for one. Threads that come back from a wait go before new jobs.

    Python computes on one thread at a time. More that want to only make everybody else wait for the interpreter, the
    event loop first of all. With places a fast server is kept busy by a few threads, and a slow one gets as many
    calls at a time as there are threads, without a word about which it is. A thread that is done keeps its place for
    the next job: to hand it on would cost a switch of threads, which is more than many a job.

    May be shared by threads.

    :param count: how many there are.
    :param start: starts a thread for a worker; it may raise `RuntimeError`.
    """

    def __init__(self, count: int, start: Callable[[Worker[JobT]], object]) -> None:
        self._lock = threading.Lock()
        self._start = start
        self._free = count
        self._changes = 0
        self._jobs: deque[JobT] = deque()
        self._returning: deque[threading.Lock] = deque()
        self._idle: list[Worker[JobT]] = []
        self._workers = 0
        self._closed = False

    # Jobs

    def put(self, job: JobT) -> bool:
        """Have ``job`` done by a worker as soon as there is a place; returns whether it has to wait for that.

        :raises RuntimeError: if there is no worker, and none can be started.
        """
        with self._lock:
            self._jobs.append(job)
            worker = self._with_next_job() if self._free else None
            waits = worker is None
        if worker is not None:
            self._wake(worker)
        return waits

    def watch(self, seen: int) -> int | None:
        """How often places have changed hands so far; ``None`` once no job waits for one.

        If nothing has changed since ``seen``, the jobs that wait are begun without a place.
        """
        woken = []
        with self._lock:
            if not self._jobs:
                return None
            changes = self._changes
            while self._jobs and seen == changes:
                worker = self._with_next_job(without_place=True)
                if worker is None:
                    break  # as many threads as there may be wait already
                woken.append(worker)
        for worker in woken:
            self._wake(worker)
        return changes

    def _with_next_job(self, *, without_place: bool = False) -> Worker[JobT] | None:
        """A worker that does nothing yet, with the next job and a place; ``None`` if there is none. With the lock."""
        if not self._jobs:
            return None
        if self._idle:
            worker = self._idle.pop()
        elif self._workers < MAX_THREADS:
            worker = Worker()
            self._workers += 1
        else:
            return None
        worker.job = self._jobs.popleft()
        if not without_place:
            worker.has_place = True
            self._free -= 1
        return worker

    def _wake(self, worker: Worker[JobT]) -> None:
        if worker.started:
            worker.gate.release()
            return
        worker.started = True
        try:
            self._start(worker)
        except RuntimeError:  # there are too many threads in this process
            with self._lock:
                assert worker.job is not None
                self._jobs.appendleft(worker.job)
                self._free += worker.has_place
                self._workers -= 1
                alone = not self._workers
            if alone:
                raise  # else those that we have go on

    def next(self, worker: Worker[JobT], seconds: float) -> JobT | None:
        """Wait for the next job of ``worker``, whose thread this is; ``None`` if it has to go.

        :param seconds: without anything to do after which it has to.
        """
        with self._lock:
            self._changes += 1
            gate = self._returning.popleft() if worker.has_place and self._returning else None
            if gate is not None:
                worker.has_place = False
            if self._jobs and (worker.has_place or self._free):
                self._free -= not worker.has_place
                worker.has_place = True
                return self._jobs.popleft()
            self._free += worker.has_place
            worker.has_place = False
            worker.job = None
            ends = self._closed
            if ends:
                self._workers -= 1
            else:
                self._idle.append(worker)
        if gate is not None:
            gate.release()
        if ends:
            return None
        if not worker.gate.acquire(timeout=seconds):
            with self._lock:
                if worker in self._idle:
                    self._idle.remove(worker)
                    self._workers -= 1
                    return None
            worker.gate.acquire()  # it was given something in the last moment
        return worker.job

    def close(self) -> None:
        """Let the workers go when all jobs are done. For a later job one is started, which goes behind it."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._workers -= len(idle)
        for worker in idle:
            worker.gate.release()

    # Waits

    def give(self) -> None:
        """Let another thread have the place of this one, which goes to wait for something."""
        with self._lock:
            self._changes += 1
            worker = gate = None
            if self._returning:
                gate = self._returning.popleft()
            else:
                self._free += 1
                worker = self._with_next_job()
        if gate is not None:
            gate.release()
        elif worker is not None:
            self._wake(worker)

    def between(self, worker: Worker[JobT]) -> None:
        """``worker`` goes on with what only it can do: those who come back from a wait go first."""
        with self._lock:
            self._changes += 1
            if worker.has_place and not self._returning:
                return
        if worker.has_place:
            self.give()
        worker.has_place = self.take()

    def lend(self, worker: Worker[JobT]) -> None:
        """The thread of ``worker`` waits for what only it can do: it has no place, and is not counted."""
        with self._lock:
            self._workers -= 1
            had, worker.has_place = worker.has_place, False
        if had:
            self.give()

    def take_back(self, worker: Worker[JobT]) -> None:
        """It goes on; there may be more threads than usual for a while."""
        with self._lock:
            self._workers += 1
        worker.has_place = self.take()

    def take(self) -> bool:
        """Wait for a place to go on at; false where one has to go on without, lest all wait for each other."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            gate = _closed_gate()
            self._returning.append(gate)
        while True:
            changes = self._changes
            if gate.acquire(timeout=STUCK_SECONDS):
                return True
            with self._lock:
                if changes != self._changes:
                    continue
                if gate not in self._returning:
                    return True  # it came in the last moment
                self._returning.remove(gate)
                return False


def _closed_gate() -> threading.Lock:
    gate = threading.Lock()
    gate.acquire()
    return gate
