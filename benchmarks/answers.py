"""A server that costs next to nothing: fixed answers over kept connections, after a delay if one is asked for.

Run as a program it prints its port, and ends with its standard input. ``GET /connections`` tells how many there were.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from typing import Dict, Optional, Tuple, cast

USER = {
    "id": "7b555910-3c00-471c-bf02-cb30fd24fda4",
    "email": "ada@example.com",
    "role": "USER",
    "firstName": "Ada",
    "lastName": "Lovelace",
    "isActive": True,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}

TABLE = "0c4c4b8e-6a3a-4d0f-9a58-0f7f5a3b6a11"
ROW = {"id": "4b1c1a52-8a4e-4b36-9b6f-1f8b8b5f3a55", "title": "a row of about two hundred bytes", "n": 7, "done": False}
ROW["note"] = "x" * (200 - len(json.dumps({**ROW, "note": ""})))
PAIR = {"access_token": "bench-access", "refresh_token": "bench-refresh", "token_type": "bearer"}


def page(rows: int) -> Dict[str, object]:
    """A page of ``rows`` rows of about a hundred bytes each."""
    data = [{"id": f"{number:036d}", "title": f"row {number}", "n": number, "done": False} for number in range(rows)]
    return {"data": data, "total": rows, "page": 1, "page_size": rows, "metadata": None}


READS: Dict[str, object] = {
    "/users/me": USER,
    "/users/": [{**USER, "email": f"u{number}@example.com"} for number in range(100)],
    f"/tables/{TABLE}/data": page(100),
}
"""What a GET is answered with, by path."""

WRITES: Dict[str, Tuple[int, object]] = {f"/tables/{TABLE}/data": (201, ROW), "/users/token": (200, PAIR)}
"""What a POST is answered with, by path, and the status."""


def answer(body: bytes, status: int = 200) -> bytes:
    """A whole answer with ``body`` as JSON."""
    head = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


MADE: Dict[Tuple[bytes, bytes], bytes] = {
    **{(b"GET", path.encode()): answer(json.dumps(body).encode()) for path, body in READS.items()},
    **{(b"POST", path.encode()): answer(json.dumps(body).encode(), code) for path, (code, body) in WRITES.items()},
}
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Answers(asyncio.Protocol):
    """One connection. Requests come one at a time, or several in one piece; bodies are not looked at."""

    opened = 0

    def __init__(self, delay: float) -> None:
        Answers.opened += 1
        self._delay = delay
        self._received = b""
        self._transport: Optional[asyncio.Transport] = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, rest = self._received.split(b"\r\n\r\n", 1)
            method, target, _ = head.split(b" ", 2)
            if method != b"GET":
                told = LENGTH.search(head)
                length = int(told.group(1)) if told else 0
                if len(rest) < length:
                    return
                rest = rest[length:]
            self._received = rest
            path = target.partition(b"?")[0]
            reply = answer(b"%d" % Answers.opened) if path == b"/connections" else MADE.get((method, path), NOT_FOUND)
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._send, reply)
            else:
                self._send(reply)

    def _send(self, reply: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reply)


async def serve(delay: float) -> None:
    """Serve on a free port of the loopback interface until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answers(delay), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(serve(float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0))
