"""A blocking client of AeroDB, and of any PostgREST.

::

    from selfdb.aerodb import AeroDBClient

    with AeroDBClient("https://api.example.com", key="your-api-key") as client:
        client.auth.sign_in("ann@example.com", "password")
        response = client.from_("users").select("id, name").eq("role", "admin").execute()
        print(response.data if response.ok else response.error)

No call raises: each gives an :class:`AeroDBResponse`. Names are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers take it; `typing` itself would be much of what importing this package costs
if TYPE_CHECKING:
    from typing import Any

    from . import filters
    from .auth import AuthClient
    from .cache import OfflineCache
    from .client import AeroDBClient
    from .database import DatabaseClient, QueryBuilder
    from .envelope import AeroDBError, AeroDBRequestError, AeroDBResponse
    from .functions import FunctionsClient
    from .health import HealthClient
    from .realtime import RealtimeChannel, RealtimeClient
    from .retry import RetryPolicy
    from .storage import StorageBucket, StorageClient
    from .types import AuthData, FileObject, HealthStatus, RealtimePayload, Session, SignedUrl, User

__all__ = [
    "AeroDBClient",
    "AeroDBError",
    "AeroDBRequestError",
    "AeroDBResponse",
    "AuthClient",
    "AuthData",
    "DatabaseClient",
    "FileObject",
    "FunctionsClient",
    "HealthClient",
    "HealthStatus",
    "OfflineCache",
    "QueryBuilder",
    "RealtimeChannel",
    "RealtimeClient",
    "RealtimePayload",
    "RetryPolicy",
    "Session",
    "SignedUrl",
    "StorageBucket",
    "StorageClient",
    "User",
    "filters",
]

_HOMES = {
    "AeroDBClient": "client",
    "AeroDBError": "envelope",
    "AeroDBRequestError": "envelope",
    "AeroDBResponse": "envelope",
    "AuthClient": "auth",
    "DatabaseClient": "database",
    "FunctionsClient": "functions",
    "HealthClient": "health",
    "OfflineCache": "cache",
    "QueryBuilder": "database",
    "RealtimeChannel": "realtime",
    "RealtimeClient": "realtime",
    "RetryPolicy": "retry",
    "StorageBucket": "storage",
    "StorageClient": "storage",
}
"""Where a name lives; every other one of ``__all__`` is of ``types``, but for ``filters``, which is a module."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "filters":
        return import_module(".filters", __name__)
    value = getattr(import_module(f".{_HOMES.get(name, 'types')}", __name__), name)
    globals()[name] = value  # the next look finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
