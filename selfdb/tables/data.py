"""The rows of a table: ``client.tables.data``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import models
from ..core.arguments import text, whole_number
from ..core.marks import blocking
from ..core.namespace import Namespace, mapping_of, raw, reading, writing
from ..core.parsing import deletion, one
from ..core.response import Response
from ..core.urls import Id, key_of, segment
from .query import TableDataQueryBuilder, page_query

if TYPE_CHECKING:
    from ..core.bulk import BulkProgress, BulkReport
    from ..models import RowDeleteResponse, TableDataResponse

__all__ = ["RawTableData", "TableData"]

Row = dict[str, Any]

_PAGE = one(lambda: models.TableDataResponse[dict[str, Any]])
_WRAPPED = ("row_inserted", "row_updated")


def _row(response: Response) -> Row:
    """The row, bare, or as the small server wraps it; a row of one's own may have columns of the same names."""
    body = response.json()
    if not isinstance(body, dict):
        del body  # tools that show the variables of a traceback find nothing of the answer in ours
        raise response.unusable("is not a row")
    if body.keys() == {"status", "data"} and body["status"] in _WRAPPED and isinstance(body["data"], dict):
        return dict(body["data"])
    return body


def _new_row(row: Any) -> Mapping[str, Any]:
    """What of ``row`` goes into an insert. A model's field left at a default of ``None`` is the server's to fill."""
    fields = mapping_of(row, "row")
    if not hasattr(row, "model_fields_set"):
        return fields
    given = {_alias(row, name) for name in row.model_fields_set}
    return {name: value for name, value in fields.items() if value is not None or name in given}


def _changes(row: Any) -> Mapping[str, Any]:
    """What of ``row`` goes into an update: of a model, the fields that were set."""
    fields = mapping_of(row, "updates")
    if not hasattr(row, "model_fields_set"):
        return fields
    given = {_alias(row, name) for name in row.model_fields_set}
    return {name: value for name, value in fields.items() if name in given}


def _alias(row: Any, name: str) -> str:
    field = type(row).model_fields.get(name)
    return name if field is None else field.serialization_alias or field.alias or name


