"""What tests of links share: an owner that records what it is told, and a small proxy."""

from __future__ import annotations

import base64
import socket
import threading
from typing import Any, Callable, List, Optional, Sequence, Tuple

from selfdb.core.clock import Clock
from selfdb.core.flags import Flag
from selfdb.core.websocket import Address, After, Link
from selfdb.core.wsframes import Message
from selfdb.exceptions import SelfDBError
from tests.core.kit import wait_until
from tests.servers.scripted import Peer, PeerGone, ScriptedServer
from tests.servers.websockets import WebSocket, accept

SLACK = 5.0
"""Upper bounds that users rely on are tested with this factor."""


def address_of(server: Any, **options: Any) -> Address:
    url = server.url.replace("http", "ws", 1) + options.pop("path", "/socket?key=secret-of-the-url")
    return Address(url, server.url, **{"secrets": ("secret-of-the-url",), **options})


class Owner:
    """A `LinkProtocol` that writes everything down; ``link()`` makes links that end with ``end()``."""

    def __init__(self, address: Any, after: After = After.STOP) -> None:
        self._address = address
        self.after = after
        self.opens = 0
        self.messages: List[Tuple[int, bytes]] = []
        self.batches: List[List[Tuple[int, bytes]]] = []
        self.losses: List[SelfDBError] = []
        self.refusals: List[SelfDBError] = []
        self.states: List[str] = []
        self.reading = True
        self.changed = False
        self.due: Optional[float] = None
        self.ticks = 0
        self.on_opened: Callable[[], Any] = lambda: None
        self.on_received: Callable[[bytes], Any] = lambda data: None
        self.on_tick: Callable[[], Any] = lambda: None
        self._links: List[Link] = []

    def link(self, **options: Any) -> Link:
        self._links.append(Link(self, on_state=lambda state: self.states.append(state.value), **options))
        return self._links[-1]

    def started(self, **options: Any) -> Link:
        link = self.link(**options)
        link.start()
        return link

    def open(self, **options: Any) -> Link:
        """A link whose connection stands."""
        link = self.started(**options)
        wait_until(lambda: self.opens > 0 or bool(self.refusals))
        assert not self.refusals, self.refusals
        return link

    def end(self) -> None:
        for link in self._links:
            link.close()

    def address(self) -> Address:
        found = self._address() if callable(self._address) else self._address
        assert isinstance(found, Address)
        return found

    def opened(self) -> None:
        self.opens += 1
        self.on_opened()

    def received(self, messages: Sequence[Message]) -> bool:
        self.batches.append([tuple(message) for message in messages])
        for opcode, data in messages:
            self.messages.append((opcode, data))
            self.on_received(data)
        return self.changed

    def ready_to_read(self) -> bool:
        return self.reading

    def tick(self) -> Optional[float]:
        self.ticks += 1
        self.on_tick()
        return self.due

    def lost(self, error: SelfDBError) -> None:
        self.losses.append(error)

    def refused(self, error: SelfDBError) -> After:
        self.refusals.append(error)
        return self.after


class Naps(Clock):
    """Waits pass at once, and no time but theirs passes; ``naps`` has the seconds of each."""

    def __init__(self) -> None:
        self.naps: List[float] = []
        self._now = super().monotonic()

    def monotonic(self) -> float:
        return self._now

    def wait(self, event: Flag, seconds: float) -> bool:
        self.naps.append(seconds)
        self._now += seconds
        return event.is_set()


def echo(peer: Peer) -> None:
    """Says every message back, and ``hello`` first."""
    ws = accept(peer)
    ws.send(1, b"hello")
    while True:
        ws.send(*ws.receive())


def quiet(peer: Peer) -> None:
    """Opens, and reads until the client goes."""
    accept(peer).wait_for_end()


class Proxy:
    """Answers ``CONNECT`` like a proxy in front of ``server``; a handler for a `ScriptedServer`.

    :param credentials: ``user:password`` that it insists on.
    """

    def __init__(self, server: ScriptedServer, credentials: Optional[str] = None) -> None:
        self.targets: List[str] = []
        self._server = server
        self._wanted = None if credentials is None else "Basic " + base64.b64encode(credentials.encode()).decode()

    def __call__(self, peer: Peer) -> None:
        request = peer.read_request(body=False)
        if request.header("Proxy-Authorization") != self._wanted:
            peer.reply(407, b"who are you?")
            return
        assert request.method == "CONNECT"
        self.targets.append(request.target)
        with socket.create_connection(self._server.address) as onward:
            peer.send(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(onward, peer.sock), daemon=True)
            back.start()
            self._pump(peer.sock, onward)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def opened(*then: Callable[[WebSocket], Any]) -> Callable[[Peer], None]:
    """A handler that opens, does ``then``, and reads until the client goes."""

    def handler(peer: Peer) -> None:
        ws = accept(peer)
        for step in then:
            step(ws)
        if not peer.ended:
            ws.wait_for_end()

    return handler


__all__ = ["SLACK", "Naps", "Owner", "PeerGone", "Proxy", "address_of", "echo", "opened", "quiet"]
