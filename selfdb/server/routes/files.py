"""``/storage/files``: uploads, downloads, the catalogue of files and its numbers."""

from __future__ import annotations

import io
from typing import Annotated, Any, Dict, Optional, Tuple

import sqlalchemy as sa
from anyio.to_thread import run_sync
from fastapi import Path, Query, Request, Response
from sqlalchemy.engine import RowMapping

from .. import files as domain
from ..access import Caller, Principal, SignedIn
from ..documented import REFUSED, responses
from ..downloads import answer
from ..errors import ApiError
from ..paths import KeyRefused, asked_key
from ..query import SKIP_MAX, Search, SortOrder, SortOrderQuery, contains, known_query
from ..realtime.hub import Hub
from ..routing import new_router
from ..schema import files
from ..services import Services, ServicesDep
from ..uploads import receive
from ..wire import Count
from ..wire_storage import FileMetadata, FilePage, FileRead, FileSort, StorageStats, UploadReply
from ..writes import Reply, Write
from .buckets import UPLOAD_BODY, UPLOAD_RESPONSES

__all__ = ["router"]

router = new_router(prefix="/storage/files", tags=["storage"])

FileId = Annotated[str, Path(description="The file's id")]
BucketFilter = Annotated[Optional[str], Query(description="Only files of the bucket with this id")]

_LOOKS = 100
_BYTES = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_TAGGED = {"ETag": {"description": "Changes with each overwrite", "schema": {"type": "string"}}}
_DOWNLOAD: Dict[str, Any] = {
    "response_class": Response,
    "responses": {
        **responses(400, 403, 404),
        200: {"description": "The whole file", "content": _BYTES, "headers": _TAGGED},
        206: {"description": "The range that was asked for", "content": _BYTES, "headers": _TAGGED},
        304: {"description": "Still the version of If-None-Match"},
        416: {
            "content": REFUSED,
            "description": "Range not satisfiable",
            "headers": {"Content-Range": {"description": "bytes */<size>", "schema": {"type": "string"}}},
        },
    },
}


@router.post(
    "/upload", status_code=201, response_model=UploadReply, responses=UPLOAD_RESPONSES, openapi_extra=UPLOAD_BODY
)
async def upload_file(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: Caller,
    bucket_id: Annotated[str, Query(description="The bucket's id")],
    filename: Annotated[str, Query(description="The file's name, or its whole path in the bucket")],
    path: Annotated[Optional[str], Query(description="The directory, or the whole path in the bucket")] = None,
    content_type: Annotated[Optional[str], Query(description="MIME type; wins over the header")] = None,
) -> UploadReply:
    """Store the body as a file; one of the same path is replaced."""
    response.status_code, reply = await receive(
        request,
        services,
        caller,
        bucket_id=bucket_id,
        filename=filename,
        path=path,
        content_type=content_type or request.headers.get("content-type"),
    )
    return reply


@router.get("/stats", dependencies=[known_query()], responses=responses(400))
def get_stats(services: ServicesDep, caller: Caller) -> StorageStats:
    """Sums over the buckets that the caller sees."""
    with services.database.read() as connection:
        return domain.stats(connection, caller)


@router.get("/total-count", dependencies=[known_query("search")], responses=responses(400, 422))
def count_all_files(services: ServicesDep, caller: Caller, search: Search) -> Count:
    """How many files there are in the buckets that the caller sees."""
    with services.database.read() as connection:
        return Count(count=domain.count(connection, caller, _found(services, search)))


@router.get("/count", dependencies=[known_query("bucket_id", "search")], responses=responses(400, 403, 404, 422))
def count_files(services: ServicesDep, caller: Caller, search: Search, bucket_id: BucketFilter = None) -> Count:
    """How many files there are in one bucket, or in all that the caller sees."""
    with services.database.read() as connection:
        return Count(count=domain.count(connection, caller, _found(services, search), bucket_id))


