"""The client: where pool, tokens, options and namespaces are put together."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from . import models
from .core.clock import SYSTEM_CLOCK, Deadline
from .core.forks import load_before_fork
from .core.http import Verify
from .core.marks import blocking
from .core.namespace import Caller, RawCaller, reading
from .core.options import NOT_GIVEN, CallOptions, NotGiven, Timeout, check_field_value
from .core.parsing import one
from .core.pool import Pool
from .core.stores import SessionStore
from .core.tokens import TokenKeeper, Tokens, binding_of
from .core.transport import Transport
from .core.urls import BaseURL
from .exceptions import (
    APIConnectionError,
    APITimeoutError,
    InternalServerError,
    InvalidRequestError,
    RateLimitError,
    SelfDBError,
)

if TYPE_CHECKING:
    from types import TracebackType

    import requests
    from typing_extensions import Self

    from .auth import Auth
    from .models import SystemStatus
    from .realtime import Realtime
    from .storage import Storage, UploadRoute
    from .tables import Tables
    from .tables.dialect import Dialect

__all__ = ["RawSelfDB", "SelfDB"]

_RESERVED = frozenset(
    {
        "x-api-key",
        "authorization",
        "cookie",
        "idempotency-key",
        "content-length",
        "transfer-encoding",
        "host",
        "connection",
    }
)
_STATUS = one(lambda: models.SystemStatus)

_LOCAL_PATIENCE = 10.0
"""Seconds that ``SelfDB.local`` waits for a server that is only just starting, or stopping, on the same folder."""


class SelfDB:
    """A client of one SelfDB server.

    Make one for the whole program and share it: by threads, by requests of a web application, across a fork. It
    opens no connection and starts no thread before the first call.

    :param base_url: where the server lives, such as ``https://api.example.com``; ``SELFDB_URL`` by default.
    :param api_key: the server's API key; ``SELFDB_API_KEY`` by default.
    :param timeout: seconds, or ``(connect, read)``: to connect (look-up, TCP and TLS together), and to wait for
        the server's next byte. ``None`` waits for ever.
    :param deadline: seconds for a whole call with its retries and body; ``None`` for no limit. Uploads and
        downloads have none, unless ``with_options(deadline=...)`` gives them one. On a ``session`` of your own it
        is checked between reads.
    :param auto_refresh: whether a call that meets an expired token refreshes the session and is made once more.
    :param max_retries: attempts after the first, where repeating is safe; 0 for none.
    :param verify: as in ``requests``: ``False``, ``True``, or the path of a CA bundle. Given, it beats the
        environment; by default ``REQUESTS_CA_BUNDLE`` and ``CURL_CA_BUNDLE`` count, else the bundle of ``certifi``.
    :param session: a ``requests.Session`` of your own; its adapters, proxies, hooks and certificates stay yours,
        and you close it. Make it after a fork: its connections are not let go of in the child, as ours are.
    :param headers: sent with every request.
    :param idempotent_writes: give each write an idempotency key of its own, so that a server that knows them
        does it once even where the client has to repeat it.
    :param session_store: keeps the session beyond the process, such as :class:`~selfdb.core.stores.FileStore`.
    :raises InvalidRequestError: (a ``ValueError``) for an argument that is missing or wrong.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: Timeout = (5, 30),
        deadline: float | None = 60,
        auto_refresh: bool = True,
        max_retries: int = 2,
        verify: Verify = None,
        session: requests.Session | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent_writes: bool = False,
        session_store: SessionStore | None = None,
    ) -> None:
        base = BaseURL(_given(base_url, "SELFDB_URL", "base_url"))
        key = _given(api_key, "SELFDB_API_KEY", "api_key")
        check_field_value(key, "api_key")
        options = CallOptions().changed(
            timeout=timeout,
            deadline=deadline,
            max_retries=max_retries,
            headers={} if headers is None else headers,
            idempotent_writes=idempotent_writes,
            reserved=_RESERVED,
        )
        pool = Pool(session, verify)
        keeper = TokenKeeper(session_store, binding_of(str(base.origin) + base.prefix, key))
        self._renewer = _renew_session if auto_refresh else None
        self._owned_server: Any = None
        transport = Transport(pool, base, {"X-API-Key": key}, keeper, options, self._renewer)
        self._assemble(transport, _Learnt())

    def _assemble(self, transport: Transport, learnt: _Learnt) -> None:
        self._transport = transport
        self._learnt = learnt
        self._call = Caller(transport)
        # Each is imported and made when it is first used: few programs need all, and many clones need one.
        self._auth: Auth | None = None
        self._tables: Tables | None = None
        self._storage: Storage | None = None

    def _derived(self, **changes: Any) -> Self:
        """A client of the same pool with parts of the transport exchanged; closing it closes nothing else."""
        mine = self._transport
        parts: dict[str, Any] = {
            "keeper": mine.keeper,
            "options": mine.options,
            "renewer": mine.renewer,
            "lifeline": mine.lifeline.derive(),
            **changes,
        }
        clone = object.__new__(type(self))
        clone._owned_server = None
        clone._renewer = self._renewer
        clone._assemble(Transport(mine.pool, mine.base, mine.identity, **parts), self._learnt)
        return clone

    @classmethod
    @blocking(opens=True)
    def local(
        cls,
        path: Union[str, os.PathLike[str], None] = None,
        *,
        email: str = "admin@example.com",
        password: str = "password",  # noqa: S107 - what a new folder is set up with
        **options: Any,
    ) -> Self:
        """A signed-in client of an embedded server on this machine.

        Starts a server on a free port for the folder ``path``, or attaches to the one that serves it already.
        A server that was started here stops with :meth:`close` of this client.

        :param path: the data folder; without one a temporary folder, which goes with the client.
        :param email: whom to sign in as.
        :param password: that user's; a new folder knows the default pair.
        :param options: as for :class:`SelfDB`, without ``base_url`` and ``api_key``.
        :raises SelfDBError: if the extra ``server`` is not installed, or the server does not start.
        :raises AuthenticationError: if e-mail address and password do not fit.
        """
        try:
            from .server import FolderInUse, LocalServer, serving
        except ImportError as missing:
            raise SelfDBError(
                f"the embedded server needs {missing.name}, which is not installed; "
                'install the extra "server": pip install ".[server]" in the folder of this package'
            ) from missing

        folder = None if path is None else Path(path)
        patience = Deadline(_LOCAL_PATIENCE)
        server: Any = None
        where: Any = None
        while where is None:
            where = None if folder is None else serving(folder)
            if where is not None:
                break
            server = where = LocalServer(folder)
            try:
                server.start()
            except FolderInUse as error:
                # Another process began between the look and the start, and tells in a moment where it serves.
                server = where = None
                if patience.passed:
                    raise SelfDBError(f"the folder {folder} is in use and not served: {error}") from error
            except Exception as error:  # of the database, of the file system, of the settings
                raise SelfDBError(f"the embedded server did not start: {error}") from error
        client = None
        try:
            client = cls(where.url, where.api_key, **options)
            client.auth.login(email=email, password=password)
        except BaseException:
            if client is not None:
                client.close()
            if server is not None:
                server.stop()
            raise
        client._owned_server = server
        return client

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"

    def __enter__(self) -> Self:
        return self

    @blocking(closes=True)
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        # Its secrets would be in the pickle, and its connections could not be.
        raise TypeError("a SelfDB client cannot be pickled; make one in each process, or share it across a fork")

    @property
    def auth(self) -> Auth:
        """Signing in and out, and the users of the server."""
        auth = self._auth
        if auth is None:
            from .auth import Auth

            auth = self._auth = Auth(self._transport)
        return auth

    @property
    def tables(self) -> Tables:
        """Tables, their columns and their rows."""
        tables = self._tables
        if tables is None:
            from .tables import Tables

            tables = self._tables = Tables(self._transport, self._learnt.dialect)
        return tables

    @property
    def storage(self) -> Storage:
        """Buckets, and the files in them."""
        storage = self._storage
        if storage is None:
            from .storage import Storage

            storage = self._storage = Storage(self._transport, self._learnt.route)
        return storage

    @property
    def realtime(self) -> Realtime:
        """Events of the server, on background threads that start with ``realtime.connect()``."""
        realtime = vars(self).get("_realtime")
        if realtime is None:
            from .realtime import Realtime

            realtime = vars(self).setdefault("_realtime", Realtime(self._transport))
        return realtime  # type: ignore[no-any-return]

    @property
    def base_url(self) -> str:
        """Where the server lives, without a trailing slash."""
        return self._transport.base.text

    @property
    def api_key(self) -> str:
        """The API key. Secret."""
        return self._transport.identity["X-API-Key"]

    @property
    def access_token(self) -> str | None:
        """The access token in use, or ``None`` when signed out. Secret.

        May be set; the refresh token goes then, for it may be another user's: set it after this one.
        """
        tokens = self._transport.keeper.current()
        return None if tokens is None else tokens.access

    @access_token.setter
    def access_token(self, value: str | None) -> None:
        self._transport.keeper.set(None if value is None else Tokens(_token(value)))

    @property
    def refresh_token(self) -> str | None:
        """The refresh token in use, or ``None``. Secret. May be set while signed in."""
        tokens = self._transport.keeper.current()
        return None if tokens is None else tokens.refresh

    @refresh_token.setter
    def refresh_token(self, value: str | None) -> None:
        tokens = self._transport.keeper.current()
        if tokens is None:
            raise InvalidRequestError("set access_token first: a refresh token alone is no session")
        self._transport.keeper.set(Tokens(tokens.access, None if value is None else _token(value)))

    def with_options(
        self,
        *,
        timeout: Timeout | NotGiven = NOT_GIVEN,
        deadline: float | NotGiven | None = NOT_GIVEN,
        max_retries: int | NotGiven = NOT_GIVEN,
        headers: Mapping[str, str] | NotGiven = NOT_GIVEN,
        idempotent_writes: bool | NotGiven = NOT_GIVEN,
    ) -> Self:
        """A light clone with some options changed, for one call or for many: ``db.with_options(timeout=1).auth.me()``.

        It shares connections and session (signing in on one signs in on both). Arguments are those of
        :class:`SelfDB`; ``headers`` are added, and a ``deadline`` holds for uploads and downloads too.

        :raises InvalidRequestError: for a value out of range.
        """
        options = self._transport.options.changed(
            timeout=timeout,
            deadline=deadline,
            stream_deadline=deadline,
            max_retries=max_retries,
            headers=headers,
            idempotent_writes=idempotent_writes,
            reserved=_RESERVED,
        )
        return self._derived(options=options)

    def as_user(self, access_token: str, refresh_token: str | None = None) -> Self:
        """A light client for another user that shares nothing but connections.

        For servers that act for many users, such as a Flask view: one client for the program, ``as_user`` in each
        request. Cheap; need not be closed.

        :param refresh_token: without one the session is not renewed when it ends.
        :raises InvalidRequestError: if a token is empty or could not stand in a header.
        """
        tokens = Tokens(_token(access_token), None if refresh_token is None else _token(refresh_token))
        keeper = TokenKeeper()
        keeper.set(tokens)
        return self._derived(keeper=keeper, renewer=self._renewer if refresh_token is not None else None)

    def as_guest(self) -> Self:
        """A light client for somebody who is not signed in (yet); shares nothing but connections.

        Where many users sign in through one program, each has to do so on a client of his own, for ``auth.login``
        makes every later call of its client that user's: ``guest = db.as_guest(); guest.auth.login(...)``. Cheap;
        need not be closed.
        """
        return self._derived(keeper=TokenKeeper(), renewer=self._renewer)

    @property
    def with_raw_response(self) -> RawSelfDB:
        """The same calls with whole answers: see :class:`~selfdb.core.response.RawResponse`."""
        return RawSelfDB(self._transport, self._learnt)

    @blocking
    def status(self) -> SystemStatus:
        """Whether the server is up and set up. Needs the API key only.

        :raises APIConnectionError: if it does not answer.

        ``GET /system/status``
        """
        return self._call(_status_request(), _STATUS)

    @blocking
    def wait_ready(self, timeout: float = 30.0) -> SystemStatus:
        """Wait until the server answers: for cron jobs and containers that start before it.

        :param timeout: seconds to wait at most.
        :returns: its status, as soon as it gives one.
        :raises InvalidRequestError: if ``timeout`` is no number of seconds above 0.
        :raises APITimeoutError: if it gives none in time; what the last attempt met is the cause.
        :raises AuthenticationError: at once, if it refuses the API key.
        """
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
            raise InvalidRequestError("timeout must be a finite number of seconds above 0")
        clock = SYSTEM_CLOCK
        end = Deadline(timeout, clock)
        pause = 0.05
        while True:
            attempt = self.with_options(max_retries=0, deadline=max(0.05, min(5.0, end.remaining() or 0.0)))
            try:
                return attempt.status()
            except (APIConnectionError, InternalServerError, RateLimitError) as error:
                if not end.allows(pause):
                    raise APITimeoutError(f"{self.base_url} was not ready within {timeout:g} s") from error
            self._transport.lifeline.sleep(pause)
            pause = min(1.0, pause * 2)

    @blocking(closes=True)
    def close(self) -> None:
        """End the client: waits between retries end at once, new calls raise ``ClientClosedError``.

        Idempotent, from any thread. A clone ends alone; the client that it came from ends with all its clones. A
        ``session`` of your own stays open.
        """
        realtime = vars(self).get("_realtime")
        if realtime is not None:
            realtime.disconnect()
        if self._transport.lifeline is self._transport.pool.lifeline:
            self._transport.pool.close()
        else:
            self._transport.lifeline.close()
        server, self._owned_server = self._owned_server, None
        if server is not None:
            server.stop()


