"""``/storage/buckets``: buckets, and uploads into one."""

from __future__ import annotations

from typing import Annotated, List, Optional

import sqlalchemy as sa
from fastapi import Path, Query, Request, Response

from .. import buckets as domain
from ..access import Caller, SignedIn
from ..documented import responses
from ..query import Limit, Search, Skip, SortOrder, SortOrderQuery, contains, known_query
from ..routing import new_router
from ..schema import buckets
from ..services import Services, ServicesDep
from ..uploads import receive
from ..wire import Count
from ..wire_storage import BucketCreate, BucketRead, BucketSort, BucketUpdate, UploadReply
from ..writes import Reply, Write

__all__ = ["router"]

router = new_router(prefix="/storage/buckets", tags=["storage"])

BucketId = Annotated[str, Path(description="The bucket's id")]

UPLOAD_BODY = {
    "requestBody": {
        "description": "The bytes of the file, as they are. Content-Type becomes its MIME type.",
        "required": False,
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
UPLOAD_RESPONSES = {
    **responses(400, 403, 404, 413, 415, 422, 507),
    200: {"model": UploadReply, "description": "Another file of that path was replaced"},
}


@router.get("/count", dependencies=[known_query("search")], responses=responses(400, 422))
def count_buckets(services: ServicesDep, caller: Caller, search: Search) -> Count:
    """How many buckets the caller sees."""
    with services.database.read() as connection:
        return Count(count=domain.count(connection, caller, _found(services, search)))


@router.post("/", status_code=201, response_model=BucketRead, responses=responses(400, 409, 413, 422))
def create_bucket(body: BucketCreate, services: ServicesDep, caller: SignedIn, write: Write) -> Response:
    """A new bucket of the caller's."""
    fields = body.model_dump()
    return write.run(lambda connection: Reply(201, domain.create(connection, services, caller, fields)))


@router.get(
    "/",
    dependencies=[known_query("skip", "limit", "search", "sort_by", "sort_order")],
    responses=responses(400, 422),
)
def list_buckets(
    services: ServicesDep,
    caller: Caller,
    search: Search,
    skip: Skip = 0,
    limit: Limit = 100,
    sort_by: Annotated[BucketSort, Query()] = BucketSort.created_at,
    sort_order: SortOrderQuery = SortOrder.desc,
) -> List[BucketRead]:
    """The buckets that the caller sees: public ones and their own, all for an ADMIN."""
    with services.database.read() as connection:
        return domain.listing(
            connection,
            caller,
            _found(services, search),
            sort_by=sort_by,
            order=sort_order,
            skip=skip,
            limit=limit,
        )


@router.get("/{bucket_id}", responses=responses(400, 403, 404))
def get_bucket(bucket_id: BucketId, services: ServicesDep, caller: Caller) -> BucketRead:
    """One bucket."""
    with services.database.read() as connection:
        return domain.as_read(domain.readable(connection, caller, bucket_id))


@router.patch("/{bucket_id}", response_model=BucketRead, responses=responses(400, 403, 404, 409, 413, 422))
def update_bucket(
    bucket_id: BucketId, body: BucketUpdate, services: ServicesDep, caller: SignedIn, write: Write
) -> Response:
    """Change what the body holds."""
    fields = body.model_dump(exclude_unset=True)
    return write.run(
        lambda connection: Reply(200, domain.update(connection, services, bucket_id, fields)),
        lambda connection: domain.permit_change(connection, caller, bucket_id),
    )


@router.delete("/{bucket_id}", status_code=204, response_class=Response, responses=responses(400, 403, 404, 409, 422))
def delete_bucket(bucket_id: BucketId, services: ServicesDep, caller: SignedIn, write: Write) -> Response:
    """Remove a bucket with all its files."""

    def effect(connection: sa.Connection) -> Reply:
        domain.delete(connection, services, bucket_id)
        return Reply(204)

    return write.run(effect, lambda connection: domain.permit_change(connection, caller, bucket_id))


@router.post(
    "/{bucket_id}/files",
    status_code=201,
    response_model=UploadReply,
    responses=UPLOAD_RESPONSES,
    openapi_extra=UPLOAD_BODY,
)
async def upload_into_bucket(
    request: Request,
    response: Response,
    bucket_id: BucketId,
    services: ServicesDep,
    caller: Caller,
    filename: Annotated[str, Query(description="The file's name, or its whole path in the bucket")],
    path: Annotated[Optional[str], Query(description="The directory, or the whole path in the bucket")] = None,
) -> UploadReply:
    """Store the body as a file of this bucket; one of the same path is replaced."""
    response.status_code, reply = await receive(
        request,
        services,
        caller,
        bucket_id=bucket_id,
        filename=filename,
        path=path,
        content_type=request.headers.get("content-type"),
    )
    return reply


def _found(services: Services, search: Optional[str]) -> sa.ColumnElement[bool]:
    if search is None:
        return sa.true()
    return contains(services.database, search, buckets.c.name, buckets.c.description)