class TableData(Namespace):
    """Reads and writes rows. May be shared by threads.

    A row to write is a mapping by column, a pydantic model or a dataclass. Besides plain JSON values it may hold
    UUID, date, aware datetime, Decimal (sent as text) and Enum. Rows that are read are plain JSON, in dicts;
    ``query(...).as_model(...)`` types them.
    """

    @blocking
    def fetch(
        self,
        table_id: Id,
        *,
        page: int | None = None,
        page_size: int | None = None,
        search: str | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
    ) -> TableDataResponse[Row]:
        """One page of rows.

        :param page: counted from 1; the server's default is 1.
        :param page_size: rows a page, 1 to 1000; the server's default is 100.
        :param search: part of any text column, at most 100 characters, any case.
        :param sort_by: a column; without one the rows come in the order in which they were inserted.
        :param sort_order: ``asc`` or ``desc`` (the server's default).
        :raises InvalidRequestError: for an argument out of range; nothing is sent.
        :raises BadRequestError: for a column that does not exist.

        ``GET /tables/{table_id}/data``
        """
        path = f"/tables/{key_of(table_id, 'table_id')}/data"
        return self._call(reading(path, *page_query(search, sort_by, sort_order, page, page_size)), _PAGE)

    @blocking
    def insert(self, table_id: Id, row: Any, *, idempotency_key: str | None = None) -> Row:
        """Insert one row.

        :param idempotency_key: 1 to 255 characters; the server inserts once for all calls with the same key.
        :returns: the row as stored, with its generated columns.
        :raises InvalidRequestError: for a value without a JSON form; nothing is sent.
        :raises BadRequestError: for an unknown column, or a value that does not fit its type.
        :raises ConflictError: if a unique value is taken.

        ``POST /tables/{table_id}/data``
        """
        path = f"/tables/{key_of(table_id, 'table_id')}/data"
        return self._call(writing("POST", path, dict(_new_row(row)), key=idempotency_key), _row)

    @blocking
    def update_row(
        self,
        table_id: Id,
        row_id: Id,
        updates: Any,
        *,
        id_column: str = "id",
        idempotency_key: str | None = None,
    ) -> Row:
        """Change one row.

        :param row_id: its value in ``id_column``.
        :param updates: the columns to change.
        :returns: the whole row as it is then.
        :raises NotFoundError: if no row has that value.
        :raises ConflictError: if several rows have it; nothing is changed.
        :raises PermissionDeniedError: if the caller is neither the table's owner nor an ADMIN.

        ``PATCH /tables/{table_id}/data/{row_id}``
        """
        path = f"/tables/{key_of(table_id, 'table_id')}/data/{segment(row_id, 'row_id')}"
        query = (("id_column", text(id_column, "id_column", 100)),)
        return self._call(writing("PATCH", path, dict(_changes(updates)), query=query, key=idempotency_key), _row)

    @blocking
    def delete_row(
        self, table_id: Id, row_id: Id, *, id_column: str = "id", idempotency_key: str | None = None
    ) -> RowDeleteResponse:
        """Delete one row.

        :param row_id: its value in ``id_column``.
        :raises NotFoundError: if no row has that value.
        :raises ConflictError: if several rows have it; nothing is deleted.
        :raises PermissionDeniedError: if the caller is neither the table's owner nor an ADMIN.

        ``DELETE /tables/{table_id}/data/{row_id}``
        """
        path = f"/tables/{key_of(table_id, 'table_id')}/data/{segment(row_id, 'row_id')}"
        query = (("id_column", text(id_column, "id_column", 100)),)
        request = writing("DELETE", path, query=query, key=idempotency_key)
        return self._call(request, deletion(lambda: models.RowDeleteResponse, "Row", row_id))

    def query(self, table_id: Id) -> TableDataQueryBuilder[Row]:
        """A query over the rows of a table. Nothing is sent before ``execute()`` or a loop.

        ``GET /tables/{table_id}/data``
        """
        return TableDataQueryBuilder(self._transport, key_of(table_id, "table_id"))

    @blocking(callbacks=("progress",), sources=("rows",))
    def insert_many(
        self, table_id: Id, rows: Iterable[Any], *, concurrency: int = 8, progress: BulkProgress | None = None
    ) -> BulkReport[Row]:
        """Insert many rows, one call each, a few at a time; the server has no call for several.

        :param rows: any iterable, read as it goes; at most ``concurrency`` rows are under way.
        :param concurrency: calls at a time, 1 to 64.
        :param progress: called as ``progress(done, total)`` in the calling thread; ``total`` is ``None`` if
            ``rows`` has no length.
        :returns: an outcome for each row: done, refused, or unknown (it may have been applied).
        """
        from ..core.bulk import run_many

        single = TableData(self._transport)
        key_of(table_id, "table_id")
        threads = whole_number(concurrency, "concurrency", 1, 64)
        return run_many(rows, lambda row: single.insert(table_id, row), threads, progress)

    @blocking(callbacks=("progress",), sources=("row_ids",))
    def delete_many(
        self,
        table_id: Id,
        row_ids: Iterable[Id],
        *,
        id_column: str = "id",
        concurrency: int = 8,
        progress: BulkProgress | None = None,
    ) -> BulkReport[RowDeleteResponse]:
        """Delete many rows, one call each, a few at a time. Arguments and report as for :meth:`insert_many`."""
        from ..core.bulk import run_many

        single = TableData(self._transport)
        key_of(table_id, "table_id")
        text(id_column, "id_column", 100)
        threads = whole_number(concurrency, "concurrency", 1, 64)
        return run_many(
            row_ids, lambda row_id: single.delete_row(table_id, row_id, id_column=id_column), threads, progress
        )


@blocking
class RawTableData:
    """The calls of :class:`TableData` with their whole answers."""

    def __init__(self, data: TableData) -> None:
        self.fetch = raw(data.fetch)
        self.insert = raw(data.insert)
        self.update_row = raw(data.update_row)
        self.delete_row = raw(data.delete_row)
