"""Opening one WebSocket: name look-up, proxy, TLS and handshake within one time-out, and given up at a word.

`websocket-client` does the handshake. What comes before it is done here: it would look for no deadline but that of
single waits, switch verification on in a TLS context that others share, and could not be interrupted.
"""

from __future__ import annotations

import base64
import importlib
import queue
import socket
import ssl
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional
from urllib.parse import quote, unquote, urlsplit

import websocket

from ..exceptions import APIConnectionError, APITimeoutError, RedirectError, SelfDBError
from .clock import SYSTEM_CLOCK, Clock, Deadline
from .http import _resolve, shut_down
from .messages import connection_error, error_for_answer, hint_for

__all__ = ["Address", "Opening"]

MAX_HEAD = 256 * 1024
"""Bytes that the answers of a proxy and of the server may have together before the WebSocket stands."""


class Address(NamedTuple):
    """Where to connect this time.

    :ivar url: ``ws://`` or ``wss://``; may hold secrets, so it is never shown.
    :ivar origin: what may be shown of it.
    :ivar headers: for the handshake.
    :ivar proxy: an ``http://`` or ``socks5://`` URL, or ``None``.
    :ivar context: for TLS.
    :ivar secrets: what the server may echo, and nobody may see.
    """

    url: str
    origin: str
    headers: Sequence[str] = ()
    proxy: Optional[str] = None
    context: Optional[ssl.SSLContext] = None
    secrets: Sequence[str] = ()

    def __repr__(self) -> str:
        return f"<Address at {self.origin}>"


class _GivenUp(Exception):
    """Somebody said so."""


