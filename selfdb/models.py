"""What goes to a SelfDB server and what comes back, as pydantic models under the names of the specification."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Callable, Dict, Generic, List, Mapping, Optional, Set, Tuple, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .core.parsing import describe
from .exceptions import InvalidRequestError

if TYPE_CHECKING:
    from typing_extensions import Self

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

RowT = TypeVar("RowT")


class RequestModel(BaseModel):
    """Base of what is sent. Unknown and misspelt fields are refused.

    :raises InvalidRequestError: naming the field, never its value.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, populate_by_name=True)

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            message = f"{type(self).__name__}: {describe(error)}"
        else:
            return
        # Raised here, not in the handler: pydantic's error carries the input, and must not come along.
        raise InvalidRequestError(message)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As pydantic's, but for the error.

        :raises InvalidRequestError: naming the field, never its value.
        """
        return cls._validated(super().model_validate, obj, options)

    @classmethod
    def model_validate_json(cls, json_data: Any, **options: Any) -> Self:
        """As pydantic's, but for the error.

        :raises InvalidRequestError: naming the field, never its value.
        """
        return cls._validated(super().model_validate_json, json_data, options)

    @classmethod
    def _validated(cls, validate: Callable[..., Self], data: Any, options: Dict[str, Any]) -> Self:
        try:
            return validate(data, **options)
        except ValidationError as error:
            message = f"{cls.__name__}: {describe(error)}"
        raise InvalidRequestError(message)

    @classmethod
    def of(cls, payload: Any) -> Self:
        """``payload`` itself if it is of this class, else one made of its keys.

        :raises InvalidRequestError: if it is neither this model nor a mapping, or does not fit.
        """
        if isinstance(payload, cls):
            return payload
        if isinstance(payload, Mapping):
            return cls(**{str(name): value for name, value in payload.items()})
        raise InvalidRequestError(f"expected a {cls.__name__} or a dict, not {type(payload).__name__}")

    def wire(self) -> Dict[str, Any]:
        """What is sent: the fields that were set; an explicit ``None`` goes as null."""
        return self.model_dump(exclude_unset=True)


class CreateModel(RequestModel):
    """Base of what creates a thing: fields left at ``None`` are not sent, the others always."""

    def wire(self) -> Dict[str, Any]:
        """What is sent: every field that has a value."""
        return self.model_dump(exclude_none=True)


class ResponseModel(BaseModel):
    """Base of what comes back. Unknown fields are ignored: servers grow."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


def _aware(value: datetime) -> datetime:
    """UTC where a server leaves the zone out."""
    return value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)


Timestamp = Annotated[datetime, AfterValidator(_aware)]


def _either(*names: str) -> Any:
    return AliasChoices(*names)


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
    firstName: Optional[str] = Field(default=None, validation_alias=_either("firstName", "first_name"))
    lastName: Optional[str] = Field(default=None, validation_alias=_either("lastName", "last_name"))
    isActive: bool = Field(default=True, validation_alias=_either("isActive", "is_active"))
    created_at: Optional[Timestamp] = Field(default=None, validation_alias=_either("created_at", "createdAt"))
    updated_at: Optional[Timestamp] = Field(default=None, validation_alias=_either("updated_at", "updatedAt"))


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


class DeleteResponse(ResponseModel):
    """What was deleted."""

    message: str
    deleted_id: str


class UserDeleteResponse(DeleteResponse):
    """What was deleted, a user."""

    @property
    def user_id(self) -> str:
        """The same as ``deleted_id``."""
        return self.deleted_id


class TableDeleteResponse(DeleteResponse):
    """What was deleted, a table."""

    @property
    def table_id(self) -> str:
        """The same as ``deleted_id``."""
        return self.deleted_id


class RowDeleteResponse(DeleteResponse):
    """What was deleted, a row."""

    @property
    def row_id(self) -> str:
        """The same as ``deleted_id``."""
        return self.deleted_id


class BucketDeleteResponse(DeleteResponse):
    """What was deleted, a bucket."""

    @property
    def bucket_id(self) -> str:
        """The same as ``deleted_id``."""
        return self.deleted_id


class FileDeleteResponse(DeleteResponse):
    """What was deleted, a file."""

    @property
    def file_id(self) -> str:
        """The same as ``deleted_id``."""
        return self.deleted_id


