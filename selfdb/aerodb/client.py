"""The client of an AeroDB server, or of any PostgREST: where its parts are put together."""

from __future__ import annotations

import ipaddress
import os
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

from ..core.dispatch import Dispatcher
from ..core.http import Verify
from ..core.marks import blocking
from ..core.options import CallOptions, check_field_value
from ..core.pool import Pool
from ..core.retry import RetryPolicy as KernelPolicy
from ..core.tokens import TokenKeeper
from ..core.transport import Transport
from ..core.urls import BaseURL
from ..exceptions import InvalidRequestError
from .auth import AuthClient
from .cache import OfflineCache
from .calls import Calls, WaysToRefuse
from .database import DatabaseClient, QueryBuilder
from .envelope import AeroDBResponse
from .functions import FunctionsClient
from .health import HealthClient
from .realtime import RealtimeChannel, RealtimeClient
from .retry import RetryPolicy
from .rows import Row
from .session import REFUSALS, SessionBook
from .storage import StorageClient

if TYPE_CHECKING:
    from types import TracebackType

    import requests
    from typing_extensions import Self

    from .database import ModelT

__all__ = ["AeroDBClient"]

_RESERVED = frozenset({"cookie", "content-length", "transfer-encoding", "host", "connection"})


class AeroDBClient:
    """A client of one AeroDB server, or of any PostgREST.

    Make one for the whole program and share it: by threads, across a fork. It opens no connection and starts no thread
    before the first call. Only this constructor raises; every call gives an
    :class:`~selfdb.aerodb.AeroDBResponse` with data or an error.

    :param url: where the server lives. Tables are below ``/rest/v1``.
    :param key: the server's API key, sent as ``apikey``; never as a bearer token.
    :param schema: of the tables.
    :param headers: sent with every request; what the client sets itself wins.
    :param realtime_url: where events come from, if not from ``url``.
    :param timeout: seconds for a whole call; of uploads and downloads, for each wait.
    :param retry: how to try again what failed; by default nothing is.
    :param auto_refresh: whether a call that meets an expired access token refreshes the session and is made once more.
    :param cache: gives rows that were read before while the server cannot be reached.
    :param require_https: whether plain ``http`` to another machine is refused; by default it is where ``AERODB_ENV`` is
        ``production``, and warned of elsewhere.
    :param session: a ``requests.Session`` of your own; its adapters, proxies, hooks and certificates stay yours, and
        you close it.
    :param verify: as in ``requests``: ``False``, ``True``, or the path of a CA bundle.
    :raises InvalidRequestError: (a ``ValueError``) for an argument that is missing or wrong.

    :ivar auth: signing up, in and out.
    :ivar storage: buckets, and the objects in them.
    :ivar functions: functions that run on the server.
    :ivar realtime: the connection for events.
    :ivar health: whether the server is up.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        schema: str = "public",
        headers: Mapping[str, str] | None = None,
        realtime_url: str | None = None,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        auto_refresh: bool = True,
        cache: OfflineCache | None = None,
        require_https: bool | None = None,
        session: requests.Session | None = None,
        verify: Verify = None,
    ) -> None:
        base = BaseURL(url, "url")
        target = None if realtime_url is None else BaseURL(_as_http(realtime_url), "realtime_url")
        _check_https({"url": base} if target is None else {"url": base, "realtime_url": target}, require_https)
        if key is not None:
            if not isinstance(key, str) or not key:
                raise InvalidRequestError("key must be a str that is not empty, or None")
            check_field_value(key, "key")
        if not isinstance(schema, str) or not schema or schema in (".", ".."):
            raise InvalidRequestError("schema must be the name of a schema")
        check_field_value(schema, "schema")
        _check_kinds(timeout, retry, auto_refresh, cache, session)
        pool = Pool(session, verify)
        keeper = TokenKeeper(refusals=REFUSALS)
        options = _options(timeout, headers, key)
        self._book = book = SessionBook(keeper, key, pool.clock.time, options.headers)
        self._calls = calls = Calls(
            Transport(
                pool,
                base,
                {} if key is None else {"apikey": key},
                keeper,
                options._replace(retry=self._policy(retry)),
                book.renew if auto_refresh else None,
                refusals=WaysToRefuse(),
            ),
            schema,
            cache,
            book.identity,
        )
        self._dispatcher = Dispatcher(name="selfdb-aerodb-dispatch")
        self._db = DatabaseClient(calls)
        self.auth = AuthClient(calls, book)
        self.storage = StorageClient(calls)
        self.functions = FunctionsClient(calls)
        self.realtime = RealtimeClient(calls, target, self._dispatcher)
        self.health = HealthClient(calls, self._dispatcher)
        book.on_user = self.realtime.user_changed

    def _policy(self, retry: RetryPolicy | None) -> KernelPolicy:
        if retry is None:
            return KernelPolicy(max_retries=0)
        return retry.for_kernel(lambda error: self._calls.error_of(error))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(url={self._calls.url!r})"

    def __reduce__(self) -> Any:
        # Its secrets would be in the pickle, and its connections could not be.
        raise TypeError("an AeroDBClient cannot be pickled; make one in each process, or share it across a fork")

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

    @overload
    def from_(self, table: str, model: None = ...) -> QueryBuilder[Row, list[Row]]: ...

    @overload
    def from_(self, table: str, model: type[ModelT]) -> QueryBuilder[ModelT, list[ModelT]]: ...

    def from_(self, table: str, model: type[Any] | None = None) -> QueryBuilder[Any, Any]:
        """A query of ``table``, or of a view.

        :param model: a pydantic model that rows come back as; dicts by default.
        """
        return self._db.from_(table, model)

    @overload
    def table(self, table: str, model: None = ...) -> QueryBuilder[Row, list[Row]]: ...

    @overload
    def table(self, table: str, model: type[ModelT]) -> QueryBuilder[ModelT, list[ModelT]]: ...

    def table(self, table: str, model: type[Any] | None = None) -> QueryBuilder[Any, Any]:
        """Another name of :meth:`from_`."""
        return self._db.from_(table, model)

    @blocking
    def rpc(self, name: str, params: Mapping[str, Any] | None = None) -> AeroDBResponse[Any]:
        """Call the database's function ``name`` with ``params`` by name; what it returns is the data.

        ``POST /rest/v1/rpc/{name}``
        """
        return self._db.rpc(name, params)

    def channel(self, name: str) -> RealtimeChannel:
        """The channel ``name``; the same object until it is unsubscribed. Asks nobody."""
        return self.realtime.channel(name)

    @blocking(closes=True)
    def close(self) -> None:
        """End the background threads and let go of all connections; waits that are under way end at once.

        Idempotent. Every later call gives the error ``CLIENT_CLOSED``. The cache stays open.
        """
        self._calls.transport.pool.close()
        self.health.stop()
        self.realtime.disconnect()
        self._dispatcher.close()


def _as_http(url: Any) -> Any:
    return re.sub(r"^ws(?=s?://)", "http", url, flags=re.IGNORECASE) if isinstance(url, str) else url


def _check_https(bases: Mapping[str, BaseURL], require: Any) -> None:
    if require is not None and not isinstance(require, bool):
        raise InvalidRequestError("require_https must be True, False or None")
    open_ones = [name for name, base in bases.items() if base.origin.scheme == "http" and not _is_loopback(base)]
    if not open_ones:
        return
    if require or (require is None and os.environ.get("AERODB_ENV") == "production"):
        raise InvalidRequestError(f"{open_ones[0]} must be https: keys and tokens would go through the net as they are")
    warnings.warn(
        f"{open_ones[0]} is plain http, so that everybody on the way can read keys and tokens; use https",
        UserWarning,
        stacklevel=3,
    )


def _is_loopback(base: BaseURL) -> bool:
    host = base.origin.host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_kinds(timeout: Any, retry: Any, auto_refresh: Any, cache: Any, session: Any) -> None:
    if timeout is None or isinstance(timeout, (tuple, list)):
        raise InvalidRequestError("timeout must be a number of seconds")
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise InvalidRequestError(f"retry must be a RetryPolicy or None, not {type(retry).__name__}")
    if not isinstance(auto_refresh, bool):
        raise InvalidRequestError("auto_refresh must be True or False")
    if cache is not None and not isinstance(cache, OfflineCache):
        raise InvalidRequestError(f"cache must be an OfflineCache or None, not {type(cache).__name__}")
    if session is not None and not (hasattr(session, "send") and hasattr(session, "verify")):
        raise InvalidRequestError(f"session must be a requests.Session or None, not {type(session).__name__}")


def _options(timeout: float, headers: Any, key: str | None) -> CallOptions:
    options = CallOptions().changed(
        timeout=timeout, deadline=timeout, headers={} if headers is None else headers, reserved=_RESERVED
    )
    ours = {"accept"} if key is None else {"accept", "apikey"}  # which win, however they are written
    kept = {name: value for name, value in options.headers.items() if name.lower() not in ours}
    return options._replace(headers=kept)
