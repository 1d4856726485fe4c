"""Users: who may do what to whom, and what goes with them."""

from __future__ import annotations

import re
import uuid
from typing import Any, Dict, List, Optional

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from . import sessions
from .access import Principal
from .database import lock
from .errors import ApiError, invalid
from .query import SortOrder, as_id, contains, ordered
from .realtime import outbox
from .schema import users
from .services import Services
from .settings import DEFAULT_ADMIN_PASSWORD, SettingsError, is_loopback
from .wire import Role, UserBody, UserPatch, UserSort

__all__ = [
    "change",
    "count",
    "create",
    "delete",
    "get",
    "listed",
    "log_in",
    "log_out",
    "log_out_everywhere",
    "refuse_default_password",
    "seed_admin",
]

_STRICT = re.compile(r"[A-Za-z0-9@$!%*?&]*\Z")
_SORTS = {
    UserSort.created_at: users.c.created_at,
    UserSort.email: users.c.email,
    UserSort.first_name: users.c.first_name,
    UserSort.last_name: users.c.last_name,
}


def seed_admin(services: Services) -> None:
    """Make the first ADMIN unless a user with his address exists, whatever became of that one.

    :raises SettingsError: he would have the default password on a host other than loopback.
    """
    email = services.settings.admin_email
    with services.database.read() as connection:
        if _by_email(connection, email) is not None:
            return
    if services.settings.admin_password == DEFAULT_ADMIN_PASSWORD and not is_loopback(services.settings.host):
        raise SettingsError(
            f"refusing to serve on {services.settings.host} with the default password for {email}: "
            "give another with --admin-password-file, --admin-password or SELFDB_ADMIN_PASSWORD"
        )
    password_hash = services.passwords.hash(services.settings.admin_password)
    with services.database.write() as connection:
        lock(connection, "seed")
        if _by_email(connection, email) is None:
            _insert(services, connection, email, password_hash, "Admin", "User", Role.ADMIN)


def refuse_default_password(services: Services) -> None:
    """Do not serve other machines while an ADMIN still has the default password.

    :raises SettingsError: host is not loopback and there is such an ADMIN.
    """
    if is_loopback(services.settings.host):
        return
    with services.database.read() as connection:
        admins = connection.execute(
            sa.select(users.c.email, users.c.password_hash).where(users.c.role == Role.ADMIN.value)
        ).all()
    for admin in admins:
        if services.passwords.matches(admin.password_hash, DEFAULT_ADMIN_PASSWORD):
            raise SettingsError(
                f"refusing to serve on {services.settings.host}: {admin.email} still has the default password; "
                "serve on 127.0.0.1 and change it first"
            )


def log_in(services: Services, email: str, password: str, address: str) -> sessions.Pair:
    """Check a password and open a session.

    :raises ApiError: 401 for a wrong pair, 400 for a deactivated user, 429 after too many failures.
    """
    with services.throttle.attempt(email, address):
        with services.database.read() as connection:
            user = _by_email(connection, email)
        if user is None:
            services.passwords.matches_nobody(password)
            raise _wrong_login()
        if not services.passwords.matches(user.password_hash, password):
            raise _wrong_login()
    if not user.is_active:
        raise ApiError(400, "Inactive user")
    renewed = services.passwords.hash(password) if services.passwords.outdated(user.password_hash) else None

    def begin(connection: Connection) -> sessions.Pair:
        # Asked again: the password or the account may have changed while the hash was computed.
        current = connection.execute(sa.select(users).where(users.c.id == user.id).with_for_update()).one_or_none()
        if current is None or current.password_hash != user.password_hash:
            raise _wrong_login()
        if not current.is_active:
            raise ApiError(400, "Inactive user")
        if renewed is not None:
            connection.execute(users.update().where(users.c.id == user.id).values(password_hash=renewed))
        if not services.initialized:
            services.mark_initialized(connection)
        return sessions.open_session(services, connection, user.id, current.role)

    pair = services.database.transact(begin)
    services.initialized = True
    return pair


def _wrong_login() -> ApiError:
    return ApiError(401, "Incorrect email or password", {"WWW-Authenticate": "Bearer"})


