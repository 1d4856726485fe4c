"""What the calls of an AeroDB client give: users, sessions, stored objects, events, the state of the server."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Dict, Optional

__all__ = [
    "AuthData",
    "FileObject",
    "HealthStatus",
    "RealtimePayload",
    "Session",
    "SignedUrl",
    "User",
]


@dataclass(frozen=True)
class User:
    """Somebody who can sign in. Times are ISO 8601 texts, as the server sends them."""

    id: str
    email: str
    email_verified: bool = False
    created_at: str = ""
    updated_at: Optional[str] = None
    metadata: Optional[Dict[str, Any]] = None


@dataclass(frozen=True)
class Session:
    """A signed-in user's tokens. Secret, and not shown.

    :ivar expires_at: when the access token ends, in seconds since the epoch; ``None`` if nobody said.
    :ivar expires_in: for how many seconds it was given out.
    """

    access_token: str
    refresh_token: Optional[str] = None
    expires_at: Optional[int] = None
    expires_in: Optional[int] = None
    token_type: Optional[str] = None

    def __repr__(self) -> str:
        refresh = None if self.refresh_token is None else "***"
        return f"Session(access_token='***', refresh_token={refresh!r}, expires_at={self.expires_at})"


@dataclass(frozen=True)
class AuthData:
    """What signing up or in gives.

    :ivar session: ``None`` where the user has to be confirmed first.
    """

    user: User
    session: Optional[Session] = None


@dataclass(frozen=True)
class FileObject:
    """A stored object; its members can be read as those of a dict too.

    :ivar name: as the server gives it; the last part of its path where the server gives none.
    :ivar path: in its bucket.
    :ivar size: in bytes; ``None`` if the server does not say.
    """

    id: str
    name: str
    bucket: str
    path: str
    size: Optional[int] = None
    content_type: Optional[str] = None
    created_at: str = ""
    updated_at: Optional[str] = None
    metadata: Optional[Dict[str, Any]] = None

    def __getitem__(self, name: str) -> Any:
        if name not in {field.name for field in fields(self)}:
            raise KeyError(name)
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The member ``name``, or ``default`` if there is none of that name."""
        try:
            return self[name]
        except KeyError:
            return default


@dataclass(frozen=True)
class SignedUrl:
    """An address under which whoever knows it may read an object for a while.

    :ivar expires_at: when it ends, in seconds since the epoch.
    """

    url: str
    expires_at: Optional[int] = None

    def __repr__(self) -> str:
        return f"SignedUrl(url={self.url.partition('?')[0]!r}, expires_at={self.expires_at})"  # without its signature


@dataclass(frozen=True)
class RealtimePayload:
    """An event of a channel. Handlers share it.

    :ivar type: ``INSERT``, ``UPDATE``, ``DELETE``, another one of the server's; or ``resync``, which is made here and
        says that events may have been missed.
    :ivar new: the row as it is now; ``None`` if the event has none.
    :ivar old: the row as it was.
    """

    type: str
    table: str = ""
    schema: str = ""
    commit_timestamp: str = ""
    new: Optional[Dict[str, Any]] = None
    old: Optional[Dict[str, Any]] = None


@dataclass(frozen=True)
class HealthStatus:
    """How the server is.

    :ivar ok: whether it answered with success.
    :ivar status: its own word for that.
    :ivar latency_ms: milliseconds from the request to the answer.
    """

    ok: bool
    status: str
    version: Optional[str]
    latency_ms: float
    checked_at: datetime
