"""Delivering the outbox: the thread that takes one entry after the other and calls its hooks."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from ...core.clock import SYSTEM_CLOCK, Clock
from ...core.waits import Signal
from ..errors import DatabaseClosedError, StorageError
from ..timing import Timing
from . import outbox_tables, payload
from .hooks import Drop, Hook, Retry, call
from .outbox_tables import Post, Stored

if TYPE_CHECKING:
    import asyncio

    from ..file.connection import Connection

__all__ = ["Delivery", "Store"]

log = logging.getLogger("selfdb.indexie")

_LONGEST_ERROR = 1000

_REST = 9
"""How many times as long as a look worked that found nothing to do, there is none."""


class Store:
    """What a delivery works on: the file, and who is to be told.

    :param write: begins a write transaction of the file; it is committed when the block ends.
    :param read: this thread's connection for single statements, to be used with its lock held.
    :param mourners: those who are told of dead entries.
    :param paused: whether nothing is to be delivered at present.
    :param max_attempts: after how many failures an entry is dead; ``None`` is never.
    :param check: raises, in a transaction, when the file has been upgraded: its entries are for other programs now.
    """

    def __init__(
        self,
        write: Callable[[], contextlib.AbstractContextManager[Connection]],
        read: Callable[[], Connection],
        posts: Callable[[], Dict[Post, Hook]],
        announce: Callable[[], object],
        mourners: Callable[[], Sequence[Callable[[Stored, Tuple[str, ...]], object]]],
        paused: Callable[[], bool],
        max_attempts: Callable[[], Optional[int]],
        check: Callable[[Connection], object] = lambda connection: None,
    ) -> None:
        self.write = write
        self.read = read
        self.posts = posts
        self.announce = announce
        self.mourners = mourners
        self.paused = paused
        self.max_attempts = max_attempts
        self.check = check


class _Loop:
    """An event loop of one thread, for hooks that are coroutine functions."""

    def __init__(self) -> None:
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def run(self, coroutine: Any) -> None:
        """Run it to its end."""
        import asyncio  # only who has coroutine functions pays for it

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(coroutine)

    def close(self) -> None:
        """Forget what the hooks left running on it."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


