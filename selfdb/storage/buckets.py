"""Buckets: ``client.storage.buckets``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Union

from .. import models
from ..core.marks import blocking
from ..core.namespace import Namespace, raw, reading, search_term, walk, window, writing
from ..core.parsing import count_in, deletion, list_of, one
from ..core.urls import Id, key_of
from ..exceptions import NotFoundError

if TYPE_CHECKING:
    from ..models import BucketCreate, BucketDeleteResponse, BucketResponse, BucketUpdate

__all__ = ["Buckets", "RawBuckets"]

_BUCKET = one(lambda: models.BucketResponse, "bucket")
_BUCKETS = list_of(lambda: models.BucketResponse, "data", "items", "buckets")


class Buckets(Namespace):
    """Creates, finds, changes and deletes buckets. May be shared by threads."""

    @blocking
    def count(self, search: str | None = None) -> int:
        """How many buckets the caller may see.

        :param search: part of the name, at most 100 characters, any case.

        ``GET /storage/buckets/count``
        """
        return self._call(reading("/storage/buckets/count", ("search", search_term(search))), count_in)

    @blocking
    def create(
        self, payload: Union[BucketCreate, Mapping[str, Any]], *, idempotency_key: str | None = None
    ) -> BucketResponse:
        """Create a bucket.

        :param payload: a :class:`~selfdb.models.BucketCreate` or a dict of its fields.
        :param idempotency_key: 1 to 255 characters; the server does the write once for all calls with the same key.
        :raises ConflictError: if the name is taken.
        :raises UnprocessableEntityError: for a name that the server does not take.

        ``POST /storage/buckets/``
        """
        body = models.BucketCreate.of(payload).wire()
        return self._call(writing("POST", "/storage/buckets/", body, key=idempotency_key), _BUCKET)

    @blocking
    def list(
        self,
        *,
        skip: int | None = None,
        limit: int | None = None,
        search: str | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
    ) -> list[BucketResponse]:
        """One slice of the buckets that the caller may see: public ones and his own; all for an ADMIN.

        :param skip: buckets to leave out at the start, 0 or more.
        :param limit: buckets at most, 1 or more; the server's default is 100.
        :param search: part of the name, at most 100 characters, any case.
        :param sort_by: ``name``, ``created_at``, ``updated_at``, ``file_count`` or ``total_size``.
        :param sort_order: ``asc`` or ``desc`` (the server's default).
        :raises InvalidRequestError: for an argument out of range; nothing is sent.

        ``GET /storage/buckets/``
        """
        return self._call(reading("/storage/buckets/", *window(skip, limit, search, sort_by, sort_order)), _BUCKETS)

    def iter(
        self,
        *,
        search: str | None = None,
        sort_by: str = "created_at",
        sort_order: str = "asc",
        page_size: int = 100,
    ) -> Iterator[BucketResponse]:
        """Every bucket that :meth:`list` would show, fetched ``page_size`` at a time as the loop goes on.

        Sorted, oldest first unless told otherwise, so that pages do not overlap.
        """
        parsed = Buckets(self._transport)  # whatever this one gives, a loop needs the items
        return walk(parsed.list, page_size, search=search, sort_by=sort_by, sort_order=sort_order)

    @blocking
    def get(self, bucket_id: Id) -> BucketResponse:
        """One bucket.

        :raises NotFoundError: if there is none of that id.
        :raises PermissionDeniedError: if it is private and neither yours nor are you an ADMIN.

        ``GET /storage/buckets/{bucket_id}``
        """
        return self._call(reading(f"/storage/buckets/{key_of(bucket_id, 'bucket_id', 'count')}"), _BUCKET)

    @blocking
    def get_by_name(self, name: str) -> BucketResponse:
        """The bucket that is called ``name``, found among those that the caller may see.

        :raises NotFoundError: if there is none of that name.

        ``GET /storage/buckets/`` with ``search``
        """
        for bucket in self.iter(search=name, sort_by="name"):
            if bucket.name == name:
                return bucket
        raise NotFoundError(f"there is no bucket called {name!r}, or you may not see it", 404)

    @blocking
    def update(
        self,
        bucket_id: Id,
        payload: Union[BucketUpdate, Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
    ) -> BucketResponse:
        """Change a bucket: exactly what is set in ``payload``; an explicit ``None`` lifts a limit.

        :raises ConflictError: if the new name is taken.
        :raises PermissionDeniedError: if the caller is neither the owner nor an ADMIN.

        ``PATCH /storage/buckets/{bucket_id}``
        """
        path = f"/storage/buckets/{key_of(bucket_id, 'bucket_id', 'count')}"
        return self._call(writing("PATCH", path, models.BucketUpdate.of(payload).wire(), key=idempotency_key), _BUCKET)

    @blocking
    def delete(self, bucket_id: Id, *, idempotency_key: str | None = None) -> BucketDeleteResponse:
        """Delete a bucket with the files in it.

        :raises PermissionDeniedError: if the caller is neither the owner nor an ADMIN.

        ``DELETE /storage/buckets/{bucket_id}``
        """
        request = writing("DELETE", f"/storage/buckets/{key_of(bucket_id, 'bucket_id', 'count')}", key=idempotency_key)
        return self._call(request, deletion(lambda: models.BucketDeleteResponse, "Bucket", bucket_id))


@blocking
class RawBuckets:
    """The calls of :class:`Buckets` with their whole answers."""

    def __init__(self, buckets: Buckets) -> None:
        self.count = raw(buckets.count)
        self.create = raw(buckets.create)
        self.list = raw(buckets.list)
        self.get = raw(buckets.get)
        self.update = raw(buckets.update)
        self.delete = raw(buckets.delete)
