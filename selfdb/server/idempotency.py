"""Keyed writes: the answer to a write is kept with its effect, so that a repetition is answered, not redone."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Iterator, Optional, Set

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .database import try_lock
from .errors import ApiError, invalid
from .schema import idempotency

if TYPE_CHECKING:
    from .services import Services

__all__ = ["HEADER", "LONGEST", "InFlight", "Keyed", "StoredReply", "find", "forget_expired", "identify", "keep"]

HEADER = "Idempotency-Key"
LONGEST = 255


class InFlight:
    """The keyed writes that this process is doing right now. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._scopes: Set[str] = set()

    @contextmanager
    def only(self, scope: str) -> Iterator[None]:
        """Hold ``scope`` for the length of the block.

        :raises ApiError: 409 while another thread holds it.
        """
        with self._mutex:
            if scope in self._scopes:
                raise _twin()
            self._scopes.add(scope)
        try:
            yield
        finally:
            with self._mutex:
                self._scopes.discard(scope)


@dataclass(frozen=True)
class Keyed:
    """What makes two keyed writes the same one.

    ``scope`` covers API key, user, method, path and the caller's key; ``fingerprint`` covers query and body.
    """

    scope: str
    owner: str
    fingerprint: str


@dataclass(frozen=True)
class StoredReply:
    """An answer given before."""

    status: int
    body: Optional[str]


def identify(services: Services, owner: str, method: str, path: str, query: str, body: bytes, key: str) -> Keyed:
    """The identity of a keyed write of ``owner`` (a user id, ``""`` for anonymous callers)."""
    scope = hashlib.sha256()
    for part in (services.api_key, owner, method, path, key):
        scope.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
    content = hashlib.sha256(hashlib.sha256(query.encode("utf-8", "surrogatepass")).digest() + body)
    return Keyed(scope.hexdigest(), owner, content.hexdigest())


def find(services: Services, connection: Connection, keyed: Keyed) -> Optional[StoredReply]:
    """The answer that this write got before, if it did.

    :raises ApiError: 409 while another process is doing it.
    :raises RequestValidationError: the key was used for another query or body.
    """
    if not try_lock(connection, f"idempotency:{keyed.scope}"):
        raise _twin()
    row = connection.execute(sa.select(idempotency).where(idempotency.c.scope == keyed.scope)).one_or_none()
    if row is None:
        return None
    horizon = services.clock.now() - timedelta(seconds=services.settings.idempotency_seconds)
    if row.created_at <= horizon:
        connection.execute(idempotency.delete().where(idempotency.c.scope == keyed.scope))
        return None
    if row.fingerprint != keyed.fingerprint:
        raise invalid(("header", HEADER), "this key was used for another request", "idempotency_key_reused")
    return StoredReply(int(row.status), row.body)


def keep(services: Services, connection: Connection, keyed: Keyed, reply: StoredReply) -> None:
    """Store the answer in the transaction of its effect, and drop what is too old or too much."""
    now = services.clock.now()
    connection.execute(
        idempotency.insert().values(
            scope=keyed.scope,
            owner=keyed.owner,
            fingerprint=keyed.fingerprint,
            status=reply.status,
            body=reply.body,
            created_at=now,
        )
    )
    newest = (
        sa.select(idempotency.c.scope)
        .where(idempotency.c.owner == keyed.owner)
        .order_by(idempotency.c.created_at.desc(), idempotency.c.scope)
        .offset(services.settings.idempotency_keys_per_user)
        .limit(100)
    )
    surplus = connection.execute(newest).scalars().all()
    horizon = now - timedelta(seconds=services.settings.idempotency_seconds)
    connection.execute(
        idempotency.delete().where(
            idempotency.c.owner == keyed.owner,
            sa.or_(idempotency.c.created_at <= horizon, idempotency.c.scope.in_(surplus)),
        )
    )


def forget_expired(services: Services) -> None:
    """Drop the answers that are too old, also of users who write no more."""
    horizon = services.clock.now() - timedelta(seconds=services.settings.idempotency_seconds)
    with services.database.write() as connection:
        connection.execute(idempotency.delete().where(idempotency.c.created_at <= horizon))


def _twin() -> ApiError:
    return ApiError(409, "A request with this Idempotency-Key is still being processed", {"Retry-After": "1"})
