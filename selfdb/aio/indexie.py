"""The awaitable face of ``selfdb.indexie``: its names, where every call that touches the file is to be awaited.

::

    from selfdb.aio.indexie import Indexie, use_live_query

    db = Indexie("notes")
    db.version(1).stores({"notes": "++id, title"})
    async with db:
        async with db.transaction("rw", ["notes"]):
            await db.notes.add({"title": "Buy tea"})
        titles = use_live_query(lambda: db.notes.order_by("title").to_array())
        async for notes in titles:
            print(notes)

Behind each name is its namesake in ``selfdb.indexie``, which says what a call does. Calls are made on worker threads of
the database's own; a transaction belongs to the task that opened it and to those that it starts, and its calls are made
one after the other. Hooks, subscribers and the functions of live queries run on the loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .. import indexie
from ..core.asynchronous import Bridge, Face
from ..core.asynchronous import Opened as _Opened
from ..core.asynchronous import awaitable as _awaitable
from ..core.loops import LoopCallback

HOMES = {
    "Collection": "indexie.queries.collection",
    "Found": "indexie.queries.collection",
    "Indexie": "indexie.database",
    "LiveQuery": "indexie.live.live",
    "LiveValues": "indexie.live.live",
    "Outbox": "indexie.hooks.outbox",
    "OverlayTransaction": "indexie.overlays.optimistic",
    "Table": "indexie.tables.table",
    "TableHooks": "indexie.hooks.hooks",
    "Transaction": "indexie.transaction",
    "UpgradeTransaction": "indexie.schema.upgrade",
    "Version": "indexie.schema.version",
    "WhereClause": "indexie.queries.clause",
}
"""Where the blocking namesake of a face lives."""

FUNCTIONS = ("use_live_query",)
"""What is a function here as well as there, and another one."""

__all__ = sorted({*indexie.__all__, *HOMES, "Opened"})


def use_live_query(fn: Callable[[], Any], *, distinct: bool = True, name: str | None = None) -> Any:
    """A live query whose ``fn`` runs on the loop, and may give an awaitable or a query.

    It is not run yet: ``await lq.ready()`` has it run once and gives the first value, and so does the first step of
    ``async for value in lq``. Otherwise as :func:`selfdb.indexie.use_live_query`.
    """
    bridge = Bridge(idle=0.0)  # nobody has to close it: after the first run there is little left to do
    known = weakref.ref(bridge)

    def loop() -> asyncio.AbstractEventLoop:
        there = known()
        if there is None:
            raise RuntimeError("nobody holds this live query any more")
        return there.loop()

    from ..indexie.live.live import LiveQuery

    bridge.root = LiveQuery(LoopCallback(_blocking_result(fn), loop), distinct=distinct, name=name)
    return bridge.face(bridge.root)


def _blocking_result(fn: Callable[[], Any]) -> Callable[[], Any]:
    """``fn``, whose query, if it gives one, is the blocking one: it is read where the values are made."""

    @functools.wraps(fn)
    def call() -> Any:
        result = fn()
        return awaited(result) if inspect.isawaitable(result) else bare(result)

    async def awaited(result: Any) -> Any:
        return bare(await result)

    def bare(result: Any) -> Any:
        return result._blocking if isinstance(result, Face) else result

    return call


def __getattr__(name: str) -> Any:
    value: Any
    if name == "Indexie":  # an event loop is not to wait for what first calls import
        for home in {*HOMES.values()}:
            import_module(f"..{home}", __package__)
    if name == "Opened":
        value = _Opened
    elif name in HOMES:
        value = _awaitable(getattr(import_module(f"..{HOMES[name]}", __package__), name), __name__)
    elif name in indexie.__all__:
        value = getattr(indexie, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next look finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
