"""Tables, their columns and their rows."""

from __future__ import annotations

from typing import Annotated, Any, Dict, Generic, List, Mapping, Optional, Set, Tuple, TypeVar

from pydantic import FailFast, Field, field_validator, model_validator

from .base import CreateModel, DeleteResponse, RequestModel, ResponseModel, Timestamp, either

__all__ = [
    "ColumnDefinition",
    "ColumnUpdate",
    "RowDeleteResponse",
    "TableCreate",
    "TableDataResponse",
    "TableDeleteResponse",
    "TableRead",
    "TableUpdate",
]

RowT = TypeVar("RowT")


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
    default_value: Any = Field(default=None, validation_alias=either("default_value", "default"))
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
    realtime_enabled: bool = Field(default=False, validation_alias=either("realtime_enabled", "realtime"))
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
    page_size: int = Field(default=100, validation_alias=either("page_size", "pageSize"))

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
