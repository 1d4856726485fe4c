"""The `requests` session that a client owns: pooled, quiet, and bound to the deadline of the call down to each read.

`requests` and `urllib3` know time-outs for one socket wait only: a server that sends a byte now and then holds a
caller for ever. Here the connection asks the call's deadline before every wait, the name look-up included.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import socket
import ssl
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from http.client import HTTPResponse, IncompleteRead, NotConnected
from typing import Any, Union
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import DEFAULT_POOLBLOCK, HTTPAdapter
from requests.cookies import RequestsCookieJar
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool, _close_pool_connections
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context

from .._version import __version__
from ..exceptions import InvalidRequestError
from .call import current_call, interruptible
from .clock import Deadline
from .forks import renew_after_fork
from .framing import Head, settle

__all__ = [
    "CALL",
    "BoundedResponse",
    "Bounds",
    "ClientSession",
    "Verify",
    "bounded",
    "set_timeout",
    "shut_down",
    "tls_context",
    "warn_if_patched_late",
]

Verify = Union[bool, str, "os.PathLike[str]", None]
"""As in `requests`: true, false, or a CA bundle; ``None`` takes the environment's bundle, else the default one."""

POOL_SIZE = 64
"""Connections kept open. A thread beyond them gets one of its own that is closed after use."""

FRESH_SECONDS = 4.0
"""How long a kept connection may have been idle to carry a write. Common servers close theirs after 5 s, and a write
that crosses with that can neither be repeated nor be said to have failed; a read is simply sent again."""

BLOCK_SIZE = 256 * 1024
"""Bytes read from a body and written to the socket in one step."""


SEND_SIZE = 64 * 1024
"""Bytes that a peer has to take within one read time-out, at most: a TLS connection takes all of them or waits."""


class Bounds:
    """What the connection has to know of one attempt, and what it tells about it.

    :ivar connect: seconds for look-up, TCP and TLS together; ``None`` for no limit of their own.
    :ivar read: seconds for one wait on the peer.
    :ivar deadline: of the whole call.
    :ivar sent: whether a byte of the request may have left: decides whether a failed write may be repeated.
    :ivar tracked: whether a connection of ours was asked at all: a mock of the adapter, or a SOCKS proxy, does not say.
    :ivar writes: whether the request changes something, so that it wants a connection that is surely open.
    """

    __slots__ = ("connect", "deadline", "read", "sent", "tracked", "writes")

    def __init__(self, connect: float | None, read: float | None, deadline: Deadline, writes: bool = False) -> None:
        self.connect = connect
        self.read = read
        self.deadline = deadline
        self.writes = writes
        self.sent = self.tracked = False


_NO_CALL = Bounds(None, None, Deadline(None))


_LOCAL: type = threading.local


def warn_if_patched_late() -> None:
    """Say so if something, such as gevent, has put its own threads in the place of those that we know."""
    if threading.local is not _LOCAL:
        warnings.warn(
            "threading was patched after selfdb was imported, so that its calls would mix up their time-outs: "
            "call gevent.monkey.patch_all() before selfdb is imported",
            RuntimeWarning,
            stacklevel=4,
        )


class _Call(threading.local):
    """The attempt that this thread makes, and the one that it made last; `requests` has no way to pass them down."""

    now = last = _NO_CALL


CALL = _Call()


