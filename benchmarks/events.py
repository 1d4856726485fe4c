"""A realtime server that costs next to nothing: joins are answered, and events sent as they were made before.

Run as a program it prints its port, and ends with its standard input. A WebSocket that joins a topic, with frames of
either version, has events sent to it when a plain connection to the same port says a line of "TOPIC COUNT RATE": as
fast as they are taken, or RATE of them a second, each with the time of its sending by `time.monotonic_ns`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import sys
import threading
import time
from typing import Any, Dict, Optional, Tuple

FRAME = 265
"""Bytes of the text of an event, in either version."""

BLOCK = 500
"""Events in one piece."""

GREETING = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
GREETING += "Sec-WebSocket-Accept: {}\r\n\r\n"
MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
UNSENT = "0" * 20
ROW = {"id": "4b1c1a52-8a4e-4b36-9b6f-1f8b8b5f3a55", "title": "a row", "n": 7, "done": False, "sent": UNSENT}

joined: Dict[str, Tuple[socket.socket, int]] = {}
"""By topic: the connection that joined it last, and the version of its frames."""

joining = threading.Condition()


def wrapped(text: bytes) -> bytes:
    """A whole message of text, as a server sends it."""
    size = len(text)
    return (bytes([0x81, size]) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")) + text


def text_of(version: int, topic: str, event: str, payload: Any, ref: Any = None, join_ref: Any = None) -> bytes:
    """A frame of the channel protocol."""
    frame: Any = [join_ref, ref, topic, event, payload]
    if version == 1:
        frame = {"topic": topic, "event": event, "payload": payload, "ref": ref}
    return json.dumps(frame, separators=(",", ":")).encode()


def insertion(version: int, topic: str) -> bytes:
    """An event of a row that was inserted, of `FRAME` bytes."""
    row: Dict[str, Any] = {**ROW, "note": ""}
    payload = {"event": "INSERT", "table": topic.partition(":")[2], "new": row, "old": None}
    row["note"] = "x" * (FRAME - len(text_of(version, topic, "INSERT", payload)))
    text = text_of(version, topic, "INSERT", payload)
    assert len(text) == FRAME
    return wrapped(text)


def send(topic: str, count: int, rate: float) -> None:
    """Send ``count`` events, once somebody has joined."""
    with joining:
        joining.wait_for(lambda: topic in joined)
        sock, version = joined[topic]
    message = insertion(version, topic)
    if not rate:
        block = message * BLOCK
        for _ in range(count // BLOCK):
            sock.sendall(block)
        sock.sendall(message * (count % BLOCK))
        return
    before, _, after = message.partition(UNSENT.encode())
    begun = time.monotonic()
    for number in range(count):
        wait = begun + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        sock.sendall(before + b"%020d" % time.monotonic_ns() + after)


def exactly(sock: socket.socket, size: int) -> bytes:
    """The next ``size`` bytes."""
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def message_from(sock: socket.socket) -> Optional[bytes]:
    """The next text of a client; ``None`` for what is none."""
    first, second = exactly(sock, 2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(exactly(sock, 2 if size == 126 else 8), "big")
    mask, body = exactly(sock, 4), exactly(sock, size)
    data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))
    if first & 0x0F == 8:
        sock.sendall(bytes([0x88, len(data)]) + data)
        raise EOFError
    if first & 0x0F == 9:
        sock.sendall(bytes([0x8A, len(data)]) + data)
    return data if first & 0x0F == 1 else None


def channels(sock: socket.socket, request: bytes) -> None:
    """Serve a WebSocket: every push is answered with yes, and a join is remembered."""
    head = {}
    for line in request.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        head[name.strip().lower()] = value.strip()
    digest = hashlib.sha1((head["sec-websocket-key"] + MAGIC).encode(), usedforsecurity=False).digest()
    sock.sendall(GREETING.format(base64.b64encode(digest).decode()).encode())
    while True:
        data = message_from(sock)
        if data is None:
            continue
        body = json.loads(data)
        version = 1 if isinstance(body, dict) else 2
        join_ref = None if version == 1 else body[0]
        ref, topic, event = (body["ref"], body["topic"], body["event"]) if version == 1 else body[1:4]
        reply = {"status": "ok", "response": {}}
        sock.sendall(wrapped(text_of(version, topic, "phx_reply", reply, ref, join_ref)))
        if event == "phx_join":
            with joining:
                joined[topic] = (sock, version)
                joining.notify_all()


def connection(sock: socket.socket) -> None:
    """Serve one connection of either kind."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = b""
    try:
        while True:
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
            if data.startswith(b"GET "):
                if data.endswith(b"\r\n\r\n"):
                    channels(sock, data)
                continue
            while b"\n" in data:
                line, data = data.split(b"\n", 1)
                topic, count, rate = line.decode().split()
                send(topic, int(count), float(rate))
    except (EOFError, OSError):
        pass
    finally:
        sock.close()


def accept(listener: socket.socket) -> None:
    """A thread for every connection."""
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=connection, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    threading.Thread(target=accept, args=(server,), daemon=True).start()
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
