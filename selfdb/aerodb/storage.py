"""Buckets, and the objects in them."""

from __future__ import annotations

import base64
import builtins
from collections.abc import Iterable, Mapping
from typing import Any, Union
from urllib.parse import quote

from ..core.arguments import flag, text, whole_number
from ..core.download import Download, DownloadTarget, check_target, read_all, save
from ..core.encoding import encode_json
from ..core.marks import blocking
from ..core.options import check_field_value
from ..core.request import Request
from ..core.upload import Upload, UploadData
from ..core.urls import key_of, object_path
from ..exceptions import InvalidRequestError
from .calls import Answer, Calls, problem
from .envelope import AeroDBResponse
from .parsing import mapping_at, number_at, object_of, text_at
from .types import FileObject, SignedUrl
from .values import elements

__all__ = ["StorageBucket", "StorageClient"]

PREFIX = "/storage/v1"
JSON = "application/json"

LONGEST_NAME = 1024
"""Characters of a bucket's name."""


class StorageClient:
    """The buckets of a server. May be shared by threads.

    :param calls: makes the exchanges.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._calls.url}>"

    def from_(self, bucket: str) -> StorageBucket:
        """The bucket of that name. Asks nobody; a wrong name comes back from its calls as ``VALIDATION_ERROR``."""
        return StorageBucket(self._calls, bucket)

    @blocking
    def list_buckets(self) -> AeroDBResponse[builtins.list[dict[str, Any]]]:
        """All buckets that there are to see.

        ``GET /storage/v1/bucket``
        """

        def work() -> AeroDBResponse[builtins.list[dict[str, Any]]]:
            answer = self._calls.send("GET", f"{PREFIX}/bucket")
            return AeroDBResponse(_objects_in(answer, "buckets"), None, status=answer.status)

        return self._calls.enveloped(work)

    @blocking
    def create_bucket(self, name: str, public: bool = False) -> AeroDBResponse[dict[str, Any]]:
        """Make a bucket.

        :param public: whether everybody may read what is in it.

        ``POST /storage/v1/bucket``
        """

        def work() -> AeroDBResponse[dict[str, Any]]:
            _bucket(name)
            body = encode_json({"name": name, "public": flag(public, "public")})
            answer = self._calls.send("POST", f"{PREFIX}/bucket", body=body, content_type=JSON)
            made = answer.json()
            if made is not None and not isinstance(made, dict):
                raise answer.unusable("is no bucket")
            return AeroDBResponse(made, None, status=answer.status)

        return self._calls.enveloped(work)


class StorageBucket:
    """One bucket. Holds no state of a call; may be shared by threads.

    Paths are those of files: parts with slashes between them, a leading one is dropped. Empty parts, ``.`` and ``..``,
    backslashes and control characters are a ``VALIDATION_ERROR``. ``timeout`` bounds each wait for the server here,
    not the whole transfer.

    :param calls: makes the exchanges.
    :param bucket: its name.
    """

    def __init__(self, calls: Calls, bucket: str) -> None:
        self._calls = calls
        self._name = bucket

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} of {self._calls.url}>"

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    @blocking(sources=("data",))
    def upload(
        self,
        path: str,
        data: UploadData,
        content_type: str = "application/octet-stream",
        upsert: bool = False,
        *,
        cache_control: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AeroDBResponse[FileObject]:
        """Store an object.

        :param data: bytes; text (sent as UTF-8); a ``Path``; a binary file, read from where it stands; an iterable
            of bytes. Only a source that can be rewound is sent again after a token was renewed.
        :param upsert: replace what is there; else that is an error (409).
        :param cache_control: a ``Cache-Control`` header to serve it with.
        :param metadata: kept with it; sent as base64 of JSON in the header ``x-metadata``.

        ``POST /storage/v1/object/{bucket}/{path}``
        """

        def work() -> AeroDBResponse[FileObject]:
            place = self._place("object", path)
            headers = {}
            if flag(upsert, "upsert"):
                headers["x-upsert"] = "true"
            if cache_control is not None:
                headers["Cache-Control"] = _field(cache_control, "cache_control")
            if metadata is not None:
                if not isinstance(metadata, Mapping):
                    raise InvalidRequestError(f"metadata must be a mapping, not {type(metadata).__name__}")
                headers["x-metadata"] = _field(base64.b64encode(encode_json(dict(metadata))).decode(), "metadata")
            kind = _field(content_type, "content_type")
            sent = [0]

            def count(done: int, _: int | None) -> None:
                sent[0] = done

            body = Upload(data, count)
            try:
                answer = self._calls.send("POST", place, headers=headers, body=body, content_type=kind)
            except InvalidRequestError as error:
                if not body.touched:
                    raise
                raise problem("CLIENT_ERROR", error.message) from None  # of the source, in the middle of it
            return AeroDBResponse(self._stored(answer, path, sent[0], kind), None, status=answer.status)

        return self._calls.enveloped(work)

    def _stored(self, answer: Answer, path: str, size: int, content_type: str) -> FileObject:
        body = answer.json()
        if body is not None and not isinstance(body, dict):
            raise answer.unusable("is no stored object")
        own = path[path.startswith("/") :]
        return _file({"path": own, "size": size, "content_type": content_type, **_given(object_of(body))}, self._name)

    @blocking
    def download(self, path: str) -> AeroDBResponse[bytes]:
        """The bytes of an object, as they were stored.

        ``GET /storage/v1/object/{bucket}/{path}``
        """

        def work() -> AeroDBResponse[bytes]:
            download = self._download(path)
            return AeroDBResponse(read_all(download), None, status=download.status_code)

        return self._calls.enveloped(work)

    @blocking
    def download_to(self, path: str, file: DownloadTarget, chunk_size: int = 65536) -> AeroDBResponse[int]:
        """Write an object into ``file``; gives its size in bytes.

        :param file: a path, under which it appears whole or not at all; or a binary file, which stays open.
        :param chunk_size: bytes at a time.

        ``GET /storage/v1/object/{bucket}/{path}``
        """

        def work() -> AeroDBResponse[int]:
            check_target(file)
            download = self._download(path, whole_number(chunk_size, "chunk_size", 1))
            return AeroDBResponse(save(download, file), None, status=download.status_code)

        return self._calls.enveloped(work)

    def _download(self, path: str, block_size: int = 256 * 1024) -> Download:
        request = Request("GET", self._place("object", path))
        return Download(self._calls.transport, request, block_size=block_size)

    @blocking(sources=("paths",))
    def remove(self, paths: Union[str, Iterable[str]]) -> AeroDBResponse[None]:
        """Delete one object, or several.

        ``DELETE /storage/v1/object/{bucket}``
        """

        def work() -> AeroDBResponse[None]:
            asked = [paths] if isinstance(paths, str) else elements(paths, "paths")
            if not asked:
                raise InvalidRequestError("paths must name at least one object")
            prefixes = []
            for path in asked:
                object_path(path)
                prefixes.append(path[path.startswith("/") :])
            answer = self._calls.send(
                "DELETE",
                f"{PREFIX}/object/{_bucket(self._name)}",
                body=encode_json({"prefixes": prefixes}),
                content_type=JSON,
            )
            return AeroDBResponse(None, None, status=answer.status)

        return self._calls.enveloped(work)

    @blocking
    def list(self, path: str = "", limit: int = 100, offset: int = 0) -> AeroDBResponse[builtins.list[FileObject]]:
        """Objects whose path begins with ``path``.

        ``GET /storage/v1/object/list/{bucket}``
        """

        def work() -> AeroDBResponse[builtins.list[FileObject]]:
            prefix = text(path, "path", LONGEST_NAME, allow_empty=True)
            prefix = prefix[prefix.startswith("/") :]
            if prefix:
                object_path(prefix[:-1] if prefix.endswith("/") else prefix)
            pairs = [("prefix", prefix)] if prefix else []
            pairs += [
                ("limit", str(whole_number(limit, "limit", 1))),
                ("offset", str(whole_number(offset, "offset", 0))),
            ]
            query = "&".join(f"{name}={quote(value, safe='')}" for name, value in pairs)
            answer = self._calls.send("GET", f"{PREFIX}/object/list/{_bucket(self._name)}", query=query)
            found = [_file(_given(item), self._name, prefix) for item in _objects_in(answer, "files")]
            return AeroDBResponse(found, None, status=answer.status)

        return self._calls.enveloped(work)

    @blocking
    def list_(self, path: str = "", limit: int = 100, offset: int = 0) -> AeroDBResponse[builtins.list[FileObject]]:
        """The same as :meth:`list`."""
        return self.list(path, limit, offset)

    def get_public_url(self, path: str) -> str:
        """Where an object of a public bucket is to be had. Asks nobody.

        :raises InvalidRequestError: (a ``ValueError``) for a path that names nothing; there is no address to give.
        """
        return self._calls.url + self._place("object/public", path)

    @blocking
    def create_signed_url(self, path: str, expires_in: int = 3600) -> AeroDBResponse[SignedUrl]:
        """An address under which everybody who knows it may read an object for ``expires_in`` seconds.

        ``POST /storage/v1/object/sign/{bucket}/{path}``
        """

        def work() -> AeroDBResponse[SignedUrl]:
            seconds = whole_number(expires_in, "expires_in", 1)
            body = encode_json({"expiresIn": seconds})
            answer = self._calls.send("POST", self._place("object/sign", path), body=body, content_type=JSON)
            fields = object_of(answer.json())
            url = text_at(fields, "signedUrl", "signedURL", "url")
            if not url:
                raise answer.unusable("holds no signed address")
            if not url.lower().startswith(("http://", "https://")):
                url = f"{self._calls.url}/{url.lstrip('/')}"
            ends = number_at(fields, "expires_at", "expiresAt")
            now = self._calls.transport.pool.clock.time()
            return AeroDBResponse(
                SignedUrl(url, int(now) + seconds if ends is None else ends), None, status=answer.status
            )

        return self._calls.enveloped(work)

    def _place(self, kind: str, path: str) -> str:
        return f"{PREFIX}/{kind}/{_bucket(self._name)}/{object_path(path)}"


def _bucket(name: Any) -> str:
    """A bucket's name as part of an address."""
    text(name, "bucket", LONGEST_NAME)
    if any(ord(character) < 32 or ord(character) == 127 or character == "\\" for character in name):
        raise InvalidRequestError("bucket must not contain a backslash or control characters")
    return key_of(name, "bucket")


