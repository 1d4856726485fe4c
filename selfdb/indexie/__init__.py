"""A local-first document store on SQLite: schemas and versions, indexed queries, live queries, hooks and an outbox.

::

    from selfdb.indexie import Indexie, use_live_query

    db = Indexie("todos")
    db.version(1).stores({"todos": "++id, title, done"})

    with db:
        db.todos.add({"title": "Buy milk", "done": False})
        open_ones = use_live_query(lambda: db.todos.where("done").equals(False).to_array())
        print(open_ones.value)

It works without a network, and is for threads and processes: what one of them writes, the others' live queries see.
Names are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers take it; `typing` itself would be much of what importing this package costs
if TYPE_CHECKING:
    from typing import Any

    from . import ops
    from .database import Indexie
    from .errors import (
        AbortError,
        BulkError,
        ConstraintError,
        DatabaseClosedError,
        DatabaseCorruptError,
        DataCloneError,
        DataError,
        HookError,
        IndexedDBError,
        IndexieTimeoutError,
        InvalidArgumentError,
        InvalidStateError,
        InvalidTableError,
        KeyNotFoundError,
        ModifyError,
        NotInScopeError,
        OpenFailedError,
        QuotaExceededError,
        ReadOnlyError,
        SchemaError,
        StorageError,
        SubTransactionError,
        TransactionInactiveError,
        UpgradeError,
        VersionChangeError,
        VersionError,
        WriteConflictError,
    )
    from .hooks.outbox import Outbox
    from .hooks.strategy import Strategy
    from .keys.markers import DELETE, DELETE_FIELD, MAX_KEY, MIN_KEY, SKIP
    from .live.live import LiveQuery, use_live_query
    from .overlays.optimistic import OverlayTransaction
    from .queries.clause import WhereClause
    from .queries.collection import Collection
    from .schema.version import Version
    from .tables.table import Table
    from .timing import Timing
    from .transaction import Transaction

__all__ = [
    "DELETE",
    "DELETE_FIELD",
    "MAX_KEY",
    "MIN_KEY",
    "SKIP",
    "AbortError",
    "BulkError",
    "Collection",
    "ConstraintError",
    "DataCloneError",
    "DataError",
    "DatabaseClosedError",
    "DatabaseCorruptError",
    "HookError",
    "IndexedDBError",
    "Indexie",
    "IndexieTimeoutError",
    "InvalidArgumentError",
    "InvalidStateError",
    "InvalidTableError",
    "KeyNotFoundError",
    "LiveQuery",
    "ModifyError",
    "NotInScopeError",
    "OpenFailedError",
    "Outbox",
    "OverlayTransaction",
    "QuotaExceededError",
    "ReadOnlyError",
    "SchemaError",
    "StorageError",
    "Strategy",
    "SubTransactionError",
    "Table",
    "Timing",
    "Transaction",
    "TransactionInactiveError",
    "UpgradeError",
    "Version",
    "VersionChangeError",
    "VersionError",
    "WhereClause",
    "WriteConflictError",
    "ops",
    "use_live_query",
]

_HOMES = {
    "Collection": "queries.collection",
    "DELETE": "keys.markers",
    "DELETE_FIELD": "keys.markers",
    "Indexie": "database",
    "LiveQuery": "live.live",
    "MAX_KEY": "keys.markers",
    "MIN_KEY": "keys.markers",
    "Outbox": "hooks.outbox",
    "OverlayTransaction": "overlays.optimistic",
    "SKIP": "keys.markers",
    "Strategy": "hooks.strategy",
    "Table": "tables.table",
    "Timing": "timing",
    "Transaction": "transaction",
    "Version": "schema.version",
    "WhereClause": "queries.clause",
    "use_live_query": "live.live",
}
"""Where a name lives; every other one of ``__all__`` is of ``errors``, but for ``ops``, which is a module."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "ops":
        return import_module(".ops", __name__)
    value = getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
    globals()[name] = value  # the next look finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
