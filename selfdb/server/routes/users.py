"""Routes of users and of their sessions."""

from __future__ import annotations

from typing import List, Optional

from fastapi import Request, Response
from sqlalchemy.engine import Connection

from .. import sessions, users
from ..access import LenientCaller, SignedIn, authenticate, authenticate_leniently, bearer_of, not_authenticated
from ..documented import responses
from ..query import Limit, Search, Skip, SortOrder, SortOrderQuery, known_query
from ..routing import new_router
from ..services import ServicesDep
from ..wire import (
    Count,
    LoginBody,
    LogoutBody,
    Message,
    Pair,
    RefreshBody,
    UserBody,
    UserOut,
    UserPatch,
    UserSort,
)
from ..writes import Reply, Write

__all__ = ["router"]

router = new_router(prefix="/users", tags=["users"])


def _pair(pair: sessions.Pair) -> Pair:
    return Pair(access_token=pair.access_token, refresh_token=pair.refresh_token, expires_in=pair.expires_in)


@router.post("/token", response_model=Pair, responses=responses(400, 401, 413, 422, 429))
def log_in(request: Request, body: LoginBody, services: ServicesDep) -> Pair:
    """Open a session with e-mail and password."""
    address = request.client.host if request.client else ""
    return _pair(users.log_in(services, body.email, body.password, address))


@router.post("/token/refresh", response_model=Pair, responses=responses(400, 401, 413, 422))
def refresh(body: RefreshBody, services: ServicesDep) -> Pair:
    """Exchange a refresh token for a new pair; the one given is rotated."""
    return _pair(sessions.rotate(services, body.refresh_token))


@router.post("/logout", response_model=Message, responses=responses(400, 401, 413, 422))
def log_out(request: Request, services: ServicesDep, body: Optional[LogoutBody] = None) -> Message:
    """End the session of the refresh token in the body (no bearer needed) or, without one, the bearer's own."""
    token = None if body is None else body.refresh_token
    bearer = bearer_of(request)
    if token is not None:
        users.log_out(services, token, authenticate_leniently(services, bearer))
    elif bearer is not None:
        users.log_out(services, None, authenticate(services, bearer))
    else:
        raise not_authenticated()
    return Message(message="Logged out")


@router.post("/logout/all", response_model=Message, responses=responses(400, 401))
def log_out_everywhere(services: ServicesDep, caller: SignedIn) -> Message:
    """End all sessions of the caller, this one included."""
    users.log_out_everywhere(services, caller)
    return Message(message="Logged out everywhere")


@router.get("/me", response_model=UserOut, responses=responses(400, 401))
def me(services: ServicesDep, caller: SignedIn) -> UserOut:
    """The caller himself."""
    with services.database.read() as connection:
        return UserOut.of(users.get(services, connection, caller, caller.user_id))


@router.get("/count", response_model=Count, responses=responses(400, 401, 422), dependencies=[known_query("search")])
def count(services: ServicesDep, caller: SignedIn, search: Search) -> Count:
    """How many users the caller may see; ``search`` is looked for in e-mail, first and last name."""
    with services.database.read() as connection:
        return Count(count=users.count(services, connection, caller, search))


@router.post("/", response_model=UserOut, status_code=201, responses=responses(400, 401, 403, 409, 413, 422))
def create(body: UserBody, services: ServicesDep, caller: LenientCaller, write: Write) -> Response:
    """Register. A bearer is needed only to give a role, or where registration is not open."""
    users.may_create(services, caller, body.role)
    users.check_new_password(services, body.password)
    password_hash = services.passwords.hash(body.password)

    def effect(connection: Connection) -> Reply:
        return Reply(201, UserOut.of(users.create(services, connection, body, password_hash)))

    return write.run(effect)


@router.get(
    "/",
    response_model=List[UserOut],
    responses=responses(400, 401, 422),
    dependencies=[known_query("skip", "limit", "search", "sort_by", "sort_order")],
)
def listed(
    services: ServicesDep,
    caller: SignedIn,
    search: Search,
    skip: Skip = 0,
    limit: Limit = 100,
    sort_by: UserSort = UserSort.created_at,
    sort_order: SortOrderQuery = SortOrder.desc,
) -> List[UserOut]:
    """The users that the caller may see: himself, or all for ADMINs and with ``--list-users``."""
    with services.database.read() as connection:
        found = users.listed(
            services,
            connection,
            caller,
            skip=skip,
            limit=limit,
            search=search,
            sort_by=sort_by,
            sort_order=sort_order,
        )
        return [UserOut.of(row) for row in found]


@router.get("/{user_id}", response_model=UserOut, responses=responses(400, 401, 403, 404))
def get(user_id: str, services: ServicesDep, caller: SignedIn) -> UserOut:
    """One user; another than oneself only for ADMINs and with ``--list-users``."""
    with services.database.read() as connection:
        return UserOut.of(users.get(services, connection, caller, user_id))


@router.patch("/{user_id}", response_model=UserOut, responses=responses(400, 401, 403, 404, 409, 413, 422))
def change(user_id: str, patch: UserPatch, services: ServicesDep, caller: SignedIn, write: Write) -> Response:
    """Change what was sent: oneself, but for ``role`` and ``isActive``, which only ADMINs change."""
    password_hash = None
    if "password" in patch.model_fields_set:
        users.check_new_password(services, patch.password)
        password_hash = services.passwords.hash(patch.password)

    def effect(connection: Connection) -> Reply:
        return Reply(200, UserOut.of(users.change(services, connection, caller, user_id, patch, password_hash)))

    return write.run(effect, lambda connection: users.may_change(connection, caller, user_id, patch))


@router.delete("/{user_id}", status_code=204, responses=responses(400, 401, 403, 404, 409, 422))
def delete(user_id: str, services: ServicesDep, caller: SignedIn, write: Write) -> Response:
    """Delete oneself or, for ADMINs, anybody: with sessions, tables, buckets and files."""

    def effect(connection: Connection) -> Reply:
        users.delete(services, connection, user_id)
        return Reply(204)

    return write.run(effect, lambda connection: users.may_delete(connection, caller, user_id))
