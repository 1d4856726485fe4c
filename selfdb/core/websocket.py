"""One supervised WebSocket on one daemon thread: it opens, beats, notices a dead peer, reopens and closes.

It knows no protocol: a :class:`LinkProtocol` says where to connect, what to do with messages and when it wants to be
asked again. `websocket-client` makes the connection (TLS, proxies, handshake); after that the socket does not block, so
that neither a slow reader nor a slow sender at the other end can hold up a heartbeat or a close.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import random
import selectors
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional, Protocol, Union

import websocket

from ..exceptions import APIConnectionError, APITimeoutError, RealtimeError, SelfDBError
from .clock import SYSTEM_CLOCK, Clock
from .forks import renew_after_fork
from .messages import connection_error, error_for_answer
from .wsframes import BINARY, CLOSE, PING, PONG, TEXT, FrameDecoder, FrameError

__all__ = ["Address", "Link", "LinkProtocol", "LinkState"]

log = logging.getLogger("selfdb.websocket")

RECONNECT_STEPS = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each attempt to reopen; the last goes on for ever."""

MAX_MESSAGE = 16 * 1024 * 1024
MAX_UNSENT = 1024 * 1024
LONGEST_WAIT = 1.0
"""Seconds that the thread waits for the socket at most before it looks around."""

_READ_SIZE = 64 * 1024


class LinkState(str, enum.Enum):
    """Where a link stands."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSING = "closing"


class Address(NamedTuple):
    """Where to connect this time.

    :ivar url: ``ws://`` or ``wss://``; may hold secrets, so it is never shown.
    :ivar origin: what may be shown of it.
    :ivar headers: for the handshake.
    :ivar proxy: an ``http://`` or ``socks5://`` URL, or ``None``.
    :ivar context: for TLS.
    """

    url: str
    origin: str
    headers: Sequence[str] = ()
    proxy: Optional[str] = None
    context: Optional[ssl.SSLContext] = None


class LinkProtocol(Protocol):
    """What a link asks its owner. Everything is called on the link's thread, one at a time."""

    def address(self) -> Address:
        """Where to connect; asked before each attempt. What it raises counts as a failed attempt."""

    def opened(self) -> None:
        """The connection stands."""

    def received(self, opcode: int, data: bytes) -> None:
        """A whole message came."""

    def ready_to_read(self) -> bool:
        """Whether there is room for more messages; while not, reading pauses."""

    def tick(self) -> Optional[float]:
        """Something may be due; returns seconds until the next time, or ``None``."""

    def lost(self, error: SelfDBError) -> None:
        """The connection that stood is gone; another will be tried."""

    def refused(self, error: SelfDBError) -> bool:
        """An attempt to connect failed; returns whether to go on trying."""


class _Stop(Exception):
    """The link is to end."""


class _Lost(Exception):
    """The connection is gone."""

    def __init__(self, error: SelfDBError) -> None:
        self.error = error


