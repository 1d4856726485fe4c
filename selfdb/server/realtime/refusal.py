"""The answer to somebody who may not open a socket."""

from __future__ import annotations

import json

from starlette.types import Scope, Send

from ..errors import ApiError

__all__ = ["refuse"]


async def refuse(scope: Scope, send: Send, refusal: ApiError) -> None:
    """Answer the handshake like an HTTP request; where that cannot be done, with a bare 403."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.detail})
        return
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