class _NoQueries(logging.Filter):
    """Leaves what was searched for out of `urllib3`'s log of our calls, and what it could not read of an answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        if CALL.now is not _NO_CALL and isinstance(record.args, tuple):
            record.exc_info = record.exc_text = None
            record.args = tuple(
                argument.partition("?")[0]
                if isinstance(argument, str)
                else type(argument).__name__
                if isinstance(argument, BaseException)
                else argument
                for argument in record.args
            )
        return True


for _name in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_NoQueries())


@contextlib.contextmanager
def bounded(bounds: Bounds) -> Iterator[None]:
    """Keep ``bounds`` in what this thread does inside. The source of a body may make a call of its own meanwhile."""
    outer, CALL.now = CALL.now, bounds
    try:
        yield
    finally:
        CALL.now, CALL.last = outer, bounds


def _resolve(host: str, port: int, timeout: float | None, answer: queue.SimpleQueue[Any] | None = None) -> list[Any]:
    """`getaddrinfo` with an end: it takes no time-out and cannot be interrupted, so a thread is left behind in it.

    :param answer: a list that is put here from elsewhere is taken for the answer, and ends the waiting.
    """
    if timeout is None and current_call() is None:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if answer is None:
        answer = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=look_up, name="selfdb-resolve", daemon=True).start()
    try:
        with interruptible(lambda: answer.put([])):
            found = answer.get(timeout=timeout)
    except queue.Empty:
        raise TimeoutError(f"looking up {host} took too long") from None
    if isinstance(found, Exception):
        raise found
    return list(found)


def shut_down(sock: Any) -> None:
    """Break ``sock`` off under whichever thread reads or writes it."""
    with contextlib.suppress(OSError, TypeError):  # the latter for TLS within TLS, which is no socket
        # Not the method of a TLS socket, which would make that thread go on without TLS.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _BoundedReader(io.RawIOBase):
    """Reads a socket; each wait ends with the read time-out or the call's deadline, whichever comes first."""

    def __init__(self, sock: Any, ahead: bytes) -> None:
        self._sock = sock
        self._ahead = ahead
        self._raw = sock.makefile("rb", buffering=0)
        self._bounds = CALL.now
        self._break_off = partial(shut_down, sock)
        self.over = False
        """Whether nothing is to be waited for any more."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._ahead:
            taken, self._ahead = self._ahead[: len(buffer)], self._ahead[len(buffer) :]
            buffer[: len(taken)] = taken
            return len(taken)
        if self.over:
            return None
        set_timeout(self._sock, self._bounds.read, self._bounds.deadline)
        call = current_call()
        if call is None:
            return self._raw.readinto(buffer)  # type: ignore[no-any-return]
        call.begin(self._break_off)
        try:
            return self._raw.readinto(buffer)  # type: ignore[no-any-return]
        finally:
            call.over(self._break_off)
            call.check()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Inherited:
    """The connections of this process, which a forked child must let go of: two that read from one socket would
    take each other's answers."""

    def __init__(self) -> None:
        self.connections: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        for connection in list(self.connections):
            sock, connection.sock = connection.sock, None
            if sock is not None:
                sock.close()  # the child's copy only: nothing is sent, the parent's connection lives on
        self.connections = weakref.WeakSet()


_inherited = _Inherited()


def set_timeout(sock: Any, timeout: float | None, deadline: Deadline) -> None:
    seconds = deadline.limit(timeout)
    if seconds == 0:  # would make the socket non-blocking instead
        raise TimeoutError("the deadline has passed")
    if sock.gettimeout() != seconds:  # a system call that is spared while the deadline is far
        sock.settimeout(seconds)


class _AnswerFile(io.BufferedReader):
    """What an answer is read from, and nothing that comes behind it."""

    def __init__(self, sock: Any, ahead: bytes) -> None:
        self._sock = sock
        self._reader = _BoundedReader(sock, ahead)
        super().__init__(self._reader, io.DEFAULT_BUFFER_SIZE)

    def readline(self, limit: int | None = -1) -> bytes:
        line = super().readline(limit)
        # `urllib3` takes what is there of a line for all of it: the first "0" of a chunk's length for the last chunk.
        if line and not line.endswith(b"\n") and (limit is None or not 0 <= limit <= len(line)):
            raise IncompleteRead(line)
        return line

    def close(self) -> None:
        if not self.closed:
            self._reader.over = True
            # More than the answer came. It must not be taken for the answer to the next request, and its rest, where
            # a part was read here or lies within the TLS layer, is on a connection that looks as if it were idle.
            pending = getattr(self._sock, "pending", None)
            if self.peek(1) or (pending is not None and pending()):
                shut_down(self._sock)
        super().close()


class _BoundedSource:
    """Stands in for the socket where `HTTPResponse` asks it for a file."""

    def __init__(self, sock: Any, ahead: bytes) -> None:
        self._sock = sock
        self._ahead = ahead

    def makefile(self, mode: str, *args: Any, **kwargs: Any) -> io.BufferedReader:
        return _AnswerFile(self._sock, self._ahead)


class BoundedResponse(HTTPResponse):
    """An answer read within the bounds of its call.

    :param ahead: what was read of it already.
    """

    def __init__(self, sock: Any, *args: Any, ahead: bytes = b"", **kwargs: Any) -> None:
        super().__init__(_BoundedSource(sock, ahead), *args, **kwargs)  # type: ignore[arg-type]

    def begin(self) -> None:
        whole, self.fp = self.fp, Head(self.fp)  # type: ignore[assignment]
        super().begin()  # who asked closes the answer if it fails
        self.fp = whole
        settle(self)

    def _read_status(self) -> tuple[str, int, str]:
        # `http.client` skips 100 only, and would take any other interim answer, such as 103, for the real one.
        version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, 100 if 101 < status < 200 else status, reason