class Delivery:
    """A worker, and a keeper that renews the lease of what the worker has. Both are daemon threads.

    The lease has a token: whoever finds at the end that the entry bears another one has been too slow, somebody else
    delivers it now, and nothing is written.

    :ivar settled: rung whenever an entry ended, failed or was given back.
    """

    def __init__(self, store: Store, timing: Timing, clock: Clock = SYSTEM_CLOCK) -> None:
        self._store = store
        self._timing = timing
        self._clock = clock
        self._random = random.Random()  # noqa: S311 - spreads retries
        self.settled = Signal()
        self._signal = Signal()
        self._lock = threading.Lock()
        self._worker: Optional[threading.Thread] = None
        self._keeper: Optional[threading.Thread] = None
        self._held: Optional[Tuple[int, str]] = None
        # The state of the file that `_due` was read from, as its connection knows it.
        self._seen: Optional[Tuple[Any, int, object]] = None
        self._due: Optional[float] = None
        self._rested = 0.0
        self._closed = False

    # Its life

    def start(self) -> None:
        """Begin to work, or look at once whether there is something to do."""
        with self._lock:
            if self._closed:
                return
            if self._worker is None or not self._worker.is_alive():
                worker = threading.Thread(target=self._work, name="selfdb-indexie-outbox", daemon=True)
                try:
                    worker.start()
                except RuntimeError:  # the interpreter is about to end; what is left goes out in the next run
                    log.debug("no thread for the outbox could be started")
                    return
                self._worker = worker
        self._signal.ring()

    def close(self) -> None:
        """Take no more entries, and wait a moment for the hook that runs. Harmless when repeated."""
        with self._lock:
            self._closed = True
            threads = [thread for thread in (self._worker, self._keeper) if thread is not None]
        self._signal.ring()
        self.settled.ring()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(self._timing.join)

    @property
    def runs_here(self) -> bool:
        """Whether this code is part of a hook that the worker calls."""
        return threading.current_thread() is self._worker

    # The worker

    def _work(self) -> None:
        loop = _Loop()
        try:
            failures = 0
            while not self._closed:
                moment = self._signal.moment
                try:
                    wait = self._round(loop, moment)
                    failures = 0
                except DatabaseClosedError:
                    return
                except Exception as error:  # noqa: BLE001 - without this thread nobody is told of anything
                    # A full disk, or a file that somebody else has locked: neither lasts for ever.
                    failures += 1
                    wait = self._delay(failures)
                    log.warning("the outbox could not be worked on, and is again in %.1f s: %s", wait, error)
                if wait > 0:
                    self._signal.wait(moment, wait)
        finally:
            loop.close()

    def _round(self, loop: _Loop, moment: object) -> float:
        """Do what there is to do now; how long to wait until there may be more.

        :param moment: that of the signal from before; with another one the file is looked at again, for who rang may
            have added hooks since they were looked up here.
        """
        timing = self._timing
        self._store.announce()
        self._report()
        posts = self._store.posts()
        if not posts or self._store.paused():
            return timing.outbox_poll
        connection = self._store.read()
        with connection.lock:  # a fork or close() on another thread must not close it under a statement
            raw = connection.raw
            version = connection.one("PRAGMA data_version")[0]
            if self._seen != (raw, version, moment):
                rest = self._rested - time.monotonic()
                if rest > 0:
                    return rest
                begun = time.thread_time()
                now = self._clock.time()
                self._due = outbox_tables.due(connection, posts, now)
                self._seen = raw, version, moment
                if self._due is None or self._due > now:
                    # Long lines behind one that waits: to look through them must not become all that is done here.
                    # Its own time counts, not that for which the machine slept or the process was stopped meanwhile.
                    self._rested = time.monotonic() + _REST * (time.thread_time() - begun)
        if self._due is None:
            return timing.outbox_poll
        wait = self._due - self._clock.time()
        if wait > 0:
            return min(wait, timing.outbox_poll)
        self._seen = None
        claimed = self._claim()
        if claimed is not None:
            self._deliver(*claimed, loop)
        return 0.0

    def _report(self) -> None:
        store = self._store
        if not store.mourners():
            return
        reader = store.read()
        with reader.lock:
            unreported = outbox_tables.unreported(reader)
        if unreported:
            with store.write() as connection:
                mourners = store.mourners()  # that it counts as told, and who is told, is decided together
                dead = outbox_tables.report(connection) if mourners else []
            for stored, names in dead:
                for mourner in mourners:
                    mourner(stored, names)

    def _claim(self) -> Optional[Tuple[Stored, Sequence[str]]]:
        token = uuid.uuid4().hex
        with self._store.write() as connection:
            # Whoever paused, or took a hook away, before writing an entry must not see it go: a write waits for this.
            posts = self._store.posts()
            if not posts or self._store.paused():
                return None
            self._store.check(connection)
            now = self._clock.time()
            claimed = outbox_tables.claim(connection, posts, token, now, now + self._timing.lease)
        if claimed is None:
            return None
        stored, names = claimed
        in_order = [name for store, op, name in posts if (store, op) == (stored.store, stored.op) and name in names]
        return stored, in_order

    def _deliver(self, stored: Stored, names: Sequence[str], loop: _Loop) -> None:
        assert stored.token is not None
        self._held = stored.id, stored.token
        self._keep()
        try:
            for place, name in enumerate(names, 1):
                hook = self._store.posts().get((stored.store, stored.op, name))
                done = [] if hook is None else [name]  # who was taken away meanwhile is told nothing
                if hook is not None:
                    try:
                        call(hook, self._payload(stored), loop.run)
                    except BaseException as error:  # noqa: BLE001 - SystemExit too: without this thread nobody is told
                        self._failed(stored, name, error)
                        return
                if not self._settle(outbox_tables.finish, stored, done, last=place == len(names)):
                    return
        finally:
            self._held = None
            self.settled.ring()

    @staticmethod
    def _payload(stored: Stored) -> Dict[str, Any]:
        return payload.build(
            operation=stored.operation,
            store=stored.store,
            op=stored.op,
            key=stored.key,
            item=stored.item,
            old=stored.old,
            cleared=bool(stored.cleared),
            created=stored.created,
            optimistic=bool(stored.optimistic),
            attempt=stored.attempts,
        )

    def _failed(self, stored: Stored, name: str, error: BaseException) -> None:
        said = f"{name}: {type(error).__name__}: {error}"[:_LONGEST_ERROR]
        limit = self._store.max_attempts()
        if isinstance(error, Drop):
            log.warning("the hook %s drops operation %s: %s", name, stored.operation, error.reason)
            self._settle(outbox_tables.bury, stored, error.reason or said)
        elif limit is not None and stored.attempts >= limit:
            log.warning("the hook %s failed %d times: operation %s is dead", name, stored.attempts, stored.operation)
            self._settle(outbox_tables.bury, stored, said)
        else:
            wait = error.after if isinstance(error, Retry) else self._delay(stored.attempts)
            log.info("the hook %s failed at attempt %d; the next is in %.1f s", name, stored.attempts, wait)
            self._settle(outbox_tables.delay, stored, self._clock.time() + wait, said)

    def _delay(self, attempts: int) -> float:
        """Full jitter: anything up to a bound that doubles."""
        longest = min(self._timing.retry_limit, self._timing.retry_first * 2.0 ** min(attempts - 1, 60))
        return self._random.uniform(0.0, longest)

    def _settle(self, step: Callable[..., bool], stored: Stored, *arguments: Any, **keywords: Any) -> bool:
        """Write down what came of it, however long that takes: a hook that succeeded must not run again for a disk
        that was full at the wrong moment. False if the entry is somebody else's by now."""
        failures = 0
        if step is outbox_tables.finish:
            arguments = (*arguments, self._clock.time())
        while True:
            moment = self._signal.moment
            try:
                with self._store.write() as connection:
                    kept = step(connection, stored.id, stored.token, *arguments, **keywords)
            except DatabaseClosedError:
                raise
            except StorageError as error:
                failures += 1
                wait = self._delay(failures)
                log.warning("what came of an outbox entry could not be written down, and is in %.1f s: %s", wait, error)
                self._signal.wait(moment, wait)
                if self._closed:
                    return False
                continue
            if not kept:
                log.info(
                    "operation %s took longer than its lease; its outcome here counts for nothing", stored.operation
                )
            return kept

    # The keeper

    def _keep(self) -> None:
        with self._lock:
            if not self._closed and (self._keeper is None or not self._keeper.is_alive()):
                self._keeper = threading.Thread(target=self._renew, name="selfdb-indexie-lease", daemon=True)
                self._keeper.start()

    def _renew(self) -> None:
        """Each time that a part of a lease is over, renew that of the entry in hand."""
        while True:
            end = self._clock.monotonic() + self._timing.lease_renewal
            while not self._closed:
                moment = self._signal.moment
                left = end - self._clock.monotonic()
                if left <= 0:
                    break
                self._signal.wait(moment, left)
            if self._closed:
                return
            held = self._held
            if held is None:
                continue
            try:
                with self._store.write() as connection:
                    outbox_tables.renew(connection, *held, self._clock.time() + self._timing.lease)
            except DatabaseClosedError:
                return
            except StorageError as error:
                log.warning("the lease of an outbox entry could not be renewed: %s", error)
