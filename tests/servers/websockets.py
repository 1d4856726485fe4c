"""The server's side of a WebSocket, frame by frame, over the connections of a `ScriptedServer`.

::

    def handler(peer):
        ws = accept(peer)
        assert ws.receive() == (TEXT, b"hello")
        ws.send(TEXT, b"hello yourself")
        ws.say_close(1000)

    ScriptedServer(handler)
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from typing import Any, Dict, List, Optional, Tuple

from tests.servers.scripted import Peer, PeerGone, Received

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0, masked: bool = False) -> bytes:
    """The bytes of one frame as a server sends it; ``reserved`` and ``masked`` break the rules."""
    first = (0x80 if final else 0) | reserved | opcode
    mask = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 65536:
        head = bytes([first, mask | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, mask | 127]) + size.to_bytes(8, "big")
    return head + (b"\0\0\0\0" if masked else b"") + payload


def accept(peer: Peer, headers: Optional[Dict[str, str]] = None) -> WebSocket:
    """Read the request and agree to it; fails the test if it is no proper handshake."""
    request = peer.read_request()
    assert request.method == "GET"
    assert (request.header("Upgrade") or "").lower() == "websocket"
    assert (request.header("Connection") or "").lower() == "upgrade"
    assert request.header("Sec-WebSocket-Version") == "13"
    key = request.header("Sec-WebSocket-Key") or ""
    assert len(base64.b64decode(key)) == 16
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept_for(key)}
    lines = [f"{name}: {value}" for name, value in {**fields, **(headers or {})}.items()]
    peer.send("\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode("ascii"))
    return WebSocket(peer, request)


def accept_for(key: str) -> str:
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


class WebSocket:
    """A connection after its handshake. One thread reads; any may send."""

    def __init__(self, peer: Peer, request: Received) -> None:
        self.peer = peer
        self.request = request
        self.pongs: List[bytes] = []
        self.closed_with: Optional[int] = None
        """The code of the client's close frame, once it was read."""
        self._sending = threading.Lock()

    def send(self, opcode: int, payload: bytes = b"", **odd: Any) -> None:
        self.raw(frame(opcode, payload, **odd))

    def raw(self, data: bytes) -> None:
        with self._sending:
            self.peer.send(data)

    def send_json(self, body: Any) -> None:
        self.send(TEXT, json.dumps(body).encode())

    def say_close(self, code: int, reason: str = "") -> None:
        self.send(CLOSE, code.to_bytes(2, "big") + reason.encode())

    def read_frame(self) -> Tuple[int, bytes]:
        """One frame of the client, which has to be masked and whole."""
        first, second = self.peer.read_exactly(2)
        assert first & 0xF0 == 0x80, "fragments or reserved bits from the client"
        assert second & 0x80, "a client must mask its frames"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self.peer.read_exactly(2 if size == 126 else 8), "big")
        mask = self.peer.read_exactly(4)
        data = self.peer.read_exactly(size)
        whole = int.from_bytes(data, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        return first & 0x0F, whole.to_bytes(size, "big")

    def receive(self) -> Tuple[int, bytes]:
        """The next message; `PeerGone` when the client closes. Pongs are kept in ``pongs``."""
        while True:
            opcode, data = self.read_frame()
            if opcode == PONG:
                self.pongs.append(data)
            elif opcode == CLOSE:
                self.closed_with = int.from_bytes(data[:2], "big")
                raise PeerGone("the client said goodbye")
            else:
                return opcode, data

    def receive_json(self) -> Any:
        opcode, data = self.receive()
        assert opcode == TEXT
        return json.loads(data)

    def wait_for_end(self) -> Optional[int]:
        """Read until the client is gone; returns the code of its close frame, if it sent one."""
        try:
            while True:
                self.receive()
        except PeerGone:
            return self.closed_with
