"""A server that costs next to nothing: fixed answers over kept connections, after a delay if one is asked for.

Run as a program it prints its port, and ends with its standard input. ``GET /connections`` tells how many there were.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Dict, Optional, cast

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

ANSWERS: Dict[bytes, bytes] = {b"/users/me": json.dumps(USER).encode()}


def answer(body: bytes) -> bytes:
    """A whole answer with ``body`` as JSON."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


class Answers(asyncio.Protocol):
    """One connection. Requests have no body and come one at a time, or several in one piece."""

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
            head, self._received = self._received.split(b"\r\n\r\n", 1)
            path = head.split(b" ", 2)[1]
            body = b"%d" % Answers.opened if path == b"/connections" else ANSWERS.get(path)
            reply = answer(body) if body is not None else b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
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