class Link:
    """A supervised connection. Its methods may be called from any thread; from callbacks and signal handlers too.

    :param protocol: see :class:`LinkProtocol`.
    :param connect_timeout: seconds for one attempt, look-up and handshake included.
    :param steps: seconds before each attempt to reopen; from 1 s on 20 % more or less at random.
    :param random: a source of floats in [0, 1).
    :param max_unsent: bytes that may wait to be sent.
    :param max_message: bytes that one received message may have.
    """

    CLOSE_SECONDS = 2.0

    def __init__(
        self,
        protocol: LinkProtocol,
        *,
        connect_timeout: float = 10.0,
        steps: Sequence[float] = RECONNECT_STEPS,
        on_state: Callable[[LinkState], object] | None = None,
        random: Callable[[], float] = random.random,
        clock: Clock = SYSTEM_CLOCK,
        max_unsent: int = MAX_UNSENT,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self._protocol = protocol
        self._connect_timeout = connect_timeout
        self._steps = steps
        self._on_state = on_state
        self._random = random
        self._clock = clock
        self._max_unsent = max_unsent
        self._max_message = max_message
        self.last_message_at: float | None = None
        """When the latest message came, in seconds since the epoch."""
        self._sock: Any = None
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        sock, self._sock = self._sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()  # the child's copy only; the connection is the parent's
        self._lock = threading.RLock()  # a signal handler may close what its own thread is sending on
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._thread: threading.Thread | None = None
        self._run: _Run | None = None
        self.state = LinkState.DISCONNECTED

    def start(self) -> None:
        """Begin to connect, on a daemon thread. Harmless while it runs."""
        with self._lock:
            if self._run is not None and not self._run.stopped.is_set():
                return
            self._run = run = _Run()
            self._thread = threading.Thread(target=self._supervise, args=(run,), name="selfdb-link", daemon=True)
        self._set_state(run, LinkState.CONNECTING)
        self._thread.start()

    def send(self, data: Union[str, bytes]) -> None:
        """Queue one message; ``str`` as text, ``bytes`` as binary. Returns at once.

        :raises RealtimeError: if the queue is full, because the peer does not read.
        """
        text = isinstance(data, str)
        raw = data.encode("utf-8") if isinstance(data, str) else data
        frame = websocket.ABNF.create_frame(raw, TEXT if text else BINARY).format()
        with self._lock:
            if self._unsent and self._unsent_bytes + len(frame) > self._max_unsent:
                raise RealtimeError("the send queue is full: the server does not read what it is sent")
            self._unsent.append(frame)
            self._unsent_bytes += len(frame)
            run = self._run
        if run is not None:
            run.wake()

    def wake(self) -> None:
        """Have the protocol's ``tick`` called soon."""
        run = self._run
        if run is not None:
            run.wake()

    def drop(self, reason: str) -> None:
        """Give the connection up and open another one at once."""
        run = self._run
        if run is not None:
            run.drop = reason
            run.wake()

    def discard_unsent(self) -> int:
        """Forget what waits to be sent; returns how many messages that were."""
        with self._lock:
            count = len(self._unsent)
            self._unsent.clear()
            self._unsent_bytes = 0
        return count

    def runs_here(self) -> bool:
        """Whether the calling thread is the link's own."""
        return threading.current_thread() is self._thread

    def close(self, timeout: float | None = None) -> int:
        """End the connection for good; returns how many messages could not be sent any more.

        Returns within ``timeout`` (2 s by default) even if the peer is silent: the thread is left behind then, and
        ends when its socket does. Called on the link's own thread it does not wait for itself.
        """
        run = self._run
        if run is None:
            return 0
        self._set_state(run, LinkState.CLOSING)
        run.stopped.set()
        run.wake()
        if not self.runs_here() and not run.ended.wait(self.CLOSE_SECONDS if timeout is None else timeout):
            self._abort()
        with self._lock:
            if self._run is run:
                self._run = None
        self._set_state(run, LinkState.DISCONNECTED)
        return self.discard_unsent()

    def _abort(self) -> None:
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _set_state(self, run: _Run, state: LinkState) -> None:
        with self._lock:
            if self._run not in (run, None) or self.state is state:
                return  # a run that was closed has no say any more
            if run.stopped.is_set() and state not in (LinkState.DISCONNECTED, LinkState.CLOSING):
                return
            self.state = state
        if self._on_state is not None:
            self._on_state(state)

    # The thread

    def _supervise(self, run: _Run) -> None:
        attempt = 0
        try:
            while True:
                try:
                    ws = self._open(run)
                except SelfDBError as error:
                    log.debug("connecting failed: %s", error)
                    if run.stopped.is_set() or not self._protocol.refused(error):
                        return
                else:
                    try:
                        attempt = 0
                        self._serve(run, ws)
                    except _Lost as lost:
                        log.debug("connection lost: %s", lost.error)
                        self._set_state(run, LinkState.RECONNECTING)
                        self._protocol.lost(lost.error)
                    finally:
                        self._forget(ws)
                self._set_state(run, LinkState.RECONNECTING)
                seconds = self._steps[min(attempt, len(self._steps) - 1)]
                if seconds >= 1:
                    seconds *= 0.8 + 0.4 * self._random()
                attempt += 1
                self._pause(run, seconds)
        except _Stop:
            return
        except Exception:
            log.exception("the connection's thread failed")
        finally:
            run.end()
            with self._lock:
                mine = self._run is run
                if mine and not run.stopped.is_set():
                    self._run = None
            if mine:
                self._set_state(run, LinkState.DISCONNECTED)

    def _pause(self, run: _Run, seconds: float) -> None:
        """Wait before the next attempt; the protocol's own times go on."""
        end = self._clock.monotonic() + seconds
        while True:
            if run.stopped.is_set():
                raise _Stop
            left = end - self._clock.monotonic()
            if left <= 0:
                return
            due = self._protocol.tick()
            self._clock.wait(run.stopped, left if due is None else max(0.001, min(left, due)))

    def _open(self, run: _Run) -> Any:
        if run.stopped.is_set():
            raise _Stop
        run.drop = None
        address = self._protocol.address()
        ws = websocket.WebSocket(
            sslopt={} if address.context is None else {"context": address.context},
            enable_multithread=False,
            skip_utf8_validation=True,
        )
        ws.settimeout(self._connect_timeout)
        # A time-out of the socket begins anew with each byte; this one does not.
        guard = threading.Timer(self._connect_timeout, _shut, (ws,))
        guard.daemon = True
        guard.name = "selfdb-handshake"
        guard.start()
        try:
            ws.connect(  # type: ignore[no-untyped-call]
                address.url,
                header=list(address.headers),
                suppress_origin=True,
                redirect_limit=0,
                **_proxy_options(address.proxy),
            )
        except websocket.WebSocketBadStatusException as error:
            raise _handshake_error(error, address.origin) from None
        except Exception as error:  # noqa: BLE001 - whatever the handshake raises becomes ours
            raise _opening_error(error, address.origin) from None
        finally:
            guard.cancel()
        sock: Any = ws.sock
        self._sock = sock
        sock.setblocking(False)
        return ws

    def _forget(self, ws: Any) -> None:
        self._sock = None
        with contextlib.suppress(OSError, websocket.WebSocketException):
            ws.shutdown()

    def _serve(self, run: _Run, ws: Any) -> None:
        """Until the connection is lost or the link stopped."""
        sock = ws.sock
        decoder = FrameDecoder(self._max_message)
        outgoing = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(run.waking, selectors.EVENT_READ)
            selector.register(sock, selectors.EVENT_READ)
            self._set_state(run, LinkState.CONNECTED)
            self._protocol.opened()
            while True:
                if run.stopped.is_set():
                    self._say_goodbye(sock, outgoing)
                    raise _Stop
                if run.drop is not None:
                    raise _Lost(APIConnectionError(run.drop))
                due = self._protocol.tick()
                self._take_unsent(outgoing)
                self._write(sock, outgoing)
                reading = self._protocol.ready_to_read()
                wanted = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if outgoing else 0)
                pending = reading and isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
                wait = LONGEST_WAIT if due is None else max(0.0, min(due, LONGEST_WAIT))
                self._watch(selector, sock, wanted)
                selector.select(0 if pending else wait if reading else min(wait, 0.05))
                run.clear()
                if reading:
                    self._read(sock, decoder, outgoing)

    @staticmethod
    def _watch(selector: selectors.BaseSelector, sock: Any, wanted: int) -> None:
        known = selector.get_map().get(sock.fileno()) if sock.fileno() >= 0 else None
        if sock.fileno() < 0:
            raise _Lost(APIConnectionError("the connection was closed"))
        if wanted and known is None:
            selector.register(sock, wanted)
        elif not wanted and known is not None:
            selector.unregister(sock)
        elif known is not None and known.events != wanted:
            selector.modify(sock, wanted)

    def _take_unsent(self, outgoing: bytearray) -> None:
        with self._lock:
            while self._unsent and len(outgoing) < _READ_SIZE:
                frame = self._unsent.popleft()
                self._unsent_bytes -= len(frame)
                outgoing += frame

    @staticmethod
    def _write(sock: Any, outgoing: bytearray) -> None:
        while outgoing:
            try:
                sent = sock.send(outgoing)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                raise _Lost(_broken(error)) from None
            del outgoing[:sent]

    def _read(self, sock: Any, decoder: FrameDecoder, outgoing: bytearray) -> None:
        try:
            data = sock.recv(_READ_SIZE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            raise _Lost(_broken(error)) from None
        if not data:
            raise _Lost(APIConnectionError("the server closed the connection"))
        self.last_message_at = self._clock.time()
        try:
            messages = decoder.feed(data)
        except FrameError as error:
            raise _Lost(APIConnectionError(f"the server broke the WebSocket protocol: {error}")) from None
        for opcode, payload in messages:
            if opcode in (TEXT, BINARY):
                self._protocol.received(opcode, payload)
            elif opcode == PING:
                outgoing += websocket.ABNF.create_frame(payload, PONG).format()
            elif opcode == CLOSE:
                raise _Lost(_closed_by_server(payload))

    def _say_goodbye(self, sock: Any, outgoing: bytearray) -> None:
        """Send what waits and a close frame, for as long as the peer takes it at once."""
        self._take_unsent(outgoing)
        outgoing += websocket.ABNF.create_frame((1000).to_bytes(2, "big"), CLOSE).format()
        with contextlib.suppress(_Lost):
            self._write(sock, outgoing)


class _Run:
    """One life of a link, from ``start`` to ``close``: what is said to one does not reach the next."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.ended = threading.Event()
        self.drop: str | None = None
        self.waking, self._waker = socket.socketpair()
        self.waking.setblocking(False)
        self._waker.setblocking(False)
        self._lock = threading.Lock()

    def wake(self) -> None:
        # A full buffer, or a pair that the ended thread has closed, means that nobody has to be woken.
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            while self.waking.recv(4096):
                pass

    def end(self) -> None:
        self.ended.set()
        self.waking.close()
        self._waker.close()


def _shut(ws: Any) -> None:
    sock = ws.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _proxy_options(proxy: str | None) -> dict[str, Any]:
    if proxy is None:
        return {"http_no_proxy": ["*"]}  # what the environment says has been taken into account already
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    options: dict[str, Any] = {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": parts.port or (1080 if parts.scheme.startswith("socks") else 80),
        "proxy_type": parts.scheme,
        "http_no_proxy": [""],
    }
    if parts.username:
        options["http_proxy_auth"] = (unquote(parts.username), unquote(parts.password or ""))
    return options


def _handshake_error(error: Any, origin: str) -> SelfDBError:
    status = int(error.status_code)
    if 300 <= status < 400:
        return APIConnectionError(f"{origin} redirects WebSockets; set base_url to where it leads")
    body = error.resp_body or b""
    raised = error_for_answer(status, body if isinstance(body, bytes) else str(body).encode(), None, (), keep_body=True)
    if not body:
        raised.message = f"the WebSocket handshake with {origin} was refused with status {status}"
    return raised


def _opening_error(error: Exception, origin: str) -> SelfDBError:
    if isinstance(error, SelfDBError):
        return error
    if isinstance(error, (websocket.WebSocketTimeoutException, TimeoutError, socket.timeout)):
        return APITimeoutError(f"connecting to {origin} took too long")
    if isinstance(error, websocket.WebSocketProxyException):
        return APIConnectionError(f"the proxy for {origin} refused or failed; check HTTPS_PROXY and NO_PROXY")
    _, raised = connection_error(error, origin, sent=False)
    return raised


def _broken(error: OSError) -> APIConnectionError:
    return APIConnectionError(f"the connection broke: {error.strerror or type(error).__name__}")


def _closed_by_server(payload: bytes) -> SelfDBError:
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
    reason = payload[2:].decode("utf-8", "replace")
    error = RealtimeError(f"the server closed the connection with code {code}" + (f": {reason}" if reason else ""))
    error.close_code = code
    return error
