"""The awaitable face of ``selfdb.aerodb``: its names, where every call that waits is to be awaited.

::

    from selfdb.aio.aerodb import AeroDBClient

    async with AeroDBClient("https://api.example.com", key="your-api-key") as client:
        await client.auth.sign_in("ann@example.com", "password")
        response = await client.from_("users").select("id, name").eq("role", "admin").execute()
        await client.channel("posts").on("INSERT", print).subscribe()

Behind each name is its namesake in ``selfdb.aerodb``, which says what a call does. Calls are made on worker threads of
the client's own; events come to the loop.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .. import aerodb
from ..core.asynchronous import Opened as _Opened
from ..core.asynchronous import awaitable as _awaitable

HOMES = {
    "AeroDBClient": "aerodb.client",
    "AuthClient": "aerodb.auth",
    "DatabaseClient": "aerodb.database",
    "FunctionsClient": "aerodb.functions",
    "HealthClient": "aerodb.health",
    "Pages": "aerodb.paging",
    "QueryBuilder": "aerodb.database",
    "RealtimeChannel": "aerodb.realtime.channel",
    "RealtimeClient": "aerodb.realtime.client",
    "RowStream": "aerodb.paging",
    "StorageBucket": "aerodb.storage",
    "StorageClient": "aerodb.storage",
}
"""Where the blocking namesake of a face lives."""

__all__ = sorted({*aerodb.__all__, *HOMES, "Opened"})


def __getattr__(name: str) -> Any:
    value: Any
    if name == "Opened":
        value = _Opened
    elif name in HOMES:
        value = _awaitable(getattr(import_module(f"..{HOMES[name]}", __package__), name), __name__)
    elif name in aerodb.__all__:
        value = getattr(aerodb, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next look finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
