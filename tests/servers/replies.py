"""An HTTP/1.1 server with keep-alive that answers from a script and records requests as they came.

::

    with ReplyServer([(200, {}, [])]) as server:
        client.auth.users.list(limit=25)
    assert server.lines == ["GET /users/?limit=25"]

A script is a list of replies, used in order, or a function of a `Request` that returns one. A reply is
``(status, headers, body)``; the body is bytes, or text, or anything else, which is sent as JSON. A request
that the list has no reply for, or an error in the function, is answered 500 and raised at the end.
"""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union
from urllib.parse import parse_qsl

BOUND = 60.0


class Request(NamedTuple):
    """One request; ``target`` is the path and query exactly as sent."""

    method: str
    target: str
    headers: List[Tuple[str, str]]
    body: bytes
    connection: int

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> List[Tuple[str, str]]:
        """The decoded query in the order of the request."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    def header(self, name: str) -> Optional[str]:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = Tuple[int, Mapping[str, str], Any]
Script = Union[Sequence[Reply], Callable[[Request], Reply]]


class ReplyServer:
    """See the top of this file. A list may be extended while it runs: ``server.replies.append(...)``."""

    def __init__(self, script: Script = (), *, tls: Optional[ssl.SSLContext] = None) -> None:
        self.replies: List[Reply] = [] if callable(script) else list(script)
        self._function = script if callable(script) else None
        self._lock = threading.Lock()
        self._requests: List[Request] = []
        self._errors: List[BaseException] = []
        self._sockets: List[socket.socket] = []
        self._numbers: Dict[Any, int] = {}
        self._connections = 0
        self._stopping = False
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._server.tls = tls
        self._thread = threading.Thread(target=self._accept, name="replies", daemon=True)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.api_key = "replies-key"

    @property
    def requests(self) -> List[Request]:
        with self._lock:
            return list(self._requests)

    @property
    def lines(self) -> List[str]:
        """``METHOD /path?query`` of each request so far."""
        return [request.line for request in self.requests]

    @property
    def connections(self) -> int:
        with self._lock:
            return self._connections

    def start(self) -> ReplyServer:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close everything, then raise what went wrong in the script."""
        self._stopping = True
        try:
            # Wakes the thread at once; `serve_forever` would look for its end every so often.
            self._server.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not connected: what other systems say to a shutdown of a listener
        self._server.server_close()
        if self._thread.is_alive():
            self._thread.join(BOUND)
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed already
        for thread in self._server.handlers:
            thread.join(BOUND)
        if self._errors:
            raise AssertionError(f"the script of replies failed: {self._errors[0]!r}") from self._errors[0]

    def __enter__(self) -> ReplyServer:
        return self.start()

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        try:
            self.stop()
        except AssertionError:
            if value is None:
                raise

    def _accept(self) -> None:
        while True:
            try:
                request, address = self._server.get_request()
            except OSError:
                return  # stop() closed the listener
            if self._stopping:
                request.close()
                return
            self._server.process_request(request, address)

    # For the handler

    def _accepted(self, sock: socket.socket, address: Any) -> None:
        with self._lock:
            self._sockets.append(sock)
            self._numbers[address] = self._connections  # that of one which has ended may come again
            self._connections += 1

    def _secured(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.append(sock)

    def _answer(self, request: Request) -> Reply:
        with self._lock:
            self._requests.append(request)
            reply = self.replies.pop(0) if self._function is None and self.replies else None
        try:
            if self._function is not None:
                return self._function(request)
            if reply is None:
                raise AssertionError(f"no reply was scripted for {request.line}")
        except BaseException as error:
            with self._lock:
                self._errors.append(error)
            return 500, {}, {"detail": "the script of this test failed"}
        return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    owner: ReplyServer
    tls: Optional[ssl.SSLContext]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.handlers: List[threading.Thread] = []

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for our name, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.owner._accepted(request, client_address)
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="reply", daemon=True
        )
        self.handlers.append(thread)
        thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(BOUND)
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        try:
            wrapped = self.tls.wrap_socket(request, server_side=True)
        except (ssl.SSLError, ConnectionError):
            return  # the client did not like the certificate; its test looks at the client's error
        with wrapped:
            self.owner._secured(wrapped)
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        # A client that leaves early is its own test's business.
        if isinstance(error, BaseException) and not isinstance(error, (ConnectionError, TimeoutError, OSError)):
            self.owner._errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._exchange
        raise AttributeError(name)

    def _exchange(self) -> None:
        number = self.server.owner._numbers[self.client_address]
        request = Request(self.command, self.path, list(self.headers.items()), self._read_body(), number)
        status, headers, body = self.server.owner._answer(request)
        kind = None
        if isinstance(body, str):
            body, kind = body.encode(), "text/plain; charset=utf-8"
        elif not isinstance(body, (bytes, bytearray)):
            body, kind = json.dumps(body).encode(), "application/json"
        names = {name.lower() for name in headers}
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('Scripted',))[0]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        empty = status in (204, 304) or status < 200
        if not empty:
            if kind and "content-type" not in names:
                lines.append(f"Content-Type: {kind}")
            if "content-length" not in names and "transfer-encoding" not in names:
                lines.append(f"Content-Length: {len(body)}")
        if "connection" in names:
            self.close_connection = any(
                name.lower() == "connection" and value.lower() == "close" for name, value in headers.items()
            )
        whole = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self.wfile.write(whole if empty or self.command == "HEAD" else whole + body)

    def _read_body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            whole = b""
            while True:
                head = self.rfile.readline()
                if not head:
                    raise ConnectionResetError("the client left in the middle of its body")
                size = int(head.split(b";")[0], 16)
                chunk = self.rfile.read(size)
                self.rfile.readline()
                if not size:
                    return whole
                whole += chunk
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the requests are recorded."""
