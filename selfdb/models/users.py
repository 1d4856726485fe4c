"""Users and sessions."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Dict, Optional

from pydantic import BeforeValidator, Field

from .base import CreateModel, DeleteResponse, RequestModel, ResponseModel, Timestamp, either

__all__ = [
    "LogoutResponse",
    "TokenPair",
    "UserCreate",
    "UserDeleteResponse",
    "UserRead",
    "UserRole",
    "UserUpdate",
]


class UserRole(str, Enum):
    """What a user may do; the server's spelling is upper case."""

    USER = "USER"
    ADMIN = "ADMIN"

    @classmethod
    def _missing_(cls, value: object) -> UserRole:
        # Any case is understood; a role that this version does not know grants nothing, so it is a USER's.
        return cls.__members__.get(str(value).upper(), cls.USER)


def _known_role(value: Any) -> Any:
    if value is None or isinstance(value, UserRole):
        return value
    if isinstance(value, str) and value.upper() in UserRole.__members__:
        return UserRole[value.upper()]
    raise ValueError("must be USER or ADMIN")


RoleToSend = Annotated[Optional[UserRole], BeforeValidator(_known_role)]


def _read_role(value: Any) -> UserRole:
    # In Python: pydantic 2.13 asks `_missing_` for ``None`` whatever text it read from JSON.
    return UserRole(value)


RoleToRead = Annotated[UserRole, BeforeValidator(_read_role)]


class UserCreate(CreateModel):
    """A new user. ``email``, ``password``, ``firstName`` and ``lastName`` are required; only an ADMIN sets ``role``."""

    email: str
    password: str = Field(repr=False)
    firstName: str
    lastName: str
    role: RoleToSend = None


class UserUpdate(RequestModel):
    """Changes to a user; what is not set stays. ``role`` and ``isActive`` are for an ADMIN to change."""

    firstName: Optional[str] = None
    lastName: Optional[str] = None
    password: Optional[str] = Field(default=None, repr=False)
    email: Optional[str] = None
    role: RoleToSend = None
    isActive: Optional[bool] = None


class UserRead(ResponseModel):
    """A user as the server shows him."""

    id: str
    email: str
    role: RoleToRead = UserRole.USER
    firstName: Optional[str] = Field(default=None, validation_alias=either("firstName", "first_name"))
    lastName: Optional[str] = Field(default=None, validation_alias=either("lastName", "last_name"))
    isActive: bool = Field(default=True, validation_alias=either("isActive", "is_active"))
    created_at: Optional[Timestamp] = Field(default=None, validation_alias=either("created_at", "createdAt"))
    updated_at: Optional[Timestamp] = Field(default=None, validation_alias=either("updated_at", "updatedAt"))


class TokenPair(ResponseModel):
    """What a login or a refresh gives. The client keeps it by itself; there is seldom a need to look inside."""

    access_token: str = Field(repr=False)
    refresh_token: Optional[str] = Field(default=None, repr=False)
    token_type: str = "bearer"  # noqa: S105 - the scheme's name
    expires_in: Optional[int] = None
    user: Optional[Dict[str, Any]] = Field(default=None, repr=False)


class LogoutResponse(ResponseModel):
    """What the server says to a logout."""

    message: str = "Logged out"


class UserDeleteResponse(DeleteResponse):
    """What was deleted, a user."""

    @property
    def user_id(self) -> str:
        """The same as ``deleted_id``."""
        return self.deleted_id
