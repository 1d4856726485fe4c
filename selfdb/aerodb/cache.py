"""Rows that were read before, for as long as the server cannot be reached."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypeVar, Union

from ..core.arguments import whole_number
from ..core.clock import SYSTEM_CLOCK, Clock
from ..core.encoding import decode_json
from ..core.forks import renew_after_fork
from ..core.request import Request
from ..exceptions import InvalidRequestError
from .calls import Answer

if TYPE_CHECKING:
    import sqlite3  # at run time where it is used: not every Python has it, and only a cache needs it

__all__ = ["Entry", "OfflineCache"]

T = TypeVar("T")

log = logging.getLogger("selfdb.aerodb")

APPLICATION = 0x5DBA_E0DB % 0x7FFF_FFFF
"""Stands in the head of the file, so that no other program's database is taken for ours."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS salt (value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    name BLOB PRIMARY KEY, owner BLOB NOT NULL, home BLOB NOT NULL, status INTEGER NOT NULL, content_range TEXT,
    content BLOB NOT NULL, stored REAL NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_by_use ON entries (used);
CREATE INDEX IF NOT EXISTS entries_by_owner ON entries (owner);
CREATE INDEX IF NOT EXISTS entries_by_home ON entries (home);
"""


_FORGETS = 1000
"""The last ones of these are remembered, for reads that were under way meanwhile."""


class Entry(NamedTuple):
    """What a read would be kept under.

    :ivar since: how often something had been forgotten when the read began.
    """

    who: str
    home: str
    what: str
    since: int


class _Foreign(Exception):
    """The file is somebody else's database."""


