"""The tables themselves: ``client.tables``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Union

from .. import models
from ..core.arguments import text
from ..core.marks import blocking
from ..core.namespace import Caller, Namespace, raw, reading, search_term, walk, window, writing
from ..core.parsing import count_in, deletion, list_of, one
from ..core.transport import Transport
from ..core.urls import Id, key_of
from ..exceptions import NotFoundError, UnprocessableEntityError
from .columns import Columns, RawColumns
from .data import RawTableData, TableData
from .dialect import Dialect

if TYPE_CHECKING:
    from ..models import TableCreate, TableDeleteResponse, TableRead, TableUpdate

__all__ = ["RawTables", "Tables"]

_TABLE = one(lambda: models.TableRead, "table")
_TABLES = list_of(lambda: models.TableRead, "data", "items", "tables")


class Tables(Namespace):
    """Creates, finds, changes and deletes tables. May be shared by threads.

    :ivar columns: the columns of a table.
    :ivar data: the rows of a table.
    """

    def __init__(self, transport: Transport, dialect: Dialect, call: Caller | None = None) -> None:
        super().__init__(transport, call)
        self._dialect = dialect
        self.columns = Columns(transport, dialect, call)
        self.data = TableData(transport, call)

    @blocking
    def count(self, search: str | None = None) -> int:
        """How many tables the caller may see.

        :param search: part of the name or description, at most 100 characters, any case.

        ``GET /tables/count``
        """
        return self._call(reading("/tables/count", ("search", search_term(search))), count_in)

    @blocking
    def create(
        self, payload: Union[TableCreate, Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> TableRead:
        """Create a table.

        :param payload: a :class:`~selfdb.models.TableCreate` or a dict of its fields.
        :param idempotency_key: 1 to 255 characters; the server does the write once for all calls with the same key.
        :raises InvalidRequestError: if ``payload`` does not fit, a JSON Schema document above all; nothing is sent.
        :raises ConflictError: if the name is taken.
        :raises UnprocessableEntityError: for a name or a type that the server does not take.

        ``POST /tables/``
        """
        body = models.TableCreate.of(payload).wire()
        try:
            return self._create(body, idempotency_key)
        except UnprocessableEntityError as error:
            if self._dialect.mini or not self._dialect.recognises(error):
                raise
        return self._create(body, idempotency_key)

    def _create(self, body: dict[str, Any], key: str | None) -> TableRead:
        return self._call(writing("POST", "/tables/", self._dialect.table(body), key=key), _TABLE)

    @blocking
    def list(
        self,
        *,
        skip: int | None = None,
        limit: int | None = None,
        search: str | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
    ) -> list[TableRead]:
        """One slice of the tables that the caller may see: public ones and his own; all for an ADMIN.

        :param skip: tables to leave out at the start, 0 or more.
        :param limit: tables at most, 1 or more; the server's default is 100.
        :param search: part of the name or description, at most 100 characters, any case.
        :param sort_by: ``created_at``, ``updated_at`` or ``name``.
        :param sort_order: ``asc`` or ``desc`` (the server's default).
        :raises InvalidRequestError: for an argument out of range; nothing is sent.

        ``GET /tables/``
        """
        return self._call(reading("/tables/", *window(skip, limit, search, sort_by, sort_order)), _TABLES)

    def iter(
        self,
        *,
        search: str | None = None,
        sort_by: str = "created_at",
        sort_order: str = "asc",
        page_size: int = 100,
    ) -> Iterator[TableRead]:
        """Every table that :meth:`list` would show, fetched ``page_size`` at a time as the loop goes on.

        Sorted, oldest first unless told otherwise, so that pages do not overlap.
        """
        parsed = Tables(self._transport, self._dialect)  # whatever this one gives, a loop needs the items
        return walk(parsed.list, page_size, search=search, sort_by=sort_by, sort_order=sort_order)

    @blocking
    def get(self, table_id: Id) -> TableRead:
        """One table.

        :raises NotFoundError: if there is none of that id.
        :raises PermissionDeniedError: if it is private and neither yours nor are you an ADMIN.

        ``GET /tables/{table_id}``
        """
        return self._call(reading(f"/tables/{key_of(table_id, 'table_id', 'count')}"), _TABLE)

    @blocking
    def get_by_name(self, name: str) -> TableRead:
        """The table that is called ``name``, found among those that the caller may see.

        :raises InvalidRequestError: if ``name`` is empty or no ``str``; nothing is sent.
        :raises NotFoundError: if there is none of that name.

        ``GET /tables/`` with ``search``
        """
        for table in self.iter(search=text(name, "name", 100), sort_by="name"):
            if table.name == name:
                return table
        raise NotFoundError(f"there is no table called {name!r}, or you may not see it", 404)

    @blocking
    def update(
        self,
        table_id: Id,
        payload: Union[TableUpdate, Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> TableRead:
        """Change a table: exactly what is set in ``payload``. A new name takes its rows along.

        :raises ConflictError: if the new name is taken.
        :raises PermissionDeniedError: if the caller is neither the owner nor an ADMIN.

        ``PATCH /tables/{table_id}``
        """
        path = f"/tables/{key_of(table_id, 'table_id', 'count')}"
        return self._call(writing("PATCH", path, models.TableUpdate.of(payload).wire(), key=idempotency_key), _TABLE)

    @blocking
    def delete(self, table_id: Id, *, idempotency_key: str | None = None) -> TableDeleteResponse:
        """Delete a table with its rows.

        :raises PermissionDeniedError: if the caller is neither the owner nor an ADMIN.

        ``DELETE /tables/{table_id}``
        """
        request = writing("DELETE", f"/tables/{key_of(table_id, 'table_id', 'count')}", key=idempotency_key)
        return self._call(request, deletion(lambda: models.TableDeleteResponse, "Table", table_id))


@blocking
class RawTables:
    """The calls of :class:`Tables` with their whole answers."""

    def __init__(self, tables: Tables) -> None:
        self.columns = RawColumns(tables.columns)
        self.data = RawTableData(tables.data)
        self.count = raw(tables.count)
        self.create = raw(tables.create)
        self.list = raw(tables.list)
        self.get = raw(tables.get)
        self.update = raw(tables.update)
        self.delete = raw(tables.delete)