@router.get(
    "/",
    dependencies=[known_query("bucket_id", "page", "page_size", "skip", "limit", "search", "sort_by", "sort_order")],
    responses=responses(400, 403, 404, 422),
)
def list_files(
    services: ServicesDep,
    caller: Caller,
    search: Search,
    bucket_id: BucketFilter = None,
    page: Annotated[int, Query(ge=1, le=SKIP_MAX)] = 1,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 100,
    skip: Annotated[Optional[int], Query(ge=0, le=SKIP_MAX, description="Instead of page")] = None,
    limit: Annotated[Optional[int], Query(ge=1, le=1000, description="Instead of page_size")] = None,
    sort_by: Annotated[FileSort, Query()] = FileSort.created_at,
    sort_order: SortOrderQuery = SortOrder.desc,
) -> FilePage:
    """One page of the files that the caller sees."""
    length = page_size if limit is None else limit
    start = (page - 1) * length if skip is None else skip
    with services.database.read() as connection:
        rows, total = domain.page(
            connection,
            caller,
            _found(services, search),
            bucket_id=bucket_id,
            sort_by=sort_by,
            order=sort_order,
            skip=start,
            limit=length,
        )
    return FilePage(data=rows, total=total, page=start // length + 1, page_size=length)


@router.get("/download/{bucket_name}/{path:path}", **_DOWNLOAD)
async def download_file(
    request: Request,
    services: ServicesDep,
    caller: Caller,
    bucket_name: Annotated[str, Path(description="The bucket's name, not its id")],
    path: Annotated[str, Path(description="The file's path, with or without a leading slash")],
) -> Response:
    """The bytes of a file. A single ``Range`` is honoured, with ``If-Range``; so is ``If-None-Match``."""
    return await _download(request, services, caller, bucket_name, path)


@router.head("/download/{bucket_name}/{path:path}", **_DOWNLOAD)
async def head_file(
    request: Request,
    services: ServicesDep,
    caller: Caller,
    bucket_name: Annotated[str, Path(description="The bucket's name, not its id")],
    path: Annotated[str, Path(description="The file's path, with or without a leading slash")],
) -> Response:
    """The headers of a download of the whole file."""
    return await _download(request, services, caller, bucket_name, path)


@router.get("/{file_id}", responses=responses(400, 403, 404))
def get_file(file_id: FileId, services: ServicesDep, caller: Caller) -> FileRead:
    """One file's entry in the catalogue."""
    with services.database.read() as connection:
        return domain.readable_file(connection, caller, file_id)


@router.patch("/{file_id}", response_model=FileRead, responses=responses(400, 403, 404, 409, 413, 422))
def update_file(file_id: FileId, body: FileMetadata, services: ServicesDep, caller: SignedIn, write: Write) -> Response:
    """Replace everything that was noted about a file."""
    return write.run(
        lambda connection: Reply(200, domain.set_metadata(connection, services, file_id, body.metadata)),
        lambda connection: domain.permit_change(connection, caller, file_id),
    )


@router.delete("/{file_id}", status_code=204, response_class=Response, responses=responses(400, 403, 404, 409, 422))
def delete_file(file_id: FileId, services: ServicesDep, caller: SignedIn, write: Write) -> Response:
    """Remove a file."""

    def effect(connection: sa.Connection) -> Reply:
        domain.delete(connection, services, file_id)
        return Reply(204)

    return write.run(effect, lambda connection: domain.permit_change(connection, caller, file_id))


async def _download(
    request: Request, services: Services, caller: Optional[Principal], bucket_name: str, path: str
) -> Response:
    try:
        key = asked_key(path)
    except KeyRefused as refused:
        raise ApiError(400, str(refused)) from None
    row, content = await run_sync(_open, services, caller, bucket_name, key)
    hub: Hub = request.app.state.hub
    return answer(
        content,
        size=row["size"],
        version=row["version"],
        mime_type=row["mime_type"],
        name=row["name"],
        asked=request.headers,
        head=request.method == "HEAD",
        ended=lambda: caller is not None and hub.has_ended(caller.session_id),
    )


def _open(services: Services, caller: Optional[Principal], bucket_name: str, key: str) -> Tuple[RowMapping, io.FileIO]:
    """A file's row and its content, opened: from here on an overwrite or a removal does not touch it."""
    for attempt in range(_LOOKS):
        with services.database.read() as connection:
            row = domain.locate(connection, caller, bucket_name, key)
        try:
            return row, services.objects.open(row["version"])
        except FileNotFoundError:
            # It was overwritten between the two looks; the row names another version by now.
            if attempt == _LOOKS - 1:
                raise
    raise AssertionError("unreachable")


def _found(services: Services, search: Optional[str]) -> sa.ColumnElement[bool]:
    if search is None:
        return sa.true()
    return contains(services.database, search, sa.literal("/") + files.c.path)