def log_out(services: Services, token: Optional[str], caller: Optional[Principal]) -> None:
    """End the session that a refresh token names or, without one, the caller's own.

    :raises ApiError: 401 for a token of another user than the caller, or for one that is an access token.
    """
    if token is None:
        assert caller is not None
        session_id = caller.session_id
    else:
        named = sessions.named_by(services, token)
        if named is None:
            return  # unknown: it cannot be used, which is what was asked for
        user_id, session_id = named
        if caller is not None and caller.user_id != user_id:
            raise sessions.refused()
    services.database.transact(lambda connection: sessions.end_session(services, connection, session_id))


def log_out_everywhere(services: Services, caller: Principal) -> None:
    """End all sessions of the caller."""
    services.database.transact(lambda connection: sessions.end_sessions_of(services, connection, caller.user_id))


def get(services: Services, connection: Connection, caller: Principal, user_id: str) -> sa.Row[Any]:
    """The user with this id.

    :raises ApiError: 404 if there is none; 403 for another user's unless ADMIN or ``list_users``.
    """
    user = _by_id(connection, user_id)
    if user.id != caller.user_id and not _sees_all(services, caller):
        raise _not_authorized()
    return user


def listed(
    services: Services,
    connection: Connection,
    caller: Principal,
    *,
    skip: int,
    limit: int,
    search: Optional[str],
    sort_by: UserSort,
    sort_order: SortOrder,
) -> List[sa.Row[Any]]:
    """A page of the users that the caller may see."""
    query = (
        sa.select(users)
        .where(_visible(services, caller, search))
        .order_by(ordered(_SORTS[sort_by], sort_order), ordered(users.c.id, sort_order))
        .offset(skip)
        .limit(limit)
    )
    return list(connection.execute(query).all())


def count(services: Services, connection: Connection, caller: Principal, search: Optional[str]) -> int:
    """How many users the caller may see."""
    query = sa.select(sa.func.count()).select_from(users).where(_visible(services, caller, search))
    return int(connection.scalar(query) or 0)


def create(services: Services, connection: Connection, body: UserBody, password_hash: str) -> sa.Row[Any]:
    """Make an account; :func:`may_create` was asked before.

    :raises ApiError: 409 for an address that is taken.
    """
    role = body.role or Role.USER
    return _insert(services, connection, body.email, password_hash, body.firstName, body.lastName, role)


def may_create(services: Services, caller: Optional[Principal], role: Optional[Role]) -> None:
    """Registration is open, or only for ADMINs; a role of ADMIN is given by ADMINs only.

    :raises ApiError: 401 or 403.
    """
    if caller is not None and caller.is_admin:
        return
    if role is Role.ADMIN:
        raise _not_authorized()
    if not services.settings.open_registration:
        if caller is None:
            raise ApiError(401, "Not authenticated", {"WWW-Authenticate": "Bearer"})
        raise _not_authorized()


def check_new_password(services: Services, password: str) -> None:
    """The alphabet of ``strict_passwords``; length and ASCII were checked with the body.

    :raises RequestValidationError: another character occurs.
    """
    if services.settings.strict_passwords and not _STRICT.match(password):
        raise invalid(("body", "password"), "may contain only letters, digits and @$!%*?&")


def may_change(connection: Connection, caller: Principal, user_id: str, patch: UserPatch) -> None:
    """Everybody may change himself, but not his role or whether he is active; ADMINs may change all.

    :raises ApiError: 403. Returns if there is no such user.
    """
    if caller.is_admin:
        return
    if not _exists(connection, user_id):
        return
    if user_id != caller.user_id or patch.model_fields_set & {"role", "isActive"}:
        raise _not_authorized()


def change(
    services: Services,
    connection: Connection,
    caller: Principal,
    user_id: str,
    patch: UserPatch,
    password_hash: Optional[str],
) -> sa.Row[Any]:
    """Change exactly what ``patch`` has set; a new password ends his other sessions, deactivation all.

    :raises ApiError: 404; 409 for a taken address, or if no active ADMIN would be left.
    """
    lock(connection, "roles")
    user = _by_id(connection, user_id)
    given = patch.model_fields_set
    values: Dict[str, Any] = {}
    if "firstName" in given:
        values["first_name"] = patch.firstName
    if "lastName" in given:
        values["last_name"] = patch.lastName
    if "email" in given:
        values.update(email=patch.email, email_key=patch.email.lower())
    if "role" in given:
        values["role"] = patch.role.value
    if "isActive" in given:
        values["is_active"] = patch.isActive
    if password_hash is not None:
        values["password_hash"] = password_hash
    if not values:
        return user
    stays_admin = values.get("role", user.role) == Role.ADMIN.value and values.get("is_active", user.is_active)
    if not stays_admin:
        _keep_an_admin(connection, user)
    if "email_key" in values and _taken_by_another(connection, user_id, values["email_key"]):
        raise _taken()
    values["updated_at"] = services.clock.now()
    try:
        connection.execute(users.update().where(users.c.id == user_id).values(**values))
    except IntegrityError:
        raise _taken() from None
    if "role" in values and values["role"] != user.role:
        outbox.role_changed(connection, services, user_id, values["role"])
    if values.get("is_active") is False:
        sessions.end_sessions_of(services, connection, user_id)
    elif password_hash is not None:
        sessions.end_sessions_of(services, connection, user_id, but=caller.session_id)
    return _by_id(connection, user_id)


