"""The awaitable face of the package: the names of ``selfdb``, where every call that waits is to be awaited.

::

    from selfdb.aio import SelfDB

    async with SelfDB("http://127.0.0.1:8000", "your-api-key") as db:
        await db.auth.login(email="admin@example.com", password="password")
        async for table in db.tables.iter():
            print(table.name)

Behind each name is its namesake in ``selfdb``, which says what a call does. Calls are made on worker threads of the
client's own; events come to the loop. Models and exceptions are the very same.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import selfdb

from .. import models as _models
from ..core.asynchronous import Opened as _Opened
from ..core.asynchronous import awaitable as _awaitable

HOMES = {
    "SelfDB": "client",
    "RawSelfDB": "client",
    "Auth": "auth",
    "RawAuth": "auth",
    "RawUsers": "auth",
    "Users": "auth",
    "Columns": "tables",
    "RawColumns": "tables",
    "RawTableData": "tables",
    "RawTables": "tables",
    "RowIterator": "tables",
    "TableData": "tables",
    "TableDataQueryBuilder": "tables",
    "Tables": "tables",
    "Buckets": "storage.buckets",
    "RawBuckets": "storage.buckets",
    "Files": "storage.files",
    "RawFiles": "storage.files",
    "RawStorage": "storage",
    "Storage": "storage",
    "Download": "core.download",
    "Walk": "core.paging",
    "Channel": "realtime.channel",
    "EventStream": "realtime.events",
    "Follower": "realtime.follow",
    "Realtime": "realtime.client",
}
"""Where the blocking namesake of a face lives."""

__all__ = sorted({*selfdb.__all__, *HOMES, "Opened"})


def __getattr__(name: str) -> Any:
    value: Any
    if name == "SelfDB":
        _load()
    if name == "Opened":
        value = _Opened
    elif name in HOMES:
        value = _awaitable(getattr(import_module(f"..{HOMES[name]}", __name__), name), __name__)
    elif name in selfdb.__all__:
        value = getattr(selfdb, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next look finds it without coming here
    return value


def _load() -> None:
    """Import what the blocking client leaves for its first calls: an event loop is not to wait for that."""
    for home in {*HOMES.values()}:
        import_module(f"..{home}", __name__)
    for model in _models.__all__:
        getattr(_models, model)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