class TableCreate(CreateModel):
    """A new table.

    ``table_schema`` is flat: ``{"age": {"type": "integer", "nullable": True, "default": 0}}``. Types: text,
    varchar, integer, bigint, boolean, timestamp, jsonb, uuid.
    """

    name: str
    table_schema: Dict[str, Dict[str, Any]]
    public: bool = False
    description: Optional[str] = None
    metadata: Optional[Dict[str, Any]] = None

    @field_validator("table_schema", mode="before")
    @classmethod
    def _flat_schema(cls, schema: Any) -> Any:
        if isinstance(schema, Mapping):
            for name, column in schema.items():
                if not isinstance(column, Mapping) or not isinstance(column.get("type"), str):
                    raise ValueError(
                        f"column {name!r} must be a mapping with a type, as in "
                        '{"age": {"type": "integer"}}; a JSON Schema document is not one'
                    )
        return schema


class TableUpdate(RequestModel):
    """Changes to a table; what is not set stays. The field is ``realtime_enabled``, not ``realtime``."""

    name: Optional[str] = None
    public: Optional[bool] = None
    realtime_enabled: Optional[bool] = None
    description: Optional[str] = None
    metadata: Optional[Dict[str, Any]] = None


class ColumnDefinition(CreateModel):
    """A new column. ``default_value`` may also be spelt ``default``."""

    name: str
    type: str
    nullable: bool = True
    default_value: Any = Field(default=None, validation_alias=_either("default_value", "default"))
    primary_key: bool = False
    unique: bool = False

    def wire(self) -> Dict[str, Any]:
        """What is sent: a flag only when it is set, a default only when it was given."""
        sent = super().wire()
        for flag in ("primary_key", "unique"):
            if not sent[flag]:
                del sent[flag]
        return sent


class ColumnUpdate(RequestModel):
    """Changes to a column; what is not set stays. ``default_value=None`` drops the default."""

    new_name: Optional[str] = None
    type: Optional[str] = None
    nullable: Optional[bool] = None
    default_value: Any = None


class TableRead(ResponseModel):
    """A table as the server shows it."""

    id: str
    name: str
    table_schema: Dict[str, Dict[str, Any]] = {}
    public: bool = False
    realtime_enabled: bool = Field(default=False, validation_alias=_either("realtime_enabled", "realtime"))
    owner_id: Optional[str] = None
    description: Optional[str] = None
    metadata: Optional[Dict[str, Any]] = None
    row_count: int = 0
    created_at: Optional[Timestamp] = None
    updated_at: Optional[Timestamp] = None

    @model_validator(mode="before")
    @classmethod
    def _any_schema(cls, data: Any) -> Any:
        """Servers state the columns as a flat dict, under another key, or as a list."""
        if not isinstance(data, Mapping):
            return data
        for key in ("table_schema", "schema", "columns"):
            columns = _columns(data.get(key))
            if columns is not None:
                return {**data, "table_schema": columns}
        return {name: value for name, value in data.items() if name != "table_schema"}

    @property
    def realtime(self) -> bool:
        """The same as ``realtime_enabled``."""
        return self.realtime_enabled

    @property
    def columns(self) -> List[Dict[str, Any]]:
        """``table_schema`` as a list: one mapping with ``name`` and ``type`` a column."""
        return [{"name": name, **column} for name, column in self.table_schema.items()]


def _columns(stated: Any) -> Optional[Dict[str, Dict[str, Any]]]:
    if isinstance(stated, Mapping):
        nested = stated.get("columns")
        if isinstance(nested, list):
            return _columns(nested)
        return {str(name): dict(column) for name, column in stated.items() if isinstance(column, Mapping)}
    if isinstance(stated, list):
        named = [column for column in stated if isinstance(column, Mapping) and "name" in column]
        return {
            str(column["name"]): {name: value for name, value in column.items() if name != "name"} for column in named
        }
    return None


