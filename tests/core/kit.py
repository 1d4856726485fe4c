"""What tests of the kernel share: transports without waits, threads with outcomes, forks with an end, open files."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

from selfdb.core.clock import SYSTEM_CLOCK, Clock
from selfdb.core.options import CallOptions
from selfdb.core.pool import Pool
from selfdb.core.retry import RetryPolicy
from selfdb.core.tokens import TokenKeeper
from selfdb.core.transport import Transport
from selfdb.core.urls import BaseURL

BOUND = 60.0  # seconds that nothing here may take longer than


@contextlib.contextmanager
def transport_to(
    url: str, *, max_retries: int = 2, deadline: Optional[float] = None, clock: Clock = SYSTEM_CLOCK
) -> Iterator[Transport]:
    """A transport that does not wait between attempts; ``deadline`` is that of streams."""
    pool = Pool(clock=clock)
    options = CallOptions(
        retry=RetryPolicy(max_retries=max_retries, random=lambda: 0.0), stream_deadline=deadline, read=BOUND
    )
    try:
        yield Transport(pool, BaseURL(url), {"X-API-Key": "kit-key"}, TokenKeeper(), options)
    finally:
        pool.close()


def in_threads(count: int, work: Callable[[], Any], bound: float = BOUND) -> List[Any]:
    """What ``work`` gave in each of ``count`` threads that began together; what it raised, where it raised.

    :param bound: seconds that it may take.
    """
    barrier = threading.Barrier(count)
    outcomes: List[Any] = []

    def run() -> None:
        barrier.wait(BOUND)
        try:
            outcome = work()
        except BaseException as error:
            outcome = error
        outcomes.append(outcome)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(bound)
    assert len(outcomes) == count, "some threads did not come to an end"
    return outcomes


class Background:
    """``work`` in a thread of its own; ``result()`` waits for what it gave."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._outcome: Dict[str, Any] = {}
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome["value"] = self._work()
        except BaseException as error:
            self._outcome["error"] = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        """What it returned, or what it raised as a value."""
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "it did not come to an end"
        return self._outcome.get("error", self._outcome.get("value"))


def wait_until(condition: Callable[[], bool], bound: float = BOUND) -> None:
    end = time.monotonic() + bound
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.001)


def in_forked_child(work: Callable[[], bytes]) -> bytes:
    """What ``work`` gives in a forked child; fails when the child hangs or ``work`` raises in it."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that threads and forks do not mix is the point here
        child = os.fork()
    if child == 0:  # pragma: no cover - the child ends without a report
        status = 1
        try:
            os.write(writing, work())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    end = time.monotonic() + BOUND
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            raise AssertionError("the forked child hangs")
        time.sleep(0.002)
    with os.fdopen(reading, "rb") as pipe:
        written = pipe.read()
    assert status == 0, "the work failed in the forked child"
    return written


def open_below(folder: Path) -> int:
    """How many files of ``folder`` this process has open, those that have no name any more among them."""
    count = 0
    for each in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed since: the listing's own, or one of another thread
            count += os.readlink(f"/proc/self/fd/{each}").startswith(os.fspath(folder))
    return count
