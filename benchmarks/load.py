"""Many requests over a few kept connections: one request made before, sent again as soon as its answer has come."""

from __future__ import annotations

import os
import selectors
import socket
import time
from typing import Dict, List
from urllib.parse import urlsplit

from .measure import Figures

__all__ = ["answer_to", "cpu_of", "load", "message"]


def message(method: str, url: str, headers: Dict[str, str], body: bytes = b"") -> bytes:
    """A whole request."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    fields = {"Host": parts.netloc, **headers}
    if body:
        fields.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Connection:
    """One request at a time."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self.sock = socket.create_connection((place.hostname or "", place.port or 80))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""
        self.begun = 0.0

    def send(self, request: bytes) -> None:
        self.begun = time.perf_counter()
        self.sock.sendall(request)

    def receive(self) -> bytes:
        """Read once; the body of the answer, if that was all of it."""
        piece = self.sock.recv(262144)
        if not piece:
            raise RuntimeError("the server closed a connection")
        data = self._data = self._data + piece
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return b""
        if data[9:10] != b"2":
            raise RuntimeError(f"answered {data[:200]!r}")
        start = data.lower().index(b"content-length:") + 15
        length = int(data[start : data.index(b"\r\n", start)])
        if len(data) < end + 4 + length:
            return b""
        self._data = b""
        return data[end + 4 :]


def answer_to(url: str, request: bytes) -> bytes:
    """The body of the answer to one request."""
    connection = _Connection(url)
    connection.send(request)
    body = b""
    while not body:
        body = connection.receive()
    connection.sock.close()
    return body


def cpu_of(pid: int) -> float:
    """Seconds of CPU time of another process; 0 where that cannot be seen."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(url: str, request: bytes, connections: int, seconds: float, pid: int) -> Figures:
    """What the server ``pid`` reaches, and what each answer costs it."""
    opened = [_Connection(url) for _ in range(connections)]
    times: List[float] = []
    with selectors.DefaultSelector() as selector:
        for connection in opened:
            selector.register(connection.sock, selectors.EVENT_READ, connection)
        cpu, wall = cpu_of(pid), time.perf_counter()
        own, end = time.process_time(), wall + seconds
        waiting = connections
        for connection in opened:
            connection.send(request)
        while waiting:
            for key, _ in selector.select():
                connection = key.data
                if connection.receive():
                    now = time.perf_counter()
                    times.append(now - connection.begun)
                    if now < end:
                        connection.send(request)
                    else:
                        waiting -= 1
        cpu, wall, own = cpu_of(pid) - cpu, time.perf_counter() - wall, time.process_time() - own
    for connection in opened:
        connection.sock.close()
    times.sort()
    return {
        "rate": len(times) / wall,
        "cpu": cpu / len(times),
        "p50": times[len(times) // 2],
        "p99": times[int(len(times) * 0.99)],
        "generator": own / wall,
    }
