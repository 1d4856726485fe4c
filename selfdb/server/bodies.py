"""The body of a request that is read whole, within bounds. Uploads stream and are in ``uploads``."""

from __future__ import annotations

from fastapi import Request

from .errors import ApiError
from .services import get_services

__all__ = ["read_body"]


async def read_body(request: Request) -> bytes:
    """The body of ``request``, which is not larger than JSON may be.

    :raises ApiError: 413.
    """
    limit = get_services(request).settings.json_limit_bytes
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > limit:
            raise _too_large(limit)
    return bytes(content)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body is larger than {limit} bytes")