class OfflineCache:
    """Keeps the rows that a client reads, and gives them while its server cannot be reached (never for a refusal).

    What one user has read no other sees: entries lie under a keyed hash of who is signed in. No token is stored; the
    rows themselves are, readable for the file's owner alone. May be shared by threads, clients and processes. If the
    file is damaged it is begun anew; whatever else is wrong with it costs the cache, not the call.

    :param path: a file that survives the process; without one, rows are kept in memory.
    :param ttl: seconds for which an entry is good; ``None`` is for ever. To set the system's clock makes none that this
        process has read older or younger; others are as old as that clock says, and none of its future is good.
    :param max_entries: answers that are kept; those least recently used go first.
    :raises InvalidRequestError: (a ``ValueError``) for a value out of range.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str], None] = None,
        ttl: float | None = None,
        max_entries: int = 1000,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise InvalidRequestError(f"path must be a path or None, not {type(path).__name__}")
        if path is not None and (not str(path) or Path(path).is_dir()):
            raise InvalidRequestError("path must name a file")
        if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not ttl > 0):
            raise InvalidRequestError("ttl must be a number of seconds above 0, or None")
        self._path = None if path is None else Path(path)
        self._ttl = ttl
        self._most = whole_number(max_entries, "max_entries", 1)
        self._clock = clock
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._salt = b""
        self._useless = False
        self._inherited: list[sqlite3.Connection] = []
        self._read: dict[bytes, tuple[float, float]] = {}
        """When this process has read what it keeps under a name, by the wall clock and by one that nobody sets."""
        self._forgets = 0
        # When what was forgotten last, by a hash of what it was; and when what is not told here any more.
        self._forgotten: dict[bytes, int] = {}
        self._forgotten_before = 0
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        self._lock = threading.RLock()
        if self._database is not None:
            # To close it would be to let go of the locks that the parent holds on the file.
            self._inherited.append(self._database)
            self._database = None

    def __repr__(self) -> str:
        return f"OfflineCache({None if self._path is None else str(self._path)!r})"

    # What the calls ask

    def entry(self, url: str, schema: str, table: str, identity: str, request: Request) -> Entry:
        """What the answer to ``request`` is kept under.

        :param identity: who asks; secret.
        """
        headers = sorted((name.lower(), value) for name, value in (request.headers or {}).items())
        return Entry(
            _said(url, identity),
            _said(url, schema, table),
            _said(request.method, request.path, request.query, headers),
            self._forgets,
        )

    def keep(self, entry: Entry, answer: Answer) -> None:
        """Keep ``answer``, unless it is none that could be given again: the page of a hotel's network is no row, and
        rows that were forgotten while they were on their way are those from before a change."""
        try:
            decode_json(answer.content)
        except ValueError:
            return

        def insert(database: sqlite3.Connection) -> None:
            if not self._overtaken(entry):
                self._insert(database, entry, answer)

        self._attempt(insert, None)

    def recall(self, entry: Entry) -> Answer | None:
        """The answer that is kept under ``entry``, if it is still good."""
        return self._attempt(lambda database: self._select(database, entry), None)

    def forget_table(self, url: str, schema: str, table: str) -> None:
        """Drop what was read of one table, whoever read it."""
        self._delete("home", _said(url, schema, table))

    def forget_user(self, url: str, identity: str) -> None:
        """Drop what one user has read."""
        self._delete("owner", _said(url, identity))

    def clear(self) -> None:
        """Drop everything."""

        def clear(database: sqlite3.Connection) -> None:
            with database:
                database.execute("DELETE FROM entries")

        self._note_forgotten("")
        self._attempt(clear, None)

    def close(self) -> None:
        """Let go of the file; the next use opens it again. Rows in memory are gone."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    # The database

    def _insert(self, database: sqlite3.Connection, entry: Entry, answer: Answer) -> None:
        owner, home = self._hashed("owner", entry.who), self._hashed("home", entry.home)
        name, now = self._name_of(entry), self._clock.time()
        with database:
            database.execute(
                "REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(used), 0) + 1 FROM entries))",
                (
                    name,
                    owner,
                    home,
                    answer.status,
                    answer.headers.get("Content-Range"),
                    answer.content,
                    now,
                ),
            )
            self._read.pop(name, None)
            self._read[name] = now, self._clock.elapsed()
            while len(self._read) > self._most:
                del self._read[next(iter(self._read))]
            database.execute(
                "DELETE FROM entries WHERE used <= (SELECT used FROM entries ORDER BY used DESC LIMIT 1 OFFSET ?)",
                (self._most,),
            )

    def _select(self, database: sqlite3.Connection, entry: Entry) -> Answer | None:
        name = self._name_of(entry)
        found = database.execute(
            "SELECT status, content_range, content, stored FROM entries WHERE name = ?", (name,)
        ).fetchone()
        if found is None:
            return None
        status, content_range, content, stored = found
        with database:
            if self._ttl is not None and not 0 <= self._age(name, stored) <= self._ttl:
                database.execute("DELETE FROM entries WHERE name = ?", (name,))
                return None
            database.execute("UPDATE entries SET used = (SELECT max(used) + 1 FROM entries) WHERE name = ?", (name,))
        return Answer(status, {} if content_range is None else {"Content-Range": content_range}, bytes(content), True)

    def _age(self, name: bytes, stored: float) -> float:
        read = self._read.get(name)
        if read is None or read[0] != stored:  # by another process, or an earlier one
            return self._clock.time() - stored
        return self._clock.elapsed() - read[1]

    def _delete(self, column: str, said: str) -> None:
        def delete(database: sqlite3.Connection) -> None:
            with database:
                database.execute(f"DELETE FROM entries WHERE {column} = ?", (self._hashed(column, said),))  # noqa: S608

        self._note_forgotten(said)
        self._attempt(delete, None)

    def _note_forgotten(self, said: str) -> None:
        with self._lock:
            self._forgets += 1
            what = _digest(said)
            self._forgotten.pop(what, None)
            self._forgotten[what] = self._forgets
            if len(self._forgotten) > _FORGETS:
                self._forgotten_before = self._forgotten.pop(next(iter(self._forgotten)))

    def _overtaken(self, entry: Entry) -> bool:
        """Whether it was forgotten since, or may have been. Under the lock."""
        last = max(self._forgotten.get(_digest(said), 0) for said in ("", entry.who, entry.home))
        return max(last, self._forgotten_before) > entry.since

    def _name_of(self, entry: Entry) -> bytes:
        return self._hashed("name", _said(entry.who, entry.home, entry.what))

    def _hashed(self, purpose: str, said: str) -> bytes:
        return hmac.new(self._salt, f"{purpose}\n{said}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()

    def _attempt(self, do: Callable[[sqlite3.Connection], Optional[T]], otherwise: Optional[T]) -> Optional[T]:
        """What ``do`` gives; ``otherwise`` if the file does not bear it."""
        import sqlite3

        with self._lock:
            for again in (True, False):
                if self._useless:
                    return otherwise
                try:
                    return do(self._opened())
                except _Foreign:
                    self._useless = True
                    log.warning("the offline cache is off: %s is not a file of its own", self._path)
                except (sqlite3.OperationalError, OSError) as error:  # locked, full, read-only
                    log.warning("the offline cache cannot be used: %s", error)
                    return otherwise
                except (sqlite3.DatabaseError, ValueError, TypeError) as error:
                    log.warning("the offline cache is damaged, and begun anew: %s", type(error).__name__)
                    self._discard()
                    if not again:
                        return otherwise
        return otherwise

    def _opened(self) -> sqlite3.Connection:
        import sqlite3

        database = self._database
        if database is None:
            if self._path is not None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Made here, for sqlite would let others read it; what it puts beside it has the same mode.
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            database = sqlite3.connect(self._path or ":memory:", check_same_thread=False)
            try:
                self._salt = self._prepared(database)
                if self._path is not None and self._path.stat().st_mode & 0o077:
                    self._path.chmod(0o600)
            except BaseException:
                database.close()
                raise
            self._database = database
        return database

    @staticmethod
    def _prepared(database: sqlite3.Connection) -> bytes:
        database.execute("PRAGMA secure_delete = ON")
        if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
            if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise _Foreign
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
        with database:
            database.execute("INSERT INTO salt SELECT ? WHERE NOT EXISTS (SELECT 1 FROM salt)", (os.urandom(32),))
        (salt,) = database.execute("SELECT value FROM salt").fetchone()
        if not isinstance(salt, bytes) or len(salt) != 32:
            raise ValueError("no salt")
        return salt

    def _discard(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()
        if self._path is not None:
            for end in ("", "-wal", "-shm", "-journal"):
                with contextlib.suppress(OSError):
                    Path(f"{self._path}{end}").unlink()


def _digest(said: str) -> bytes:
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()


def _said(*parts: Any) -> str:
    return json.dumps(parts)
