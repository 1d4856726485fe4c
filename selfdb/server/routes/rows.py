"""``/tables/{table_id}/data``: rows."""

from __future__ import annotations

from typing import Annotated, Any, Dict, Optional

import sqlalchemy as sa
from fastapi import Body, Path, Query, Response
from starlette.convertors import Convertor, register_url_convertor

from .. import rows, tables
from ..access import Caller, SignedIn
from ..documented import responses
from ..errors import ApiError
from ..query import SKIP_MAX, Search, SortOrder, SortOrderQuery, known_query
from ..routing import new_router
from ..services import ServicesDep
from ..wire_tables import Row, RowPage
from ..writes import Reply, Write, rendered
from .tables import TableId, owner_only

__all__ = ["router"]

router = new_router(prefix="/tables/{table_id}/data", tags=["rows"])


class _AnyText(Convertor[str]):
    """The rest of a path, whatever is in it; Starlette's own ``path`` stops at a line break."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("selfdb_any_text", _AnyText())

RowBody = Annotated[Dict[str, Any], Body(description="Values by column name")]
RowId = Annotated[str, Path(description="The row's value in id_column")]
IdColumn = Annotated[str, Query(description="The column that row_id is a value of")]


@router.get(
    "",
    response_model=RowPage,
    dependencies=[known_query("page", "page_size", "search", "sort_by", "sort_order")],
    responses=responses(400, 403, 404, 422, 503),
)
def fetch_rows(
    table_id: TableId,
    services: ServicesDep,
    caller: Caller,
    search: Search,
    page: Annotated[int, Query(ge=1, le=SKIP_MAX)] = 1,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 100,
    sort_by: Annotated[Optional[str], Query(description="A column; without it, rows come as inserted")] = None,
    sort_order: SortOrderQuery = SortOrder.desc,
) -> Response:
    """A page of rows. ``search`` looks into text columns; ties of a sort are broken by the order of insertion."""
    query = rows.PageQuery(page, page_size, search, sort_by, sort_order)
    return Response(rendered(rows.fetch(services, lambda _: caller, table_id, query)), media_type="application/json")


@router.post("", status_code=201, response_model=Row, responses=responses(400, 403, 404, 409, 413, 422))
def insert_row(table_id: TableId, body: RowBody, services: ServicesDep, caller: Caller, write: Write) -> Response:
    """Insert a row; the answer is the row as it was stored."""

    def effect(connection: sa.Connection) -> Reply:
        return Reply(201, rows.insert(connection, services, caller, table_id, body))

    def permit(connection: sa.Connection) -> None:
        try:
            record = tables.find(connection, table_id)
        except ApiError:
            return
        tables.permit_insert(record, caller)

    return write.run(effect, permit if write.keyed else None)


@router.patch("/{row_id:selfdb_any_text}", response_model=Row, responses=responses(400, 403, 404, 409, 413, 422))
def update_row(
    table_id: TableId,
    row_id: RowId,
    body: RowBody,
    services: ServicesDep,
    caller: SignedIn,
    write: Write,
    id_column: IdColumn = "id",
) -> Response:
    """Change the one row that matches; the answer is the row as it now is."""

    def effect(connection: sa.Connection) -> Reply:
        row = rows.update(connection, services, caller, table_id, row_id, body, id_column=id_column)
        return Reply(200, row)

    return write.run(effect, owner_only(table_id, caller) if write.keyed else None)


@router.delete(
    "/{row_id:selfdb_any_text}", status_code=204, response_class=Response, responses=responses(400, 403, 404, 409, 422)
)
def delete_row(
    table_id: TableId, row_id: RowId, services: ServicesDep, caller: SignedIn, write: Write, id_column: IdColumn = "id"
) -> Response:
    """Delete the one row that matches."""

    def effect(connection: sa.Connection) -> Reply:
        rows.delete(connection, services, caller, table_id, row_id, id_column=id_column)
        return Reply(204)

    return write.run(effect, owner_only(table_id, caller) if write.keyed else None)
