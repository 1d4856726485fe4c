"""The connections of this process to one file: one that writes, one reader for each thread, and some for snapshots."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Deque, Optional, Set

from ...core.turns import Turns
from ...core.waits import Waiting
from ..errors import DatabaseClosedError, IndexedDBError, IndexieTimeoutError, OpenFailedError, is_busy, translate
from ..timing import Timing
from .connection import Connection
from .places import is_there

__all__ = ["Connections"]

logger = logging.getLogger("selfdb.indexie")

_IDLE = 8
"""Connections that are kept open for snapshots to come."""

_STATEMENTS = 512
"""Statements that a connection keeps compiled."""

_FORK_WAIT = 1.0
"""Seconds that a fork waits for another thread's transaction. It is bounded: that thread may wait for this one."""


_aware: weakref.WeakSet[Connections] = weakref.WeakSet()
_gate = threading.RLock()
"""Held while a file is opened, and by a fork: between what is closed for it and the fork itself nothing opens."""

_lost: Set[str] = set()
"""Files that this process inherited open, in the middle of something."""


class _Own:
    """What a thread has: when the thread is gone, its connection goes to whoever wants one next."""

    __slots__ = ("connection", "home")

    def __init__(self, home: Connections, connection: Connection) -> None:
        self.home = home
        self.connection = connection

    def __del__(self) -> None:
        self.home.spare(self.connection)


