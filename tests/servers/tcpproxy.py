"""A TCP proxy that harms the link on command: cuts, half-closes, stalls, delays and refuses, and counts connections.

::

    with TcpProxy(server_port) as proxy:
        ...  # talk to proxy.url
        proxy.cut()
        proxy.plan("answer", proxy.stall_here)
"""

from __future__ import annotations

import select
import selectors
import socket
import struct
import threading
import time
from collections import deque
from typing import Any, Callable, Deque, List, Optional, Tuple

BOUND = 60.0  # seconds that no command may take longer than

_READ = 64 * 1024
_SEND_SECONDS = 5.0
_UP, _DOWN = 0, 1  # from the client to the server, and back

#: When a plan is carried out: a connection was accepted and not a byte of it read; its first bytes (a handshake's
#: request) are there, but not forwarded; half of the first that come back (the answer) is forwarded; later bytes of
#: the client (a frame) are there, but not forwarded; half of later bytes of the server (a reply) is forwarded.
MOMENTS = ("accept", "request", "answer", "frame", "reply")


class Connection:
    """One connection through the proxy; belongs to the proxy's thread."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: Optional[socket.socket] = None
        self.heard = [False, False]
        #: What is to be forwarded each way, with the time from which it may be; empty bytes for the end.
        self.waiting: Tuple[Deque[Tuple[float, bytes]], Deque[Tuple[float, bytes]]] = (deque(), deque())
        self.ended = [False, False]
        self.stalled = False
        self.gone = False


Harm = Callable[[Connection], None]


class TcpProxy:
    """See the top of this file. Commands may come from any thread, and are done when they return.

    :param target: the port on 127.0.0.1 to forward to.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        """Seconds that everything is late by."""
        self.opened = 0
        """Connections so far."""
        self.most_open = 0
        """The most of them that were open at one time, as the client saw it."""
        self._stall_new = False
        self._plans: Deque[Tuple[str, Harm]] = deque()
        self._connections: List[Connection] = []
        self._commands: Deque[Tuple[Callable[[], None], threading.Event]] = deque()
        self._selector = selectors.DefaultSelector()
        self._waking, self._waker = socket.socketpair()
        self._selector.register(self._waking, selectors.EVENT_READ)
        self._listener = _bound(0)
        self._listening = False
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._stopping = False
        self._failure: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._run, name="tcp-proxy", daemon=True)

    def start(self) -> TcpProxy:
        self._listen()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close everything; raises what went wrong in the proxy itself."""
        self._stopping = True
        self._wake()
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "the proxy did not end"
        self._waker.close()
        if self._failure is not None:
            raise AssertionError("the proxy failed") from self._failure

    def __enter__(self) -> TcpProxy:
        return self.start()

    def __exit__(self, *exc_info: Any) -> None:
        self.stop()

    # Commands

    @property
    def open(self) -> int:
        """Connections that are open, as the client sees it."""
        found: List[int] = []
        self._do(lambda: found.append(self._count()))
        return found[0]

    @property
    def planned(self) -> int:
        """Plans that have not been carried out."""
        return len(self._plans)

    def cut(self) -> None:
        """Reset every connection, on both sides."""
        self._to_all(self.cut_here)

    def half_close(self) -> None:
        """Tell every client that the server has ended, and go on forwarding to the server."""
        self._to_all(self.half_close_here)

    def stall(self, *, new: bool = False) -> None:
        """Forward nothing any more, and keep the sockets open; with ``new``, those of later connections too."""

        def do() -> None:
            self._stall_new = new
            for each in self._connections:
                each.stalled = True

        self._do(do)

    def resume(self) -> None:
        """End stalls and delays, forget plans, and accept connections again."""

        def do() -> None:
            self._stall_new, self.delay = False, 0.0
            self._plans.clear()
            for each in self._connections:
                each.stalled = False
            if not self._listening:
                self._listen()

        self._do(do)

    def refuse(self) -> None:
        """Refuse new connections; those that stand go on. The port stays ours."""

        def do() -> None:
            if self._listening:
                self._selector.unregister(self._listener)
                heir = _bound(self.port)
                self._listener.close()
                self._listener, self._listening = heir, False

        self._do(do)

    def plan(self, moment: str, harm: Harm) -> None:
        """Do ``harm`` to the connection that comes to ``moment`` next; plans are carried out one after the other."""
        assert moment in MOMENTS
        self._do(lambda: self._plans.append((moment, harm)))

    # Harms, for plans

    def cut_here(self, connection: Connection) -> None:
        for sock in (connection.client, connection.server):
            if sock is not None and not connection.gone:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close(connection)

    def half_close_here(self, connection: Connection) -> None:
        connection.waiting[_DOWN].clear()
        connection.ended[_DOWN] = True
        _shut(connection.client)

    def stall_here(self, connection: Connection) -> None:
        connection.stalled = True

    # The thread

    def _do(self, command: Callable[[], None]) -> None:
        done = threading.Event()
        self._commands.append((command, done))
        self._wake()
        assert done.wait(BOUND), "the proxy does not answer"

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # it has failed; stop() tells why

    def _to_all(self, harm: Harm) -> None:
        def do() -> None:
            for each in list(self._connections):
                harm(each)

        self._do(do)

    def _listen(self) -> None:
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._listening = True

    def _run(self) -> None:
        try:
            while not self._stopping:
                for key, _ in self._selector.select(self._seconds()):
                    if key.fileobj is self._waking:
                        self._waking.recv(4096)
                    elif key.fileobj is self._listener:
                        self._accept()
                    elif not key.data[0].gone:
                        self._read(*key.data)
                while self._commands:
                    command, done = self._commands.popleft()
                    command()
                    done.set()
                for each in list(self._connections):
                    self._forward(each)
        except BaseException as failure:  # raised again in the test by stop()
            self._failure = failure
        finally:
            for each in list(self._connections):
                self._close(each)
            self._listener.close()
            self._waking.close()
            self._selector.close()

    def _seconds(self) -> Optional[float]:
        """How long nothing is to be done, ``None`` for until something comes."""
        times = [queue[0][0] for each in self._connections for queue in each.waiting if queue and not each.stalled]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # gone again
        client.settimeout(_SEND_SECONDS)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(client)
        connection.stalled = self._stall_new
        self._connections.append(connection)
        self.opened += 1
        self.most_open = max(self.most_open, self._count())
        self._selector.register(client, selectors.EVENT_READ, (connection, _UP))
        self._carry_out("accept", connection)

    def _count(self) -> int:
        return sum(not _has_left(each.client) for each in self._connections)

    def _carry_out(self, moment: str, connection: Connection) -> None:
        if self._plans and self._plans[0][0] == moment and not connection.gone:
            self._plans.popleft()[1](connection)

    def _read(self, connection: Connection, way: int) -> None:
        sock = connection.client if way == _UP else connection.server
        assert sock is not None
        try:
            data = sock.recv(_READ)
        except OSError:
            self.cut_here(connection)
            return
        if not data:
            self._selector.unregister(sock)
            self._queue(connection, way, b"")
            return
        first = not connection.heard[way]
        connection.heard[way] = True
        if way == _UP:
            if first:
                self._begin(connection)
            self._carry_out("request" if first else "frame", connection)
            self._queue(connection, way, data)
        else:
            half = len(data) // 2
            if half:  # no bytes would stand for the end
                self._queue(connection, way, data[:half])
                self._forward(connection)
            self._carry_out("answer" if first else "reply", connection)
            self._queue(connection, way, data[half:])

    def _begin(self, connection: Connection) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=_SEND_SECONDS)
        except OSError:
            self.cut_here(connection)
            return
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.server = server
        self._selector.register(server, selectors.EVENT_READ, (connection, _DOWN))

    def _queue(self, connection: Connection, way: int, data: bytes) -> None:
        if not (connection.gone or connection.ended[way]):
            connection.waiting[way].append((time.monotonic() + self.delay, data))

    def _forward(self, connection: Connection) -> None:
        now = time.monotonic()
        for way, queue in enumerate(connection.waiting):
            while queue and queue[0][0] <= now and not connection.stalled and not connection.gone:
                self._send(connection, way, queue.popleft()[1])

    def _send(self, connection: Connection, way: int, data: bytes) -> None:
        sock = connection.server if way == _UP else connection.client
        if sock is None:  # it has ended before it said anything
            self._close(connection)
            return
        if data:
            try:
                sock.sendall(data)
            except OSError:
                self.cut_here(connection)
            return
        connection.ended[way] = True
        _shut(sock)
        if all(connection.ended):
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.gone:
            return
        connection.gone = True
        self._connections.remove(connection)
        for sock in (connection.client, connection.server):
            if sock is not None:
                if sock in self._selector.get_map():
                    self._selector.unregister(sock)
                sock.close()


def _bound(port: int) -> socket.socket:
    """Bound and not listening: connections to it are refused, and nobody else can have the port."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it was faster


def _has_left(client: socket.socket) -> bool:
    """Whether the client has closed its side, whatever is still to be read of it."""
    poll = select.poll()
    poll.register(client, getattr(select, "POLLRDHUP", 0))  # a broken line is told in any case
    return bool(poll.poll(0))
