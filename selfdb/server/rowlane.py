"""The short way to rows: the two requests that programs send most, answered without a framework in between.

They are a page of rows without search or sort and the insert of one row without an idempotency key, spelled as clients
spell them. Each takes one hop to a worker thread and one transaction, in which the caller is looked up too. Whatever
is not plain goes on, untouched, to the routes (``routes.rows``), which know every request and describe them all; what
is permitted, done and stored is the same code here and there.
"""

from __future__ import annotations

import re
from typing import Dict, List, Optional

from fastapi.exceptions import RequestValidationError
from sqlalchemy.engine import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import idempotency, rows
from .access import Principal, bearer_in, claims_of, principal_of
from .bearer import Claims
from .errors import ApiError, refusal_of
from .routing import parsed
from .services import Services
from .writes import rendered

__all__ = ["RowLane"]

_PATH = re.compile(r"/tables/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/data")
_QUERY = re.compile(rb"(?:page=([1-9][0-9]{0,8}))?(?:(?:^|&)page_size=([1-9][0-9]{0,2}|1000))?")
_LENGTH = re.compile(rb"[1-9][0-9]{0,4}")
#: A longer body is read by the ordinary way, which first asks the database whether its sender may come in.
_LONGEST_BODY = 16 * 1024
#: What a body may be preceded by that needs more thought.
_UNUSUAL = (b"transfer-encoding", b"expect", idempotency.HEADER.lower().encode())

_Headers = Dict[bytes, bytes]


class _NotPlain(Exception):
    """The ordinary way is to answer; nothing was done."""


class RowLane:
    """ASGI middleware inside the gate: the API key was found right."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" and not scope.get("root_path") else None
        if found is None:
            await self._app(scope, receive, send)
            return
        body = _Body(receive)
        try:
            # Of a header that comes twice the first counts, as everywhere.
            headers: _Headers = dict(reversed(scope["headers"]))
            if scope["method"] == "GET":
                status, content = 200, await self._page(found[1], scope["query_string"], headers)
            elif scope["method"] == "POST" and not scope["query_string"]:
                status, content = 201, await self._insert(found[1], headers, body)
            else:
                raise _NotPlain
        except _NotPlain:
            await self._app(scope, body.receive_again, send)
        except ApiError as refusal:
            await refusal_of(refusal)(scope, receive, send)
        else:
            sent = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": status, "headers": sent})
            await send({"type": "http.response.body", "body": content})

    async def _page(self, table_id: str, query: bytes, headers: _Headers) -> bytes:
        asked = _QUERY.fullmatch(query)
        if asked is None:
            raise _NotPlain
        wanted = rows.PageQuery(int(asked[1] or 1), int(asked[2] or 100))
        claims = self._claims(headers)

        def work() -> bytes:
            found = rows.fetch(self._services, lambda connection: _caller(connection, claims), table_id, wanted)
            return rendered(found)

        return await run_in_threadpool(work)

    async def _insert(self, table_id: str, headers: _Headers, body: _Body) -> bytes:
        length = headers.get(b"content-length", b"")
        if headers.get(b"content-type") != b"application/json" or any(name in headers for name in _UNUSUAL):
            raise _NotPlain
        if not _LENGTH.fullmatch(length) or int(length) > min(_LONGEST_BODY, self._services.settings.json_limit_bytes):
            raise _NotPlain
        # Before the body: nobody's body is looked at.
        claims = self._claims(headers)
        try:
            row = parsed(await body.read())
        except (ApiError, RequestValidationError):
            raise _NotPlain from None  # whether its sender may come in is told before what is wrong with it
        if not isinstance(row, dict):
            raise _NotPlain

        def effect(connection: Connection) -> bytes:
            caller = _caller(connection, claims, hold=True)
            return rendered(rows.insert(connection, self._services, caller, table_id, row))

        def work() -> bytes:
            return self._services.database.transact(effect)

        return await run_in_threadpool(work)

    def _claims(self, headers: _Headers) -> Optional[Claims]:
        value = headers.get(b"authorization")
        return None if value is None else claims_of(self._services, bearer_in(value.decode("latin-1")))


def _caller(connection: Connection, claims: Optional[Claims], *, hold: bool = False) -> Optional[Principal]:
    if claims is None:
        return None
    principal, first_use = principal_of(connection, claims, hold=hold)
    if first_use:
        raise _NotPlain  # to be noted whatever becomes of the request
    return principal


class _Body:
    """What comes of a request's body, kept for whoever answers in the end."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read: List[Message] = []

    async def read(self) -> bytes:
        """All of it."""
        content = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._read.append(message)
            content += message.get("body", b"")
            if not message.get("more_body", False):
                return bytes(content)

    async def receive_again(self) -> Message:
        """The ASGI channel from its beginning."""
        return self._read.pop(0) if self._read else await self._receive()
