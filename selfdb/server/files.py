"""Files: their rows in the catalogue, who reads and who changes them, and how an upload becomes one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Tuple, Union

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from .access import Principal, confirm
from .buckets import forget_contents, hold, may_change, permit_reading, readable, refuse, visible
from .errors import ApiError
from .mime import is_allowed
from .paths import last_segment
from .query import SortOrder, as_id, ordered
from .schema import buckets, files
from .services import Services
from .wire_storage import FileRead, FileSort, StorageStats, UploadReply, is_bucket_name

__all__ = [
    "Upload",
    "as_read",
    "count",
    "delete",
    "locate",
    "page",
    "permit_change",
    "permit_upload",
    "readable_file",
    "record_upload",
    "set_metadata",
    "stats",
]

_joined = sa.select(files, buckets.c.name.label("bucket_name")).join_from(files, buckets)


@dataclass(frozen=True)
class Upload:
    """What an upload says about itself before its body comes; ``key`` is checked, ``mime_type`` can be
    stored.
    """

    bucket_id: str
    key: str
    mime_type: str
    caller: Optional[Principal]


def permit_upload(connection: Connection, upload: Upload, size: int = 0) -> RowMapping:
    """The bucket that takes the upload, as far as its first ``size`` bytes tell.

    Asked before the body is read and again when it is there, for much may have changed on the way.

    :raises ApiError: 404; 401/403 for a private bucket of somebody else's, or for a file there that the
        caller may not delete; 415; 413.
    """
    bucket = readable(connection, upload.caller, upload.bucket_id)
    _permit_content(bucket, upload, size)
    there = _at(connection, upload)
    if there is not None:
        _permit_overwriting(upload, bucket, there)
    return bucket


def record_upload(
    connection: Connection, services: Services, upload: Upload, version: str, size: int
) -> Tuple[int, UploadReply]:
    """Give a published object its row: status 201 and the reply, or 200 where it replaces another.

    :raises ApiError: as :func:`permit_upload`; 401 if the uploader has gone meanwhile.
    """
    if upload.caller is not None:
        confirm(connection, upload.caller)
    bucket = hold(connection, upload.bucket_id)
    permit_reading(upload.caller, bucket)
    _permit_content(bucket, upload, size)
    there = _at(connection, upload)
    now = services.clock.now()
    content = {"version": version, "size": size, "mime_type": upload.mime_type, "updated_at": now}
    if there is None:
        file_id = str(uuid.uuid4())
        row = {
            **content,
            "id": file_id,
            "bucket_id": bucket["id"],
            "name": last_segment(upload.key),
            "path": upload.key,
            "owner_id": None if upload.caller is None else upload.caller.user_id,
            "created_at": now,
        }
        connection.execute(files.insert().values(**row))
        _account(connection, bucket["id"], 1, size)
    else:
        _permit_overwriting(upload, bucket, there)
        file_id = there["id"]
        connection.execute(files.update().where(files.c.id == file_id).values(**content))
        _account(connection, bucket["id"], 0, size - there["size"])
        forget_contents(connection, services, [there["version"]])
    reply = UploadReply(success=True, bucket=bucket["name"], path=f"/{upload.key}", size=size, file_id=file_id)
    return (201 if there is None else 200), reply


def page(
    connection: Connection,
    caller: Optional[Principal],
    found: sa.ColumnElement[bool],
    *,
    bucket_id: Optional[str],
    sort_by: FileSort,
    order: SortOrder,
    skip: int,
    limit: int,
) -> Tuple[List[FileRead], int]:
    """Files that the caller reads, in a stable order, and how many there are in all.

    :raises ApiError: 404, 401 or 403 for the bucket that is asked for.
    """
    within = _scope(connection, caller, bucket_id)
    keys = [files.c[sort_by.value], files.c.created_at, files.c.id]
    query = _joined.where(within, found).order_by(*(ordered(key, order) for key in keys)).offset(skip).limit(limit)
    rows = [as_read(row) for row in connection.execute(query).mappings()]
    return rows, _count(connection, within, found)


def count(
    connection: Connection,
    caller: Optional[Principal],
    found: sa.ColumnElement[bool],
    bucket_id: Optional[str] = None,
) -> int:
    """How many files the caller reads, in one bucket or in all.

    :raises ApiError: 404, 401 or 403 for the bucket that is asked for.
    """
    return _count(connection, _scope(connection, caller, bucket_id), found)


def stats(connection: Connection, caller: Optional[Principal]) -> StorageStats:
    """Sums over the buckets that the caller reads."""
    query = sa.select(
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(buckets.c.file_count), 0),
        sa.func.coalesce(sa.func.sum(buckets.c.total_size), 0),
    ).where(visible(caller))
    number, total_files, total_size = connection.execute(query.select_from(buckets)).one()
    return StorageStats(
        total_files=int(total_files),
        total_size=int(total_size),
        total_buckets=int(number),
        buckets_count=int(number),
    )


def readable_file(connection: Connection, caller: Optional[Principal], file_id: str) -> FileRead:
    """A file as it is sent.

    :raises ApiError: 404, or 401/403 in a private bucket of somebody else's.
    """
    row = _row(connection, file_id)
    if row is None:
        raise ApiError(404, "File not found")
    readable(connection, caller, row["bucket_id"])
    return as_read(row)


def locate(connection: Connection, caller: Optional[Principal], bucket_name: str, key: str) -> RowMapping:
    """The row of the file that a download names.

    :raises ApiError: 404, or 401/403 for a private bucket of somebody else's.
    """
    bucket = None
    if is_bucket_name(bucket_name):
        query = sa.select(buckets).where(buckets.c.name == bucket_name)
        bucket = connection.execute(query).mappings().first()
    if bucket is None:
        raise ApiError(404, "Bucket not found")
    permit_reading(caller, bucket)
    query = _joined.where(files.c.bucket_id == bucket["id"], files.c.path == key)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise ApiError(404, "File not found")
    return row


def permit_change(connection: Connection, caller: Optional[Principal], file_id: str) -> None:
    """:raises ApiError: 401 or 403 unless the caller uploaded the file, owns its bucket or is an ADMIN.

    A file that is gone passes.
    """
    row = _row(connection, file_id)
    if row is None:
        return
    bucket = connection.execute(sa.select(buckets).where(buckets.c.id == row["bucket_id"])).mappings().first()
    if bucket is not None and not _may_delete(caller, bucket, row):
        refuse(caller, "You can only modify files you own")


def set_metadata(
    connection: Connection, services: Services, file_id: str, metadata: Optional[Mapping[str, Any]]
) -> FileRead:
    """Replace what is noted about a file.

    :raises ApiError: 404.
    """
    row = _held(connection, file_id)
    changes = {"metadata": metadata, "updated_at": services.clock.now()}
    connection.execute(files.update().where(files.c.id == file_id).values(**changes))
    return as_read({**row, **changes})


def delete(connection: Connection, services: Services, file_id: str) -> None:
    """Remove a file; its content goes once that is committed.

    :raises ApiError: 404.
    """
    row = _held(connection, file_id)
    connection.execute(files.delete().where(files.c.id == file_id))
    _account(connection, row["bucket_id"], -1, -row["size"])
    forget_contents(connection, services, [row["version"]])


def as_read(row: Union[RowMapping, Mapping[str, Any]]) -> FileRead:
    """A file as it is sent."""
    shown = {column.name: row[column.name] for column in files.columns if column.name != "version"}
    return FileRead.model_validate({**shown, "path": f"/{row['path']}", "bucket_name": row["bucket_name"]})


def _permit_content(bucket: RowMapping, upload: Upload, size: int) -> None:
    if not is_allowed(upload.mime_type, bucket["allowed_mime_types"]):
        raise ApiError(415, "This bucket does not accept files of this type")
    limit = bucket["file_size_limit"]
    if limit is not None and size > limit:
        raise ApiError(413, f"The file is larger than this bucket's limit of {limit} bytes")


def _permit_overwriting(upload: Upload, bucket: RowMapping, there: RowMapping) -> None:
    if not _may_delete(upload.caller, bucket, there):
        raise ApiError(403, "You can only overwrite files you own")


def _may_delete(caller: Optional[Principal], bucket: RowMapping, row: RowMapping) -> bool:
    return may_change(caller, bucket) or (caller is not None and caller.user_id == row["owner_id"])


def _at(connection: Connection, upload: Upload) -> Optional[RowMapping]:
    query = sa.select(files).where(files.c.bucket_id == upload.bucket_id, files.c.path == upload.key)
    return connection.execute(query).mappings().first()


def _row(connection: Connection, file_id: str) -> Optional[RowMapping]:
    if as_id(file_id) is None:
        return None
    return connection.execute(_joined.where(files.c.id == file_id)).mappings().first()


def _held(connection: Connection, file_id: str) -> RowMapping:
    """A file's row, with its bucket held so that nobody else changes it. The bucket comes first, always."""
    row = _row(connection, file_id)
    if row is not None:
        hold(connection, row["bucket_id"])
        row = _row(connection, file_id)
    if row is None:
        raise ApiError(404, "File not found")
    return row


def _scope(connection: Connection, caller: Optional[Principal], bucket_id: Optional[str]) -> sa.ColumnElement[bool]:
    if bucket_id is None:
        return visible(caller)
    readable(connection, caller, bucket_id)
    return buckets.c.id == bucket_id


def _count(connection: Connection, within: sa.ColumnElement[bool], found: sa.ColumnElement[bool]) -> int:
    query = sa.select(sa.func.count()).select_from(files.join(buckets)).where(within, found)
    return int(connection.scalar(query) or 0)


def _account(connection: Connection, bucket_id: str, files_more: int, bytes_more: int) -> None:
    connection.execute(
        buckets.update()
        .where(buckets.c.id == bucket_id)
        .values(file_count=buckets.c.file_count + files_more, total_size=buckets.c.total_size + bytes_more)
    )
