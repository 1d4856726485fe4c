"""Files in buckets: ``client.storage.files``."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import models
from ..core.arguments import text, whole_number
from ..core.download import BLOCK_SIZE, Download, DownloadTarget, check_target, read_all, save
from ..core.marks import blocking
from ..core.namespace import (
    Caller,
    Namespace,
    raw,
    reading,
    search_term,
    sort_direction,
    writing,
)
from ..core.options import check_field_value
from ..core.paging import Walk
from ..core.parsing import count_in, deletion, one
from ..core.request import Request
from ..core.response import Response
from ..core.transport import Transport
from ..core.upload import Progress, Upload, UploadData
from ..core.urls import Id, key_of, object_path, query_string
from ..exceptions import InvalidRequestError, SelfDBError

if TYPE_CHECKING:
    from ..models import FileDataResponse, FileDeleteResponse, FileResponse, FileUploadResponse, StorageStatsResponse

__all__ = ["Files", "RawFiles", "UploadRoute"]

_FILE = one(lambda: models.FileResponse, "file")
_PAGE = one(lambda: models.FileDataResponse)
_STATS = one(lambda: models.StorageStatsResponse)
_UPLOADED = one(lambda: models.FileUploadResponse)

_WORDS = ("count", "stats", "total-count", "upload", "download")
"""What stands on the server where the id of a file does, and is none."""

_NO_SUCH_ROUTE = {"detail": "Not Found"}
"""What a server answers that lacks a route, as opposed to a thing: told apart to the letter."""


class UploadRoute:
    """Which of the two routes this server takes uploads on. Shared by a client and its clones; only ever learns.

    :ivar legacy: true for ``/storage/files/upload``, false for the bucket's own route, ``None`` while unknown.
    """

    def __init__(self) -> None:
        self.legacy: bool | None = None


def _content(response: Response) -> bytes:
    return response.content


class Files(Namespace):
    """Uploads, downloads and looks after files. May be shared by threads."""

    def __init__(self, transport: Transport, route: UploadRoute, call: Caller | None = None) -> None:
        super().__init__(transport, call)
        self._route = route

    @blocking
    def stats(self) -> StorageStatsResponse:
        """Sums over the buckets that the caller may see.

        ``GET /storage/files/stats``
        """
        return self._call(reading("/storage/files/stats"), _STATS)

    @blocking
    def total_count(self, search: str | None = None) -> int:
        """How many files there are in all buckets that the caller may see.

        :param search: part of the path, at most 100 characters, any case.

        ``GET /storage/files/total-count``
        """
        return self._call(reading("/storage/files/total-count", ("search", search_term(search))), count_in)

    @blocking
    def count(self, bucket_id: Id | None = None, *, search: str | None = None) -> int:
        """How many files there are in one bucket, or in all that the caller may see.

        :raises NotFoundError: if there is no such bucket.

        ``GET /storage/files/count``
        """
        bucket = None if bucket_id is None else _query_id(bucket_id)
        query = (("bucket_id", bucket), ("search", search_term(search)))
        return self._call(reading("/storage/files/count", *query), count_in)

    @blocking(callbacks=("progress",), sources=("data",))
    def upload(
        self,
        bucket_id: Id,
        filename: str,
        data: UploadData,
        *,
        path: str | None = None,
        content_type: str | None = None,
        progress: Progress | None = None,
    ) -> FileUploadResponse:
        """Store a file, in place of one that has the same path.

        Sent as a stream, in constant memory. A body that can be read twice (bytes, ``str``, a path, a seekable
        file) is sent again where that is safe; for another one, a session that is about to end is renewed first.

        :param data: bytes; text (stored as UTF-8); a path (``pathlib.Path``); a binary file, read from where it
            stands and left open; or an iterable of bytes.
        :param path: the folder in the bucket; without one the file lies at its root.
        :param content_type: the MIME type; guessed from ``filename`` by default.
        :param progress: called as ``progress(done, total)`` in bytes while the body is sent.
        :returns: where it lies, its size and its id.
        :raises InvalidRequestError: for names with ``..``, empty parts, backslashes or control characters; for
            data of another type. Nothing is sent.
        :raises PermissionDeniedError: if the bucket, or the file that is there, is not the caller's to write.
        :raises SelfDBError: 413 or 415, beyond the bucket's size limit or outside its MIME types.

        ``POST /storage/buckets/{bucket_id}/files``, or ``POST /storage/files/upload`` on servers without it
        """
        bucket = key_of(bucket_id, "bucket_id")
        _check_name(text(filename, "filename", 1024), "filename")
        folder = None if path is None else text(path, "path", 1024, allow_empty=True).strip("/") or None
        if folder is not None:
            _check_name(folder, "path")
        kind = content_type or mimetypes.guess_type(filename)[0] or "application/octet-stream"
        check_field_value(kind, "content_type")
        body = Upload(data, progress)
        query = (("filename", filename), ("path", path if folder is not None else None))
        legacy_query = (("bucket_id", str(bucket_id)), *query, ("content_type", kind))
        if self._route.legacy is None:
            body = body.spooled()
        modern = _upload_request(f"/storage/buckets/{bucket}/files", query, kind, body)
        legacy = _upload_request("/storage/files/upload", legacy_query, kind, body)
        if self._route.legacy:
            return self._call(legacy, _UPLOADED)
        try:
            result = self._call(modern, _UPLOADED)
        except SelfDBError as error:
            missing = error.status_code == 405 or (error.status_code == 404 and error.response_body == _NO_SUCH_ROUTE)
            if not missing or self._route.legacy is False:
                raise
        else:
            self._route.legacy = False
            return result
        result = self._call(legacy, _UPLOADED)
        self._route.legacy = True
        return result

    @blocking
    def list(
        self,
        *,
        bucket_id: Id | None = None,
        page: int | None = None,
        page_size: int | None = None,
        search: str | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
    ) -> FileDataResponse:
        """One page of the files in one bucket, or in all that the caller may see.

        :param page: counted from 1.
        :param page_size: files a page, 1 or more; the server's default is 100.
        :param search: part of the path, at most 100 characters, any case.
        :param sort_by: a field of :class:`~selfdb.models.FileResponse` that the server sorts by.
        :param sort_order: ``asc`` or ``desc`` (the server's default).
        :raises InvalidRequestError: for an argument out of range; nothing is sent.

        ``GET /storage/files/``
        """
        query = (
            ("bucket_id", None if bucket_id is None else _query_id(bucket_id)),
            ("page", None if page is None else whole_number(page, "page", 1)),
            ("page_size", None if page_size is None else whole_number(page_size, "page_size", 1)),
            ("search", search_term(search)),
            ("sort_by", None if sort_by is None else text(sort_by, "sort_by", 100)),
            ("sort_order", sort_direction(sort_order)),
        )
        return self._call(reading("/storage/files/", *query), _PAGE)

    def iter(
        self,
        *,
        bucket_id: Id | None = None,
        search: str | None = None,
        sort_by: str = "created_at",
        sort_order: str = "asc",
        page_size: int = 100,
    ) -> Iterator[FileResponse]:
        """Every file that :meth:`list` would show, fetched ``page_size`` at a time as the loop goes on.

        Sorted, oldest first unless told otherwise, so that pages do not overlap.
        """
        # Wrong arguments are told here, not in the first step of the loop.
        whole_number(page_size, "page_size", 1)
        search_term(search)
        text(sort_by, "sort_by", 100)
        sort_direction(sort_order)
        if bucket_id is not None:
            _query_id(bucket_id)
        parsed = Files(self._transport, self._route)

        def fetch(pages: int, items: int) -> tuple[Sequence[FileResponse], bool]:
            page = parsed.list(
                page=pages + 1,
                bucket_id=bucket_id,
                search=search,
                sort_by=sort_by,
                sort_order=sort_order,
                page_size=page_size,
            )
            # What came counts, and not what was asked for: a server may give fewer files a page than that.
            return page.data, bool(page.data) and items + len(page.data) < page.total

        return Walk(fetch)

    @blocking
    def get(self, file_id: Id) -> FileResponse:
        """What is known of one file.

        :raises NotFoundError: if there is none of that id.

        ``GET /storage/files/{file_id}``
        """
        return self._call(reading(f"/storage/files/{key_of(file_id, 'file_id', *_WORDS)}"), _FILE)

    @blocking
    def update_metadata(
        self, file_id: Id, metadata: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> FileResponse:
        """Replace the metadata of a file, all of it.

        :raises PermissionDeniedError: if the caller is neither the bucket's owner, the uploader nor an ADMIN.

        ``PATCH /storage/files/{file_id}``
        """
        if not isinstance(metadata, Mapping):
            raise InvalidRequestError(f"metadata must be a mapping, not {type(metadata).__name__}")
        path = f"/storage/files/{key_of(file_id, 'file_id', *_WORDS)}"
        return self._call(writing("PATCH", path, {"metadata": dict(metadata)}, key=idempotency_key), _FILE)

    @blocking
    def delete(self, file_id: Id, *, idempotency_key: str | None = None) -> FileDeleteResponse:
        """Delete a file.

        :raises PermissionDeniedError: if the caller is neither the bucket's owner, the uploader nor an ADMIN.

        ``DELETE /storage/files/{file_id}``
        """
        request = writing("DELETE", f"/storage/files/{key_of(file_id, 'file_id', *_WORDS)}", key=idempotency_key)
        return self._call(request, deletion(lambda: models.FileDeleteResponse, "File", file_id))

    @blocking(callbacks=("progress",))
    def download(
        self,
        bucket_name: str,
        path: str,
        *,
        max_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """The content of a file, in memory, whatever its type. For large ones see :meth:`download_to`.

        A connection that breaks on the way is resumed where it broke off.

        :param bucket_name: the bucket's name, not its id.
        :param path: as :meth:`list` shows it; one leading slash is dropped.
        :param max_bytes: refuse more than this; no limit by default.
        :param progress: called as ``progress(done, total)`` in bytes.
        :raises NotFoundError: if there is no such file.
        :raises ResponseTooLargeError: beyond ``max_bytes``.

        ``GET /storage/files/download/{bucket_name}/{path}``
        """
        clock = self._transport.pool.clock
        begun = clock.monotonic()
        download = self.stream(bucket_name, path, max_bytes=max_bytes, progress=progress)
        content = read_all(download)
        took = clock.monotonic() - begun
        return self._call.result(Response(download.status_code, download.headers, content, took), _content)

    @blocking(callbacks=("progress",))
    def download_to(
        self,
        bucket_name: str,
        path: str,
        target: DownloadTarget,
        *,
        max_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write the content of a file to ``target``, in constant memory; returns its size in bytes.

        :param target: a path, under which the file appears whole or not at all, in place of one that is
            there; or a binary file, which stays open.

        Other arguments and errors as for :meth:`download`; besides:

        :raises InvalidRequestError: if the folder of ``target`` cannot be written to.

        ``GET /storage/files/download/{bucket_name}/{path}``
        """
        check_target(target)
        return save(self.stream(bucket_name, path, max_bytes=max_bytes, progress=progress), target)

    @blocking(opens=True, callbacks=("progress",))
    def stream(
        self,
        bucket_name: str,
        path: str,
        *,
        chunk_size: int = BLOCK_SIZE,
        max_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> Download:
        """The content of a file block by block: ``with files.stream(...) as blocks: for block in blocks: ...``.

        :param chunk_size: bytes a block at most, 1 or more.

        Other arguments and errors as for :meth:`download`; besides:

        :raises APIConnectionError: in the loop, if the file changed while it was downloaded.

        ``GET /storage/files/download/{bucket_name}/{path}``
        """
        where = f"/storage/files/download/{key_of(bucket_name, 'bucket_name')}/{object_path(path)}"
        return Download(self._transport, reading(where), block_size=chunk_size, max_bytes=max_bytes, progress=progress)


def _upload_request(path: str, query: tuple[tuple[str, object], ...], kind: str, body: Upload) -> Request:
    return Request("POST", path, query_string(query), body, kind, keyable=False)


def _query_id(value: Id) -> str:
    key_of(value, "bucket_id")
    return str(value)


def _check_name(name: str, what: str) -> None:
    """Refuse what the server would, so that nothing is sent in vain.

    :raises InvalidRequestError: for ``..``, ``.``, empty parts, backslashes and control characters.
    """
    try:
        object_path(name)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{what}: {error.message}") from None


@blocking
class RawFiles:
    """The calls of :class:`Files` with their whole answers."""

    def __init__(self, files: Files) -> None:
        self.stats = raw(files.stats)
        self.total_count = raw(files.total_count)
        self.count = raw(files.count)
        self.upload = raw(files.upload)
        self.list = raw(files.list)
        self.get = raw(files.get)
        self.update_metadata = raw(files.update_metadata)
        self.delete = raw(files.delete)
        self.download = raw(files.download)
