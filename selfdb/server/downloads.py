"""Sending a stored version: single byte ranges, entity tags, and a body in constant memory."""

from __future__ import annotations

import io
import re
from typing import Callable, Dict, Mapping, NamedTuple, Optional
from urllib.parse import quote

import anyio
from anyio.to_thread import run_sync
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from .mime import is_inert

__all__ = ["BLOCK", "ByteRange", "Unsatisfiable", "answer", "asked_range", "entity_tag"]

BLOCK = 256 * 1024
"""Bytes read and sent at a time."""

#: How often a download under way asks whether it still may.
_LOOK_SECONDS = 0.25
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d*)[ \t]*-[ \t]*(\d*)[ \t]*\Z", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r'(?:W/)?"[^"]*"')
_MANY_DIGITS = 19


class ByteRange(NamedTuple):
    """A part of a body: the first byte's offset and the number of bytes (at least 1)."""

    start: int
    length: int


class Unsatisfiable(Exception):
    """A well-formed range that lies outside the body."""


def entity_tag(version: str) -> str:
    """The strong entity tag of a version; each overwrite makes another one."""
    return f'"{version}"'


def asked_range(header: Optional[str], size: int) -> Optional[ByteRange]:
    """What a ``Range`` header asks of a body of ``size`` bytes.

    None means the whole body: there is no header, it is malformed, its unit is unknown or it lists several
    ranges (a server may ignore those).

    :raises Unsatisfiable: nothing of the body lies within the range.
    """
    found = _RANGE.match(header.strip()) if header is not None else None
    if found is None:
        return None
    first, last = (_number(text) for text in found.groups())
    if first is None and last is None:
        return None
    if first is None:
        suffix = min(last or 0, size)
        if suffix == 0:
            raise Unsatisfiable()
        return ByteRange(size - suffix, suffix)
    if last is not None and last < first:
        return None
    if first >= size:
        raise Unsatisfiable()
    end = size - 1 if last is None else min(last, size - 1)
    return ByteRange(first, end - first + 1)


def answer(
    file: io.FileIO,
    *,
    size: int,
    version: str,
    mime_type: str,
    name: str,
    asked: Mapping[str, str],
    head: bool = False,
    ended: Callable[[], bool] = lambda: False,
) -> Response:
    """The response to a download. Owns ``file`` from here on and closes it, whatever happens.

    :param size: of the whole content, in bytes.
    :param name: the file's own name, offered to a browser that saves it.
    :param asked: the request's headers: ``Range``, ``If-Range`` and ``If-None-Match`` are honoured.
    :param head: send the headers of the whole body and nothing else.
    :param ended: asked now and then; once it is true the line is cut, so that what came is seen to be a part.
    """
    tag = entity_tag(version)
    shared = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"}
    if _matches(asked.get("if-none-match"), tag):
        file.close()
        return Response(status_code=304, headers=shared)
    part: Optional[ByteRange] = None
    if not head and asked.get("if-range", tag).strip() == tag:
        try:
            part = asked_range(asked.get("range"), size)
        except Unsatisfiable:
            file.close()
            return JSONResponse(
                {"detail": f"The requested range lies outside the file's {size} bytes"},
                status_code=416,
                headers={**shared, "Content-Range": f"bytes */{size}"},
            )
    headers = {**shared, "Content-Type": mime_type, "X-Content-Type-Options": "nosniff"}
    if not is_inert(mime_type):
        # A stored page must not run in the origin of this API.
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    if part is None:
        return _FileBody(200, headers, file, ByteRange(0, size), head, ended)
    headers["Content-Range"] = f"bytes {part.start}-{part.start + part.length - 1}/{size}"
    return _FileBody(206, headers, file, part, head, ended)


def _number(digits: str) -> Optional[int]:
    # Beyond 19 digits the exact value is of no interest: no file is that long.
    return int(digits.lstrip("0")[:_MANY_DIGITS] or "0") if digits else None


def _matches(header: Optional[str], tag: str) -> bool:
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return any(candidate.removeprefix("W/") == tag for candidate in _TAG.findall(header))


class _FileBody(Response):
    """A part of an open file as a body. Stops reading once the client has gone, or its session has."""

    def __init__(
        self,
        status: int,
        headers: Dict[str, str],
        file: io.FileIO,
        part: ByteRange,
        head: bool,
        ended: Callable[[], bool],
    ) -> None:
        self.status_code = status
        self.background = None
        self.body = b""
        self._file = file
        self._part = part
        self._head = head
        self._ended = ended
        self.init_headers({**headers, "Content-Length": str(part.length)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if self._head:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            async with anyio.create_task_group() as group:

                async def until_gone() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        continue
                    group.cancel_scope.cancel()

                async def until_ended() -> None:
                    while not self._ended():
                        await anyio.sleep(_LOOK_SECONDS)
                    group.cancel_scope.cancel()

                group.start_soon(until_gone)
                group.start_soon(until_ended)
                await self._send_part(send)
                group.cancel_scope.cancel()
        finally:
            self._file.close()

    async def _send_part(self, send: Send) -> None:
        left = self._part.length
        self._file.seek(self._part.start)
        while left:
            block = await run_sync(self._file.read, min(BLOCK, left))
            if not block:
                raise OSError("a stored file is shorter than its catalogue row says")
            left -= len(block)
            await send({"type": "http.response.body", "body": block, "more_body": left > 0})
        if not self._part.length:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
