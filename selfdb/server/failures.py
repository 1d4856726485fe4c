"""Why a server may fail to start, in words for the operator."""

from __future__ import annotations

from typing import Tuple, Type

from sqlalchemy.exc import ArgumentError, DBAPIError

from .folderlock import FolderInUse
from .migrations import SchemaTooNew
from .settings import SettingsError

__all__ = ["START_FAILURES", "explained"]

START_FAILURES: Tuple[Type[BaseException], ...] = (
    ArgumentError,
    DBAPIError,
    FolderInUse,
    OSError,
    SchemaTooNew,
    SettingsError,
)


def explained(failure: BaseException) -> str:
    """One sentence about ``failure``; a database URL, which may hold a password, does not occur in it."""
    if isinstance(failure, ArgumentError):
        return "the database URL cannot be read; it looks like postgresql://user:password@host:5432/name"
    if isinstance(failure, DBAPIError):
        # The driver's own words name host, port and reason, and no password; SQLAlchemy's add the statement.
        return f"the database cannot be used: {str(failure.orig).strip()}"
    if isinstance(failure, OSError) and failure.filename is None and failure.strerror:
        return failure.strerror
    return str(failure)
