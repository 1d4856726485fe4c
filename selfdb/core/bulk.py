"""Many calls of one kind, a few at a time, each with an outcome of its own."""

from __future__ import annotations

import contextvars
import enum
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..exceptions import SelfDBError
from .call import CallAbandoned, interruptible

__all__ = ["BulkProgress", "BulkReport", "Outcome", "OutcomeStatus", "run_many"]

T = TypeVar("T")

BulkProgress = Callable[[int, "int | None"], object]
"""Called as ``progress(done, total)`` in items; ``total`` is ``None`` for an iterable without a length."""


class OutcomeStatus(str, enum.Enum):
    """What became of one item."""

    DONE = "done"
    REFUSED = "refused"
    """Certainly not applied; the error says why."""
    UNKNOWN = "unknown"
    """It may have been applied: look before you send it again."""


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What became of the item at ``index``.

    :ivar status: done, refused or unknown.
    :ivar result: what the call returned, if it is done.
    :ivar error: what it raised, if not.
    :ivar item: what was given, if it is not done; an iterator cannot give it a second time.
    """

    index: int
    status: OutcomeStatus
    result: T | None = None
    error: SelfDBError | None = None
    item: Any = None


class BulkReport(Generic[T]):
    """One :class:`Outcome` for each item, in the order of the items."""

    def __init__(self, outcomes: list[Outcome[T]]) -> None:
        self.outcomes = outcomes

    def __repr__(self) -> str:
        return f"BulkReport(done={len(self.done)}, refused={len(self.refused)}, unknown={len(self.unknown)})"

    def __iter__(self) -> Iterator[Outcome[T]]:
        return iter(self.outcomes)

    def __len__(self) -> int:
        return len(self.outcomes)

    def _with(self, status: OutcomeStatus) -> list[Outcome[T]]:
        return [outcome for outcome in self.outcomes if outcome.status is status]

    @property
    def done(self) -> list[Outcome[T]]:
        """Those that succeeded."""
        return self._with(OutcomeStatus.DONE)

    @property
    def refused(self) -> list[Outcome[T]]:
        """Those that were certainly not applied."""
        return self._with(OutcomeStatus.REFUSED)

    @property
    def unknown(self) -> list[Outcome[T]]:
        """Those that may have been applied."""
        return self._with(OutcomeStatus.UNKNOWN)

    def raise_for_failures(self) -> None:
        """Return if all are done.

        :raises SelfDBError: the first error, if not.
        """
        for outcome in self.outcomes:
            if outcome.error is not None:
                raise outcome.error


def _attempt(index: int, item: Any, work: Callable[[Any], T]) -> Outcome[T]:
    try:
        return Outcome(index, OutcomeStatus.DONE, work(item))
    except SelfDBError as error:
        status = OutcomeStatus.UNKNOWN if error.may_have_been_applied else OutcomeStatus.REFUSED
        return Outcome(index, status, error=error, item=item)


def run_many(
    items: Iterable[Any], work: Callable[[Any], T], concurrency: int, progress: BulkProgress | None = None
) -> BulkReport[T]:
    """Call ``work`` for each of ``items``, at most ``concurrency`` at a time, and report on each.

    Items are taken, and ``progress`` is called, in the calling thread; ``work`` runs in daemon threads. What
    ``items``, ``progress`` or a fault in ``work`` raises ends it: nothing new is begun then, and
    what is under way goes on to its end behind the caller.
    """
    total = len(items) if isinstance(items, Sized) else None
    jobs: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
    results: queue.SimpleQueue[Outcome[T] | BaseException] = queue.SimpleQueue()
    outcomes: list[Outcome[T]] = []

    def labour() -> None:
        while True:
            job = jobs.get()
            if job is None:
                return
            try:
                results.put(_attempt(*job, work))
            except BaseException as error:  # noqa: BLE001 - carried to the calling thread
                results.put(error)

    def collect() -> None:
        with interruptible(lambda: results.put(CallAbandoned())):
            outcome = results.get()
        if isinstance(outcome, BaseException):
            raise outcome
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), total)

    begun = 0
    workers: list[threading.Thread] = []
    try:
        for item in items:
            if len(workers) < concurrency:
                context = contextvars.copy_context()  # what is true of the caller is true of his threads
                workers.append(threading.Thread(target=context.run, args=(labour,), name="selfdb-bulk", daemon=True))
                workers[-1].start()
            jobs.put((begun, item))
            begun += 1
            if begun - len(outcomes) >= concurrency:
                collect()  # before the next item is taken
        while len(outcomes) < begun:
            collect()
    finally:
        for _ in workers:
            jobs.put(None)
    for worker in workers:  # all idle by now
        worker.join()
    return BulkReport(sorted(outcomes, key=lambda outcome: outcome.index))