class _BoundedHTTPConnection(HTTPConnection):
    """A connection whose opening, sending and reading keep the bounds of the call that uses it."""

    response_class = BoundedResponse
    idle_since = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _inherited.connections.add(self)

    def _new_conn(self) -> socket.socket:
        CALL.now.tracked = True
        bound = Deadline(CALL.now.deadline.limit(CALL.now.connect))
        try:
            addresses = _resolve(self._dns_host, self.port or self.default_port, bound.remaining())
        except TimeoutError as error:
            raise ConnectTimeoutError(self, str(error)) from error
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise NewConnectionError(self, "the host name is not a valid one") from error
        failure: OSError = OSError("the look-up found no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            left = bound.remaining()
            # A share each: an address that swallows packets must not use up the time of a sound one.
            share = Deadline(None if left is None else left / (len(addresses) - tried))
            sock = None
            try:
                sock = socket.socket(family, kind, protocol)
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                if self.source_address:
                    sock.bind(self.source_address)
                if current_call() is not None:
                    # A copy, for the handshake of TLS takes the socket itself over.
                    copy = self._opening.enter_context(sock.dup())
                    self._opening.enter_context(interruptible(partial(shut_down, copy)))
                set_timeout(sock, None, share)
                sock.connect(address)
                set_timeout(sock, None, bound)  # what is left is for the TLS handshake
                return sock
            except OSError as error:
                failure = error
                if sock is not None:
                    sock.close()
            except BaseException:
                if sock is not None:
                    sock.close()
                raise
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"connecting to {self.host} timed out") from failure
        raise NewConnectionError(self, f"failed to connect: {failure}") from failure

    def connect(self) -> None:
        try:
            with contextlib.ExitStack() as self._opening:
                super().connect()
        finally:
            CALL.now.sent = False  # a CONNECT to a proxy is not the request

    def send(self, data: Any) -> None:
        bounds = CALL.now
        bounds.tracked = True
        if self.sock is None:
            if not self.auto_open:
                raise NotConnected
            self.connect()
        sock: Any = self.sock
        rest = memoryview(data)
        # A plain socket takes what there is room for and says how much that was; TLS takes all or waits.
        size = len(rest) if type(sock) is socket.socket else SEND_SIZE
        with interruptible(partial(shut_down, sock)):
            while rest:
                # `sendall` has one time-out for all of it, which a peer that takes it slowly but surely would break.
                set_timeout(sock, bounds.read, bounds.deadline)
                bounds.sent = True
                rest = rest[sock.send(rest[:size]) :]


class _BoundedHTTPSConnection(_BoundedHTTPConnection, HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        # Whoever cuts the wire cannot say good-bye in the server's name. Without this an answer that ends with its
        # connection could be shortened by anybody in between, and would pass for a whole one.
        self.sock.suppress_ragged_eofs = False  # type: ignore[union-attr]


class _Idle:
    """Connections that wait for their next use; the newest is taken first.

    Stands in for `queue.LifoQueue`, by whose lock a signal handler that closes a client would wait for the very
    thread that it interrupted. This one has none: each step is one of the deque's.
    """

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self.queue: deque[Any] = deque()

    def put(self, connection: Any, block: bool = False) -> None:
        if len(self.queue) >= self._maxsize:
            raise queue.Full
        self.queue.append(connection)

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        try:
            return self.queue.pop()
        except IndexError:
            raise queue.Empty from None


class _QuietPool(HTTPConnectionPool):
    """A pool that closes a connection it has no room for without a warning: that is how it is meant to work."""

    ConnectionCls = _BoundedHTTPConnection
    QueueCls = _Idle  # type: ignore[assignment]

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn: Any = super()._get_conn(timeout)
        if CALL.now.writes and conn.sock is not None and time.monotonic() - conn.idle_since > FRESH_SECONDS:
            conn.close()  # and is opened anew when it sends
        return conn

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        call = current_call()
        idle = None if call is not None and call.abandoned else self.pool
        if idle is not None:  # which another thread may make of it meanwhile, by closing the client
            try:
                idle.put(conn, block=False)
            except queue.Full:
                pass
            else:
                if self.pool is None:  # closed in this moment, and nobody comes to close what was put there since
                    _close_pool_connections(idle)
                return
        if conn is not None:
            conn.close()


class _QuietSecurePool(_QuietPool, HTTPSConnectionPool):
    ConnectionCls = _BoundedHTTPSConnection


_POOLS: Mapping[str, type[HTTPConnectionPool]] = {"http": _QuietPool, "https": _QuietSecurePool}


class ClientAdapter(HTTPAdapter):
    """One pool and one TLS context for all calls of a client.

    `requests` reads the CA bundle again for every new connection, which costs more than the handshake.
    """

    def __init__(self, verify: Verify) -> None:
        self._verify = verify
        self._context: ssl.SSLContext | None = None
        self._context_lock = threading.Lock()
        super().__init__(pool_maxsize=POOL_SIZE)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = DEFAULT_POOLBLOCK, **pool_kwargs: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, blocksize=BLOCK_SIZE, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = dict(_POOLS)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, blocksize=BLOCK_SIZE, **proxy_kwargs)
        manager.pool_classes_by_scheme = {**manager.pool_classes_by_scheme, **_own_unless_socks(manager)}
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: the context of `build_connection_pool_key_attributes` verifies."""

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        parts = urlsplit(request.url or "")
        host = {"scheme": parts.scheme, "host": parts.hostname, "port": parts.port}
        if parts.scheme != "https":
            return host, {}
        context = self._shared_context()
        return host, {
            "ssl_context": context,
            "cert_reqs": "CERT_NONE" if context.verify_mode == ssl.CERT_NONE else "CERT_REQUIRED",
        }

    def close(self) -> None:
        """Close the idle connections now: `urllib3` would wait until nothing, not even an error, refers to them."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for pool in filter(None, map(manager.pools.get, manager.pools.keys())):
                pool.close()
        super().close()

    def _shared_context(self) -> ssl.SSLContext:
        context = self._context
        if context is None:
            context = _make_context(self._verify)
            with self._context_lock:  # of several threads at the first call, all go on with the same one
                context = self._context = self._context or context
        return context


