"""Sessions: opened by a login, carried on by refresh tokens that are rotated, and ended for good.

A refresh token names a session. Rotating it makes a successor; because a reply may be lost on its way, the
rotated token goes on to be answered with that same successor until 30 seconds have passed *and* the
successor (or an access token given out with it) was used. Whoever shows it after that has a copy that he
should not have: the session ends. Tokens are signed from stored claims, so the same successor can be handed
out again although no token is stored.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Optional, Tuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .bearer import ACCESS, REFRESH, Claims
from .errors import ApiError
from .hot import HotStatement
from .realtime import outbox
from .schema import refresh_tokens, sessions, users
from .services import Services

__all__ = [
    "Pair",
    "Standing",
    "end_session",
    "end_sessions_of",
    "mark_used",
    "named_by",
    "open_session",
    "refused",
    "rotate",
    "standing_of",
]

#: Ended sessions are kept this long, so that the reuse of their tokens is still told from nonsense.
_KEEP_ENDED = timedelta(days=1)


@dataclass(frozen=True, repr=False)
class Pair:
    """What a login or a refresh hands out."""

    access_token: str
    refresh_token: str
    expires_in: int


@dataclass(frozen=True)
class Standing:
    """What the database says about the bearer of a genuine access token."""

    role: str
    is_active: bool
    revoked: bool
    first_use: bool


def refused() -> ApiError:
    """The answer to any refresh token that is not good."""
    return ApiError(401, "Invalid or expired refresh token", {"WWW-Authenticate": "Bearer"})


def open_session(services: Services, connection: Connection, user_id: str, role: str) -> Pair:
    """Begin a session of a user who proved himself."""
    now = services.clock.now().replace(microsecond=0)
    expired = sa.or_(
        sessions.c.expires_at <= now,
        sa.and_(sessions.c.revoked_at.is_not(None), sessions.c.revoked_at <= now - _KEEP_ENDED),
    )
    connection.execute(sessions.delete().where(sessions.c.user_id == user_id, expired))
    session_id = str(uuid.uuid4())
    expires = now + timedelta(seconds=services.settings.refresh_token_seconds)
    connection.execute(sessions.insert().values(id=session_id, user_id=user_id, created_at=now, expires_at=expires))
    # Nothing came before this token, so nothing waits for its first use.
    refresh_id = _new_refresh_token(connection, session_id, role, now, expires, used_at=now)
    return _pair(services, user_id, session_id, role, role, refresh_id, now, expires)


def rotate(services: Services, token: str) -> Pair:
    """Exchange a refresh token for a new pair.

    :raises ApiError: 401 for anything but a good refresh token of a living session.
    """
    claims = services.tokens.read(token, REFRESH, services.clock.now())
    if claims is None:
        raise refused()
    pair = services.database.transact(lambda connection: _rotate(services, connection, claims))
    if pair is None:  # only now, so that the end of the session stands
        raise refused()
    return pair


def _rotate(services: Services, connection: Connection, claims: Claims) -> Optional[Pair]:
    now = services.clock.now()
    found = connection.execute(
        sa.select(refresh_tokens, users.c.role.label("user_role"))
        .join(sessions, sessions.c.id == refresh_tokens.c.session_id)
        .join(users, users.c.id == sessions.c.user_id)
        .where(
            refresh_tokens.c.id == claims.token_id,
            sessions.c.id == claims.session_id,
            sessions.c.user_id == claims.user_id,
            sessions.c.revoked_at.is_(None),
            users.c.is_active,
        )
        .with_for_update(of=[refresh_tokens, sessions])
    ).one_or_none()
    if found is None:
        return None
    if found.rotated_at is None:
        return _first_rotation(services, connection, claims, str(found.user_role), found.used_at)
    successor = connection.execute(
        sa.select(refresh_tokens).where(refresh_tokens.c.id == found.successor_id)
    ).one_or_none()
    grace = timedelta(seconds=services.settings.rotation_grace_seconds)
    if successor is not None and (now - found.rotated_at < grace or successor.used_at is None):
        return _pair(
            services,
            claims.user_id,
            claims.session_id,
            str(found.user_role),
            successor.role,
            successor.id,
            successor.issued_at,
            successor.expires_at,
        )
    end_session(services, connection, claims.session_id)
    return None


def _first_rotation(
    services: Services, connection: Connection, claims: Claims, role: str, found_used_at: Optional[datetime]
) -> Pair:
    moment = services.clock.now()
    now = moment.replace(microsecond=0)
    expires = now + timedelta(seconds=services.settings.refresh_token_seconds)
    successor = _new_refresh_token(connection, claims.session_id, role, now, expires, used_at=None)
    connection.execute(
        refresh_tokens.update()
        .where(refresh_tokens.c.id == claims.token_id)
        .values(
            rotated_at=moment,
            used_at=found_used_at or moment,
            successor_id=successor,
        )
    )
    connection.execute(sessions.update().where(sessions.c.id == claims.session_id).values(expires_at=expires))
    connection.execute(
        refresh_tokens.delete().where(
            refresh_tokens.c.session_id == claims.session_id, refresh_tokens.c.expires_at <= now
        )
    )
    return _pair(services, claims.user_id, claims.session_id, role, role, successor, now, expires)


def _new_refresh_token(
    connection: Connection,
    session_id: str,
    role: str,
    issued: datetime,
    expires: datetime,
    *,
    used_at: Optional[datetime],
) -> str:
    refresh_id = str(uuid.uuid4())
    connection.execute(
        refresh_tokens.insert().values(
            id=refresh_id,
            session_id=session_id,
            role=role,
            issued_at=issued,
            expires_at=expires,
            used_at=used_at,
        )
    )
    return refresh_id


def _pair(
    services: Services,
    user_id: str,
    session_id: str,
    role: str,
    stored_role: str,
    refresh_id: str,
    issued: datetime,
    expires: datetime,
) -> Pair:
    now = services.clock.now()
    life = services.settings.access_token_seconds
    access = Claims(
        user_id, role, session_id, ACCESS, now, now + timedelta(seconds=life), f"{refresh_id}.{uuid.uuid4().hex}"
    )
    refresh = Claims(user_id, stored_role, session_id, REFRESH, issued, expires, refresh_id)
    return Pair(services.tokens.sign(access), services.tokens.sign(refresh), life)


# Put together once: every request asks one of them.
_STANDING = (
    sa.select(
        users.c.role,
        users.c.is_active,
        sessions.c.revoked_at.is_not(None).label("revoked"),
        sa.and_(refresh_tokens.c.id.is_not(None), refresh_tokens.c.used_at.is_(None)).label("first_use"),
    )
    .select_from(
        users.join(sessions, sessions.c.user_id == users.c.id).outerjoin(
            refresh_tokens, refresh_tokens.c.id == sa.bindparam("refresh_id")
        )
    )
    .where(users.c.id == sa.bindparam("user_id"), sessions.c.id == sa.bindparam("session_id"))
)
_ASKED = HotStatement(_STANDING)
_HELD = HotStatement(_STANDING.with_for_update(read=True, key_share=True, of=users))


def standing_of(connection: Connection, claims: Claims, *, hold: bool = False) -> Optional[Standing]:
    """Look up the user and the session of an access token in one query; ``None`` if either is gone.

    :param hold: keep the account as it is until the transaction ends.
    """
    asked = {"user_id": claims.user_id, "session_id": claims.session_id, "refresh_id": claims.refresh_id}
    row = (_HELD if hold else _ASKED).first(connection, asked)
    if row is None:
        return None
    role, is_active, revoked, first_use = row
    return Standing(str(role), bool(is_active), bool(revoked), bool(first_use))


def mark_used(services: Services, refresh_id: str) -> None:
    """Note that a successor, or an access token given out with it, arrived."""
    with services.database.write() as connection:
        connection.execute(
            refresh_tokens.update()
            .where(refresh_tokens.c.id == refresh_id, refresh_tokens.c.used_at.is_(None))
            .values(used_at=services.clock.now())
        )


def end_session(services: Services, connection: Connection, session_id: str) -> None:
    """End one session; its tokens are dead from the commit on, and its sockets a moment later."""
    _end(services, connection, sessions.c.id == session_id)


def end_sessions_of(services: Services, connection: Connection, user_id: str, *, but: Optional[str] = None) -> None:
    """End all sessions of a user, except the one with id ``but``."""
    whose = sessions.c.user_id == user_id
    _end(services, connection, whose if but is None else sa.and_(whose, sessions.c.id != but))


def _end(services: Services, connection: Connection, which: sa.ColumnElement[bool]) -> None:
    ended = connection.execute(
        sessions.update()
        .where(which, sessions.c.revoked_at.is_(None))
        .values(revoked_at=services.clock.now())
        .returning(sessions.c.id)
    )
    outbox.sessions_ended(connection, services, list(ended.scalars()))


def named_by(services: Services, token: str) -> Optional[Tuple[str, str]]:
    """The user and the session that a genuine refresh token names, even an expired one.

    :raises ApiError: 401 for an access token: taken for unknown, it would look like a logout that was none.
    """
    if services.tokens.read(token, ACCESS, None) is not None:
        raise refused()
    claims = services.tokens.read(token, REFRESH, None)
    return None if claims is None else (claims.user_id, claims.session_id)
