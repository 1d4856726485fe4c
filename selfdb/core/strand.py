"""Calls that are made one after the other, in the order in which they were asked for: those of one transaction."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from .call import serves
from .forks import renew_after_fork
from .marks import inner

if TYPE_CHECKING:
    from .executor import Job
    from .places import Places, Worker

__all__ = ["Strand", "Stranded"]


class Strand:
    """A row of calls; an executor's worker makes them. May be shared by threads and by event loops.

    :param keeps: whether one thread makes them all. It then is there for nothing else until `close`.
    """

    def __init__(self, *, keeps: bool = False) -> None:
        self._keeps = keeps
        self._closed = False
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        # Neither the thread that may have held the lock is there, nor the one that makes the calls: another is sent.
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._thread: threading.Thread | None = None
        self._begun = False
        self._parked: threading.Lock | None = None

    @property
    def closed(self) -> bool:
        """Whether it ends, or has ended."""
        return self._closed

    def put(self, job: Job) -> bool:
        """Have ``job`` done behind those that are there.

        Returns false if a worker has to be sent to do it: there is none yet, or the one that there is waits for a
        callback which ``job`` is part of, or the strand is closed.
        """
        with self._lock:
            if self._closed or (self._thread is not None and serves(self._thread)):
                return False
            job.strand = self
            if not self._begun:
                self._begun = True
                return False
            self._jobs.append(job)
            parked, self._parked = self._parked, None
        if parked is not None:
            parked.release()
        return True

    def failed(self) -> list[Job]:
        """No worker could be sent: those that have come behind the job meanwhile, which nobody will do."""
        with self._lock:
            self._begun = False
            jobs = list(self._jobs)
            self._jobs.clear()
        return jobs

    def close(self) -> None:
        """Let the worker go when it has done what is there. A later call is made apart from it."""
        with self._lock:
            self._closed = True
            parked, self._parked = self._parked, None
        if parked is not None:
            parked.release()

    # The worker's

    def enter(self) -> None:
        """The calling thread does its jobs from now on."""
        self._thread = threading.current_thread()

    def next(self, worker: Worker[Any], places: Places[Any]) -> Job | None:
        """What ``worker``, whose thread this is, is to do next; ``None`` if it has to look elsewhere."""
        with self._lock:
            job = self._taken()
            if job is None and not self._begun:
                return None
            if job is None:
                gate = self._parked = threading.Lock()
                gate.acquire()
        if job is not None:
            places.between(worker)
            return job
        places.lend(worker)
        gate.acquire()
        places.take_back(worker)
        with self._lock:
            return self._taken()

    def _taken(self) -> Job | None:
        if self._jobs:
            return self._jobs.popleft()
        if self._closed or not self._keeps:
            self._begun = False
            self._thread = None
        return None


class Stranded:
    """A client some of whose calls belong to a strand."""

    @inner
    def strand(self) -> Strand | None:
        """The one that a call of the present context belongs to."""
        raise NotImplementedError
