"""A database: where its parts are put together, opened and closed."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Dict, List, Optional, TypeVar, Union, overload

from ..core.forks import renew_after_fork
from ..core.marks import blocking, inner, passing
from ..core.strand import Strand
from ..core.turns import Turns
from ..core.waits import Waiting, waiting
from . import maintenance
from .errors import (
    DatabaseClosedError,
    DatabaseCorruptError,
    IndexieTimeoutError,
    InvalidArgumentError,
    InvalidStateError,
    InvalidTableError,
    OpenFailedError,
    VersionChangeError,
)
from .file import opening, places
from .file.connections import Connections
from .functions import function_for
from .hooks.outbox import Outbox
from .hooks.registry import Hooks
from .live.feed import Feed
from .overlays.publish import Publisher
from .schema.schema import Schema, merged
from .schema.specs import StoreSpec
from .schema.upgrade import call_hook
from .schema.version import Version
from .scope import current
from .services import Services
from .tables.table import Table
from .timing import Timing
from .transaction import Transaction, run

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .overlays.optimistic import OverlayTransaction

__all__ = ["Indexie"]

logger = logging.getLogger("selfdb.indexie")

T = TypeVar("T")
PathLike = Union[str, "os.PathLike[str]"]


class Mode:
    """What a transaction does."""

    READ_WRITE = "rw"
    READ_ONLY = "r"


class Indexie(Services):
    """A database of documents in one file, for this process and others.

    Declare its versions, then use it; it opens with the first operation. Stores are attributes (``db.users``). Share
    one object among threads. A process that forks keeps it usable on both sides, unless a transaction or an iteration
    runs in that moment: then the child cannot use the file.

    :param name: a name, for a file of that name in ``directory``; or a path (``pathlib.Path``) of the file itself; or
        ``":memory:"`` for a private one that is gone when it is closed.
    :param directory: where named files lie; ``None`` is ``SELFDB_INDEXIE_DIR`` of the environment, else the platform's
        place for a user's data.
    :param durability: ``"relaxed"`` survives the end of the process at any moment, and may lose the last commits when
        the power fails; ``"strict"`` waits for the disk at each commit.
    :param busy_timeout: seconds that a write waits for those of other threads and processes.
    :param poll_interval: seconds between two looks for other processes' commits, while something listens; ``None`` is
        that of ``timing``.
    :param log_retention: how many commits the change log keeps (at least 1). A live query that has missed more than
        these reads everything again.
    :param timing: all other intervals.
    :raises InvalidArgumentError: (a ``ValueError``) for an argument that is wrong. No file is touched.
    """

    Mode = Mode

    def __init__(
        self,
        name: PathLike,
        *,
        directory: Optional[PathLike] = None,
        durability: str = "relaxed",
        busy_timeout: float = 10.0,
        poll_interval: Optional[float] = None,
        log_retention: int = 10_000,
        timing: Optional[Timing] = None,
    ) -> None:
        if durability not in ("relaxed", "strict"):
            raise InvalidArgumentError(f"durability is 'relaxed' or 'strict', not {durability!r}")
        _check_seconds(busy_timeout, "busy_timeout")
        if isinstance(log_retention, bool) or not isinstance(log_retention, int) or log_retention < 1:
            raise InvalidArgumentError(f"log_retention is an int above 0, not {log_retention!r}")
        if not (timing is None or isinstance(timing, Timing)):
            raise InvalidArgumentError(f"timing is a Timing, not {timing!r}")
        timing = timing or Timing()
        self._timing = timing if poll_interval is None else replace(timing, poll_interval=poll_interval)
        self._private = name == places.MEMORY
        self._path = None if self._private else places.file_of(name, directory)
        self._named = isinstance(name, str)
        self._name = name if isinstance(name, str) else Path(name).name
        self._strict = durability == "strict"
        self._busy_timeout = float(busy_timeout)
        self._log_retention = log_retention
        self._versions: Dict[int, Version] = {}
        self._tables: Dict[str, Table[Any]] = {}
        self._populate: List[Callable[..., Any]] = []
        self._ready: List[Callable[..., Any]] = []
        self._version_change: List[Callable[..., Any]] = []
        # Open while there is a schema. What is compiled and cached for it hangs on it.
        self._schema: Optional[Schema] = None
        self._known: Sequence[str] = ()
        self._connections: Connections = Connections.closed_ones()
        self._ended: Optional[Callable[[], DatabaseClosedError]] = None
        self._folder: Optional[Path] = None
        self._opening = Turns()
        self._changing = threading.RLock()
        self._fast_readers = threading.local()
        self._publisher = Publisher()
        self._feed = Feed(self)
        self._outbox = Outbox(self)
        self._hooks = Hooks(self._outbox)
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        self._opening = Turns()
        self._changing = threading.RLock()
        self._fast_readers = threading.local()
        self._folder = None  # the parent removes it

    def __reduce__(self) -> Any:
        # Neither its connections nor its threads can be in two places.
        raise TypeError("an Indexie cannot be pickled or copied; make one in each process, or share it")

    def __repr__(self) -> str:
        return f"<Indexie {self._name!r}{'' if self._schema else ' (not open)'}>"

    # What it is

    @property
    def name(self) -> str:
        """Its name, or that of its file."""
        return self._name

    @property
    def path(self) -> Optional[Path]:
        """Its file; ``None`` for a private one."""
        return self._path

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self._schema is not None

    @property
    def verno(self) -> int:
        """The version of the file when it is open, else the highest that was declared (0 for none)."""
        schema = self._schema
        return schema.verno if schema is not None else max(self._versions, default=0)

    @property
    def tables(self) -> List[Table[Any]]:
        """All tables: of the file when it is open, else the declared ones."""
        return [self._table(name) for name in self._names()]

    @property
    def outbox(self) -> Outbox:
        """What hooks still have to be told."""
        return self._outbox

    @inner
    def strand(self) -> Strand | None:
        scope = current(self)
        return None if scope is None else scope.strand

    # What it has

    def version(self, number: int) -> Version:
        """Version ``number`` (1 or above) of the schema; the same object each time. The order does not matter.

        :raises InvalidStateError: when the database is open.
        :raises InvalidArgumentError: when it is no such number.
        """
        self._declaring()
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number < 2**31:
            raise InvalidArgumentError(f"a version is an int from 1 on, not {number!r}")
        return self._versions.setdefault(number, Version(self, number))

    def _declaring(self) -> None:
        if self._schema is not None or self._opening.taken:
            raise InvalidStateError("versions are declared before the database is opened")

    @passing(callbacks=("hook",))
    def on_populate(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Have ``hook(tx)`` or ``hook()`` fill a new file, in the transaction that makes it. Usable as a decorator.

        Its writes are silent. What it raises comes out of :meth:`open` as it is, and nothing is made then.
        """
        return _add(self._populate, hook)

    @passing(callbacks=("hook",))
    def on_ready(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Have ``hook(db)`` or ``hook()`` called when the database has been opened, by the thread that did it.

        What it raises comes out of :meth:`open`; the database is open nevertheless. Usable as a decorator.
        """
        return _add(self._ready, hook)

    @passing(callbacks=("hook",))
    def on_versionchange(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Have ``hook(db)`` or ``hook()`` called when another process has upgraded the file, and this handle has
        closed itself; on a thread of its own. Usable as a decorator."""
        return _add(self._version_change, hook)

    def table(self, name: str) -> Table[Any]:
        """The table of that name.

        :raises InvalidTableError: when there is none.
        """
        if not self._has(name):
            raise InvalidTableError(f"there is no store {name!r}", table=name if isinstance(name, str) else None)
        return self._table(name)

    def __getitem__(self, name: str) -> Table[Any]:
        return self.table(name)

    def __getattr__(self, name: str) -> Table[Any]:
        schema = self.__dict__.get("_schema")
        if schema is not None and name in schema.stores:
            return self._table(name)
        if name.startswith("_") or not self._has(name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}, and no such store")
        return self._table(name)

    def _table(self, name: str) -> Table[Any]:
        table = self._tables.get(name)
        return table if table is not None else self._tables.setdefault(name, Table(self, name))

    def _has(self, name: str) -> bool:
        return isinstance(name, str) and name in self._names()

    def _names(self) -> Sequence[str]:
        """The stores that there are, without looking into the file where declarations tell it."""
        upgrading = self._upgrading()
        if upgrading is not None:
            return list(upgrading.stores)
        schema = self._schema
        if schema is None and not self._versions and self._ended is None:
            schema = self._opened()
        if schema is not None:
            return list(schema.stores)
        if not self._versions:
            return self._known  # it was closed: what it had is there still, to say so
        return [name for name, spec in self._declared().items() if spec is not None]

    def _declared(self, upto: Optional[int] = None) -> Dict[str, Optional[StoreSpec]]:
        versions = {number: version._stores for number, version in self._versions.items()}
        return merged(versions, max(versions, default=0) if upto is None else upto)

    # Opening and closing

    @blocking
    def open(self, *, timeout: Optional[float] = None) -> Self:
        """Open the file: make it if there is none, upgrade it if it is older than what is declared.

        Every operation does so by itself. Without a declared version an existing file is opened as it is. Harmless when
        repeated, and from several threads. A closed database is opened anew.

        :param timeout: seconds to wait for another process or thread that upgrades; ``None`` is ``busy_timeout``.
        :returns: the database itself.
        :raises OpenFailedError: when the file cannot be opened, or there is none and no version was declared.
        :raises VersionError: (an ``OpenFailedError``) when the file is newer than what is declared.
        :raises SchemaError: when the file has the same version and other stores or indexes.
        :raises UpgradeError: when the upgrade failed; the file is as it was.
        :raises DatabaseCorruptError: when the file is something else, or damaged.
        :raises IndexieTimeoutError: when the time is over.
        """
        if timeout is not None:
            _check_seconds(timeout, "timeout")
        self._open(timeout, again=True)
        return self

    def _open(self, timeout: Optional[float], again: bool) -> Schema:
        if self._upgrading() is not None:
            raise InvalidStateError("the database is being opened: this is part of it")
        seconds = self._busy_timeout if timeout is None else timeout
        if not self._opening.acquire(seconds):
            raise IndexieTimeoutError(f"another thread has been opening the database for all of {seconds:g} s")
        try:
            schema = self._schema
            if schema is not None:
                return schema
            if self._ended is not None and not again:
                raise self._ended()
            if not self._connections.closed:
                self._end(_changed)  # another process has upgraded the file, and the thread that closes was slower
            schema = self._start(seconds)
        finally:
            self._opening.release()
        self._outbox.opened()
        for hook in list(self._ready):
            call_hook(hook, self)
        return schema

    def _start(self, seconds: float) -> Schema:
        path = self._place()
        connections = Connections(
            str(path),
            strict=self._strict,
            busy_timeout=self._busy_timeout,
            timing=self._timing,
            stale=lambda: self._version_changed(connections),
        )
        try:
            schema = opening.attach(self, connections, seconds)
        except BaseException as error:
            connections.close()
            self._remove_folder()
            if isinstance(error, (OpenFailedError, DatabaseCorruptError)) and self._path is not None:
                error.message = f"{opening.about(self._path)}: {error.message}"
            raise
        self._hooks.reopen()
        self._connections = connections
        self._ended = None
        self._known = tuple(schema.stores)
        self._outbox.begin()
        self._schema = schema
        return schema

    def _place(self) -> Path:
        if self._path is None:
            self._folder = Path(tempfile.mkdtemp(prefix="selfdb-indexie-"))
            return self._folder / f"private{places.SUFFIX}"
        if not self._versions and not places.is_there(self._path):
            raise OpenFailedError(f"{self._path} does not exist, and no version is declared to make it from")
        if self._named:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise OpenFailedError(f"the directory of {self._path.name} cannot be made: {error.strerror}") from error
        return self._path

    def _remove_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    @blocking(closes=True)
    def close(self, *, flush_timeout: float = 0.0) -> None:
        """Close it: end its live queries and background threads, roll back its overlays. Harmless when repeated.

        Later operations raise :class:`~selfdb.indexie.DatabaseClosedError`; :meth:`open` opens it again. A transaction
        that is under way, here or on another thread, is not waited for and not undone: when its block ends, what it has
        written is committed, as in IndexedDB. Any further operation of it raises that error, which undoes it unless it
        is caught.

        :param flush_timeout: seconds to wait first for the outbox to be empty.
        :raises InvalidStateError: within a hook of the upgrade that opens it.
        """
        if self._upgrading() is not None:
            raise InvalidStateError("the database is being opened: this is part of it")
        _check_seconds(flush_timeout, "flush_timeout")
        try:
            if flush_timeout > 0 and self._schema is not None:
                with suppress(DatabaseClosedError):  # somebody else was quicker
                    self._outbox.flush(flush_timeout)
        finally:
            self._shut(_closed)

    def _shut(self, ended: Callable[[], DatabaseClosedError], only: Optional[Connections] = None) -> None:
        if not self._opening.acquire(self._busy_timeout):
            raise IndexieTimeoutError("another thread has been opening the database for all of busy_timeout")
        try:
            if only is None or only is self._connections:
                self._end(ended)
        finally:
            self._opening.release()

    def _end(self, ended: Callable[[], DatabaseClosedError]) -> None:
        with self._changing:
            if self._ended is None or self._schema is not None:
                self._ended = ended
            self._schema = None
        self._outbox.close()
        self._hooks.close()
        self._feed.close()
        self._publisher.close()
        self._connections.close()
        self._remove_folder()

    def _version_changed(self, connections: Connections) -> None:
        """A statement has met a file that another process upgraded. It may hold locks: what is to do is done apart."""
        with self._changing:
            if self._schema is None or self._connections is not connections:
                return  # others have said so, or it is open anew
            self._ended = _changed
            self._schema = None
        threading.Thread(
            target=self._give_way, args=(connections,), name="selfdb-indexie-versionchange", daemon=True
        ).start()

    def _give_way(self, connections: Connections) -> None:
        try:
            self._shut(_changed, connections)
        except IndexieTimeoutError:
            logger.exception("%r could not be closed after another process upgraded its file", self)
        for hook in list(self._version_change):
            try:
                call_hook(hook, self)
            except Exception:
                logger.exception("a hook of on_versionchange() failed")

    @blocking
    def __enter__(self) -> Self:
        return self.open()

    @blocking(closes=True)
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Several operations at once

    @overload
    def transaction(self, mode: str, tables: Any, fn: None = None) -> Transaction: ...

    @overload
    def transaction(self, mode: str, tables: Any, fn: Callable[..., T]) -> T: ...

    @waiting(opens=True, asks=("fn",))
    def transaction(
        self, mode: str, tables: Any, fn: Optional[Callable[..., T]] = None
    ) -> Waiting[Union[Transaction, T]]:
        """Several operations that succeed or fail together.

        :param mode: ``"rw"`` (``Indexie.Mode.READ_WRITE``) has the write lock from the start; ``"r"`` reads one state.
        :param tables: the stores that it is about: a name, a table, or a list of these.
        :param fn: called as ``fn()`` or ``fn(tx)`` within the transaction, which ends with it: it is committed, or
            rolled back when anything is raised, which goes on to the caller as it is.
        :returns: what ``fn`` returned; without ``fn`` the transaction, for a ``with`` block.
        :raises IndexieTimeoutError: when the write lock is not to be had within ``busy_timeout``.
        :raises SubTransactionError: when it stands in a transaction that may not do as much.
        """
        transaction = Transaction(self, mode, tables)
        if fn is None:
            return transaction
        result: T = yield from run(transaction, fn)
        return result

    def start_transaction(
        self, tables: Any, *, optimistic: bool = False, conflict: str = "error"
    ) -> OverlayTransaction:
        """As :meth:`Table.start_transaction`, over several tables.

        :param tables: a name, a table, or a list of these.
        :raises InvalidArgumentError: for another ``conflict``, or what is no table of this database.
        :raises InvalidTableError: when there is no such table.
        """
        from .overlays.optimistic import OverlayTransaction

        return OverlayTransaction(self, tables, optimistic=optimistic, conflict=conflict)

    # The file

    @classmethod
    @blocking
    def exists(cls, name: PathLike, *, directory: Optional[PathLike] = None) -> bool:
        """Whether there is a file for this name or path."""
        return places.is_there(places.file_of(name, directory))

    @classmethod
    @blocking
    def delete_database(cls, name: PathLike, *, directory: Optional[PathLike] = None, timeout: float = 10.0) -> bool:
        """Delete a database's file.

        :param timeout: seconds to wait until nobody has it open any more.
        :returns: whether there was one.
        :raises IndexieTimeoutError: when somebody still has it open then.
        :raises DatabaseCorruptError: when the file is something else; it stays.
        """
        _check_seconds(timeout, "timeout")
        return maintenance.delete(places.file_of(name, directory), timeout)

    @classmethod
    @blocking
    def database_names(cls, *, directory: Optional[PathLike] = None) -> List[str]:
        """The names of the databases in ``directory`` (as in the constructor), sorted."""
        return places.names_in(directory)

    @blocking
    def vacuum(self) -> None:
        """Give the room of deleted rows back to the disk. It writes the whole file anew.

        :raises IndexieTimeoutError: when others write or read for all of ``busy_timeout``.
        """
        self._check_no_upgrade("there is nothing to be cared for yet")
        self._opened()
        maintenance.vacuum(self._connections)

    @blocking
    def checkpoint(self) -> None:
        """Bring all commits from the write-ahead log into the file itself, as far as no reader needs the log.

        :raises IndexieTimeoutError: when others write for all of ``busy_timeout``.
        """
        self._check_no_upgrade("there is nothing to be cared for yet")
        self._opened()
        maintenance.checkpoint(self._connections)

    @blocking
    def integrity_check(self) -> List[str]:
        """What is wrong with the file, its indexes or what they hold of the rows; empty when all is well."""
        self._opened()
        return maintenance.integrity(self)

    @blocking
    def export_json(self, file: Union[PathLike, IO[str]], *, skip_damaged: bool = False) -> int:
        """Write all stores as JSON, as they are committed at one moment. A file of that path is replaced in one step.

        :param file: a path, or a file that is open for writing text.
        :param skip_damaged: whether rows that cannot be read are left out; :meth:`integrity_check` names them.
        :returns: how many rows were written.
        :raises DatabaseCorruptError: when a row cannot be read otherwise: ``error.table`` and ``error.key``.
        :raises InvalidArgumentError: when it is neither.
        :raises OSError: when it cannot be written.
        """
        return maintenance.export_json(self, file, skip_damaged)

    @blocking
    def import_json(self, file: Union[PathLike, IO[str]], *, clear: bool = False) -> int:
        """Read what :meth:`export_json` wrote, in one transaction. Hooks are told of nothing.

        :param file: a path, or a file that is open for reading text.
        :param clear: whether the rows that are there go first; else a row of the same key is replaced.
        :returns: how many rows there were.
        :raises InvalidArgumentError: when the text is something else.
        :raises OSError: when it cannot be read.
        :raises InvalidTableError: when a store of it is not there.
        :raises ConstraintError: when a row clashes in a unique index with another one; nothing is kept then.
        """
        return maintenance.import_json(self, file, clear)


def _check_seconds(seconds: Any, name: str) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 1e6:
        raise InvalidArgumentError(f"{name} is a number of seconds up to a million, not {seconds!r}")


def _add(hooks: List[Callable[..., Any]], hook: Callable[..., Any]) -> Callable[..., Any]:
    hooks.append(function_for(hook, "this hook"))
    return hook


def _closed() -> DatabaseClosedError:
    return DatabaseClosedError("the database was closed; open() opens it again")


def _changed() -> DatabaseClosedError:
    return VersionChangeError("another process has upgraded the file; this handle has closed itself")
