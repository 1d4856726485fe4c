"""Receiving an upload: from the socket into the blob store in constant memory, then into the catalogue."""

from __future__ import annotations

import errno
from typing import Optional, Tuple

from anyio.to_thread import run_sync
from fastapi import Request
from sqlalchemy.engine import Connection
from starlette.requests import ClientDisconnect

from .access import Principal
from .errors import ApiError
from .files import Upload, permit_upload, record_upload
from .mime import stored_type
from .objects import Incoming
from .paths import KeyRefused, object_key
from .services import Services
from .wire_storage import UploadReply

__all__ = ["BLOCK", "receive"]

BLOCK = 256 * 1024
"""Bytes gathered from the socket before a worker thread writes them."""

_FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))


async def receive(
    request: Request,
    services: Services,
    caller: Optional[Principal],
    *,
    bucket_id: str,
    filename: str,
    path: Optional[str],
    content_type: Optional[str],
) -> Tuple[int, UploadReply]:
    """Store the request's body as a file: status 201 and the reply, 200 where it replaced one.

    Everything that can be refused without the body is refused before a byte of it is read. Until the row is
    committed nobody sees anything of the upload, and whatever ends it earlier leaves nothing behind.

    :raises ApiError: 400 for the key, 401, 403, 404, 413, 415, 507.
    """
    try:
        key = object_key(filename, path)
    except KeyRefused as refused:
        raise ApiError(400, str(refused)) from None
    upload = Upload(bucket_id, key, stored_type(content_type, key), caller)
    limit = await run_sync(_permit, services, upload, _declared_size(request))
    try:
        with services.objects.receive() as incoming:
            await _copy(request, incoming, limit)
            return await run_sync(_record, services, upload, incoming)
    except ClientDisconnect:
        # Nobody is left to read it; it only keeps a traceback out of the log.
        raise ApiError(400, "The client went away before the file was complete") from None
    except OSError as error:
        if error.errno in _FULL:
            raise ApiError(507, "The server has no room left for this file") from error
        raise


def _permit(services: Services, upload: Upload, size: int) -> Optional[int]:
    with services.database.read() as connection:
        limit: Optional[int] = permit_upload(connection, upload, size)["file_size_limit"]
    return limit


async def _copy(request: Request, incoming: Incoming, limit: Optional[int]) -> None:
    gathered = bytearray()
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if limit is not None and total > limit:
            raise ApiError(413, f"The file is larger than this bucket's limit of {limit} bytes")
        gathered += chunk
        if len(gathered) >= BLOCK:
            await run_sync(incoming.write, gathered)
            gathered = bytearray()
    if gathered:
        await run_sync(incoming.write, gathered)


def _record(services: Services, upload: Upload, incoming: Incoming) -> Tuple[int, UploadReply]:
    """Runs to its end in a worker thread, whether or not the client is still there."""
    incoming.claim()
    recorded = False

    def record(connection: Connection) -> Tuple[int, UploadReply]:
        nonlocal recorded
        recorded = False
        outcome = record_upload(connection, services, upload, incoming.version, incoming.size)
        recorded = True
        return outcome

    try:
        incoming.publish()
        outcome = services.database.transact(record)
    except BaseException:
        # A commit that failed may still have happened (its answer was lost): then the content must stay.
        # If it did not happen, no row names the content and the sweep of the next start removes it.
        if recorded:
            incoming.keep()
        else:
            incoming.withdraw()
        raise
    incoming.keep()
    return outcome


def _declared_size(request: Request) -> int:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0
