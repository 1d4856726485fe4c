"""Requests and answers of users and system on the wire, and the value types that other wire files share."""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Optional

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

__all__ = [
    "Count",
    "LoginBody",
    "LogoutBody",
    "Message",
    "Pair",
    "RefreshBody",
    "RequestModel",
    "Role",
    "Status",
    "Timestamp",
    "UserBody",
    "UserOut",
    "UserPatch",
    "UserSort",
    "iso",
]


def iso(moment: datetime) -> str:
    """A moment as it stands in JSON: ISO-8601 with offset, UTC."""
    return moment.isoformat()


Timestamp = Annotated[
    datetime,
    PlainSerializer(iso, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]

_EMAIL = (
    r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LOCAL_PART = 64


def _local_part(text: str) -> str:
    if text.rindex("@") > _LOCAL_PART:
        raise ValueError(f"the part before @ is longer than {_LOCAL_PART} characters")
    return text


def _no_control(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


Email = Annotated[str, Field(min_length=3, max_length=254, pattern=_EMAIL), AfterValidator(_local_part)]
#: Printable ASCII, blanks included.
Password = Annotated[str, Field(min_length=8, max_length=72, pattern=r"^[ -~]*$")]
LoginPassword = Annotated[str, Field(min_length=1, max_length=72, pattern=r"^[ -~]*$")]
PersonName = Annotated[
    str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"), AfterValidator(_no_control)
]
Token = Annotated[str, Field(max_length=4096)]


class RequestModel(BaseModel):
    """A body whose keys are all known. ``model_fields_set`` tells what the caller sent."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Role(str, Enum):
    """What a user may do in general."""

    USER = "USER"
    ADMIN = "ADMIN"


class UserSort(str, Enum):
    """Keys that a list of users can be sorted by."""

    created_at = "created_at"
    email = "email"
    first_name = "first_name"
    last_name = "last_name"


class LoginBody(RequestModel):
    """``POST /users/token``."""

    email: Email
    password: LoginPassword = Field(repr=False)


class RefreshBody(RequestModel):
    """``POST /users/token/refresh``."""

    refresh_token: Token = Field(repr=False)


class LogoutBody(RequestModel):
    """``POST /users/logout``; without a token the bearer's own session is meant."""

    refresh_token: Optional[Token] = Field(default=None, repr=False)


class UserBody(RequestModel):
    """``POST /users/``."""

    email: Email
    password: Password = Field(repr=False)
    firstName: PersonName
    lastName: PersonName
    role: Optional[Role] = None


class UserPatch(RequestModel):
    """``PATCH /users/{id}``: exactly the keys that were sent change; a name may be cleared with null.

    The factories only make the keys optional without admitting null; what they make is never used.
    """

    firstName: Optional[PersonName] = None
    lastName: Optional[PersonName] = None
    password: Password = Field(default_factory=str, repr=False)
    email: Email = Field(default_factory=str)
    role: Role = Field(default_factory=lambda: Role.USER)
    isActive: bool = Field(default_factory=bool, strict=True)


class UserOut(BaseModel):
    """A user as others may see him; nothing about his password."""

    id: str
    email: str
    firstName: Optional[str]
    lastName: Optional[str]
    role: Role
    isActive: bool
    created_at: Timestamp
    updated_at: Timestamp

    @classmethod
    def of(cls, row: Any) -> UserOut:
        """From a row of the table of users."""
        return cls(
            id=row.id,
            email=row.email,
            firstName=row.first_name,
            lastName=row.last_name,
            role=Role(row.role),
            isActive=bool(row.is_active),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class Pair(BaseModel):
    """An access token and the refresh token that renews it; ``expires_in`` is the former's life in seconds."""

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    token_type: str = "bearer"  # noqa: S105 - the scheme, not a secret
    expires_in: int


class Message(BaseModel):
    """A plain word."""

    message: str


class Count(BaseModel):
    """How many there are."""

    count: int


class Status(BaseModel):
    """``GET /system/status``."""

    initialized: bool
    version: str
