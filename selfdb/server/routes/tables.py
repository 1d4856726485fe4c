"""``/tables``: tables and their columns."""

from __future__ import annotations

from typing import Annotated, Any, Callable, Dict, List

import sqlalchemy as sa
from fastapi import Path, Query, Response
from fastapi.responses import JSONResponse

from .. import columns, tables
from ..access import Caller, Principal, SignedIn
from ..documented import responses
from ..errors import ApiError
from ..query import Limit, Search, Skip, SortOrder, SortOrderQuery, known_query
from ..routing import new_router
from ..services import ServicesDep
from ..tables import TableRecord
from ..wire import Count
from ..wire_tables import AddColumn, ChangeColumn, TableCreate, TableOut, TablePatch, TableSort
from ..writes import Permit, Reply, Write

__all__ = ["router"]

router = new_router(prefix="/tables", tags=["tables"])

TableId = Annotated[str, Path(description="The table's id")]
ColumnPath = Annotated[str, Path(description="The column's name")]


@router.get("/count", dependencies=[known_query("search")], responses=responses(400, 422))
def count_tables(services: ServicesDep, caller: Caller, search: Search) -> Count:
    """How many tables the caller sees."""
    with services.database.read() as connection:
        return Count(count=tables.count(connection, services, caller, search))


@router.post("/", status_code=201, response_model=TableOut, responses=responses(400, 409, 413, 422))
def create_table(body: TableCreate, services: ServicesDep, caller: SignedIn, write: Write) -> Response:
    """A new, empty table of the caller's."""
    schema = {name: spec.model_dump(exclude_unset=True) for name, spec in body.table_schema.items()}
    for declared in schema.values():
        if not declared.get("unique"):
            declared.pop("unique", None)  # shown where it is true only

    def effect(connection: sa.Connection) -> Reply:
        record = tables.create(
            connection,
            services,
            caller,
            name=body.name,
            table_schema=schema,
            public=body.public,
            description=body.description,
            metadata=body.metadata,
        )
        return Reply(201, record.to_json())

    return write.run(effect)


@router.get(
    "/",
    response_model=List[TableOut],
    dependencies=[known_query("skip", "limit", "search", "sort_by", "sort_order")],
    responses=responses(400, 422),
)
def list_tables(
    services: ServicesDep,
    caller: Caller,
    search: Search,
    skip: Skip = 0,
    limit: Limit = 100,
    sort_by: Annotated[TableSort, Query()] = TableSort.created_at,
    sort_order: SortOrderQuery = SortOrder.desc,
) -> Response:
    """The tables that the caller sees: public ones and their own, all for an ADMIN."""
    with services.database.read() as connection:
        found = tables.listing(
            connection,
            services,
            caller,
            search=search,
            sort_by=sort_by.value,
            sort_order=sort_order,
            skip=skip,
            limit=limit,
        )
    return JSONResponse([record.to_json() for record in found])


@router.get("/{table_id}", response_model=TableOut, responses=responses(400, 403, 404))
def get_table(table_id: TableId, services: ServicesDep, caller: Caller) -> Response:
    """One table."""
    with services.database.read() as connection:
        record = tables.find(connection, table_id)
    tables.permit_read(record, caller)
    return JSONResponse(record.to_json())


@router.patch("/{table_id}", response_model=TableOut, responses=responses(400, 403, 404, 409, 413, 422))
def update_table(
    table_id: TableId, body: TablePatch, services: ServicesDep, caller: SignedIn, write: Write
) -> Response:
    """Change what the body holds; an empty one changes nothing."""
    changes = body.model_dump(exclude_unset=True)

    def change(connection: sa.Connection, record: TableRecord) -> TableRecord:
        return tables.update(connection, services, record, changes)

    return _reshape(write, caller, table_id, change)


@router.delete("/{table_id}", status_code=204, response_class=Response, responses=responses(400, 403, 404, 409, 422))
def delete_table(table_id: TableId, services: ServicesDep, caller: SignedIn, write: Write) -> Response:
    """Drop a table with its rows."""

    def effect(connection: sa.Connection) -> Reply:
        record = tables.find(connection, table_id, lock="shape")
        tables.permit_change(record, caller)
        tables.delete(connection, services, record)
        return Reply(204)

    return write.run(effect, owner_only(table_id, caller) if write.keyed else None)


@router.post("/{table_id}/columns", response_model=TableOut, responses=responses(400, 403, 404, 409, 413, 422))
def add_column(table_id: TableId, body: AddColumn, services: ServicesDep, caller: SignedIn, write: Write) -> Response:
    """Add a column; rows that exist get its default. It is refused (409) where that leaves a unique one with twins."""
    given = body.model_fields_set
    declared: Dict[str, Any] = {"type": body.type}
    if "nullable" in given:
        declared["nullable"] = body.nullable
    default = body.default_value if "default_value" in given else body.default
    if default is not None:
        declared["default"] = default
    if body.unique:
        declared["unique"] = True

    def change(connection: sa.Connection, record: TableRecord) -> TableRecord:
        if body.primary_key:
            raise ApiError(400, "The table already has a primary key")
        return columns.add(connection, services, record, body.name, declared)

    return _reshape(write, caller, table_id, change)


@router.patch("/{table_id}/columns/{name}", response_model=TableOut, responses=responses(400, 403, 404, 409, 413, 422))
def update_column(
    table_id: TableId, name: ColumnPath, body: ChangeColumn, services: ServicesDep, caller: SignedIn, write: Write
) -> Response:
    """Rename a column, or change its type (converting its values), nullability or default."""
    given = body.model_fields_set
    default = columns.UNSET
    if "default_value" in given:
        default = body.default_value
    elif "default" in given:
        default = body.default

    def change(connection: sa.Connection, record: TableRecord) -> TableRecord:
        return columns.change(
            connection,
            services,
            record,
            name,
            new_name=body.new_name if "new_name" in given else None,
            type_text=body.type if "type" in given else None,
            nullable=body.nullable if "nullable" in given else None,
            default=default,
        )

    return _reshape(write, caller, table_id, change)


@router.delete("/{table_id}/columns/{name}", response_model=TableOut, responses=responses(400, 403, 404, 409, 422))
def remove_column(
    table_id: TableId, name: ColumnPath, services: ServicesDep, caller: SignedIn, write: Write
) -> Response:
    """Remove a column with its values."""

    def change(connection: sa.Connection, record: TableRecord) -> TableRecord:
        return columns.remove(connection, services, record, name)

    return _reshape(write, caller, table_id, change)


def _reshape(
    write: Write,
    caller: Principal,
    table_id: str,
    change: Callable[[sa.Connection, TableRecord], TableRecord],
) -> Response:
    def effect(connection: sa.Connection) -> Reply:
        record = tables.find(connection, table_id, lock="shape")
        tables.permit_change(record, caller)
        return Reply(200, change(connection, record).to_json())

    return write.run(effect, owner_only(table_id, caller) if write.keyed else None)


def owner_only(table_id: str, caller: Principal) -> Permit:
    """What lets only the owner and administrators have an answer that was kept."""

    def permit(connection: sa.Connection) -> None:
        try:
            record = tables.find(connection, table_id)
        except ApiError:
            return  # gone; the effect says so, or a kept answer tells of how it went
        tables.permit_change(record, caller)

    return permit