def may_delete(connection: Connection, caller: Principal, user_id: str) -> None:
    """Everybody may delete himself, ADMINs anybody.

    :raises ApiError: 403. Returns if there is no such user.
    """
    if caller.is_admin or user_id == caller.user_id:
        return
    if _exists(connection, user_id):
        raise _not_authorized()


def delete(services: Services, connection: Connection, user_id: str) -> None:
    """Delete a user with his sessions, tables, buckets and files.

    :raises ApiError: 404; 409 for the last active ADMIN.
    """
    from . import buckets, tables

    lock(connection, "roles")
    user = _by_id(connection, user_id)
    _keep_an_admin(connection, user)
    sessions.end_sessions_of(services, connection, user_id)
    tables.delete_owned(connection, services, user_id)
    buckets.delete_owned(connection, services, user_id)
    connection.execute(users.delete().where(users.c.id == user_id))


def _keep_an_admin(connection: Connection, user: sa.Row[Any]) -> None:
    if user.role != Role.ADMIN.value or not user.is_active:
        return
    others = sa.select(sa.func.count()).where(
        users.c.role == Role.ADMIN.value, users.c.is_active, users.c.id != user.id
    )
    if not connection.scalar(others):
        raise ApiError(409, "The last administrator cannot be deleted, demoted or deactivated")


def _insert(
    services: Services,
    connection: Connection,
    email: str,
    password_hash: str,
    first_name: str,
    last_name: str,
    role: Role,
) -> sa.Row[Any]:
    if _by_email(connection, email) is not None:
        raise _taken()
    now = services.clock.now()
    user_id = str(uuid.uuid4())
    row = users.insert().values(
        id=user_id,
        email=email,
        email_key=email.lower(),
        password_hash=password_hash,
        first_name=first_name,
        last_name=last_name,
        role=role.value,
        is_active=True,
        created_at=now,
        updated_at=now,
    )
    try:
        connection.execute(row)
    except IntegrityError:  # somebody was faster
        raise _taken() from None
    return _by_id(connection, user_id)


def _by_email(connection: Connection, email: str) -> Optional[sa.Row[Any]]:
    return connection.execute(sa.select(users).where(users.c.email_key == email.lower())).one_or_none()


def _by_id(connection: Connection, user_id: str) -> sa.Row[Any]:
    user = None
    if as_id(user_id) is not None:
        user = connection.execute(sa.select(users).where(users.c.id == user_id)).one_or_none()
    if user is None:
        raise ApiError(404, "User not found")
    return user


def _exists(connection: Connection, user_id: str) -> bool:
    if as_id(user_id) is None:
        return False
    return connection.scalar(sa.select(users.c.id).where(users.c.id == user_id)) is not None


def _taken_by_another(connection: Connection, user_id: str, email_key: str) -> bool:
    query = sa.select(users.c.id).where(users.c.email_key == email_key, users.c.id != user_id)
    return connection.scalar(query) is not None


def _visible(services: Services, caller: Principal, search: Optional[str]) -> sa.ColumnElement[bool]:
    visible: sa.ColumnElement[bool] = sa.true()
    if not _sees_all(services, caller):
        visible = users.c.id == caller.user_id
    if search is not None:
        visible = sa.and_(
            visible, contains(services.database, search, users.c.email, users.c.first_name, users.c.last_name)
        )
    return visible


def _sees_all(services: Services, caller: Principal) -> bool:
    return caller.is_admin or services.settings.list_users


def _not_authorized() -> ApiError:
    return ApiError(403, "Not authorized")


def _taken() -> ApiError:
    return ApiError(409, "Email already taken")
