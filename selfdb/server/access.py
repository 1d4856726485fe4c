"""Who is asking: the bearer of a request, and the dependencies by which a handler says whom it serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Optional, Tuple

import sqlalchemy as sa
from fastapi import Depends, Request
from sqlalchemy.engine import Connection
from starlette.concurrency import run_in_threadpool

from . import sessions
from .bearer import ACCESS, Claims
from .errors import ApiError
from .hot import HotStatement
from .schema import sessions as sessions_table
from .schema import users
from .services import Services, get_services

__all__ = [
    "Caller",
    "LenientCaller",
    "Principal",
    "SignedIn",
    "authenticate",
    "authenticate_leniently",
    "bearer_in",
    "bearer_of",
    "caller",
    "claims_of",
    "confirm",
    "known_caller",
    "lenient_caller",
    "not_authenticated",
    "principal_of",
    "signed_in",
]

_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_SCOPE_KEY = "selfdb.principal"


@dataclass(frozen=True)
class Principal:
    """A signed-in user as the database knows him at this request."""

    user_id: str
    role: str
    session_id: str

    @property
    def is_admin(self) -> bool:
        """Whether he may do everything."""
        return self.role == "ADMIN"


def not_authenticated() -> ApiError:
    """The answer to a missing bearer."""
    return ApiError(401, "Not authenticated", _CHALLENGE)


def _bad_credentials() -> ApiError:
    return ApiError(401, "Could not validate credentials", _CHALLENGE)


def bearer_of(request: Request) -> Optional[str]:
    """The token of the ``Authorization`` header; ``None`` without the header, ``""`` if it is of another kind."""
    header = request.headers.get("authorization")
    return None if header is None else bearer_in(header)


def bearer_in(header: str) -> str:
    """The token in the value of an ``Authorization`` header; ``""`` if it is of another kind."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def authenticate(services: Services, token: str) -> Principal:
    """The user that an access token stands for, now.

    :raises ApiError: 401 for a token that is not, or no longer, valid; 400 for a deactivated user.
    """
    claims = claims_of(services, token)
    with services.database.read() as connection:
        principal, first_use = principal_of(connection, claims)
    if first_use:
        sessions.mark_used(services, claims.refresh_id)
    return principal


def claims_of(services: Services, token: str) -> Claims:
    """What a genuine access token says; whether its bearer may still come in, :func:`principal_of` finds out.

    :raises ApiError: 401.
    """
    claims = services.tokens.read(token, ACCESS, services.clock.now())
    if claims is None:
        raise _bad_credentials()
    return claims


def principal_of(connection: Connection, claims: Claims, *, hold: bool = False) -> Tuple[Principal, bool]:
    """The user of a token as the database knows him now, and whether the token's first use is still to be noted.

    :param hold: keep the account as it is until the transaction ends.
    :raises ApiError: 401 if he or his session is gone, 400 if he was deactivated.
    """
    standing = sessions.standing_of(connection, claims, hold=hold)
    if standing is None:
        raise _bad_credentials()
    if not standing.is_active:
        raise ApiError(400, "Inactive user")
    if standing.revoked:
        raise _bad_credentials()
    return Principal(claims.user_id, standing.role, claims.session_id), standing.first_use


async def caller(request: Request) -> Optional[Principal]:
    """The signed-in user, or ``None`` for an anonymous caller. A bearer that is present must be valid."""
    if _SCOPE_KEY not in request.scope:
        token = bearer_of(request)
        principal = None
        if token is not None:
            principal = await run_in_threadpool(authenticate, get_services(request), token)
        request.scope[_SCOPE_KEY] = principal
    return known_caller(request)


async def signed_in(request: Request) -> Principal:
    """The signed-in user.

    :raises ApiError: 401 for an anonymous caller.
    """
    principal = await caller(request)
    if principal is None:
        raise not_authenticated()
    return principal


# Put together once: every write asks it.
_HELD = HotStatement(
    sa.select(users.c.role, users.c.is_active, sessions_table.c.id, sessions_table.c.revoked_at)
    .select_from(
        users.outerjoin(
            sessions_table,
            sa.and_(sessions_table.c.user_id == users.c.id, sessions_table.c.id == sa.bindparam("session_id")),
        )
    )
    .where(users.c.id == sa.bindparam("user_id"))
    .with_for_update(read=True, key_share=True, of=users)
)


def confirm(connection: Connection, principal: Principal) -> None:
    """Make sure that the caller may still do what he asked for, and hold on to his account until the write ends.

    A body may have been long on its way since he was authenticated.

    :raises ApiError: 401 if he or his session is gone, 400 if he was deactivated, 403 if he is no ADMIN any more.
    """
    asked = {"user_id": principal.user_id, "session_id": principal.session_id}
    row = _HELD.first(connection, asked)
    if row is None:
        raise _bad_credentials()
    role, is_active, session_id, revoked_at = row
    if not is_active:
        raise ApiError(400, "Inactive user")
    if session_id is None or revoked_at is not None:
        raise _bad_credentials()
    if principal.is_admin and role != principal.role:
        raise ApiError(403, "Not authorized")


def authenticate_leniently(services: Services, token: Optional[str]) -> Optional[Principal]:
    """Like :func:`authenticate`, but ``None`` for a token that is absent or not valid."""
    if token is None:
        return None
    try:
        return authenticate(services, token)
    except ApiError:
        return None


async def lenient_caller(request: Request) -> Optional[Principal]:
    """The signed-in user, or ``None``: a bearer that is not valid is ignored."""
    if _SCOPE_KEY not in request.scope:
        request.scope[_SCOPE_KEY] = await run_in_threadpool(
            authenticate_leniently, get_services(request), bearer_of(request)
        )
    return known_caller(request)


def known_caller(request: Request) -> Optional[Principal]:
    """Whom the route found out to be asking; ``None`` for anonymous callers and where nobody asked."""
    principal: Optional[Principal] = request.scope.get(_SCOPE_KEY)
    return principal


#: For handlers that serve anonymous callers too.
Caller = Annotated[Optional[Principal], Depends(caller)]
#: For handlers that serve signed-in users only.
SignedIn = Annotated[Principal, Depends(signed_in)]
#: For the few handlers that a stale bearer must not break.
LenientCaller = Annotated[Optional[Principal], Depends(lenient_caller)]
