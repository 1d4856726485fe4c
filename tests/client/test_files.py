"""Files, as the client sees them on the embedded server and, where exact bytes matter, on scripted ones."""

from __future__ import annotations

import hashlib
import io
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest

from selfdb import (
    APIConnectionError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ResponseTooLargeError,
    SelfDB,
    SelfDBError,
)
from tests.client.conftest import Recorded
from tests.servers import scripted as steps
from tests.support import Http

NewBucket = Callable[..., Any]
Connect = Callable[..., SelfDB]


def test_c079_the_upload_of_the_specification(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    content = b"%PDF \x00\xff"
    answer = admin.with_raw_response.storage.files.upload(bucket.id, filename="notes.pdf", data=content)
    assert answer.status_code == 201
    reply = answer.parse()
    assert (reply.success, reply.bucket, reply.path, reply.size) == (True, bucket.name, "/notes.pdf", len(content))
    file = admin.storage.files.get(reply.file_id)
    assert (file.name, file.path, file.size, file.mime_type) == ("notes.pdf", "/notes.pdf", 7, "application/pdf")
    assert (file.bucket_id, file.bucket_name) == (bucket.id, bucket.name)


def test_c079_on_the_wire(recorded: Recorded) -> None:
    recorded.will((201, {}, {"success": True, "bucket": "b", "path": "/notes.pdf", "size": 3, "file_id": "f"}))
    recorded.db.storage.files.upload("b 1", filename="notes.pdf", data=b"abc")
    assert recorded.lines == ["POST /storage/buckets/b%201/files?filename=notes.pdf"]
    assert recorded.last.body == b"abc"
    assert recorded.last.header("Content-Length") == "3"
    assert recorded.last.header("Content-Type") == "application/pdf"


@pytest.mark.parametrize(
    "filename, given, sent",
    [
        ("a.png", None, "image/png"),
        ("a.unknown-to-all", None, "application/octet-stream"),
        ("a", None, "application/octet-stream"),
        ("a.png", "text/x-own; charset=utf-8", "text/x-own; charset=utf-8"),
    ],
)
def test_c079_the_mime_type(recorded: Recorded, filename: str, given: Optional[str], sent: str) -> None:
    recorded.will((201, {}, {"success": True, "bucket": "b", "path": "/a", "size": 0, "file_id": "f"}))
    recorded.db.storage.files.upload("b", filename, b"", content_type=given)
    assert recorded.last.header("Content-Type") == sent


@pytest.mark.parametrize("kind", ["text/plain\r\nX-Evil: 1", "text/plain\n", "täxt/\u0100"])
def test_c079_a_mime_type_that_breaks_out(recorded: Recorded, kind: str) -> None:
    with pytest.raises(InvalidRequestError, match="content_type"):
        recorded.db.storage.files.upload("b", "a", b"", content_type=kind)
    assert recorded.lines == []


@pytest.mark.parametrize(
    "filename, path, key",
    [
        ("notes.pdf", "/docs", "/docs/notes.pdf"),
        ("notes.pdf", "docs/", "/docs/notes.pdf"),
        ("notes.pdf", "a/b", "/a/b/notes.pdf"),
        ("p/1.png", "p/1.png", "/p/1.png"),
        ("1.png", "p/1.png", "/p/1.png"),
        ("p/1.png", None, "/p/1.png"),
        ("notes.pdf", "", "/notes.pdf"),
        ("notes.pdf", "/", "/notes.pdf"),
    ],
)
def test_c080_where_a_file_lies(
    admin: SelfDB, new_bucket: NewBucket, filename: str, path: Optional[str], key: str
) -> None:
    bucket = new_bucket(admin)
    assert admin.storage.files.upload(bucket.id, filename, b"x", path=path).path == key
    assert admin.storage.files.download(bucket.name, key) == b"x"


class Unseekable:
    """A stream that can only be read on, such as a pipe."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


def _pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 70_000):
        yield content[start : start + 70_000]


BINARY = bytes(range(256)) * 700
SOURCES: Dict[str, Callable[[Path], Tuple[Any, bytes]]] = {
    "bytes": lambda folder: (BINARY, BINARY),
    "no bytes": lambda folder: (b"", b""),
    "bytearray": lambda folder: (bytearray(BINARY), BINARY),
    "memoryview": lambda folder: (memoryview(BINARY), BINARY),
    "str": lambda folder: ("grüße\n", "grüße\n".encode()),
    "file": lambda folder: (io.BytesIO(BINARY), BINARY),
    "a file in the middle": lambda folder: (_seeked(io.BytesIO(BINARY), 100), BINARY[100:]),
    "path": lambda folder: (_written(folder, BINARY), BINARY),
    "an empty path": lambda folder: (_written(folder, b""), b""),
    "pipe": lambda folder: (Unseekable(BINARY), BINARY),
    "generator": lambda folder: (_pieces(BINARY), BINARY),
    "list": lambda folder: ([b"a", b"", b"bc"], b"abc"),
    "an empty generator": lambda folder: (iter(()), b""),
}


def _seeked(file: Any, place: int) -> Any:
    file.seek(place)
    return file


def _written(folder: Path, content: bytes) -> Path:
    (folder / "source").write_bytes(content)
    return folder / "source"


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("route", ["unknown", "known"])
def test_c081_every_source(admin: SelfDB, new_bucket: NewBucket, tmp_path: Path, source: str, route: str) -> None:
    bucket = new_bucket(admin)
    if route == "known":  # then a stream is sent straight on, without a copy
        admin.storage.files.upload(bucket.id, "first", b"")
    data, wanted = SOURCES[source](tmp_path)
    assert admin.storage.files.upload(bucket.id, "f", data).size == len(wanted)
    assert admin.storage.files.download(bucket.name, "f") == wanted


def test_c081_twenty_mebibytes(admin: SelfDB, new_bucket: NewBucket, tmp_path: Path) -> None:
    bucket = new_bucket(admin)
    block = hashlib.sha256(b"seed").digest() * 2048
    sent, told, got = hashlib.sha256(), [], hashlib.sha256()

    def source() -> Iterator[bytes]:
        for _ in range(320):
            sent.update(block)
            yield block

    reply = admin.storage.files.upload(bucket.id, "big", source(), progress=lambda done, total: told.append(done))
    assert reply.size == told[-1] == 20 * 2**20
    with admin.storage.files.stream(bucket.name, "big") as blocks:
        for piece in blocks:
            got.update(piece)
    assert got.digest() == sent.digest()
    target = tmp_path / "big"
    assert admin.storage.files.download_to(bucket.name, "big", target) == 20 * 2**20
    assert hashlib.sha256(target.read_bytes()).digest() == sent.digest()


@pytest.mark.parametrize("data", [5, None, object(), io.StringIO("text")])
def test_c081_what_is_no_source(recorded: Recorded, data: Any) -> None:
    with pytest.raises(InvalidRequestError):
        recorded.db.storage.files.upload("b", "a", data)
    assert recorded.lines == []


def test_c081_a_path_that_is_missing(recorded: Recorded, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        recorded.db.storage.files.upload("b", "a", tmp_path / "nothing")


def test_c083_overwrite(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    first = admin.storage.files.upload(bucket.id, "a.txt", b"abc")
    answer = admin.with_raw_response.storage.files.upload(bucket.id, "a.txt", b"abcdef", content_type="text/x-b")
    assert answer.status_code == 200
    assert answer.parse().file_id == first.file_id
    (file,) = admin.storage.files.list(bucket_id=bucket.id).data
    assert (file.id, file.size, file.mime_type) == (first.file_id, 6, "text/x-b")
    assert admin.storage.files.download(bucket.name, "a.txt") == b"abcdef"


NAMES = ["a b.txt", "100%.txt", "%41.txt", "ü.txt", "a#b.txt", "a+b.txt", "a?b=c&d.txt", "日本/x y.txt", "a;b,c'.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_c084_names_of_any_characters(admin: SelfDB, new_bucket: NewBucket, name: str) -> None:
    bucket = new_bucket(admin)
    reply = admin.storage.files.upload(bucket.id, name, name)
    assert reply.path == f"/{name}"
    for path in (name, f"/{name}", reply.path):
        assert admin.storage.files.download(bucket.name, path) == name.encode()
    assert [file.path for file in admin.storage.files.iter(bucket_id=bucket.id)] == [f"/{name}"]


def test_c084_on_the_wire(recorded: Recorded) -> None:
    recorded.will((200, {}, b"x"))
    recorded.db.storage.files.download("b c", "/d e/100%+#?.txt")
    assert recorded.lines == ["GET /storage/files/download/b%20c/d%20e/100%25%2B%23%3F.txt"]


@pytest.mark.parametrize("name, content", [("a.json", b'{"a": 1}'), ("a.txt", b"text"), ("a.html", b"<p>")])
def test_c084_content_stays_bytes(admin: SelfDB, new_bucket: NewBucket, name: str, content: bytes) -> None:
    bucket = new_bucket(admin)
    admin.storage.files.upload(bucket.id, name, content)
    got = admin.storage.files.download(bucket.name, name)
    assert (type(got), got) == (bytes, content)


UNSAFE = ["../x", "a//b", "a\\b", "a\0b", "a/../b", "./a", "a/.", "", "a/", "a\nb", "//a"]


@pytest.mark.parametrize("path", UNSAFE)
def test_c085_paths_that_lead_elsewhere(recorded: Recorded, path: str) -> None:
    calls: List[Callable[[], Any]] = [
        lambda: recorded.db.storage.files.download("b", path),
        lambda: recorded.db.storage.files.download_to("b", path, io.BytesIO()),
        lambda: recorded.db.storage.files.stream("b", path),
        lambda: recorded.db.storage.files.upload("b", path, b"x"),
    ]
    if path.strip("/") and path.strip("/") not in ("a",):  # a folder may begin and end with a slash
        calls.append(lambda: recorded.db.storage.files.upload("b", "f", b"x", path=path))
    for call in calls:
        with pytest.raises(InvalidRequestError):
            call()
    assert recorded.lines == []


@pytest.mark.parametrize("path", ["../x", "a//b", "a\\b", "a\0b"])
def test_c085_the_server_refuses_them_too(admin: SelfDB, http: Http, new_bucket: NewBucket, path: str) -> None:
    bucket = new_bucket(admin)
    query = {"filename": path}
    answer = http.post(f"/storage/buckets/{bucket.id}/files", params=query, data=b"x", bearer=http.admin)
    assert answer.status_code == 400
    assert admin.storage.files.count(bucket.id) == 0


def test_c087_files_of_others(user: SelfDB, someone: Callable[[], SelfDB], new_bucket: NewBucket) -> None:
    bucket = new_bucket(user, public=True)
    stranger = someone()
    owners = user.storage.files.upload(bucket.id, "owner.txt", b"o")
    own = stranger.storage.files.upload(bucket.id, "own.txt", b"s")
    for call in (
        lambda: stranger.storage.files.delete(owners.file_id),
        lambda: stranger.storage.files.update_metadata(owners.file_id, {"a": 1}),
        lambda: stranger.storage.files.upload(bucket.id, "owner.txt", b"evil"),
    ):
        with pytest.raises(PermissionDeniedError):
            call()
    assert user.storage.files.download(bucket.name, "owner.txt") == b"o"
    assert stranger.storage.files.delete(own.file_id).file_id == own.file_id


@pytest.mark.parametrize("source", ["bytes", "generator"])
@pytest.mark.parametrize(
    "limit, kind, status", [({"file_size_limit": 3}, "text/plain", 413), ({"allowed_mime_types": ["a/b"]}, "a/c", 415)]
)
def test_c088_limits_of_a_bucket(
    admin: SelfDB, new_bucket: NewBucket, limit: Dict[str, Any], kind: str, status: int, source: str
) -> None:
    bucket = new_bucket(admin, **limit)
    data: Any = b"abcd" if source == "bytes" else (part for part in (b"ab", b"cd"))
    with pytest.raises(SelfDBError) as caught:
        admin.storage.files.upload(bucket.id, "a", data, content_type=kind)
    assert type(caught.value) is SelfDBError
    assert caught.value.status_code == status
    assert admin.storage.files.list(bucket_id=bucket.id).total == 0
    assert admin.storage.buckets.get(bucket.id).total_size == 0


def test_c089_only_what_is_given_is_sent(recorded: Recorded) -> None:
    recorded.will({"data": [], "total": 0}, {"data": [], "total": 0, "page": 2, "pageSize": 50})
    recorded.db.storage.files.list(bucket_id="b", page_size=50)
    page = recorded.db.storage.files.list(search="x", page=2, sort_by="name", sort_order="ASC")
    assert recorded.lines == [
        "GET /storage/files/?bucket_id=b&page_size=50",
        "GET /storage/files/?page=2&search=x&sort_by=name&sort_order=asc",
    ]
    assert page.page_size == 50


def test_c089_pages_of_files(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    names = [f"{number}.txt" for number in range(5)]
    for name in names:
        admin.storage.files.upload(bucket.id, name, b"x")
    page = admin.storage.files.list(bucket_id=bucket.id, page=2, page_size=2, sort_by="name", sort_order="asc")
    assert ([file.name for file in page.data], page.total, page.page, page.page_size) == (names[2:4], 5, 2, 2)
    assert admin.storage.files.list(bucket_id=bucket.id, search="3.t").total == 1
    for page_size in (1, 2, 5, 100):
        walk = admin.storage.files.iter(bucket_id=bucket.id, page_size=page_size)
        assert [file.name for file in walk] == names
    assert list(admin.storage.files.iter(bucket_id=bucket.id, search="nothing")) == []


def test_c089_a_server_that_gives_fewer_files_than_asked_for(recorded: Recorded) -> None:
    def page(*ids: str) -> Any:
        return {"data": [{"id": id, "name": id} for id in ids], "total": 3, "page": 1, "page_size": 100}

    recorded.will(page("a", "b"), page("c"))
    assert [file.id for file in recorded.db.storage.files.iter()] == ["a", "b", "c"]


@pytest.mark.parametrize("query", [{"page": 0}, {"page_size": 0}, {"search": "x" * 101}, {"sort_order": "up"}])
def test_c089_arguments_out_of_range(recorded: Recorded, query: Dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        recorded.db.storage.files.list(**query)
    if "page" not in query:
        with pytest.raises(InvalidRequestError):
            list(recorded.db.storage.files.iter(**query))
    assert recorded.lines == []


def test_c090_the_numbers_agree(fresh: SelfDB, new_bucket: NewBucket) -> None:
    buckets = [new_bucket(fresh) for _ in range(2)]
    for bucket, sizes in zip(buckets, ([1, 2, 3], [4])):
        for size in sizes:
            fresh.storage.files.upload(bucket.id, f"{size}.pdf" if size % 2 else f"{size}.txt", b"x" * size)
    files = fresh.storage.files
    stats = files.stats()
    assert (stats.total_files, stats.total_size, stats.total_buckets) == (4, 10, 2)
    assert files.total_count() == files.count() == files.list().total == 4
    assert files.total_count(search="pdf") == files.list(search="pdf").total == 2
    assert [files.count(bucket.id) for bucket in buckets] == [3, 1]
    assert files.count(buckets[0].id, search="pdf") == 2
    with pytest.raises(NotFoundError):
        files.count("0b5f7a52-0000-4000-8000-0000000000ff")


def test_c091_metadata_is_replaced(admin: SelfDB, new_bucket: NewBucket) -> None:
    file_id = admin.storage.files.upload(new_bucket(admin).id, "a", b"x").file_id
    admin.storage.files.update_metadata(file_id, {"a": 1, "b": {"c": [None]}})
    assert admin.storage.files.update_metadata(file_id, {"tag": "archive"}).metadata == {"tag": "archive"}
    assert admin.storage.files.get(file_id).metadata == {"tag": "archive"}


@pytest.mark.parametrize("metadata", [None, [], "x", 5])
def test_c091_what_is_no_metadata(recorded: Recorded, metadata: Any) -> None:
    with pytest.raises(InvalidRequestError, match="metadata"):
        recorded.db.storage.files.update_metadata("f", metadata)


def test_c092_a_file_is_deleted(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    file_id = admin.storage.files.upload(bucket.id, "a", b"x").file_id
    answer = admin.with_raw_response.storage.files.delete(file_id)
    assert (answer.status_code, answer.parse().file_id) == (204, file_id)
    with pytest.raises(NotFoundError):
        admin.storage.files.download(bucket.name, "a")
    with pytest.raises(NotFoundError):
        admin.storage.files.delete(file_id)


# Downloads


def test_c093_ranges(admin: SelfDB, http: Http, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin, public=True)
    admin.storage.files.upload(bucket.id, "a", b"0123456789")
    path = f"/storage/files/download/{bucket.name}/a"
    part = http.get(path, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"2345", "bytes 2-5/10")
    assert http.get(path, headers={"Range": "bytes=10-"}).status_code == 416


def _object(content: bytes, tag: str, start: int = 0, *, upto: Optional[int] = None) -> List[Any]:
    """Steps that answer one request with ``content`` from ``start``; broken off after ``upto`` bytes."""
    rest = content[start:]
    headers = {"ETag": tag, "Content-Type": "text/plain", "Accept-Ranges": "bytes"}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return [
        steps.read(),
        steps.reply(206 if start else 200, rest[:upto], headers, length=len(rest)),
        steps.close(),
    ]


CONTENT = bytes(range(256)) * 40


def test_c093_a_download_goes_on_where_it_broke_off(scripted: Callable[..., Any], connect: Connect) -> None:
    server = scripted(
        _object(CONTENT, '"v1"', upto=1000), _object(CONTENT, '"v1"', 1000, upto=500), _object(CONTENT, '"v1"', 1500)
    )
    db = connect(server, max_retries=2)
    with db.storage.files.stream("b", "a", chunk_size=100) as blocks:
        assert b"".join(blocks) == CONTENT
    first, second, third = server.requests
    assert first.header("Range") is None
    assert first.header("Accept-Encoding") == "identity"
    assert (second.header("Range"), second.header("If-Range")) == ("bytes=1000-", '"v1"')
    assert (third.header("Range"), third.header("If-Range")) == ("bytes=1500-", '"v1"')
    assert {request.line for request in server.requests} == {"GET /storage/files/download/b/a"}


@pytest.mark.parametrize("way", ["download", "download_to"])
def test_c093_whole_downloads_go_on_too(
    scripted: Callable[..., Any], connect: Connect, tmp_path: Path, way: str
) -> None:
    content = BINARY * 4

    def serve(peer: Any) -> None:
        """Whatever is asked for, but never more than 300 000 bytes of it."""
        asked = peer.read_request().header("Range") or "bytes=0-"
        start = int(asked[len("bytes=") : -1])
        for step in _object(content, '"v1"', start, upto=300_000)[1:]:
            step(peer)

    server = scripted(default=serve)
    files = connect(server, max_retries=2).storage.files
    if way == "download":
        assert files.download("b", "a") == content
    else:
        assert files.download_to("b", "a", tmp_path / "target") == len(content)
        assert (tmp_path / "target").read_bytes() == content
    assert server.connections >= 3


def test_c093_an_object_that_changed_is_begun_anew(scripted: Callable[..., Any], connect: Connect) -> None:
    server = scripted(_object(CONTENT, '"v1"', upto=1000), _object(b"another", '"v2"'), _object(b"another", '"v2"'))
    db = connect(server, max_retries=2)
    told: List[Tuple[int, Optional[int]]] = []
    assert db.storage.files.download("b", "a", progress=lambda *args: told.append(args)) == b"another"
    assert told[-1] == (7, 7)


def test_c093_a_stream_cannot_begin_anew(scripted: Callable[..., Any], connect: Connect) -> None:
    server = scripted(_object(CONTENT, '"v1"', upto=1000), _object(b"another", '"v2"'))
    db = connect(server, max_retries=2)
    with pytest.raises(APIConnectionError, match="changed"), db.storage.files.stream("b", "a") as blocks:
        list(blocks)


def test_c093_without_a_tag_nothing_is_resumed(scripted: Callable[..., Any], connect: Connect) -> None:
    server = scripted(_object(CONTENT, "W/weak", upto=1000))
    with pytest.raises(APIConnectionError):
        connect(server, max_retries=2).storage.files.download("b", "a")


@pytest.mark.parametrize("way", ["download", "download_to", "stream"])
@pytest.mark.parametrize("announced", [True, False])
def test_a_limit_on_what_comes(
    replies: Callable[..., Any], connect: Connect, tmp_path: Path, way: str, announced: bool
) -> None:
    chunks = b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"
    headers = {} if announced else {"Transfer-Encoding": "chunked"}
    server = replies([(200, headers, b"0123456789" if announced else chunks)] * 2)
    files = connect(server).storage.files
    target = tmp_path / "target"
    calls: Dict[str, Callable[[int], Any]] = {
        "download": lambda limit: files.download("b", "a", max_bytes=limit),
        "download_to": lambda limit: files.download_to("b", "a", target, max_bytes=limit),
        "stream": lambda limit: b"".join(files.stream("b", "a", max_bytes=limit)),
    }
    with pytest.raises(ResponseTooLargeError, match="9 bytes"):
        calls[way](9)
    assert list(tmp_path.iterdir()) == []
    assert calls[way](10) in (10, b"0123456789")


def test_download_to_replaces_a_file_at_once(admin: SelfDB, new_bucket: NewBucket, tmp_path: Path) -> None:
    bucket = new_bucket(admin)
    admin.storage.files.upload(bucket.id, "a", b"new")
    target = tmp_path / "target"
    target.write_bytes(b"old content")
    assert admin.storage.files.download_to(bucket.name, "a", str(target)) == 3
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_download_that_fails_leaves_the_old_file(
    scripted: Callable[..., Any], connect: Connect, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old content")
    server = scripted(_object(CONTENT, '"v1"', upto=1000))
    with pytest.raises(APIConnectionError):
        connect(server).storage.files.download_to("b", "a", target)
    assert target.read_bytes() == b"old content"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_download_to_a_file_object_leaves_it_open(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    admin.storage.files.upload(bucket.id, "a", b"abc")
    file = io.BytesIO()
    file.write(b">")
    assert admin.storage.files.download_to(bucket.name, "a", file) == 3
    assert file.getvalue() == b">abc"


@pytest.mark.parametrize("target", ["missing/target", "/"])
def test_a_target_that_cannot_be_written(recorded: Recorded, tmp_path: Path, target: str) -> None:
    recorded.will((200, {}, b"x"))
    with pytest.raises(SelfDBError):
        recorded.db.storage.files.download_to("b", "a", tmp_path / target)


def test_a_stream_gives_blocks_of_the_size_asked_for(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    admin.storage.files.upload(bucket.id, "a", b"0123456789")
    with admin.storage.files.stream(bucket.name, "a", chunk_size=4) as blocks:
        assert blocks.total == 10
        assert list(blocks) == [b"0123", b"4567", b"89"]
        assert blocks.done == 10


@pytest.mark.parametrize("chunk_size", [0, -1, True, "5"])
def test_a_chunk_size_that_is_none(recorded: Recorded, chunk_size: Any) -> None:
    with pytest.raises(InvalidRequestError, match="chunk_size"):
        recorded.db.storage.files.stream("b", "a", chunk_size=chunk_size)
    assert recorded.lines == []


def test_progress_of_both_ways(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    up: List[Tuple[int, Optional[int]]] = []
    down: List[Tuple[int, Optional[int]]] = []
    admin.storage.files.upload(bucket.id, "a", BINARY, progress=lambda *args: up.append(args))
    admin.storage.files.download(bucket.name, "a", progress=lambda *args: down.append(args))
    for told in (up, down):
        assert told[-1] == (len(BINARY), len(BINARY))
        assert told == sorted(told)


def test_what_a_source_raises_is_the_callers(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    admin.storage.files.upload(bucket.id, "first", b"")

    def source() -> Iterator[bytes]:
        yield b"abc"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        admin.storage.files.upload(bucket.id, "a", source())
    assert admin.storage.files.count(bucket.id) == 1


def test_a_session_about_to_end_is_renewed_before_a_stream(
    make_server: Callable[..., Any], clock: Any, connect: Connect, new_bucket: NewBucket
) -> None:
    """A body that cannot be sent again must not meet a 401 in the middle."""
    server = make_server(clock=clock, access_token_seconds=20)  # always within what counts as about to end
    db = connect(server)
    first = db.auth.login("admin@example.com", "password")
    bucket = new_bucket(db)
    db.storage.files.upload(bucket.id, "first", b"")
    assert db.access_token == first.access_token
    db.storage.files.upload(bucket.id, "a", iter([b"abc"]))
    assert db.access_token != first.access_token
    assert db.storage.files.download(bucket.name, "a") == b"abc"


def test_c124_fifty_uploads_at_a_time(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    failures: List[BaseException] = []

    def upload(number: int) -> None:
        try:
            admin.storage.files.upload(bucket.id, f"{number}.bin", bytes([number]) * 1000)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert admin.storage.files.count(bucket.id) == 50
    after = admin.storage.buckets.get(bucket.id)
    assert (after.file_count, after.total_size) == (50, 50_000)
    for number in (0, 25, 49):
        assert admin.storage.files.download(bucket.name, f"{number}.bin") == bytes([number]) * 1000
