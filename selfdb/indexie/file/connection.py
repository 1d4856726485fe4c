"""One connection to the file: how it is set up, how it waits for a lock, and what its errors become."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, List, Optional

from ...core.call import away, current_call
from ..errors import DatabaseClosedError, IndexedDBError, IndexieTimeoutError, VersionChangeError, is_busy, translate
from ..timing import Timing

__all__ = ["Connection"]

logger = logging.getLogger("selfdb.indexie")

_jitter = random.Random()  # noqa: S311 - it spreads waits


class Connection:
    """A connection that opens itself when it is first used, and again after it was put away.

    Whoever *holds* it (the writer in a transaction, the owner of a snapshot) is alone with it until he gives it back;
    a thread's own reader is used call by call under its :attr:`lock`, and may be put away in between.

    :param connect: makes SQLite's own connection.
    :param busy_timeout: seconds to wait for another process's lock.
    :param stale: called when a statement finds that the file was upgraded.
    :ivar holder: the thread that began to hold it; 0 while nobody does.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        busy_timeout: float,
        timing: Timing,
        stale: Callable[[], object],
    ) -> None:
        self._connect = connect
        self._stale = stale
        self._busy_timeout = busy_timeout
        self._timing = timing
        self._raw: Optional[sqlite3.Connection] = None
        self._cursor: Optional[sqlite3.Cursor] = None
        self._closed = False
        self._interrupted = False
        self.lock = threading.RLock()
        self.holder = 0

    @property
    def raw(self) -> sqlite3.Connection:
        """SQLite's own connection; its errors go through :meth:`failed`."""
        raw = self._raw
        if raw is None:
            with self.lock:
                if self._closed:
                    raise DatabaseClosedError("the database was closed")
                if self._raw is None:
                    self._raw = self._connect()
                raw = self._raw
        return raw

    def open(self) -> None:
        """Open the file, if it is not open."""
        self.raw  # noqa: B018 - which does it

    @property
    def cursor(self) -> sqlite3.Cursor:
        """One to be used again and again by who holds the connection, for what leaves nothing to be read."""
        # It goes whenever the connection under it does.
        cursor = self._cursor
        if cursor is None:
            cursor = self._cursor = self.raw.cursor()
        return cursor

    @property
    def is_open(self) -> bool:
        """Whether it has a file open."""
        return self._raw is not None

    @property
    def closed(self) -> bool:
        """Whether it was closed for good."""
        return self._closed

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction has begun on it."""
        return self._raw is not None and self._raw.in_transaction

    def failed(self, error: sqlite3.Error) -> IndexedDBError:
        """What to raise, ``from error``, in its place."""
        if self._closed:
            return DatabaseClosedError("the database was closed")
        ours = translate(error)
        if isinstance(ours, VersionChangeError):
            self._stale()
        return ours

    # Statements

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        try:
            return self.raw.execute(sql, parameters)
        except sqlite3.Error as error:
            raise self.failed(error) from error

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> sqlite3.Cursor:
        """Run one statement for each of ``rows``."""
        try:
            return self.raw.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self.failed(error) from error

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Run a statement and return its first row, or ``None``. Nothing of it is left running."""
        with self.lock:
            try:
                return self.raw.execute(sql, parameters).fetchone()
            except sqlite3.Error as error:
                raise self.failed(error) from error

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> List[Any]:
        """Run a statement and return all of its rows. Nothing of it is left running: it holds no snapshot any more."""
        with self.lock:
            try:
                return (self._raw or self.raw).execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise self.failed(error) from error

    # Transactions

    def begin(self, seconds: Optional[float] = None) -> None:
        """Begin a transaction that writes.

        :param seconds: how long to wait for other processes' ones; ``None`` is the database's ``busy_timeout``.
        :raises IndexieTimeoutError: when that time is over.
        """
        try:
            (self._cursor or self.cursor).execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._persist("BEGIN IMMEDIATE", error, seconds)

    def begin_snapshot(self) -> None:
        """Begin a transaction that reads; its snapshot is that of its first read."""
        self.execute("BEGIN")

    def commit(self) -> None:
        """End the transaction and keep what it did."""
        try:
            (self._cursor or self.cursor).execute("COMMIT")
        except sqlite3.Error as error:
            self._persist("COMMIT", error)

    def rollback(self) -> None:
        """End the transaction, if there is one, and undo what it did."""
        if self.in_transaction:
            self.execute("ROLLBACK")

    def insist(self, sql: str) -> None:
        """Run ``sql`` until no lock of another connection is in its way."""
        try:
            self.cursor.execute(sql)
        except sqlite3.Error as error:
            self._persist(sql, error)

    def _persist(self, sql: str, error: sqlite3.Error, seconds: Optional[float] = None) -> None:
        """Run ``sql``, which a lock was in the way of, until none is.

        SQLite's own wait has steps of up to 100 ms, which is long beside a transaction of 100 us.

        :param error: what it failed with; any other error than for a lock is raised as ours.
        """
        if not is_busy(error):
            raise self.failed(error) from error
        cursor = self.cursor
        seconds = self._busy_timeout if seconds is None else seconds
        end = time.monotonic() + seconds
        step, longest = self._timing.busy_step, self._timing.busy_step_limit
        while True:
            call = current_call()
            if call is not None:
                call.check()
            with away():
                time.sleep(step * (0.5 + 0.5 * _jitter.random()))
            if self._interrupted:
                raise DatabaseClosedError("the database was closed")
            step = min(step * 2, longest)
            try:
                cursor.execute(sql)
                return
            except sqlite3.Error as error:
                if not is_busy(error) or self._closed:
                    raise self.failed(error) from error
                if time.monotonic() >= end:
                    raise IndexieTimeoutError(
                        f"another process, or another Indexie of this one, has been writing for all of busy_timeout "
                        f"({seconds:g} s)"
                    ) from error

    # Its life

    def interrupt(self) -> None:
        """End the statement that another thread runs on it, if there is one, or its wait for a lock: it is closed."""
        self._interrupted = True
        raw = self._raw
        if raw is not None:
            try:
                raw.interrupt()
            except sqlite3.ProgrammingError:
                return  # it was closed in this moment, which is what the caller is after

    def hold(self) -> None:
        """Let nobody but the caller use it. He sets :attr:`holder` to 0 when he is done."""
        with self.lock:
            self.holder = threading.get_ident()

    def put_away_if_idle(self) -> bool:
        """Close the file until it is used again; false if it is in use."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            if not self.holder:
                self._put_away()
            return not self.holder
        finally:
            self.lock.release()

    def _put_away(self) -> None:
        raw, self._raw = self._raw, None
        cursor, self._cursor = self._cursor, None
        if raw is not None:
            if cursor is not None:
                cursor.close()  # with a statement left in it SQLite would keep the file open
            raw.close()

    def close(self) -> None:
        """Close it for good."""
        self._closed = True
        with self.lock:
            raw = self._raw
            if raw is not None and not raw.in_transaction:
                try:
                    # An interrupt that met no statement would meet the last one's tidying up, which brings the
                    # write-ahead log into the file: it holds until the next statement begins.
                    raw.execute("SELECT 1").fetchall()
                except sqlite3.Error:
                    logger.debug("a connection is closed after an error", exc_info=True)
            self._put_away()

    def abandon(self) -> None:
        """In a forked child: give up what the parent had open.

        It is not closed: that would undo the parent's transaction, in the memory that they share. And whoever still has
        it, since this thread was in the middle of something, gets nothing done with it.
        """
        raw, self._raw = self._raw, None
        cursor, self._cursor = self._cursor, None
        self.lock = threading.RLock()
        self._closed = True
        if raw is None:
            return
        _immortalise(raw)
        _immortalise(cursor)
        raw.interrupt()
        if self.holder == threading.get_ident():
            # Another thread may have been within SQLite at that moment: its mutex is never released here.
            raw.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)


def _immortalise(thing: Any) -> None:
    """Have no garbage collection close it, not even that at the end of the process."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
