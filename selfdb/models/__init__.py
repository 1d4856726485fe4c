"""What goes to a SelfDB server and what comes back, as pydantic models under the names of the specification.

Names are loaded when they are first used: a script that only writes rows has no need of any, nor of pydantic, which
takes as long to import as the HTTP stack does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import DeleteResponse, SystemStatus
    from .events import RealtimePayload
    from .storage import (
        BucketCreate,
        BucketDeleteResponse,
        BucketResponse,
        BucketUpdate,
        FileDataResponse,
        FileDeleteResponse,
        FileResponse,
        FileUploadResponse,
        StorageStatsResponse,
    )
    from .tables import (
        ColumnDefinition,
        ColumnUpdate,
        RowDeleteResponse,
        TableCreate,
        TableDataResponse,
        TableDeleteResponse,
        TableRead,
        TableUpdate,
    )
    from .users import (
        LogoutResponse,
        TokenPair,
        UserCreate,
        UserDeleteResponse,
        UserRead,
        UserRole,
        UserUpdate,
    )

__all__ = [
    "BucketCreate",
    "BucketDeleteResponse",
    "BucketResponse",
    "BucketUpdate",
    "ColumnDefinition",
    "ColumnUpdate",
    "DeleteResponse",
    "FileDataResponse",
    "FileDeleteResponse",
    "FileResponse",
    "FileUploadResponse",
    "LogoutResponse",
    "RealtimePayload",
    "RowDeleteResponse",
    "StorageStatsResponse",
    "SystemStatus",
    "TableCreate",
    "TableDataResponse",
    "TableDeleteResponse",
    "TableRead",
    "TableUpdate",
    "TokenPair",
    "UserCreate",
    "UserDeleteResponse",
    "UserRead",
    "UserRole",
    "UserUpdate",
]

_HOMES = {
    "DeleteResponse": "base",
    "SystemStatus": "base",
    "RealtimePayload": "events",
    "BucketCreate": "storage",
    "BucketDeleteResponse": "storage",
    "BucketResponse": "storage",
    "BucketUpdate": "storage",
    "FileDataResponse": "storage",
    "FileDeleteResponse": "storage",
    "FileResponse": "storage",
    "FileUploadResponse": "storage",
    "StorageStatsResponse": "storage",
    "ColumnDefinition": "tables",
    "ColumnUpdate": "tables",
    "RowDeleteResponse": "tables",
    "TableCreate": "tables",
    "TableDataResponse": "tables",
    "TableDeleteResponse": "tables",
    "TableRead": "tables",
    "TableUpdate": "tables",
    "LogoutResponse": "users",
    "TokenPair": "users",
    "UserCreate": "users",
    "UserDeleteResponse": "users",
    "UserRead": "users",
    "UserRole": "users",
    "UserUpdate": "users",
}
"""Where a name lives."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value  # the next look finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
