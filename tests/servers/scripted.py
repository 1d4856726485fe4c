"""A socket server that does to its peer exactly what a test says, byte for byte, and records what it got.

::

    with ScriptedServer([read(), reply(200, b"half", length=9), reset()]) as server:
        ...  # talk to server.url
    assert server.requests[0].line == "GET /users/?limit=25"

A script is one handler for each connection, in order of arrival: a function of a `Peer`, or a list of steps
(each itself a function of a `Peer`; the functions at the end of this file make them). The connection is
closed when its script ends. What goes wrong in a handler is raised where the ``with`` block ends.
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

BOUND = 60.0  # seconds that nothing here may take longer than
SILENCE = 100.0  # seconds that a peer may say nothing; what it does meanwhile may take its time on a busy machine


class Received(NamedTuple):
    """One request as it came over the wire."""

    method: str
    target: str
    version: str
    headers: List[Tuple[str, str]]
    body: bytes
    connection: int

    @property
    def line(self) -> str:
        return f"{self.method} {self.target}"

    def header(self, name: str) -> Optional[str]:
        """The header's value (several joined by ``", "``), or None."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None


class PeerGone(Exception):
    """The other side closed or reset; it ends a handler without being a failure."""


class Peer:
    """One accepted connection, in the hands of its handler."""

    def __init__(self, server: ScriptedServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        self.ended = False
        self._buffer = b""

    # Reading

    def read_request(self, *, body: bool = True) -> Received:
        """Read one request and record it; ``body=False`` leaves the body unread (and unrecorded)."""
        head = self._read_until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, target, version = first.split(" ", 2)
        headers = []
        for line in lines:
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        received = Received(method, target, version, headers, b"", self.number)
        if body:
            received = received._replace(body=self._read_body(received))
        self.server._record(received)
        return received

    def _read_body(self, request: Received) -> bytes:
        if (request.header("Expect") or "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if "chunked" in (request.header("Transfer-Encoding") or "").lower():
            whole = b""
            while True:
                size = int(self._read_until(b"\r\n").split(b";")[0], 16)
                chunk = self.read_exactly(size + 2)[:size]
                if not size:
                    return whole
                whole += chunk
        return self.read_exactly(int(request.header("Content-Length") or 0))

    def read_exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _read_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._fill()
        end = self._buffer.index(mark) + len(mark)
        taken, self._buffer = self._buffer[:end], self._buffer[end:]
        return taken

    def _fill(self) -> None:
        try:
            data = self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError) as error:
            raise PeerGone(str(error)) from error
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            raise PeerGone(str(error)) from error  # another thread has closed it
        if not data:
            raise PeerGone("end of stream")
        self._buffer += data

    def wait_for_close(self) -> None:
        """Read on until the peer closes its side."""
        while True:
            try:
                self._fill()
            except PeerGone:
                return

    # Sending

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except (ConnectionError, ssl.SSLError) as error:
            raise PeerGone(str(error)) from error
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # The script has ended with the client, and closed the socket, while another thread sends.
            raise PeerGone(str(error)) from error

    def reply(
        self,
        status: int = 200,
        body: bytes = b"",
        headers: Optional[Dict[str, str]] = None,
        *,
        length: Optional[int] = None,
        reason: str = "Scripted",
    ) -> None:
        """A whole answer; ``length`` lies about the body's length."""
        self.send(answer(status, body, headers, length=length, reason=reason))

    def drip(self, data: bytes, size: int = 1, *, every: float = 0.02, tick: Optional[Tick] = None) -> None:
        """Send ``data`` in pieces of ``size`` bytes: one each ``every`` seconds, or one each ``tick()``."""
        for start in range(0, len(data), size):
            if tick is not None:
                tick.wait(self.server.stopping)
            elif self.server.stopping.wait(every):
                raise PeerGone("the test is over")
            self.send(data[start : start + size])

    # Misbehaving

    def stall(self, event: Optional[threading.Event] = None) -> None:
        """Do nothing until ``event`` (the server's ``release`` if not given) is set or the test is over."""
        event = event or self.server.release
        while not event.wait(0.02):
            if self.server.stopping.is_set():
                raise PeerGone("the test is over")

    def reset(self) -> None:
        """Close with RST instead of FIN, dropping what was not read."""
        linger = struct.pack("ii", 1, 0)
        raw = self._plain()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raw.close()
        self.ended = True

    def close(self) -> None:
        """Close in an orderly way, without a TLS farewell."""
        raw = self._plain()
        try:
            raw.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was faster
        raw.close()
        self.ended = True

    def half_close(self) -> None:
        """Send the end of our stream; go on reading."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise PeerGone(str(error)) from error  # the peer was faster

    def _plain(self) -> socket.socket:
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock = socket.socket(fileno=self.sock.detach())
        return self.sock


Step = Callable[[Peer], Any]
Handler = Union[Step, Sequence[Step]]


class Tick:
    """Lets a test drive a `drip`: each ``tick()`` releases one piece."""

    def __init__(self) -> None:
        self._pieces = threading.Semaphore(0)

    def __call__(self, pieces: int = 1) -> None:
        for _ in range(pieces):
            self._pieces.release()

    def wait(self, stopping: threading.Event) -> None:
        while not self._pieces.acquire(timeout=0.02):
            if stopping.is_set():
                raise PeerGone("the test is over")


class ScriptedServer:
    """See the top of this file. Thread-safe to look at while it runs.

    :param handlers: one for each connection, in order.
    :param default: handler of every further connection; without one, a further connection is a failure.
    :param tls: speak TLS with this server-side context; a failed handshake is counted in ``tls_failures``.
    """

    def __init__(
        self, *handlers: Handler, default: Optional[Handler] = None, tls: Optional[ssl.SSLContext] = None
    ) -> None:
        self.release = threading.Event()
        self.stopping = threading.Event()
        self.tls_failures: List[ssl.SSLError] = []
        self._handlers = list(handlers)
        self._default = default
        self._tls = tls
        self._changed = threading.Condition()
        self._requests: List[Received] = []
        self._connections = 0
        self._errors: List[BaseException] = []
        self._peers: List[Peer] = []
        self._threads: List[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address: Tuple[str, int] = self._listener.getsockname()
        self.port = self.address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def requests(self) -> List[Received]:
        """What has been read so far."""
        with self._changed:
            return list(self._requests)

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        with self._changed:
            return self._connections

    def wait_for(self, *, requests: int = 0, connections: int = 0, timeout: float = BOUND) -> None:
        """Wait until at least that many were seen; AssertionError after ``timeout`` seconds."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: len(self._requests) >= requests and self._connections >= connections, timeout
            )
            assert done, f"saw {len(self._requests)} requests on {self._connections} connections only"

    def start(self) -> ScriptedServer:
        self._spawn("accept", self._accept)
        return self

    def _spawn(self, what: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"scripted-{what}", daemon=True)
        with self._changed:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # stop() closed the listener
            if self.stopping.is_set():
                sock.close()
                return
            sock.settimeout(SILENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                peer = Peer(self, sock, self._connections)
                self._connections += 1
                self._peers.append(peer)
                handler = self._handlers[peer.number] if peer.number < len(self._handlers) else self._default
                self._changed.notify_all()
            if handler is None:
                self._fail(AssertionError(f"connection {peer.number + 1} has no script"))
                peer.close()
                continue
            self._spawn(f"peer-{peer.number}", lambda peer=peer, handler=handler: self._serve(peer, handler))

    def _serve(self, peer: Peer, handler: Handler) -> None:
        try:
            if self._tls is not None:
                peer.sock.settimeout(BOUND)  # meanwhile stop() cannot end it
                try:
                    peer.sock = self._tls.wrap_socket(peer.sock, server_side=True)
                except (ssl.SSLError, ConnectionError) as error:
                    if isinstance(error, ssl.SSLError):
                        self.tls_failures.append(error)
                    return
                peer.sock.settimeout(SILENCE)
            for step in [handler] if callable(handler) else handler:
                step(peer)
        except PeerGone:
            pass  # clients may leave at any point; a test that minds asserts on what was received
        except BaseException as error:  # raised again in the test by stop()
            if not self.stopping.is_set():
                self._fail(error)
        finally:
            if not peer.ended:
                peer.close()

    def _record(self, request: Received) -> None:
        with self._changed:
            self._requests.append(request)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._errors.append(error)

    def stop(self) -> None:
        """End every connection and thread, then raise what went wrong in a handler."""
        self.stopping.set()
        try:
            # Closing alone does not wake a thread in accept() on Linux.
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not connected: what other systems say to a shutdown of a listener
        self._listener.close()
        for accepting in self._threads[:1]:
            accepting.join(BOUND)  # it may be about to serve one more
        with self._changed:
            peers, threads = list(self._peers), list(self._threads)
        for peer in peers:
            try:
                peer.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed already
        for thread in threads:
            thread.join(BOUND)
        stuck = [thread.name for thread in threads if thread.is_alive()]
        if self._errors:
            raise AssertionError(f"a scripted handler failed: {self._errors[0]!r}") from self._errors[0]
        assert not stuck, f"scripted handlers did not end: {stuck}"

    def __enter__(self) -> ScriptedServer:
        return self.start()

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        try:
            self.stop()
        except AssertionError:
            # The test's own failure comes first, unless a broken handler is the likely cause of it.
            if value is None or self._errors:
                raise


def answer(
    status: int = 200,
    body: bytes = b"",
    headers: Optional[Dict[str, str]] = None,
    *,
    length: Optional[int] = None,
    reason: str = "Scripted",
) -> bytes:
    """The bytes of an HTTP/1.1 answer; ``length`` replaces the true Content-Length."""
    lines = [f"HTTP/1.1 {status} {reason}"]
    fields = dict(headers or {})
    lower = {name.lower() for name in fields}
    if "content-length" not in lower and "transfer-encoding" not in lower and status not in (204, 304):
        fields["Content-Length"] = str(len(body) if length is None else length)
    if body and "content-type" not in lower:
        fields["Content-Type"] = "application/json"
    lines.extend(f"{name}: {value}" for name, value in fields.items())
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


# Steps


def read(*, body: bool = True) -> Step:
    return lambda peer: peer.read_request(body=body)


def send(data: bytes) -> Step:
    return lambda peer: peer.send(data)


def reply(
    status: int = 200,
    body: bytes = b"",
    headers: Optional[Dict[str, str]] = None,
    *,
    length: Optional[int] = None,
    reason: str = "Scripted",
) -> Step:
    return lambda peer: peer.reply(status, body, headers, length=length, reason=reason)


def drip(data: bytes, size: int = 1, *, every: float = 0.02, tick: Optional[Tick] = None) -> Step:
    return lambda peer: peer.drip(data, size, every=every, tick=tick)


def stall(event: Optional[threading.Event] = None) -> Step:
    return lambda peer: peer.stall(event)


def reset() -> Step:
    return lambda peer: peer.reset()


def close() -> Step:
    return lambda peer: peer.close()


def half_close() -> Step:
    return lambda peer: peer.half_close()


def wait_for_close() -> Step:
    return lambda peer: peer.wait_for_close()