def _own_unless_socks(manager: Any) -> Mapping[str, type[HTTPConnectionPool]]:
    # A SOCKS manager opens its connections in its own way; the deadline is then kept between reads.
    return _POOLS if type(manager) is urllib3.ProxyManager else {}


def _make_context(verify: Verify) -> ssl.SSLContext:
    context = create_urllib3_context()
    # Python 3.9 asks OpenSSL 3 to take any end for one that the server meant; see `_BoundedHTTPSConnection.connect`.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if verify is None:
        verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    bundle = os.fspath(DEFAULT_CA_BUNDLE_PATH if verify is True else verify)
    try:
        if os.path.isdir(bundle):  # noqa: PTH112 - as requests tells the two apart
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except OSError as error:
        raise InvalidRequestError(f"verify: the CA bundle {bundle} cannot be read: {error}") from None
    return context


def tls_context(verify: Verify) -> ssl.SSLContext:
    """A context that verifies as ``verify`` says.

    :raises InvalidRequestError: if its CA bundle cannot be read.
    """
    return _make_context(verify)


class _NoCookies(RequestsCookieJar):
    """Keeps nothing: a session cookie would sign the next user of a shared client in as the last one."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Nothing."""

    def set_cookie(self, cookie: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing."""


class ClientSession(requests.Session):
    """A real `requests.Session` that follows no redirect, keeps no cookie and owns its adapter."""

    def __init__(self, verify: Verify) -> None:
        super().__init__()
        self.cookies = _NoCookies()
        # Told apart from the peers of `requests`; helps the operator of a server.
        python = ".".join(str(number) for number in sys.version_info[:3])
        self.headers["User-Agent"] = f"selfdb/{__version__} Python/{python} requests/{requests.__version__}"
        self.headers["Accept-Encoding"] = "gzip, deflate"
        if verify is not None:
            self.verify = verify if isinstance(verify, bool) else os.fspath(verify)
        self._adapter = adapter = ClientAdapter(verify)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def pool_of(self, url: str) -> Any:
        """The connections to the server of ``url`` that no proxy stands before."""
        request = requests.PreparedRequest()
        request.url = url
        host, extra = self._adapter.build_connection_pool_key_attributes(request, self.verify)
        return self._adapter.poolmanager.connection_from_host(**host, pool_kwargs=extra)

    def answer_of(self, request: requests.PreparedRequest, raw: Any) -> requests.Response:
        """What the adapter makes of the answer ``raw`` of `urllib3`."""
        return self._adapter.build_response(request, raw)

    def tls_context(self) -> ssl.SSLContext:
        """The context that every connection of this session verifies with."""
        return self._adapter._shared_context()

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Never one: `requests` would read the whole body and parse the address even when it must not follow."""
        return None
