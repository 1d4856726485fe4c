"""What goes over the wire about tables and rows: request and response models, and the rules of single fields."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Dict, List, Optional

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictStr, WithJsonSchema

from .columntypes import TYPE_PATTERN, parse_type
from .jsonvalues import canonical, check_text
from .shapes import MAX_COLUMNS, SYSTEM_NAMES
from .wire import RequestModel, Timestamp

__all__ = [
    "AddColumn",
    "ChangeColumn",
    "Row",
    "RowPage",
    "TableCreate",
    "TableOut",
    "TablePatch",
    "TableSort",
]

_COLUMN_NAME = "[A-Za-z_][A-Za-z0-9_]{0,62}"


def _column_name(text: str) -> str:
    name = text.strip()
    head, rest = name[:1], name[1:]
    letters = head.isascii() and (head.isalpha() or head == "_")
    if not letters or len(name) > 63 or not all(c.isascii() and (c.isalnum() or c == "_") for c in rest):
        raise ValueError("a column name has 1 to 63 of A-Z, a-z, 0-9 and _, and begins with no digit")
    return name


def _column_key(text: str) -> str:
    # Not stripped yet: two keys that differ in blanks only must not become one silently.
    _column_name(text)
    return text


def _known_type(text: str) -> str:
    parse_type(text)
    return text


def _json(value: Any) -> Any:
    try:
        canonical(value)
    except ValueError as expected:
        raise ValueError(f"must hold {expected}") from None
    return value


def _storable(text: str) -> str:
    try:
        return check_text(text)
    except ValueError as expected:
        raise ValueError(f"must be {expected}") from None


TableName = Annotated[StrictStr, Field(pattern="^[a-z][a-z0-9_]*$", min_length=1, max_length=63)]
_NAME_SCHEMA = WithJsonSchema({"type": "string", "pattern": rf"^{_COLUMN_NAME}$"})
ColumnName = Annotated[StrictStr, AfterValidator(_column_name), _NAME_SCHEMA]
ColumnKey = Annotated[StrictStr, AfterValidator(_column_key), _NAME_SCHEMA]
ColumnType = Annotated[
    StrictStr,
    AfterValidator(_known_type),
    Field(
        description=(
            "text, varchar, varchar(n), integer, bigint, boolean, timestamp, jsonb, uuid, decimal, float or date, "
            "in any case; also string, int, bool, datetime and json"
        ),
        examples=["text", "varchar(80)", "integer"],
        json_schema_extra={"pattern": TYPE_PATTERN},
    ),
]
Description = Annotated[StrictStr, Field(max_length=500), AfterValidator(_storable)]
Json = Annotated[Any, AfterValidator(_json)]
JsonObject = Annotated[Dict[str, Any], AfterValidator(_json)]

Unique = Annotated[StrictBool, Field(description="Whether no two rows may share a value other than null")]

Row = Dict[str, Any]


class TableSort(str, Enum):
    """Keys that a list of tables can be sorted by."""

    name = "name"
    created_at = "created_at"
    updated_at = "updated_at"


class ColumnSpec(RequestModel):
    """One column of a new table."""

    type: ColumnType
    nullable: StrictBool = True
    default: Json = None
    unique: Unique = False


def _distinct(columns: Dict[str, ColumnSpec]) -> Dict[str, ColumnSpec]:
    seen = {name: name for name in SYSTEM_NAMES}
    named: Dict[str, ColumnSpec] = {}
    for key, spec in columns.items():
        name = key.strip()
        twin = seen.get(name.lower())
        if name in named or (twin is not None and twin != name):
            raise ValueError("column names must differ in more than case, also from id, created_at and updated_at")
        seen[name.lower()] = name
        named[name] = spec
    if "id" in named and parse_type(named["id"].type).kind == "jsonb":
        raise ValueError("the column id identifies rows and cannot be of type jsonb")
    return named


def _names_described(schema: Dict[str, Any]) -> None:
    """The generated description says nothing about keys that are no column names: it would let them pass."""
    ((pattern, column),) = schema.pop("patternProperties").items()
    schema.update(propertyNames={"type": "string", "pattern": pattern}, additionalProperties=column)


TableSchema = Annotated[
    Dict[ColumnKey, ColumnSpec],
    Field(min_length=1, max_length=MAX_COLUMNS, json_schema_extra=_names_described),
    AfterValidator(_distinct),
]


class TableCreate(RequestModel):
    """A new table. ``table_schema`` is flat: column name to type, nullability, default and uniqueness."""

    name: TableName
    table_schema: TableSchema
    public: StrictBool = False
    description: Optional[Description] = None
    metadata: Optional[JsonObject] = None


class TablePatch(RequestModel):
    """What to change; what is absent stays. ``null`` clears description or metadata."""

    # Absent or a value, never null.
    name: TableName = Field(default="", validate_default=False)
    public: StrictBool = False
    realtime_enabled: StrictBool = False
    description: Optional[Description] = None
    metadata: Optional[JsonObject] = None


class AddColumn(RequestModel):
    """A new column. ``default`` is another name of ``default_value``."""

    name: ColumnName
    type: ColumnType
    nullable: StrictBool = True
    default_value: Json = None
    default: Json = None
    unique: Unique = False
    primary_key: StrictBool = Field(default=False, description="Refused when true: every table has one, its id")


class ChangeColumn(RequestModel):
    """What to change about a column; what is absent stays. ``default_value: null`` drops the default."""

    # Absent or a value, never null.
    new_name: ColumnName = Field(default="", validate_default=False)
    type: ColumnType = Field(default="text", validate_default=False)
    nullable: StrictBool = True
    default_value: Json = None
    default: Json = None


class ColumnOut(BaseModel):
    """A declared column as a list shows it."""

    name: str
    type: str
    nullable: bool
    default: Any


class ColumnDeclared(BaseModel):
    """A declared column, as it was declared: a key that was not given is not there."""

    model_config = ConfigDict(json_schema_extra={"required": ["type"]})

    type: str
    nullable: bool = True
    default: Any = None
    unique: bool = Field(default=False, description="Only there when true")


class TableOut(BaseModel):
    """A table; ``realtime``, ``schema_name`` and ``columns`` repeat it for older clients."""

    id: str
    name: str
    table_schema: Dict[str, ColumnDeclared]
    public: bool
    realtime_enabled: bool
    owner_id: str
    description: Optional[str]
    metadata: Optional[Dict[str, Any]]
    row_count: int
    created_at: Timestamp
    updated_at: Timestamp
    realtime: bool
    schema_name: str
    columns: List[ColumnOut]


class RowPage(BaseModel):
    """One page of rows; ``total`` counts all that match, ``page`` counts from 1."""

    data: List[Row]
    total: int
    page: int
    page_size: int
