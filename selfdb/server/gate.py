"""What surrounds every request before any route is looked for: API key, request id, access log, polite refusals."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from typing import Optional, Tuple

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError
from .realtime.endpoint import from_query
from .realtime.refusal import refuse
from .services import Services

__all__ = ["Gate"]

logger = logging.getLogger("selfdb.server")
access_log = logging.getLogger("selfdb.server.access")

_OPEN_PATHS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})

#: How much of a body that nobody wants is read, and for how long, so that the refusal can be read.
_LINGER_BYTES = 64 * 1024 * 1024
_LINGER_SECONDS = 5.0


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        began = time.perf_counter()
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(scope, exchange.receive, exchange.send)
            else:
                await _answer(exchange.send, *refusal)
        except ClientDisconnect:
            # In the middle of its request: nothing was done, nobody waits for an answer, and no fault of the server's.
            logger.info("%s %s broke off, request %s", scope["method"], _path(scope), exchange.request_id)
        except Exception:
            # Here and not in the application, so that this answer too has an id and a line in the log.
            logger.exception("%s %s failed, request %s", scope["method"], _path(scope), exchange.request_id)
            if exchange.status is not None:
                raise  # half an answer is out; only a broken connection can tell
            await _answer(exchange.send, 500, "Internal server error")
        finally:
            if self._services.settings.access_log:
                access_log.info(
                    "%s %s %s %.1fms",
                    scope["method"],
                    _path(scope),
                    exchange.status or "-",
                    (time.perf_counter() - began) * 1000,
                )

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A websocket's handshake is refused like a request; what follows it is the application's."""
        began = time.perf_counter()
        status: Optional[int] = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.accept":
                status = 101
            elif status is None:
                status = int(message.get("status", 403))
            await send(message)

        try:
            refusal = self._judge(Headers(scope=scope).get("x-api-key") or from_query(scope, "x-api-key"))
            if refusal is None:
                await self._app(scope, receive, watched)
            else:
                await refuse(scope, watched, ApiError(*refusal))
        except Exception:
            logger.exception("a websocket at %s failed", _path(scope))
            if status is None:
                await refuse(scope, watched, ApiError(500, "Internal server error"))
            elif status == 101:
                await send({"type": "websocket.close", "code": 1011, "reason": "internal error"})
        finally:
            if self._services.settings.access_log:
                took = (time.perf_counter() - began) * 1000
                access_log.info("WEBSOCKET %s %s %.1fms", _path(scope), status or "-", took)

    def _refusal(self, scope: Scope) -> Optional[Tuple[int, str]]:
        if scope["method"] == "OPTIONS" or scope["path"] in _OPEN_PATHS:
            return None
        return self._judge(Headers(scope=scope).get("x-api-key"))

    def _judge(self, key: Optional[str]) -> Optional[Tuple[int, str]]:
        if not key:
            return 406, "Missing required header: X-API-Key"
        if not self._services.is_api_key(key):
            return 401, "Invalid API key"
        return None


def _path(scope: Scope) -> str:
    """The path for a log line; the query is left out, for it may carry keys and tokens."""
    return str(scope["path"]).encode("unicode_escape").decode("ascii")


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Exchange:
    """One request and its answer, watched: knows whether the body was read when the answer ends."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self._send = send
        self.request_id = uuid.uuid4().hex
        length = headers.get("content-length", "0")
        self._unread = length != "0" or "transfer-encoding" in headers
        # Such a client sends its body only when told to go on.
        self._asks_first = "expect" in headers
        self.status: Optional[int] = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            MutableHeaders(scope=message)["X-Request-ID"] = self.request_id
        elif self._must_linger(message):
            # Closing a connection on which the client still sends resets it, and the answer is lost.
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def _must_linger(self, message: Message) -> bool:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        return last and self._unread and not self._asks_first and (self.status or 0) >= 400

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LINGER_SECONDS
        left = _LINGER_BYTES
        while self._unread and left > 0 and loop.time() < deadline:
            try:
                message = await asyncio.wait_for(self.receive(), deadline - loop.time())
            except asyncio.TimeoutError:
                return
            left -= len(message.get("body", b""))
