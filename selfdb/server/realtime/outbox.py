"""Events: noted while a transaction works, written as its last act, so that sockets learn of what was committed.

On PostgreSQL the writing is behind a lock that is held until the commit stands. So ids are given out in the
order of the commits, and whoever sees one id sees all that will ever be below it. The lock is taken when
nothing else will be waited for: no two transactions can wait for each other over it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..database import after_commit, before_commit, lock
from ..schema import events

if TYPE_CHECKING:
    from ..services import Services

__all__ = [
    "NOTICE",
    "ROLE",
    "ROW_KINDS",
    "SESSIONS",
    "TABLE",
    "role_changed",
    "row_changed",
    "sessions_ended",
    "table_changed",
]

#: The name under which PostgreSQL's notices are sent.
NOTICE = "selfdb_events"

#: What a row's events are; the kinds after it are told to servers only.
ROW_KINDS = frozenset({"INSERT", "UPDATE", "DELETE"})
TABLE = "table"
SESSIONS = "sessions"
ROLE = "role"


@dataclass(frozen=True)
class _Event:
    kind: str
    payload: str
    table_id: Optional[str] = None
    topic: Optional[str] = None


class _Outbox:
    """What one transaction is going to tell."""

    def __init__(self, connection: Connection, services: Services) -> None:
        self._connection = connection
        self._services = services
        self.events: List[_Event] = []

    def __call__(self) -> None:
        connection = self._connection
        lock(connection, "events")
        now = self._services.clock.now()
        last = 0
        for event in self.events:
            statement = events.insert().values(
                kind=event.kind,
                table_id=event.table_id,
                topic=event.topic,
                payload=event.payload,
                size=len(event.payload),
                created_at=now,
            )
            last = connection.execute(statement.returning(events.c.id)).scalar_one()
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_notify(NOTICE, str(last))))
        after_commit(connection, self._services.doorbell.ring)


def _add(connection: Connection, services: Services, event: _Event) -> None:
    before_commit(connection, "events", lambda: _Outbox(connection, services)).events.append(event)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def row_changed(
    connection: Connection,
    services: Services,
    table_id: str,
    name: str,
    kind: str,
    *,
    new: Optional[Dict[str, Any]],
    old: Optional[Dict[str, Any]],
) -> None:
    """A row of a table with realtime was inserted, updated or deleted: ``kind`` is one of :data:`ROW_KINDS`."""
    payload = _text({"event": kind, "table": name, "new": new, "old": old})
    _add(connection, services, _Event(kind, payload, table_id, f"table:{name}"))


def table_changed(
    connection: Connection, services: Services, table_id: str, *, name: Optional[str], public: bool
) -> None:
    """A table got another name or another publicity, or (``name=None``) is gone."""
    _add(connection, services, _Event(TABLE, _text({"name": name, "public": public}), table_id))


def sessions_ended(connection: Connection, services: Services, ids: List[str]) -> None:
    """Sessions were revoked."""
    if ids:
        _add(connection, services, _Event(SESSIONS, _text(ids)))


def role_changed(connection: Connection, services: Services, user_id: str, role: str) -> None:
    """A user got another role."""
    _add(connection, services, _Event(ROLE, _text({"user_id": user_id, "role": role})))