class Connections:
    """May be shared by threads.

    SQLite's locks are the process's, and what it knows of them is copied by a fork: with a connection open a child
    would take locks for its own that it does not have. So a fork closes first what is not in use, which opens again
    when it is needed, and a child that inherits one in use cannot use the file.

    :param path: the file.
    :param strict: whether a commit waits for the disk.
    :param busy_timeout: seconds to wait for a lock.
    :param stale: called when a statement finds that the file was upgraded. Locks may be held there.
    """

    def __init__(
        self, path: str, *, strict: bool, busy_timeout: float, timing: Timing, stale: Callable[[], object]
    ) -> None:
        self.path = path
        self._stale = stale
        self._strict = strict
        self._busy_timeout = busy_timeout
        self._timing = timing
        self._closed = False
        # From then on no connection makes a new file in its place.
        self._made = False
        self._turn_for_fork: Optional[Turns] = None
        self._known: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._start()
        with _gate:
            _aware.add(self)

    @classmethod
    def closed_ones(cls) -> Connections:
        """Those of a database that is not open."""
        none = cls("", strict=False, busy_timeout=0.0, timing=Timing(), stale=lambda: None)
        none.close()
        return none

    def _start(self) -> None:
        self._lock = threading.RLock()
        self._turns = Turns()
        # No wait of SQLite's own for the writer: it has a shorter one.
        self._writer = self._new(waits=False)
        self._idle: Deque[Connection] = deque()
        self._local = threading.local()

    def _new(self, waits: bool = True) -> Connection:
        connection = Connection(partial(self._connect, waits), self._busy_timeout, self._timing, self._stale)
        with self._lock:
            self._known.add(connection)
        return connection

    def _connect(self, waits: bool) -> sqlite3.Connection:
        with _gate:
            if self._closed:
                raise DatabaseClosedError("the database was closed")
            if _lost and os.path.realpath(self.path) in _lost:
                raise DatabaseClosedError(
                    "this process was forked while a transaction or an iteration on this file was running, and cannot "
                    "use the file; fork before, or start the process afresh"
                )
            if self._made and not is_there(Path(self.path)):
                raise OpenFailedError(
                    f"{self.path} is gone: it was deleted or moved while the database was open; close() it, and open() "
                    "makes another one"
                )
            try:
                raw = sqlite3.connect(
                    self.path,
                    timeout=self._busy_timeout,
                    isolation_level=None,
                    check_same_thread=False,
                    cached_statements=_STATEMENTS,
                )
            except sqlite3.Error as error:
                raise translate(error) from error
            try:
                raw.execute(f"PRAGMA synchronous = {'FULL' if self._strict else 'NORMAL'}")
                if not waits:
                    raw.execute("PRAGMA busy_timeout = 0")
            except sqlite3.Error as error:
                raw.close()
                raise translate(error) from error
            return raw

    def use_wal(self) -> None:
        """Have readers and the writer go side by side, where the file's place allows it. The file is ours by then."""
        self._made = True
        connection = self._writer
        end = time.monotonic() + self._busy_timeout
        while True:
            try:
                mode = connection.raw.execute("PRAGMA journal_mode").fetchone()[0]
                if mode != "wal":
                    mode = connection.raw.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.Error as error:
                # SQLite does not wait by itself for this change.
                if not is_busy(error) or time.monotonic() > end:
                    raise connection.failed(error) from error
                time.sleep(self._timing.busy_step_limit)
        if mode != "wal":
            logger.warning(
                "%s: no write-ahead log is possible in this place; readers and writers wait for each other",
                Path(self.path).name,
            )

    # The writer

    def acquire_writer(self, seconds: Optional[float], owner: object) -> Connection:
        """The connection that writes, for the caller alone until :meth:`release_writer`, on whichever thread.

        :param owner: what he gives it back by, with :meth:`reclaim`, if he was interrupted before he had it in hand.
        :raises IndexieTimeoutError: when others had it for all of ``seconds`` (``None``: ``busy_timeout``).
        """
        if not self._turns.try_acquire(owner):
            seconds = self._busy_timeout if seconds is None else seconds
            if not self._turns.acquire(seconds, owner):
                raise self._without(seconds)
        return self._acquired()

    def acquire_writer_steps(self, owner: object) -> Waiting[Connection]:
        """As :meth:`acquire_writer`, step by step: a task that waits takes no thread."""
        if not (yield from self._turns.acquire_steps(self._busy_timeout, owner)):
            raise self._without(self._busy_timeout)
        return self._acquired()

    def _without(self, seconds: float) -> IndexedDBError:
        """What to tell one who waited and did not get the writer."""
        if self._closed:
            return DatabaseClosedError("the database was closed")
        return IndexieTimeoutError(
            f"another transaction of this process has been writing for all of busy_timeout ({seconds:g} s); does it "
            "wait for this thread?"
        )

    def _acquired(self) -> Connection:
        if self._closed:
            self._turns.release()
            raise DatabaseClosedError("the database was closed")
        self._writer.hold()
        return self._writer

    def release_writer(self, connection: Connection) -> None:
        """Give it back; a transaction that is still open is rolled back."""
        try:
            if connection.in_transaction:
                connection.rollback()
        finally:
            connection.holder = 0
            if connection is self._writer:
                self._turns.release()
            if self._closed:
                connection.close()

    def reclaim(self, owner: object) -> None:
        """Give it back if ``owner`` has it, with a transaction that is still open rolled back. Harmless otherwise."""
        if self._turns.belongs_to(owner):
            self.release_writer(self._writer)
        self._turns.give_back(owner)

    # Readers

    def reader(self) -> Connection:
        """This thread's own, for single statements: each of them sees the newest commit."""
        own: Optional[_Own] = getattr(self._local, "own", None)
        if own is None:
            own = self._local.own = _Own(self, self.taken())
        return own.connection

    def taken(self) -> Connection:
        """A connection that nobody has, for a snapshot or a thread's own; it comes back by :meth:`spare`."""
        if self._closed:
            raise DatabaseClosedError("the database was closed")
        try:
            return self._idle.pop()
        except IndexError:
            return self._new()

    def spare(self, connection: Connection) -> None:
        """Nobody has it any more."""
        # Without a lock: it may come at any moment of any thread, when garbage is collected.
        if self._closed or len(self._idle) >= _IDLE:
            connection.close()
        elif not connection.closed:
            self._idle.append(connection)

    # Their end

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """End what runs and close everything. What is held is closed when it is given back. Harmless when repeated."""
        self._closed = True
        with self._lock:
            known = list(self._known)
        self._turns.dismiss()
        for connection in known:
            connection.interrupt()
        for connection in known:
            if not connection.holder:
                connection.close()
        self._idle.clear()

    # Forks

    def _prepare_fork(self) -> None:
        """Close what is not in use, and let nobody write until the fork has happened."""
        me, end = threading.get_ident(), time.monotonic() + _FORK_WAIT
        if self._writer.holder != me and self._turns.acquire(_FORK_WAIT):
            self._turn_for_fork = self._turns
        with self._lock:  # other threads go on until the fork
            known = list(self._known)
        for connection in known:
            while connection.is_open and not connection.put_away_if_idle():
                if connection.holder == me or time.monotonic() > end:
                    break
                time.sleep(0.001)

    def _after_fork(self) -> None:
        turns, self._turn_for_fork = self._turn_for_fork, None
        if turns is not None:
            turns.release()

    def _renew_in_child(self) -> None:
        self._turn_for_fork = None
        for connection in list(self._known):
            if connection.is_open:
                _lost.add(os.path.realpath(self.path))
            connection.abandon()
        self._known = weakref.WeakSet()
        self._start()


def _before_fork() -> None:
    _gate.acquire()
    for each in list(_aware):
        each._prepare_fork()


def _after_in_parent() -> None:
    for each in list(_aware):
        each._after_fork()
    _gate.release()


def _after_in_child() -> None:
    global _gate
    _gate = threading.RLock()
    for each in list(_aware):
        each._renew_in_child()


if hasattr(os, "register_at_fork"):  # absent on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