class TableDataResponse(ResponseModel, Generic[RowT]):
    """One page of rows.

    ``data`` holds the rows (mappings, or models after ``query.as_model``), ``total`` how many match on all
    pages, ``page`` counts from 1.
    """

    data: Annotated[List[RowT], FailFast()]
    total: int
    page: int = 1
    page_size: int = Field(default=100, validation_alias=_either("page_size", "pageSize"))

    @model_validator(mode="before")
    @classmethod
    def _nested_totals(cls, data: Any) -> Any:
        """Some servers keep the numbers in a mapping of their own."""
        if isinstance(data, Mapping) and isinstance(data.get("metadata"), Mapping) and "total" not in data:
            numbers = dict(data["metadata"])
            numbers["total"] = numbers.pop("total_count", None)
            return {**numbers, "data": data.get("data")}
        return data

    def __reduce__(self) -> Tuple[Any, ...]:
        # The class of a page is made by subscription, and pickle would not find it by its name.
        return _page, (dict(self.__dict__), set(self.model_fields_set))


def _page(values: Dict[str, Any], given: Set[str]) -> TableDataResponse[Any]:
    return TableDataResponse.model_construct(given, **values)


class BucketCreate(CreateModel):
    """A new bucket. ``file_size_limit`` is in bytes."""

    name: str
    public: bool = False
    description: Optional[str] = None
    file_size_limit: Optional[int] = None
    allowed_mime_types: Optional[List[str]] = None


class BucketUpdate(RequestModel):
    """Changes to a bucket; what is not set stays, an explicit ``None`` lifts a limit."""

    name: Optional[str] = None
    public: Optional[bool] = None
    description: Optional[str] = None
    file_size_limit: Optional[int] = None
    allowed_mime_types: Optional[List[str]] = None


def _texts(value: Any) -> Any:
    # One finding for all, where pydantic would have one an item: of millions, each larger than the item.
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise ValueError("not a list of texts")
    return value


class BucketResponse(ResponseModel):
    """A bucket as the server shows it. ``total_size`` is in bytes."""

    id: str
    name: str
    public: bool = False
    owner_id: Optional[str] = None
    description: Optional[str] = None
    file_size_limit: Optional[int] = None
    allowed_mime_types: Annotated[Optional[List[str]], BeforeValidator(_texts)] = None
    file_count: int = 0
    total_size: int = 0
    created_at: Optional[Timestamp] = None
    updated_at: Optional[Timestamp] = None


class FileResponse(ResponseModel):
    """A stored file. ``size`` is in bytes, ``path`` starts with a slash."""

    id: str
    name: str
    bucket_id: Optional[str] = None
    bucket_name: Optional[str] = None
    path: Optional[str] = None
    size: int = 0
    mime_type: Optional[str] = None
    owner_id: Optional[str] = None
    metadata: Optional[Dict[str, Any]] = None
    created_at: Optional[Timestamp] = None
    updated_at: Optional[Timestamp] = None


class FileUploadResponse(ResponseModel):
    """What an upload made: the bucket's name, the path in it, bytes stored, and the id of the file."""

    success: bool
    bucket: str
    path: str
    size: int
    file_id: str
    upload_time: Optional[float] = None
    url: Optional[str] = None
    original_path: Optional[str] = None
    message: Optional[str] = None


class FileDataResponse(ResponseModel):
    """One page of files."""

    data: List[FileResponse]
    total: int
    page: int = 1
    page_size: int = Field(default=100, validation_alias=_either("page_size", "pageSize"))


class StorageStatsResponse(ResponseModel):
    """Sums over the buckets that the caller may see. ``total_size`` is in bytes."""

    total_files: int = 0
    total_size: int = 0
    total_buckets: int = Field(default=0, validation_alias=_either("total_buckets", "buckets_count"))


@dataclass(frozen=True)
class RealtimePayload:
    """What a realtime callback is given.

    :ivar event: ``INSERT``, ``UPDATE``, ``DELETE``, or another event of the server in upper case; ``resync`` where
        events may have been missed.
    :ivar table: the table's name.
    :ivar new: the row as it is now, for INSERT and UPDATE.
    :ivar old: the row as it was, for UPDATE and DELETE.
    :ivar raw: the whole payload as it came.
    """

    event: str
    table: str
    new: Optional[Dict[str, Any]]
    old: Optional[Dict[str, Any]]
    raw: Dict[str, Any]


class SystemStatus(ResponseModel):
    """Whether the server has been set up, and its version."""

    initialized: bool = True
    version: Optional[str] = None
