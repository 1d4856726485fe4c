"""One database of either kind: connections, transactions, and the few words in which the kinds differ."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, ContextManager, Deque, Dict, Iterator, List, TypeVar, Union, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool

from .schema import DATA_SCHEMA, SYSTEM_SCHEMA

__all__ = ["Database", "after_commit", "before_commit", "create_namespaces", "lock", "try_lock"]

_AFTER_COMMIT = "selfdb_after_commit"
_BEFORE_COMMIT = "selfdb_before_commit"
_BUSY_SECONDS = 30
#: PostgreSQL's "serialization failure" and "deadlock detected": the transaction may simply be done again.
_AGAIN = {"40001", "40P01"}
_TRIES = 5

T = TypeVar("T")
C = TypeVar("C", bound=Callable[[], None])


class Database:
    """Transactions over SQLite (one process) or PostgreSQL (any number). Thread-safe.

    :param source: a path (SQLite) or a ``postgresql://`` URL.
    """

    def __init__(self, source: Union[str, Path]) -> None:
        self.dialect = "sqlite" if isinstance(source, Path) else "postgresql"
        # PostgreSQL's writers need none.
        self._turns: ContextManager[None] = _Turns() if self.dialect == "sqlite" else contextlib.nullcontext()
        self._engine = _sqlite(source) if isinstance(source, Path) else _postgresql(source)
        self._reading = self._engine
        if self.dialect == "postgresql":
            # One snapshot for a page and its total.
            self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writing = self._engine.execution_options(selfdb_write=True)
        self._icu = False

    def prepare(self) -> None:
        """Connect once and learn what the database can do.

        :raises sqlalchemy.exc.OperationalError: it cannot be reached or opened.
        """
        if self.dialect == "postgresql":
            with self.read() as connection:
                found = connection.exec_driver_sql(
                    "SELECT 1 FROM pg_catalog.pg_collation WHERE collname = 'und-x-icu'"
                ).first()
            self._icu = found is not None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._reading.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may change things: committed at the end, rolled back by any exception.

        On SQLite writers take turns in the order in which they came. What was given to
        :func:`after_commit` runs once the commit stands, after the turn was passed on.
        """
        done: List[Callable[[], None]] = []
        last: Dict[str, Callable[[], None]] = {}
        # The connection is given back after the turn was passed on: a turn is as short as can be.
        with contextlib.ExitStack() as held, self._turns:
            connection = held.enter_context(self._writing.connect())
            info = connection.info
            info.update({_AFTER_COMMIT: done, _BEFORE_COMMIT: last})
            held.callback(info.pop, _AFTER_COMMIT)
            held.callback(info.pop, _BEFORE_COMMIT)
            with connection.begin():
                yield connection
                for callback in last.values():
                    callback()
        for callback in done:
            callback()

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Do ``work`` in a write transaction and return its result.

        It is done again, up to five times, when PostgreSQL gave it up for another transaction's sake; so it
        does nothing but to the database.
        """
        for _ in range(_TRIES - 1):
            try:
                with self.write() as connection:
                    return work(connection)
            except OperationalError as problem:
                if getattr(problem.orig, "sqlstate", None) not in _AGAIN:
                    raise
        with self.write() as connection:
            return work(connection)

    def folded(self, expression: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
        """``expression`` in lower case by Unicode's rules, whatever the locale of the database."""
        if self.dialect == "sqlite":
            return sa.func.selfdb_lower(expression, type_=sa.Text())
        text = sa.cast(expression, sa.Text())
        return sa.func.lower(sa.collate(text, "und-x-icu") if self._icu else text, type_=sa.Text())

    def detached(self) -> Any:
        """A new connection of the driver's own, outside the pool; whoever asked for it closes it."""
        proxy = self._engine.raw_connection()
        connection = proxy.driver_connection
        proxy.detach()
        return connection

    def close(self) -> None:
        """Close all connections; harmless when done twice."""
        self._engine.dispose()


def after_commit(connection: Connection, callback: Callable[[], None]) -> None:
    """Run ``callback`` when the write transaction of ``connection`` has been committed, never if it is not."""
    connection.info[_AFTER_COMMIT].append(callback)


def before_commit(connection: Connection, name: str, make: Callable[[], C]) -> C:
    """What the write transaction of ``connection`` calls as its last act under ``name``; ``make`` makes it once.

    It may still change the database; it is not called when the transaction is rolled back.
    """
    last: Dict[str, Callable[[], None]] = connection.info[_BEFORE_COMMIT]
    if name not in last:
        last[name] = make()
    return cast(C, last[name])


def lock(connection: Connection, name: str) -> None:
    """Let only one write transaction at a time pass here for ``name``, until it ends.

    On SQLite every write transaction is alone anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_number(name))))


def try_lock(connection: Connection, name: str) -> bool:
    """Like :func:`lock`, but returns false at once where that would wait."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_number(name)))))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(b"selfdb:" + name.encode()).digest()[:8], "big", signed=True)


class _Turns:
    """A mutex that is given to waiters in the order of their coming; a plain lock may starve one."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: Deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *exc: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


def _sqlite(path: Path) -> Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False, "isolation_level": None},
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=-1,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def connected(raw: Any, record: Any) -> None:
        # The driver's own transaction handling would commit before DDL; we say BEGIN ourselves.
        raw.isolation_level = None
        raw.create_function("selfdb_lower", 1, _lower, deterministic=True)
        cursor = raw.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writing = connection.get_execution_options().get("selfdb_write")
        # Taking the write lock first means that a transaction never fails half-way for want of it.
        words = "BEGIN IMMEDIATE" if writing else "BEGIN"
        driver: Any = connection.connection.driver_connection
        try:
            driver.execute(words)
        except sqlite3.Error:
            connection.exec_driver_sql(words)  # for SQLAlchemy's words about it, if it fails again

    return engine


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _postgresql(url: str) -> Engine:
    parsed = sa.make_url(url.replace("postgres://", "postgresql://", 1)).set(drivername="postgresql+psycopg")
    return sa.create_engine(
        parsed,
        # Tables of users change shape; a statement prepared for the old shape would fail.
        connect_args={"prepare_threshold": None},
        pool_size=8,
        max_overflow=40,
        pool_pre_ping=True,
        hide_parameters=True,
        execution_options={"schema_translate_map": {None: SYSTEM_SCHEMA}},
    )


def create_namespaces(connection: Connection) -> None:
    """Make the two PostgreSQL schemas; SQLite has none."""
    if connection.dialect.name == "postgresql":
        for name in (SYSTEM_SCHEMA, DATA_SCHEMA):
            connection.execute(sa.schema.CreateSchema(name, if_not_exists=True))
