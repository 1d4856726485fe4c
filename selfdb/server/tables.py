"""Tables: who may do what with them, and their life in the catalog. Columns are in ``columns``, rows in ``rows``.

Each write takes the catalog's row of its table first, in a mode that fits: changes of shape exclude everything,
inserts and deletes of rows exclude each other (they keep ``row_count``), updates of rows exclude only changes
of shape. So a write never meets a table that changes under it, and no two writes wait for each other in a ring, save
updates that trade values of a unique column; PostgreSQL gives one of those up, which is then done again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, List, Optional, Sequence
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from . import datatables
from .access import Principal
from .columntypes import shown, timestamp_text
from .errors import ApiError
from .hot import HotStatement
from .query import SortOrder, as_id, contains, ordered
from .realtime import outbox
from .schema import tables as catalog
from .services import Services
from .shapes import Column, Layout, Shape, shape_of

__all__ = [
    "TableRecord",
    "check_column",
    "count",
    "create",
    "delete",
    "delete_owned",
    "find",
    "find_and_count",
    "is_unique_violation",
    "listing",
    "permit_change",
    "permit_insert",
    "permit_read",
    "save_layout",
    "update",
]

NOT_SIGNED_IN = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True)
class TableRecord:
    """One table as the catalog describes it."""

    id: str
    name: str
    public: bool
    realtime_enabled: bool
    owner_id: str
    description: Optional[str]
    metadata: Optional[Dict[str, Any]]
    row_count: int
    created_at: datetime
    updated_at: datetime
    shape: Shape

    def to_json(self) -> Dict[str, Any]:
        """The table as the API shows it, with the names that older clients read."""
        layout = self.shape.layout
        return {
            "id": self.id,
            "name": self.name,
            "table_schema": layout.table_schema,
            "public": self.public,
            "realtime_enabled": self.realtime_enabled,
            "owner_id": self.owner_id,
            "description": self.description,
            "metadata": self.metadata,
            "row_count": self.row_count,
            "created_at": timestamp_text(self.created_at),
            "updated_at": timestamp_text(self.updated_at),
            "realtime": self.realtime_enabled,
            "schema_name": "public",
            "columns": layout.listing(),
        }


def record_of(connection: Connection, row: Sequence[Any]) -> TableRecord:
    """The record of a row of the catalog, whole and in its order."""
    table_id, name, stored, public, realtime_enabled, owner_id, description, metadata, row_count, created, updated = row
    return TableRecord(
        id=table_id,
        name=name,
        public=public,
        realtime_enabled=realtime_enabled,
        owner_id=owner_id,
        description=description,
        metadata=metadata,
        row_count=row_count,
        created_at=created,
        updated_at=updated,
        shape=shape_of(table_id, stored, connection.dialect.name),
    )


# -- permissions -----------------------------------------------------------------------------------------


def permit_read(record: TableRecord, caller: Optional[Principal]) -> None:
    """Let pass who may see the table and its rows.

    :raises ApiError: 401 for an anonymous caller, 403 for a stranger to a private table.
    """
    _permit_private(record, caller, "You do not have access to this table")


def permit_insert(record: TableRecord, caller: Optional[Principal]) -> None:
    """Let pass who may add rows; raises as :func:`permit_read`."""
    _permit_private(record, caller, "You can only insert into tables you own")


def permit_change(record: TableRecord, caller: Principal) -> None:
    """Let pass the owner and administrators.

    :raises ApiError: 403 for anybody else.
    """
    if not _owns(record, caller):
        raise ApiError(403, "You can only modify tables you own")


def _permit_private(record: TableRecord, caller: Optional[Principal], refusal: str) -> None:
    if record.public:
        return
    if caller is None:
        raise ApiError(401, "Authentication required for private tables", NOT_SIGNED_IN)
    if not _owns(record, caller):
        raise ApiError(403, refusal)


def _owns(record: TableRecord, caller: Principal) -> bool:
    return caller.is_admin or record.owner_id == caller.user_id


def _visible(caller: Optional[Principal]) -> sa.ColumnElement[bool]:
    if caller is None:
        return catalog.c.public.is_(True)
    if caller.is_admin:
        return sa.true()
    return sa.or_(catalog.c.public.is_(True), catalog.c.owner_id == caller.user_id)


# -- reading ---------------------------------------------------------------------------------------------

_BY_ID = sa.select(catalog).where(catalog.c.id == sa.bindparam("table_id"))
_FIND = {
    "": HotStatement(_BY_ID),
    "rows": HotStatement(_BY_ID.with_for_update(read=True, key_share=True)),
    "shape": HotStatement(_BY_ID.with_for_update()),
}
_FOR_COUNT = HotStatement(
    sa.update(catalog)
    .where(catalog.c.id == sa.bindparam("table_id"))
    .values(row_count=catalog.c.row_count + sa.bindparam("change", type_=sa.BigInteger))
    .returning(*catalog.c)
)


def find(connection: Connection, table_id: str, *, lock: str = "") -> TableRecord:
    """Return the table with this id.

    :param lock: what the transaction is about to change: ``"rows"`` (values of existing rows), ``"shape"``
        (the table itself), or nothing.
    :raises ApiError: 404.
    """
    if as_id(table_id) is None:
        raise _not_found()
    return _found(connection, _FIND[lock].first(connection, {"table_id": table_id}))


def find_and_count(connection: Connection, table_id: str, change: int) -> TableRecord:
    """Return the table with this id after adding ``change`` to its ``row_count``, and keep others from counting.

    :raises ApiError: 404.
    """
    if as_id(table_id) is None:
        raise _not_found()
    return _found(connection, _FOR_COUNT.first(connection, {"table_id": table_id, "change": change}))


def _found(connection: Connection, row: Optional[Sequence[Any]]) -> TableRecord:
    if row is None:
        raise _not_found()
    return record_of(connection, row)


def _not_found() -> ApiError:
    return ApiError(404, "Table not found")


def listing(
    connection: Connection,
    services: Services,
    caller: Optional[Principal],
    *,
    search: Optional[str],
    sort_by: str,
    sort_order: SortOrder,
    skip: int,
    limit: int,
) -> List[TableRecord]:
    """Return a page of the tables that ``caller`` may see; ties are broken by id."""
    statement = sa.select(catalog).where(_visible(caller), _matching(services, search))
    statement = statement.order_by(ordered(catalog.c[sort_by], sort_order), catalog.c.id).offset(skip).limit(limit)
    return [record_of(connection, row) for row in connection.execute(statement)]


def count(connection: Connection, services: Services, caller: Optional[Principal], search: Optional[str]) -> int:
    """Return how many tables ``caller`` may see, of those that match ``search``."""
    statement = sa.select(sa.func.count()).select_from(catalog)
    return int(connection.scalar(statement.where(_visible(caller), _matching(services, search))) or 0)


def _matching(services: Services, search: Optional[str]) -> sa.ColumnElement[bool]:
    if not search:
        return sa.true()
    return contains(services.database, search, catalog.c.name, catalog.c.description)


# -- writing ---------------------------------------------------------------------------------------------


def create(
    connection: Connection,
    services: Services,
    owner: Principal,
    *,
    name: str,
    table_schema: Dict[str, Dict[str, Any]],
    public: bool,
    description: Optional[str],
    metadata: Optional[Dict[str, Any]],
) -> TableRecord:
    """Create a table, empty.

    :raises ApiError: 409 for a name that is taken, 400 for a column that cannot be, such as one whose default is
        no value of its type.
    """
    layout = Layout.declare(table_schema)
    for column in layout.columns:
        check_column(column)
    now = services.clock.now()
    values = {
        "id": str(uuid4()),
        "name": name,
        "table_schema": layout.dump(),
        "public": public,
        "realtime_enabled": False,
        "owner_id": owner.user_id,
        "description": description,
        "metadata": metadata,
        "row_count": 0,
        "created_at": now,
        "updated_at": now,
    }
    try:
        row = connection.execute(sa.insert(catalog).values(values).returning(*catalog.c)).one()
    except IntegrityError as error:
        raise _name_taken(error) from error
    record = record_of(connection, row)
    datatables.create(connection, record.shape)
    return record


def update(connection: Connection, services: Services, record: TableRecord, changes: Dict[str, Any]) -> TableRecord:
    """Set some of name, public, realtime_enabled, description and metadata; without any, nothing happens.

    :raises ApiError: 409 for a name that is taken.
    """
    if not changes:
        return record
    saved = _save(connection, services, record, changes)
    if (saved.name, saved.public) != (record.name, record.public):
        outbox.table_changed(connection, services, saved.id, name=saved.name, public=saved.public)
    return saved


def save_layout(connection: Connection, services: Services, record: TableRecord, layout: Layout) -> TableRecord:
    """Give the table another layout in the catalog; the data table is the caller's."""
    return _save(connection, services, record, {"table_schema": layout.dump()})


