"""Buckets: who sees and who changes them, their rows in the catalogue, and the contents that go with them."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NoReturn, Optional, Union

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from .access import Principal
from .database import after_commit, lock
from .errors import ApiError
from .query import SortOrder, as_id, ordered
from .schema import buckets, files
from .services import DATABASE_FILE, Services
from .wire_storage import BucketRead, BucketSort

__all__ = [
    "as_read",
    "count",
    "create",
    "delete",
    "delete_owned",
    "forget_contents",
    "hold",
    "listing",
    "may_change",
    "permit_change",
    "permit_reading",
    "readable",
    "refuse",
    "update",
    "visible",
]


def visible(caller: Optional[Principal]) -> sa.ColumnElement[bool]:
    """The buckets that a caller reads: public ones, their own, and all for an ADMIN."""
    if caller is None:
        return buckets.c.public.is_(True)
    if caller.is_admin:
        return sa.true()
    return sa.or_(buckets.c.public.is_(True), buckets.c.owner_id == caller.user_id)


def may_change(caller: Optional[Principal], bucket: RowMapping) -> bool:
    """Whether a caller owns the bucket or is an ADMIN."""
    return caller is not None and (caller.is_admin or caller.user_id == bucket["owner_id"])


def refuse(caller: Optional[Principal], detail: str) -> NoReturn:
    """End the request: 401 for someone who has not signed in, else 403 with ``detail``."""
    if caller is None:
        raise ApiError(401, "Not authenticated", {"WWW-Authenticate": "Bearer"})
    raise ApiError(403, detail)


def permit_reading(caller: Optional[Principal], bucket: RowMapping) -> None:
    """:raises ApiError: 401 or 403 for a private bucket of somebody else's."""
    if not bucket["public"] and not may_change(caller, bucket):
        refuse(caller, "You do not have access to this bucket")


def permit_change(connection: Connection, caller: Optional[Principal], bucket_id: str) -> None:
    """:raises ApiError: 401 or 403 unless the caller owns the bucket or is an ADMIN; a bucket that is gone
    passes.
    """
    bucket = _row(connection, bucket_id)
    if bucket is not None and not may_change(caller, bucket):
        refuse(caller, "You can only modify buckets you own")


def readable(connection: Connection, caller: Optional[Principal], bucket_id: str) -> RowMapping:
    """A bucket's row.

    :raises ApiError: 404, or 401/403 for a private bucket of somebody else's.
    """
    bucket = _row(connection, bucket_id)
    if bucket is None:
        raise ApiError(404, "Bucket not found")
    permit_reading(caller, bucket)
    return bucket


def hold(connection: Connection, bucket_id: str) -> RowMapping:
    """A bucket's row, held until the transaction ends: whoever changes its files comes after.

    :raises ApiError: 404.
    """
    bucket = _row(connection, bucket_id, held=True)
    if bucket is None:
        raise ApiError(404, "Bucket not found")
    return bucket


def count(connection: Connection, caller: Optional[Principal], found: sa.ColumnElement[bool]) -> int:
    """How many buckets the caller reads among those that ``found`` selects."""
    query = sa.select(sa.func.count()).select_from(buckets).where(visible(caller), found)
    return int(connection.scalar(query) or 0)


def listing(
    connection: Connection,
    caller: Optional[Principal],
    found: sa.ColumnElement[bool],
    *,
    sort_by: BucketSort,
    order: SortOrder,
    skip: int,
    limit: int,
) -> List[BucketRead]:
    """Buckets that the caller reads, in a stable order."""
    keys = [buckets.c[sort_by.value], buckets.c.created_at, buckets.c.id]
    query = (
        sa.select(buckets)
        .where(visible(caller), found)
        .order_by(*(ordered(key, order) for key in keys))
        .offset(skip)
        .limit(limit)
    )
    return [as_read(row) for row in connection.execute(query).mappings()]


def create(connection: Connection, services: Services, owner: Principal, fields: Mapping[str, Any]) -> BucketRead:
    """A new, empty bucket.

    :raises ApiError: 409 if the name is taken.
    """
    _claim_name(connection, fields["name"])
    now = services.clock.now()
    row: Dict[str, Any] = {
        **fields,
        "id": str(uuid.uuid4()),
        "owner_id": owner.user_id,
        "file_count": 0,
        "total_size": 0,
        "created_at": now,
        "updated_at": now,
    }
    connection.execute(buckets.insert().values(**row))
    return as_read(row)


def update(connection: Connection, services: Services, bucket_id: str, fields: Mapping[str, Any]) -> BucketRead:
    """Change what is given; nothing given changes nothing.

    :raises ApiError: 404; 409 if the new name is taken.
    """
    bucket = hold(connection, bucket_id)
    if not fields:
        return as_read(bucket)
    if fields.get("name", bucket["name"]) != bucket["name"]:
        _claim_name(connection, fields["name"])
    changes = {**fields, "updated_at": services.clock.now()}
    connection.execute(buckets.update().where(buckets.c.id == bucket_id).values(**changes))
    return as_read({**bucket, **changes})


def delete(connection: Connection, services: Services, bucket_id: str) -> None:
    """Remove a bucket and all its files; the contents go once that is committed.

    :raises ApiError: 404.
    """
    hold(connection, bucket_id)
    _delete(connection, services, buckets.c.id == bucket_id)


def delete_owned(connection: Connection, services: Services, user_id: str) -> None:
    """Remove all buckets of a user, with all their files, before the user's own row is removed.

    Files that the user put into buckets of others stay there and lose their owner.
    """
    owned = sa.select(buckets.c.id).where(buckets.c.owner_id == user_id).order_by(buckets.c.id)
    connection.execute(owned.with_for_update())
    _delete(connection, services, buckets.c.owner_id == user_id)
    connection.execute(files.update().where(files.c.owner_id == user_id).values(owner_id=None))


def forget_contents(connection: Connection, services: Services, versions: Iterable[str]) -> None:
    """Remove contents that no row names any more, once the transaction is committed."""
    doomed = list(versions)
    if not doomed:
        return

    def discard() -> None:
        if services.database.dialect == "sqlite":
            # A commit in WAL mode survives a crash of the process but not yet a power cut. Contents must not
            # vanish before it does, or the row that comes back would name nothing.
            _sync(services.settings.data / f"{DATABASE_FILE}-wal")
        services.objects.discard(doomed)

    after_commit(connection, discard)


def as_read(row: Union[RowMapping, Mapping[str, Any]]) -> BucketRead:
    """A bucket as it is sent."""
    return BucketRead.model_validate({column.name: row[column.name] for column in buckets.columns})


def _row(connection: Connection, bucket_id: str, held: bool = False) -> Optional[RowMapping]:
    if as_id(bucket_id) is None:
        return None
    query = sa.select(buckets).where(buckets.c.id == bucket_id)
    return connection.execute(query.with_for_update() if held else query).mappings().first()


def _delete(connection: Connection, services: Services, which: sa.ColumnElement[bool]) -> None:
    inside = files.c.bucket_id.in_(sa.select(buckets.c.id).where(which))
    forget_contents(connection, services, connection.scalars(sa.select(files.c.version).where(inside)))
    connection.execute(files.delete().where(inside))
    connection.execute(buckets.delete().where(which))


def _claim_name(connection: Connection, name: str) -> None:
    lock(connection, f"bucket name {name}")
    if connection.scalar(sa.select(buckets.c.id).where(buckets.c.name == name)) is not None:
        raise ApiError(409, "Bucket name already exists")


def _sync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return  # checkpointed and removed: the commit is in the database file, which SQLite has synced
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
