"""What the parts of a running server share, put together in one place."""

from __future__ import annotations

import hmac
import os
import secrets
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import AbstractSet, Annotated, Callable, Optional

import sqlalchemy as sa
from fastapi import Depends, Request
from sqlalchemy.engine import Connection
from starlette.requests import HTTPConnection

from .bearer import Tokens
from .clock import Clock, SystemClock
from .database import Database, lock
from .idempotency import InFlight, forget_expired
from .migrations import migrate
from .objects import ObjectStore
from .passwords import Passwords
from .privatefiles import make_private_folder, write_secret
from .realtime.doorbell import Doorbell
from .schema import files
from .schema import settings as stored
from .settings import Settings
from .throttle import LoginThrottle

__all__ = ["Services", "ServicesDep", "get_services", "open_services"]

API_KEY_FILE = "api-key"
DATABASE_FILE = "selfdb.sqlite3"


@dataclass
class Services:
    """One running server. Everything in it is safe to use from any thread."""

    settings: Settings
    clock: Clock
    database: Database
    objects: ObjectStore
    passwords: Passwords
    tokens: Tokens
    throttle: LoginThrottle
    api_key: str = field(repr=False)
    #: The file that a generated API key was written to; ``None`` when the operator chose the key.
    api_key_file: Optional[Path] = None
    in_flight: InFlight = field(default_factory=InFlight)
    initialized: bool = False
    #: Rung after each commit that sockets may want to know of.
    doorbell: Doorbell = field(default_factory=Doorbell)

    def is_api_key(self, candidate: str) -> bool:
        """Whether ``candidate`` is the API key, in a time that does not tell how much of it is."""
        return hmac.compare_digest(candidate.encode("utf-8", "replace"), self.api_key.encode())

    def versions_in_use(self, prefix: str) -> AbstractSet[str]:
        """The versions in the object store that the catalogue names, among those that begin with ``prefix``."""
        query = sa.select(files.c.version).where(files.c.version.startswith(prefix, autoescape=True))
        with self.database.read() as connection:
            return frozenset(connection.scalars(query))

    def is_initialized(self) -> bool:
        """Whether anybody ever signed in, at this server or at another one of the same database."""
        if not self.initialized:
            with self.database.read() as connection:
                self.initialized = _stored(connection, "initialized") is not None
        return self.initialized

    def mark_initialized(self, connection: Connection) -> None:
        """Note that somebody signed in."""
        lock(connection, "initialized")
        _kept(connection, "initialized", lambda: "true")

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def open_services(settings: Settings, clock: Optional[Clock] = None) -> Services:
    """Open (and make or migrate) the data folder and the database, and put a server together.

    :raises SettingsError: see :func:`selfdb.server.users.refuse_default_password`.
    :raises SchemaTooNew: the data was written by a newer version.
    """
    from . import users

    clock = clock or SystemClock()
    make_private_folder(settings.data)
    path = settings.data / DATABASE_FILE
    if settings.database is None:
        # Made by us first, so that it is never readable by others, not even for a moment.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    database = Database(settings.database if settings.database is not None else path)
    try:
        database.prepare()
        migrate(database, clock)
        passwords = Passwords(settings.hash_time_cost, settings.hash_memory_kib)
        with database.write() as connection:
            lock(connection, "secrets")
            tokens = Tokens(_kept(connection, "token_secret", lambda: secrets.token_urlsafe(48)))
            api_key = settings.api_key
            if api_key is None:
                api_key = _kept(connection, "api_key", lambda: f"selfdb-{uuid.uuid4()}")
            initialized = _stored(connection, "initialized") is not None
        services = Services(
            settings=settings,
            clock=clock,
            database=database,
            objects=ObjectStore(settings.data / "objects"),
            passwords=passwords,
            tokens=tokens,
            throttle=LoginThrottle(clock, settings.login_failures, settings.login_window_seconds),
            api_key=api_key,
            initialized=initialized,
        )
        services.objects.sweep(services.versions_in_use, time.time())
        forget_expired(services)
        users.seed_admin(services)
        users.refuse_default_password(services)
        if settings.api_key is None:
            services.api_key_file = settings.data / API_KEY_FILE
            write_secret(services.api_key_file, api_key + "\n")
        return services
    except BaseException:
        database.close()
        raise


def _stored(connection: Connection, name: str) -> Optional[str]:
    return connection.scalar(sa.select(stored.c.value).where(stored.c.name == name))


def _kept(connection: Connection, name: str, make: Callable[[], str]) -> str:
    value = _stored(connection, name)
    if value is None:
        value = make()
        connection.execute(stored.insert().values(name=name, value=value))
    return value


def get_services(request: HTTPConnection) -> Services:
    """The services of the application that got ``request``."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


async def _services(request: Request) -> Services:
    # A coroutine only so that FastAPI does not send it to another thread.
    return get_services(request)


ServicesDep = Annotated[Services, Depends(_services)]