class Opening:
    """One attempt. Made and run by one thread; ``abort`` may be called from any.

    :param timeout: seconds for all of it.
    """

    def __init__(self, address: Address, timeout: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self._address = address
        self._deadline = Deadline(timeout, clock)
        self._sock: Any = None
        self._looked_up: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._taken = 0
        self._aborted = False

    def run(self) -> Any:
        """The connected socket, which does not block any more; the next byte read from it belongs to a frame.

        :raises SelfDBError: if the server cannot be reached or refuses; see :mod:`selfdb.exceptions`.
        """
        try:
            self._handshake(urlsplit(self._address.url))
            sock, self._sock = self._sock, None
            sock.setblocking(False)
            return sock
        except SelfDBError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the stack raises becomes ours
            raise self._ours(error) from None
        finally:
            self.close_here()

    def abort(self) -> None:
        """Have :meth:`run` fail soon."""
        self._aborted = True
        self._looked_up.put([])
        sock = self._sock
        if sock is not None:
            shut_down(sock)

    def close_here(self) -> None:
        """Let go of the socket without a word to the peer: in a forked child it is the parent's."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _handshake(self, parts: Any) -> None:
        host, secure = parts.hostname, parts.scheme == "wss"
        port = parts.port or (443 if secure else 80)
        proxy = None if self._address.proxy is None else urlsplit(_with_scheme(self._address.proxy))
        if proxy is None:
            self._connect(host, port)
        elif proxy.scheme in ("http", "https"):
            self._tunnel(proxy, host, port, secure)
        else:
            self._through_socks(proxy, host, port)
        if secure:
            self._wrap(self._address.context, host)
        ws = websocket.WebSocket(enable_multithread=False, skip_utf8_validation=True)
        shown = f"[{host}]" if ":" in host else host
        try:
            ws.connect(  # type: ignore[no-untyped-call]
                # Not the true name: by it a cookie would be found that the library keeps for all users alike.
                f"ws://handshake.invalid{parts.path or '/'}{'?' + parts.query if parts.query else ''}",
                socket=_Bounded(self),
                host=shown if port == (443 if secure else 80) else f"{shown}:{port}",
                header=list(self._address.headers),
                suppress_origin=True,
                redirect_limit=0,
            )
        except websocket.WebSocketBadStatusException as error:
            raise self._refused(error) from None
        except websocket.WebSocketException:
            self._check_redirect(ws)
            raise
        self._check_redirect(ws)

    def _check_redirect(self, ws: Any) -> None:
        answer = ws.handshake_response  # some versions of the library take a redirect for a success
        if answer is not None and answer.status != 101:
            raise RedirectError(f"{self._address.origin} redirects WebSockets; set base_url to where it leads")

    # The way to the server

    def _connect(self, host: str, port: int) -> None:
        addresses = _resolve(host, port, self.left(), self._looked_up)
        failure: OSError = OSError("the look-up found no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            self._sock = sock = socket.socket(family, kind, protocol)
            try:
                # A share each: an address that swallows packets must not use up the time of a sound one.
                sock.settimeout(self.left() / (len(addresses) - tried))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return
            except OSError as error:
                failure = error
                self.close_here()
        raise failure

    def _wrap(self, context: ssl.SSLContext | None, host: str) -> None:
        context = context or ssl.create_default_context()
        # In two steps, so that `abort` finds the socket in between: wrapping takes it out of the plain one.
        self._sock = context.wrap_socket(self._sock, server_hostname=host, do_handshake_on_connect=False)
        self._sock.settimeout(self.left())
        self._sock.do_handshake()

    def _tunnel(self, proxy: Any, host: str, port: int, secure: bool) -> None:
        if proxy.scheme == "https" and secure:
            raise APIConnectionError(
                "a proxy that is itself spoken to over TLS cannot be used for WebSockets; give it as http://..."
            )
        self._connect(proxy.hostname, proxy.port or (443 if proxy.scheme == "https" else 80))
        if proxy.scheme == "https":
            self._wrap(None, proxy.hostname)
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.username:
            pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}")
        self._sock.settimeout(self.left())
        self._sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows belongs to the server
            byte = self.take(1)
            if not byte:
                raise APIConnectionError(f"the proxy for {self._address.origin} closed the connection")
            head += byte
        status = head.split(b" ", 2)[1:2]
        if status != [b"200"]:
            said = status[0].decode("latin-1")[:3] if status else "something that is not HTTP"
            raise APIConnectionError(
                f"the proxy for {self._address.origin} refused: {said}; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
            )

    def _through_socks(self, proxy: Any, host: str, port: int) -> None:
        try:
            socks = importlib.import_module("socks")
        except ImportError:
            raise APIConnectionError("a SOCKS proxy needs PySocks: install requests[socks]") from None
        kinds = {"socks4": socks.SOCKS4, "socks4a": socks.SOCKS4, "socks5": socks.SOCKS5, "socks5h": socks.SOCKS5}
        if proxy.scheme not in kinds:
            raise APIConnectionError(f"proxies of the kind {proxy.scheme} are not known")
        self._sock = socks.create_connection(
            (host, port),
            timeout=self.left(),
            proxy_type=kinds[proxy.scheme],
            proxy_addr=proxy.hostname,
            proxy_port=proxy.port or 1080,
            proxy_rdns=proxy.scheme in ("socks4a", "socks5h"),
            proxy_username=unquote(proxy.username) if proxy.username else None,
            proxy_password=unquote(proxy.password) if proxy.password else None,
        )

    # Bounds

    def left(self) -> float:
        """Seconds that are left."""
        if self._aborted:
            raise _GivenUp
        left = self._deadline.remaining()
        if not left:
            raise TimeoutError("no time is left")
        return left

    def take(self, count: int) -> bytes:
        """Read at most ``count`` bytes."""
        self._sock.settimeout(self.left())
        data: bytes = self._sock.recv(count)
        self._taken += len(data)
        if self._taken > MAX_HEAD:
            raise APIConnectionError(f"the answer of {self._address.origin} to the handshake does not end")
        return data

    def give(self, data: bytes) -> int:
        """Write ``data`` or part of it."""
        self._sock.settimeout(self.left())
        return int(self._sock.send(data))

    # What went wrong

    def _refused(self, error: Any) -> SelfDBError:
        secrets = [form for secret in self._address.secrets for form in (secret, quote(secret, safe=""))]
        status, body = int(error.status_code), error.resp_body or b""
        if not 100 <= status <= 599:
            return APIConnectionError(f"{self._address.origin} answered the handshake with something that is not HTTP")
        raised = error_for_answer(status, body, None, secrets, keep_body=True)
        if status < 400:
            raised.message = (
                f"{self._address.origin} answered the WebSocket handshake with HTTP {status}; "
                "is base_url right, and does a proxy on the way pass WebSockets on?"
            )
        elif not body:
            raised.message = f"the WebSocket handshake with {self._address.origin} was refused"
        raised.hint = hint_for(raised, body, bearer=True, held="&token=" in self._address.url)
        return raised

    def _ours(self, error: Exception) -> SelfDBError:
        origin = self._address.origin
        if isinstance(error, _GivenUp) or self._aborted:
            return APIConnectionError(f"connecting to {origin} was given up")
        if isinstance(error, websocket.WebSocketTimeoutException):
            return APITimeoutError(f"connecting to {origin} took too long")
        if isinstance(error, websocket.WebSocketConnectionClosedException):
            return APIConnectionError(f"{origin} closed the connection in the handshake")
        if isinstance(error, websocket.WebSocketException):
            return APIConnectionError(f"{origin} answered the handshake with something that is no WebSocket")
        _, raised = connection_error(error, origin, sent=False)
        return raised


class _Bounded:
    """Stands in for the socket where the library does the handshake: each wait ends with the time for all of it."""

    def __init__(self, opening: Opening) -> None:
        self.recv = opening.take
        self.send = opening.give
        self.gettimeout = opening.left
        self.close = opening.close_here


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"
