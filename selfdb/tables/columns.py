"""The columns of a table: ``client.tables.columns``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Union

from .. import models
from ..core.marks import blocking
from ..core.namespace import Caller, Namespace, raw, reading, writing
from ..core.parsing import one
from ..core.response import Response
from ..core.transport import Transport
from ..core.urls import Id, key_of
from .dialect import Dialect

if TYPE_CHECKING:
    from ..models import ColumnDefinition, ColumnUpdate, TableRead

__all__ = ["Columns", "RawColumns"]

_TABLE = one(lambda: models.TableRead, "table")


class Columns(Namespace):
    """Adds, changes and removes columns. May be shared by threads."""

    def __init__(self, transport: Transport, dialect: Dialect, call: Caller | None = None) -> None:
        super().__init__(transport, call)
        self._dialect = dialect

    def _table_after(self, table_id: str) -> Callable[[Response], TableRead]:
        """A reader of the table that a column call answers with, or that is fetched where it answers less."""

        def parse(response: Response) -> TableRead:
            body = response.json() if response.content else None
            if isinstance(body, Mapping) and ("id" in body or "table" in body):
                del body  # a reader that fails shows the variables of no answer
                return _TABLE(response)
            del body
            return _TABLE(self._transport.exchange(reading(f"/tables/{table_id}")))

        return parse

    @blocking
    def add(
        self,
        table_id: Id,
        column: Union[ColumnDefinition, Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> TableRead:
        """Add a column; rows that are there get its default.

        :param column: a :class:`~selfdb.models.ColumnDefinition` or a dict of its fields.
        :returns: the table as it is then.
        :raises BadRequestError: for NOT NULL without a default on a table that has rows.
        :raises ConflictError: if there is a column of that name.
        :raises UnprocessableEntityError: for a name or a type that the server does not take.

        ``POST /tables/{table_id}/columns``
        """
        table = key_of(table_id, "table_id")
        body = self._dialect.column(models.ColumnDefinition.of(column).wire())
        return self._call(
            writing("POST", f"/tables/{table}/columns", body, key=idempotency_key), self._table_after(table)
        )

    @blocking
    def update(
        self,
        table_id: Id,
        column_name: str,
        updates: Union[ColumnUpdate, Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> TableRead:
        """Rename a column, or change its type, its default or whether it takes null.

        :param updates: exactly what is set is changed; ``default_value=None`` drops the default.
        :returns: the table as it is then.
        :raises BadRequestError: if a value that is there does not fit the new type; nothing is changed.
        :raises ConflictError: if the new name is taken.
        :raises NotFoundError: if there is no such column.

        ``PATCH /tables/{table_id}/columns/{column_name}``
        """
        table = key_of(table_id, "table_id")
        path = f"/tables/{table}/columns/{key_of(column_name, 'column_name')}"
        body = self._dialect.column(models.ColumnUpdate.of(updates).wire())
        return self._call(writing("PATCH", path, body, key=idempotency_key), self._table_after(table))

    @blocking
    def remove(self, table_id: Id, column_name: str, *, idempotency_key: str | None = None) -> TableRead:
        """Remove a column and what it holds.

        :returns: the table as it is then.
        :raises BadRequestError: for the column ``id``.
        :raises NotFoundError: if there is no such column.

        ``DELETE /tables/{table_id}/columns/{column_name}``
        """
        table = key_of(table_id, "table_id")
        path = f"/tables/{table}/columns/{key_of(column_name, 'column_name')}"
        return self._call(writing("DELETE", path, key=idempotency_key), self._table_after(table))


@blocking
class RawColumns:
    """The calls of :class:`Columns` with their whole answers."""

    def __init__(self, columns: Columns) -> None:
        self.add = raw(columns.add)
        self.update = raw(columns.update)
        self.remove = raw(columns.remove)