def delete(connection: Connection, services: Services, record: TableRecord) -> None:
    """Drop the table and its rows."""
    connection.execute(sa.delete(catalog).where(catalog.c.id == record.id))
    datatables.drop(connection, record.shape)
    outbox.table_changed(connection, services, record.id, name=None, public=False)


def delete_owned(connection: Connection, services: Services, user_id: str) -> None:
    """Drop every table of a user who is about to be deleted."""
    owned = sa.select(catalog).where(catalog.c.owner_id == user_id).order_by(catalog.c.id).with_for_update()
    for row in connection.execute(owned).all():
        delete(connection, services, record_of(connection, row))


def check_column(column: Column) -> None:
    """Make sure that the declared default of ``column`` is one, and that a unique column is of a type that can be.

    :raises ApiError: 400.
    """
    if column.unique and column.type.kind == "jsonb":
        reason = "it identifies rows" if column.identifies else "it is unique"
        raise ApiError(400, f"Column {shown(column.name)} cannot be of type jsonb: {reason}")
    try:
        default = column.default
        if default is not None and default.literal is not None:
            column.coerce(default.literal)
    except ValueError as expected:
        raise ApiError(400, f"Invalid default for column {shown(column.name)}: expected {expected}") from None


def _save(connection: Connection, services: Services, record: TableRecord, changes: Dict[str, Any]) -> TableRecord:
    statement = sa.update(catalog).where(catalog.c.id == record.id)
    statement = statement.values(**changes, updated_at=services.clock.now())
    try:
        row = connection.execute(statement.returning(*catalog.c)).one()
    except IntegrityError as error:
        raise _name_taken(error) from error
    return record_of(connection, row)


def _name_taken(error: IntegrityError) -> Exception:
    if is_unique_violation(error):
        return ApiError(409, "Table name already exists")
    # The owner was deleted a moment ago: the caller's token names nobody any more.
    return ApiError(401, "Could not validate credentials", NOT_SIGNED_IN)


def is_unique_violation(error: IntegrityError) -> bool:
    """Whether a value was there already, rather than another rule broken."""
    state = getattr(error.orig, "sqlstate", None)
    return state == "23505" if state is not None else "UNIQUE" in str(error.orig)
