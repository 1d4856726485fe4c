"""The blocking Python client for self-hosted backends.

::

    from selfdb import SelfDB

    db = SelfDB("http://127.0.0.1:8000", "your-api-key")
    db.auth.login(email="admin@example.com", password="password")
    for table in db.tables.iter():
        print(table.name)

Names are loaded when they are first used: importing the package is cheap.
"""

from __future__ import annotations

from ._version import __version__

TYPE_CHECKING = False  # as type checkers take it; `typing` itself would be most of what importing this package costs
if TYPE_CHECKING:
    from typing import Any

    from .client import SelfDB
    from .core.bulk import BulkReport, Outcome, OutcomeStatus
    from .core.response import RawResponse
    from .core.stores import FileStore, MemoryStore, SessionStore
    from .exceptions import (
        APIConnectionError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ClientClosedError,
        ConflictError,
        InternalServerError,
        InvalidRequestError,
        MissingAPIKeyError,
        NotFoundError,
        NotSignedInError,
        PermissionDeniedError,
        RateLimitError,
        RealtimeError,
        RedirectError,
        ResponseTooLargeError,
        SelfDBError,
        UnprocessableEntityError,
    )

__all__ = [
    "APIConnectionError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "BulkReport",
    "ClientClosedError",
    "ConflictError",
    "FileStore",
    "InternalServerError",
    "InvalidRequestError",
    "MemoryStore",
    "MissingAPIKeyError",
    "NotFoundError",
    "NotSignedInError",
    "Outcome",
    "OutcomeStatus",
    "PermissionDeniedError",
    "RateLimitError",
    "RawResponse",
    "RealtimeError",
    "RedirectError",
    "ResponseTooLargeError",
    "SelfDB",
    "SelfDBError",
    "SessionStore",
    "UnprocessableEntityError",
    "__version__",
]

_HOMES = {
    "SelfDB": "client",
    "BulkReport": "core.bulk",
    "Outcome": "core.bulk",
    "OutcomeStatus": "core.bulk",
    "RawResponse": "core.response",
    "FileStore": "core.stores",
    "MemoryStore": "core.stores",
    "SessionStore": "core.stores",
}
"""Where a name lives; every other one of ``__all__`` is an exception."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES.get(name, 'exceptions')}", __name__), name)
    globals()[name] = value  # the next look finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