@blocking
class RawSelfDB:
    """The namespaces of :class:`SelfDB` with whole answers. Calls that make several exchanges (``iter``,
    ``insert_many``, queries, streams) have no such form."""

    def __init__(self, transport: Transport, learnt: _Learnt) -> None:
        from .auth import Auth, RawAuth
        from .storage import RawStorage, Storage
        from .tables import RawTables, Tables

        call = RawCaller(transport)
        self.auth = RawAuth(Auth(transport, call))
        self.tables = RawTables(Tables(transport, learnt.dialect, call))
        self.storage = RawStorage(Storage(transport, learnt.route, call))


class _Learnt:
    """What a client and its clones have learnt about their server, by the namespace that is the first to need it."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}

    @property
    def dialect(self) -> Dialect:
        """The way in which it speaks of tables."""
        from .tables.dialect import Dialect

        return self._parts.setdefault("dialect", Dialect())  # type: ignore[no-any-return]

    @property
    def route(self) -> UploadRoute:
        """Where it takes uploads."""
        from .storage import UploadRoute

        return self._parts.setdefault("route", UploadRoute())  # type: ignore[no-any-return]


def _load_all() -> None:
    """Import what is otherwise imported when it is first used."""
    import decimal  # noqa: F401
    import html  # noqa: F401
    import uuid  # noqa: F401

    from pydantic import FailFast, TypeAdapter, ValidationError  # noqa: F401

    from . import auth, models, realtime  # noqa: F401
    from .core import bulk, unread  # noqa: F401
    from .storage import Storage  # noqa: F401
    from .tables import Tables  # noqa: F401

    for package in (models, realtime):
        for name in package.__all__:
            getattr(package, name)


load_before_fork(_load_all)


def _renew_session(transport: Transport, refresh_token: str, deadline: Deadline) -> Tokens:
    from .auth import renew_session

    return renew_session(transport, refresh_token, deadline)


def _status_request() -> Any:
    return reading("/system/status")._replace(bearer=False)


def _given(value: str | None, variable: str, what: str) -> str:
    found = os.environ.get(variable, "") if value is None else value
    if not isinstance(found, str):
        raise InvalidRequestError(f"{what} must be a str, not {type(found).__name__}")
    if not found:
        raise InvalidRequestError(f"{what} is missing: pass it, or set the environment variable {variable}")
    return found


def _token(value: Any) -> str:
    if not isinstance(value, str) or not value or any(not 33 <= ord(character) <= 126 for character in value):
        raise InvalidRequestError("a token must be a str of printable ASCII characters without blanks")
    check_field_value(value, "a token")
    return value
