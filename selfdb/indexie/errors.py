"""Every error of the store, and what each of SQLite's own becomes.

::

    SelfDBError
    `-- StorageError
        `-- IndexedDBError
            |-- SchemaError                     a schema string, or a path that no index covers
            |-- InvalidTableError               no store of this name
            |-- InvalidStateError               not now: drop() outside an upgrade, version() after open()
            |-- OpenFailedError                 the file cannot be opened
            |   `-- VersionError                it is newer than every declared version
            |-- UpgradeError                    an upgrade failed and was undone
            |-- DatabaseClosedError             used after close(), or after a fork inside a transaction
            |   `-- VersionChangeError          another process upgraded the file
            |-- DataError                       (also ValueError) no valid key
            |-- DataCloneError                  (also TypeError) a value that cannot be stored
            |-- ConstraintError                 a duplicate key, or one of a unique index
            |-- KeyNotFoundError                (also KeyError) update() of a row that is not there
            |-- ReadOnlyError                   a write where only reading is allowed
            |-- NotInScopeError                 a store that the transaction does not list
            |-- SubTransactionError             a nested transaction that wants more than its parent has
            |-- TransactionInactiveError        the transaction is over
            |-- AbortError                      the transaction was aborted
            |-- BulkError                       some rows of a bulk call failed
            |-- ModifyError                     some rows of modify() or delete() failed
            |-- WriteConflictError              a row was changed elsewhere meanwhile
            |-- HookError                       a hook raised where the write depends on it
            |-- InvalidArgumentError            (also ValueError)
            |-- IndexieTimeoutError             (also TimeoutError)
            |-- QuotaExceededError              the disk, or the file's limit, is full
            `-- DatabaseCorruptError            not a database, or a damaged one

All of them can be pickled with what they tell. A `sqlite3` exception never escapes; it is the ``__cause__``.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Dict, List, Optional, Tuple, Type

from ..exceptions import SelfDBError

__all__ = [
    "AbortError",
    "BulkError",
    "ConstraintError",
    "DataCloneError",
    "DataError",
    "DatabaseClosedError",
    "DatabaseCorruptError",
    "HookError",
    "IndexedDBError",
    "IndexieTimeoutError",
    "InvalidArgumentError",
    "InvalidStateError",
    "InvalidTableError",
    "KeyNotFoundError",
    "ModifyError",
    "NotInScopeError",
    "OpenFailedError",
    "QuotaExceededError",
    "ReadOnlyError",
    "SchemaError",
    "StorageError",
    "SubTransactionError",
    "TransactionInactiveError",
    "UpgradeError",
    "VersionChangeError",
    "VersionError",
    "WriteConflictError",
    "is_busy",
    "is_no_text",
    "translate",
    "translated",
]


class StorageError(SelfDBError):
    """Base of the store's errors; itself raised when a document fails the validation of ``attach_schema``.

    :param message: what happened, and what to do.
    :param attributes: what the class says that it carries.
    """

    def __init__(self, message: str, **attributes: Any) -> None:
        super().__init__(message)
        for name, value in attributes.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} carries no {name!r}")
            setattr(self, name, value)

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self.message,), {name: _portable(value) for name, value in self.__dict__.items()}


def _portable(value: Any) -> Any:
    """What a pickle may hold of it. What was given for a key may not be fit for one: then its ``repr`` tells it."""
    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301 - made in this moment; some can be written and not be read
    except Exception:  # noqa: BLE001 - an object's own code says what it likes
        if type(value) is list:
            return [_portable(each) for each in value]
        if type(value) is dict:
            return {key: _portable(each) for key, each in value.items()}
        return repr(value)
    return value


class IndexedDBError(StorageError):
    """Base of all that follow; itself raised for what SQLite reports and has no class here.

    :ivar hooks_succeeded: whether hooks that come before the write had run by then, so that others may know of a write
        that was not kept.
    """

    hooks_succeeded: bool = False


class SchemaError(IndexedDBError):
    """A schema string is wrong, a path is not indexed, or the schema changed without a new version number."""

    table: Optional[str] = None
    path: Optional[str] = None


class InvalidTableError(IndexedDBError):
    """No store has this name."""

    table: Optional[str] = None


class InvalidStateError(IndexedDBError):
    """This cannot be done now: ``drop()`` outside an upgrade, ``version()`` or ``stores()`` after ``open()``."""


class OpenFailedError(IndexedDBError):
    """The file cannot be opened, or there is none and no version was declared."""

    stored: Optional[int] = None
    declared: Optional[int] = None


class VersionError(OpenFailedError):
    """The file's version is higher than every declared one."""


class UpgradeError(IndexedDBError):
    """An upgrade failed and was undone as a whole; the reason is its ``__cause__``."""


class DatabaseClosedError(IndexedDBError):
    """The database was closed, or forked away in the middle of a transaction."""


class VersionChangeError(DatabaseClosedError):
    """Another process upgraded the file; this handle has closed itself."""


class DataError(IndexedDBError, ValueError):
    """No valid key: of a wrong type, missing, contradicting the document, or a change of a primary key."""

    key: Any = None


class DataCloneError(IndexedDBError, TypeError):
    """A value that cannot be stored; ``path`` says where it stands in the document."""

    path: Optional[str] = None


class ConstraintError(IndexedDBError):
    """A key exists already, in the store (``index`` is ``":id"``) or a unique index; or no key is left to generate."""

    table: Optional[str] = None
    index: Optional[str] = None
    value: Any = None


