"""Reading events back: in the order of their commits, in bounded portions, with what joins need to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import AbstractSet, Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..database import Database, try_lock
from ..schema import events, sessions, tables, users
from .outbox import ROW_KINDS

__all__ = ["KEEP", "Batch", "Event", "Journal", "TableFacts"]

#: How long events are kept for other servers to read.
KEEP = timedelta(minutes=10)
_BATCH = 500
_BATCH_CHARACTERS = 8 * 1024 * 1024
#: How many values one query names, and how many rows one transaction removes.
_PORTION = 500
_PRUNED_AT_ONCE = 5000


@dataclass(frozen=True)
class Event:
    """One event as it was written."""

    id: int
    kind: str
    table_id: Optional[str]
    topic: Optional[str]
    payload: str


@dataclass(frozen=True)
class TableFacts:
    """What decides who may join."""

    id: str
    public: bool
    owner_id: str


@dataclass
class Batch:
    """What one reading found. All of it was true at one moment, at which ``newest`` was the last event."""

    cursor: int
    newest: int
    events: List[Event] = field(default_factory=list)
    tables: Dict[str, TableFacts] = field(default_factory=dict)
    #: The roles of those sessions that are alive.
    roles: Dict[str, str] = field(default_factory=dict)

    @property
    def more(self) -> bool:
        """Whether there are events that did not fit."""
        return self.cursor < self.newest


class Journal:
    """Reads and prunes the events of one database. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self) -> int:
        """The id of the last event, 0 if there is none."""
        with self._database.read() as connection:
            return _newest(connection)

    def read(
        self,
        cursor: int,
        wanted: AbstractSet[str],
        names: Iterable[str] = (),
        session_ids: Iterable[str] = (),
    ) -> Batch:
        """The next events above ``cursor``, and the tables and sessions of these names and ids.

        :param wanted: ids of tables; events of rows of others are passed over unread.
        """
        with self._database.read() as connection:
            # Nothing before this query: it is where PostgreSQL's snapshot begins.
            newest = max(_newest(connection), cursor)
            batch = Batch(newest, newest)
            if newest > cursor:
                batch.cursor, ids = _portion(connection, cursor, newest, wanted)
                batch.events = _whole(connection, ids)
            batch.tables = _tables(connection, names)
            batch.roles = _roles(connection, session_ids)
            return batch

    def prune(self, now: datetime, below: Optional[int] = None) -> None:
        """Remove events older than :data:`KEEP`; those above the id ``below`` are kept in any case."""
        old = events.c.created_at < now - KEEP
        if below is not None:
            old = sa.and_(old, events.c.id <= below)
        some = sa.select(events.c.id).where(old).order_by(events.c.id).limit(_PRUNED_AT_ONCE)
        while True:
            with self._database.write() as connection:
                if not try_lock(connection, "events-prune"):
                    return  # another server does it
                removed = connection.execute(sa.delete(events).where(events.c.id.in_(some.scalar_subquery())))
            if removed.rowcount < _PRUNED_AT_ONCE:
                return


def _newest(connection: Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.max(events.c.id))) or 0)


_HEADS = (
    sa.select(events.c.id, events.c.kind, events.c.table_id, events.c.size)
    .where(events.c.id > sa.bindparam("cursor"))
    .order_by(events.c.id)
    .limit(_BATCH)
)


def _portion(connection: Connection, cursor: int, newest: int, wanted: AbstractSet[str]) -> Tuple[int, List[int]]:
    """How far to read now, and which events up to there."""
    ids: List[int] = []
    reached, count, characters = cursor, 0, 0
    for row in connection.execute(_HEADS, {"cursor": cursor}):
        needed = row.kind not in ROW_KINDS or row.table_id in wanted
        characters += row.size if needed else 0
        if ids and characters > _BATCH_CHARACTERS:
            return reached, ids
        if needed:
            ids.append(row.id)
        reached, count = row.id, count + 1
    return (newest if count < _BATCH else reached), ids


def _whole(connection: Connection, ids: List[int]) -> List[Event]:
    if not ids:
        return []
    columns = (events.c.id, events.c.kind, events.c.table_id, events.c.topic, events.c.payload)
    found = connection.execute(sa.select(*columns).where(events.c.id.in_(ids)).order_by(events.c.id))
    return [Event(*row) for row in found]


def _tables(connection: Connection, names: Iterable[str]) -> Dict[str, TableFacts]:
    found: Dict[str, TableFacts] = {}
    for portion in _portions(names):
        columns = (tables.c.name, tables.c.id, tables.c.public, tables.c.owner_id)
        for row in connection.execute(sa.select(*columns).where(tables.c.name.in_(portion))):
            found[row.name] = TableFacts(row.id, bool(row.public), row.owner_id)
    return found


def _roles(connection: Connection, session_ids: Iterable[str]) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for portion in _portions(session_ids):
        alive = sa.and_(sessions.c.id.in_(portion), sessions.c.revoked_at.is_(None), users.c.is_active)
        joined = users.join(sessions, sessions.c.user_id == users.c.id)
        for row in connection.execute(sa.select(sessions.c.id, users.c.role).select_from(joined).where(alive)):
            found[row.id] = row.role
    return found


def _portions(values: Iterable[Any]) -> Iterator[Sequence[Any]]:
    rest = iter(set(values))
    while True:
        portion = list(islice(rest, _PORTION))
        if not portion:
            return
        yield portion