def _field(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f"{what} must be a str that is not empty")
    check_field_value(value, what)
    return value


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _objects_in(answer: Answer, member: str) -> builtins.list[dict[str, Any]]:
    """The objects of a list, bare or under ``member``."""
    body = answer.json()
    items = body.get(member) if isinstance(body, dict) else [] if body is None else body
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise answer.unusable("is no list")
    return items


def _file(fields: Mapping[str, Any], bucket: str, prefix: str = "") -> FileObject:
    path, name = text_at(fields, "path"), text_at(fields, "name") or ""
    if path is None:  # then the name may be the whole path, or what follows the folder that was asked for
        folder = prefix[: prefix.rfind("/") + 1]
        path = name if name.startswith(folder) else folder + name
    name = name or path.rpartition("/")[2]
    id_ = fields.get("id")
    metadata = mapping_at(fields, "metadata")
    size = number_at(fields, "size")
    return FileObject(
        "" if id_ is None else str(id_),
        name,
        text_at(fields, "bucket", "bucket_id") or bucket,
        path,
        number_at(metadata or {}, "size") if size is None else size,
        text_at(fields, "content_type", "mime_type") or text_at(metadata or {}, "mimetype"),
        text_at(fields, "created_at") or "",
        text_at(fields, "updated_at"),
        metadata,
    )