class KeyNotFoundError(IndexedDBError, KeyError):
    """``update()`` of a row that does not exist."""

    table: Optional[str] = None
    key: Any = None


class ReadOnlyError(IndexedDBError):
    """A write in a read-only transaction or in a live query's function."""


class NotInScopeError(IndexedDBError):
    """The running transaction does not list this store."""

    table: Optional[str] = None
    scope: Tuple[str, ...] = ()


class SubTransactionError(IndexedDBError):
    """A nested transaction wants to write in a read-only one, or more stores than its parent lists; or it is not over
    where its parent writes or commits. Or a function given to a write writes itself."""


class TransactionInactiveError(IndexedDBError):
    """The transaction is over."""


class AbortError(IndexedDBError):
    """The transaction was ended by ``tx.abort()``."""


class BulkError(IndexedDBError):
    """Some rows of a bulk call failed.

    :ivar failures: the errors, in the order of the rows.
    :ivar failures_by_pos: the same by the row's position in the call.
    :ivar success_count: how many rows did not fail.
    """

    failures: List[Exception] = []
    failures_by_pos: Dict[int, Exception] = {}
    success_count: int = 0


class ModifyError(IndexedDBError):
    """Some rows of ``modify()`` or of a collection's ``delete()`` failed."""

    failures: List[Exception] = []
    failed_keys: List[Any] = []
    success_count: int = 0


class WriteConflictError(IndexedDBError):
    """Rows were changed elsewhere since they were first touched.

    :ivar keys: which.
    """

    table: Optional[str] = None
    keys: List[Any] = []


class HookError(IndexedDBError):
    """A hook raised where the write depends on it; its exception is the ``__cause__``.

    :ivar completed: the operation ids of the writes whose hooks had succeeded before.
    """

    table: Optional[str] = None
    op: Optional[str] = None
    key: Any = None
    hook: Optional[str] = None
    completed: List[str] = []


class InvalidArgumentError(IndexedDBError, ValueError):
    """An argument is wrong: a negative limit, lists of unequal length, an unknown mode."""


class IndexieTimeoutError(IndexedDBError, TimeoutError):
    """The write lock was not to be had within ``busy_timeout``, or another stated time ran out."""


class QuotaExceededError(IndexedDBError):
    """The disk is full, or the file's own limit is reached; the transaction was rolled back."""


class DatabaseCorruptError(IndexedDBError):
    """The file is not a database of this kind, or it is damaged.

    :ivar table: with ``key``, the row that cannot be read, where it is one.
    """

    table: Optional[str] = None
    key: Any = None


_BY_CODE: Dict[int, Type[IndexedDBError]] = {
    5: IndexieTimeoutError,  # BUSY
    6: IndexieTimeoutError,  # LOCKED
    8: OpenFailedError,  # READONLY
    9: DatabaseClosedError,  # INTERRUPT
    11: DatabaseCorruptError,  # CORRUPT
    13: QuotaExceededError,  # FULL
    14: OpenFailedError,  # CANTOPEN
    19: ConstraintError,  # CONSTRAINT
    26: DatabaseCorruptError,  # NOTADB
}

# Interpreters before 3.11 tell no code: these are SQLite's own texts for the same codes.
_BY_TEXT: Tuple[Tuple[str, int], ...] = (
    ("is locked", 5),
    ("readonly database", 8),
    ("interrupted", 9),
    ("malformed", 11),
    ("is full", 13),
    ("unable to open", 14),
    ("constraint failed", 19),
    ("not a database", 26),
)


_SAID: Dict[int, str] = {
    8: "the file, or its folder, may only be read",
    11: "the file is damaged; integrity_check() may say where",
    14: "the file, or one that SQLite keeps beside it, cannot be opened",
    26: "the file is no database",
}


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 where there is none."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return int(code) & 0xFF
    text = str(error)
    return next((number for part, number in _BY_TEXT if part in text), 0)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds a lock, so that the same may succeed a moment later."""
    return _code(error) in (5, 6)


def is_no_text(error: sqlite3.Error) -> bool:
    """Whether bytes that are no UTF-8 stand where a text should."""
    return "Could not decode to UTF-8" in str(error)


def translate(error: sqlite3.Error) -> IndexedDBError:
    """The error to raise in place of SQLite's; the caller raises it ``from error``."""
    code = _code(error)
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return DatabaseClosedError("the database was closed meanwhile")
    if "no such table: _ix_v" in str(error):
        return VersionChangeError("another process has upgraded the file; this handle has closed itself")
    if "no such table: _ix_" in str(error):
        return DatabaseCorruptError(
            "the file, or what SQLite keeps beside it, was deleted or replaced while it was open"
        )
    kind = _BY_CODE.get(code, IndexedDBError)
    if is_no_text(error):
        # SQLite's own words hold what the row does.
        return DatabaseCorruptError("a stored document is no text; integrity_check() says which")
    if code == 9:
        return kind("the database was closed while this call ran")
    if code in (5, 6):
        return kind("another connection holds the file's lock, and did so for all of busy_timeout")
    if code == 13:
        return kind("the disk, or the file's own limit, is full; nothing of this transaction was kept")
    said = _SAID.get(code)
    return kind(f"SQLite: {error}" if said is None else f"{said} (SQLite: {error})")


@contextmanager
def translated() -> Iterator[None]:
    """Within its block an error of SQLite becomes one of ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error) from error
