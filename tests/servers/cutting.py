"""A TCP proxy that ends a connection after an exact number of bytes of a request or of an answer.

::

    with CuttingProxy(server_port) as proxy:
        proxy.watch()
        ...  # one exchange over proxy.url
        lengths = proxy.passed
        proxy.cut_after("answer", lengths[1] // 2, "reset")
        ...  # the same exchange, whose answer breaks off in the middle
"""

from __future__ import annotations

import socket
import struct
from typing import Callable, List, NamedTuple, Optional, Tuple

from tests.servers.tcpproxy import Connection, TcpProxy

WAYS = ("request", "answer")

#: How a connection ends for the client: by RST, by FIN, or not at all: it falls silent and stays open.
ENDINGS = ("reset", "end", "stall")


class Cut(NamedTuple):
    """Let ``after`` more bytes pass ``way``, and not one more. The server sees a FIN behind those that passed."""

    way: str
    after: int
    ending: str


class _Doomed:
    """A cut that a connection is on its way to."""

    def __init__(self, cut: Cut) -> None:
        self.way = WAYS.index(cut.way)
        self.left = cut.after
        self.ending = cut.ending


class CuttingProxy(TcpProxy):
    """See the top of this file.

    :param target: the port on 127.0.0.1 to forward to.
    :param fate: asked at each new connection for the cut that it will come to, ``None`` for none.
    """

    def __init__(self, target: int, fate: Optional[Callable[[], Optional[Cut]]] = None) -> None:
        super().__init__(target)
        self._fate = fate
        self._next: Optional[Cut] = None
        self._doomed: dict[Connection, _Doomed] = {}
        self._silent: set[Connection] = set()
        self._passed = [0, 0]
        self.cuts = 0
        """Connections that were ended."""

    def watch(self) -> None:
        """Count from here on."""

        def do() -> None:
            self._passed = [0, 0]

        self._do(do)

    @property
    def passed(self) -> Tuple[int, int]:
        """Bytes of requests and of answers since `watch`."""
        found: List[Tuple[int, int]] = []
        self._do(lambda: found.append((self._passed[0], self._passed[1])))
        return found[0]

    def cut_after(self, way: str, count: int, ending: str) -> None:
        """Do so to the connection that carries the next bytes of a request, counted from these."""
        assert way in WAYS
        assert ending in ENDINGS

        def do() -> None:
            self._next = Cut(way, count, ending)

        self._do(do)

    @property
    def pending(self) -> bool:
        """Whether a cut was asked for and has not happened."""
        found: List[bool] = []
        self._do(lambda: found.append(self._next is not None or bool(self._doomed)))
        return found[0]

    def spare(self) -> None:
        """Forget the cut that was asked for, if it has not happened."""

        def do() -> None:
            self._next = None
            self._doomed.clear()

        self._do(do)

    def start(self) -> CuttingProxy:
        super().start()
        return self

    def __enter__(self) -> CuttingProxy:
        return self.start()

    # The thread

    def _accept(self) -> None:
        known = set(self._connections)
        super()._accept()
        for connection in set(self._connections) - known:
            fate = self._fate() if self._fate is not None else None
            if fate is not None:
                self._doomed[connection] = _Doomed(fate)

    def _queue(self, connection: Connection, way: int, data: bytes) -> None:
        if connection in self._silent:
            if way == 0 and not data:
                self._close(connection)  # the client has given up
            return
        if way == 0 and data and self._next is not None:
            self._doomed[connection] = _Doomed(self._next)
            self._next = None
        doomed = self._doomed.get(connection)
        if doomed is None or doomed.way != way or len(data) < doomed.left or not (data or doomed.left):
            if doomed is not None and doomed.way == way:
                doomed.left -= len(data)
            self._passed[way] += len(data)
            super()._queue(connection, way, data)
            return
        if doomed.left:
            super()._queue(connection, way, data[: doomed.left])
        self._forward(connection)
        self._end(connection, doomed.ending)

    def _end(self, connection: Connection, ending: str) -> None:
        self._doomed.pop(connection, None)
        self.cuts += 1
        if connection.gone:
            return
        if ending == "stall":
            self._silent.add(connection)
            return
        if ending == "reset":
            linger = struct.pack("ii", 1, 0)
            connection.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._doomed.pop(connection, None)
        self._silent.discard(connection)
        super()._close(connection)
