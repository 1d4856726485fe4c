"""Where sockets are opened: the version, the token, and a refusal before anything is opened."""

from __future__ import annotations

import contextlib
import re
from typing import Optional
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from ..access import authenticate
from ..bearer import ACCESS
from ..errors import ApiError
from .hub import Hub
from .refusal import refuse
from .socket import Socket
from .wire import V1, V2

__all__ = ["CUT", "Endpoint", "from_query"]

#: Under this name, and there as ``call``, the listener lends the means to cut a line, among a scope's extensions.
CUT = "selfdb.cut"

_V1 = re.compile(r"1\.0\.\d{1,9}\Z")
_V2 = re.compile(r"2(\.\d{1,9}){1,2}\Z")


def from_query(scope: Scope, name: str) -> Optional[str]:
    """The first value of ``name``, in whatever case, in the query of a request."""
    query = scope.get("query_string", b"").decode("latin-1")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return None
    return next((value for key, value in pairs if key.lower() == name.lower()), None)


class Endpoint:
    """The ASGI application of one path.

    :param mirrors: a client that names no version is answered in that of what it said last.
    """

    def __init__(self, hub: Hub, *, mirrors: bool) -> None:
        self._hub = hub
        self._mirrors = mirrors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            version = self._version(from_query(scope, "vsn"))
            socket = await self._opened(scope, send, version, from_query(scope, "token"))
        except ApiError as refusal:
            await refuse(scope, send, refusal)
            return
        try:
            await self._serve(socket, scope, receive, send)
        finally:
            self._hub.forget(socket)

    async def _serve(self, socket: Socket, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        if socket.closing is not None:
            ended = socket.closing[0] == 1008
            await refuse(scope, send, _bad_credentials() if ended else _stopping())
            return
        with contextlib.suppress(OSError):  # gone before it was there
            await send({"type": "websocket.accept"})
            await socket.run(receive)

    def _version(self, asked: Optional[str]) -> int:
        if asked is None:
            return V2 if self._mirrors else V1
        if _V1.match(asked):
            return V1
        if _V2.match(asked):
            return V2
        raise ApiError(403, "Unsupported vsn; 1.0.0 and 2.0.0 are served")

    async def _opened(self, scope: Scope, send: Send, version: int, token: Optional[str]) -> Socket:
        services = self._hub.services
        if not token:
            raise ApiError(401, "Not authenticated", {"WWW-Authenticate": "Bearer"})
        try:
            principal = await run_in_threadpool(authenticate, services, token)
        except ApiError as refusal:
            # Also a deactivated user: a client stops asking at 401 only.
            raise ApiError(401, refusal.detail, {"WWW-Authenticate": "Bearer"}) from None
        claims = services.tokens.read(token, ACCESS, services.clock.now())
        # The session may have ended, and its sockets been closed, since the database was asked.
        if claims is None or self._hub.has_ended(principal.session_id):
            raise _bad_credentials()
        if not self._hub.running:
            raise _stopping()
        socket = Socket(
            self._hub,
            send,
            (scope.get("extensions") or {}).get(CUT, {}).get("call"),
            version=version,
            mirrors=self._mirrors,
            principal=principal,
            expires_at=claims.expires_at,
        )
        self._hub.add(socket)  # at once, so that it is told when its session ends
        return socket


def _bad_credentials() -> ApiError:
    return ApiError(401, "Could not validate credentials", {"WWW-Authenticate": "Bearer"})


def _stopping() -> ApiError:
    return ApiError(503, "The server is stopping")
