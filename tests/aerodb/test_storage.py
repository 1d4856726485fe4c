"""Buckets and objects."""

from __future__ import annotations

import base64
import json
import os
import time
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from selfdb.aerodb import AeroDBClient, AeroDBResponse
from selfdb.exceptions import InvalidRequestError
from tests.aerodb.services import code, data
from tests.servers.aerodb.server import AeroServer

Make = Callable[..., AeroDBClient]

BYTES = b"\x00\xff\r\n" + bytes(range(256)) * 300


@pytest.fixture
def photos(client: AeroDBClient) -> Any:
    return client.storage.from_("photos")


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], Any]:
    def make(kind: str) -> Any:
        path = tmp_path / "source"
        path.write_bytes(BYTES)
        return {
            "bytes": lambda: BYTES,
            "bytearray": lambda: bytearray(BYTES),
            "path": lambda: path,
            "file": lambda: path.open("rb"),
            "buffer": lambda: BytesIO(BYTES),
            "iterable": lambda: iter([BYTES[:5], BYTES[5:]]),
        }[kind]()

    return make


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "path", "file", "buffer", "iterable"])
def test_c066_what_was_uploaded_comes_back_byte_for_byte(
    aero: AeroServer, photos: Any, source: Callable[[str], Any], kind: str
) -> None:
    given = source(kind)
    try:
        stored = data(photos.upload("a/b.bin", given, content_type="image/png"))
    finally:
        if kind == "file":
            given.close()
    assert aero.lines == ["POST /storage/v1/object/photos/a/b.bin"]
    assert aero.last.body == BYTES
    assert aero.last.header("Content-Type") == "image/png"
    assert (stored.id, stored.name, stored.bucket, stored.path) == ("id-a/b.bin", "b.bin", "photos", "a/b.bin")
    assert (stored.size, stored.content_type, stored.created_at) == (len(BYTES), "image/png", "2026-01-01")
    response = photos.download("a/b.bin")
    assert data(response) == BYTES
    assert response.status == 200
    assert aero.last.header("Accept-Encoding") == "identity"


def test_c066_text_goes_as_utf_8(aero: AeroServer, photos: Any) -> None:
    assert data(photos.upload("a.txt", "größer")).size == 8
    assert aero.last.body == "größer".encode()
    assert data(photos.upload("empty", "")).size == 0


@pytest.mark.parametrize("kind", ["application/json", "text/plain; charset=latin-1", "application/octet-stream"])
def test_c066_what_comes_back_is_never_decoded(photos: Any, kind: str) -> None:
    content = b'{"a": "\xc3\xa4\x00\xff"}'
    data(photos.upload("a", content, content_type=kind))
    assert data(photos.download("a")) == content


@pytest.mark.parametrize(("upsert", "header", "status"), [(False, None, 409), (True, "true", 200)])
def test_c066_an_object_is_replaced_only_if_asked(
    aero: AeroServer, photos: Any, upsert: bool, header: Any, status: int
) -> None:
    data(photos.upload("a", b"1"))
    response = photos.upload("a", b"2", upsert=upsert)
    assert aero.last.header("x-upsert") == header
    assert response.status == status
    assert response.ok is upsert


def test_c066_cache_control_and_metadata_go_in_headers(aero: AeroServer, photos: Any) -> None:
    data(photos.upload("a", b"1", cache_control="max-age=60", metadata={"who": "ä"}))
    assert aero.last.header("Cache-Control") == "max-age=60"
    assert json.loads(base64.b64decode(aero.last.header("x-metadata") or "")) == {"who": "ä"}


def test_c066_members_are_read_as_those_of_a_dict_too(photos: Any) -> None:
    stored = data(photos.upload("a", b"1"))
    assert (stored["name"], stored.get("size"), stored.get("nothing", 5)) == ("a", 1, 5)
    with pytest.raises(KeyError):
        stored["nothing"]


@pytest.mark.parametrize("where", ["path", "str", "file"])
def test_c066_it_can_be_written_to_a_file(photos: Any, tmp_path: Path, where: str) -> None:
    data(photos.upload("a", BYTES))
    path = tmp_path / "target"
    if where == "file":
        with path.open("wb") as file:
            assert data(photos.download_to("a", file, chunk_size=1000)) == len(BYTES)
    else:
        assert data(photos.download_to("a", path if where == "path" else str(path))) == len(BYTES)
    assert path.read_bytes() == BYTES
    assert os.listdir(tmp_path) == ["target"]


def test_c066_a_download_that_breaks_off_leaves_no_file(
    scripted: Callable[..., Any], client_for: Make, tmp_path: Path
) -> None:
    server = scripted(default=lambda peer: (peer.read_request(), peer.reply(200, b"half", length=8), peer.close()))
    bucket = client_for(server.url).storage.from_("photos")
    assert code(bucket.download_to("a", tmp_path / "target")) == "NETWORK_ERROR"
    assert code(bucket.download("a")) == "NETWORK_ERROR"
    assert os.listdir(tmp_path) == []


ENCODED = {
    "a b.txt": "a%20b.txt",
    "x#1": "x%231",
    "ü/ß": "%C3%BC/%C3%9F",
    "50%?": "50%25%3F",
    "/lead": "lead",
    "a+b&c=d": "a%2Bb%26c%3Dd",
}


@pytest.mark.parametrize("path", ENCODED)
def test_c067_paths_are_encoded_part_by_part(aero: AeroServer, photos: Any, path: str) -> None:
    assert data(photos.upload(path, b"x")).path == path.lstrip("/")
    assert aero.last.target == f"/storage/v1/object/photos/{ENCODED[path]}"
    assert data(photos.download(path)) == b"x"
    assert aero.storage.objects["photos"].keys() == {path.lstrip("/")}


BAD_PATHS = ["", "/", "../x", "a/../b", "a/./b", "a//b", "a/", "a\\b", "a\x00b", "a\nb", "\ud800", None, 5]
CALLS: Dict[str, Callable[[Any, Any], AeroDBResponse[Any]]] = {
    "upload": lambda bucket, path: bucket.upload(path, b"x"),
    "download": lambda bucket, path: bucket.download(path),
    "download_to": lambda bucket, path: bucket.download_to(path, BytesIO()),
    "remove": lambda bucket, path: bucket.remove([path]),
    "sign": lambda bucket, path: bucket.create_signed_url(path),
}


@pytest.mark.parametrize("path", BAD_PATHS, ids=repr)
@pytest.mark.parametrize("call", CALLS)
def test_c067_a_path_that_names_nothing_is_refused(aero: AeroServer, photos: Any, call: str, path: Any) -> None:
    assert code(CALLS[call](photos, path)) == "VALIDATION_ERROR"
    assert aero.requests == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", None, 5], ids=repr)
@pytest.mark.parametrize("call", [*CALLS, "list", "create"])
def test_c067_so_is_such_a_bucket(aero: AeroServer, client: AeroDBClient, call: str, name: Any) -> None:
    bucket = client.storage.from_(name)
    if call == "create":
        response: Any = client.storage.create_bucket(name)
    else:
        response = bucket.list() if call == "list" else CALLS[call](bucket, "a")
    assert code(response) == "VALIDATION_ERROR"
    assert aero.requests == []


WRONG: Dict[str, Callable[[Any], AeroDBResponse[Any]]] = {
    "upsert": lambda bucket: bucket.upload("a", b"x", upsert="yes"),
    "content_type": lambda bucket: bucket.upload("a", b"x", content_type="a\r\nb"),
    "no content_type": lambda bucket: bucket.upload("a", b"x", content_type=""),
    "cache_control": lambda bucket: bucket.upload("a", b"x", cache_control=5),
    "metadata": lambda bucket: bucket.upload("a", b"x", metadata=[1]),
    "data": lambda bucket: bucket.upload("a", 5),
    "text file": lambda bucket: bucket.upload("a", StringIO("x")),
    "missing file": lambda bucket: bucket.upload("a", Path("/nowhere/at/all")),
    "limit": lambda bucket: bucket.list(limit=0),
    "offset": lambda bucket: bucket.list(offset=-1),
    "prefix": lambda bucket: bucket.list("../"),
    "expires_in": lambda bucket: bucket.create_signed_url("a", 0),
    "expires_in as text": lambda bucket: bucket.create_signed_url("a", "60"),
    "no paths": lambda bucket: bucket.remove([]),
    "paths that are none": lambda bucket: bucket.remove(5),
    "paths as bytes": lambda bucket: bucket.remove(b"ab"),
    "paths that fail": lambda bucket: bucket.remove(1 // number for number in (0,)),
    "chunk_size": lambda bucket: bucket.download_to("a", BytesIO(), chunk_size=0),
    "target": lambda bucket: bucket.download_to("a", 5),
    "folder": lambda bucket: bucket.download_to("a", "/"),
}


@pytest.mark.parametrize("name", WRONG)
def test_c067_other_wrong_arguments_are_refused_too(aero: AeroServer, photos: Any, name: str) -> None:
    assert code(WRONG[name](photos)) == "VALIDATION_ERROR"
    assert aero.requests == []


def test_a_source_that_fails_on_the_way_is_an_error_of_the_client(aero: AeroServer, photos: Any) -> None:
    def chunks() -> Any:
        yield b"x"
        raise OSError("the disk is gone")

    response = photos.upload("a", chunks())
    assert code(response) == "CLIENT_ERROR"
    assert "the disk is gone" in response.error.message


def test_one_that_gives_no_bytes_is_one_too(photos: Any) -> None:
    assert code(photos.upload("a", iter([b"x", 5]))) == "CLIENT_ERROR"


@pytest.mark.parametrize(
    ("paths", "sent"), [("a", ["a"]), (["a", "b"], ["a", "b"]), (("a",), ["a"]), ({"/a": 1}.keys(), ["a"])], ids=repr
)
def test_c068_objects_are_removed(aero: AeroServer, photos: Any, paths: Any, sent: Any) -> None:
    response = photos.remove(paths)
    assert (response.data, response.error, response.status) == (None, None, 204)
    assert aero.lines == ["DELETE /storage/v1/object/photos"]
    assert aero.last.json == {"prefixes": sent}


@pytest.mark.parametrize("call", [*CALLS, "list"])
def test_c068_an_unknown_bucket_is_a_404(client: AeroDBClient, call: str) -> None:
    bucket = client.storage.from_("nothing")
    response: Any = bucket.list() if call == "list" else CALLS[call](bucket, "a")
    assert (code(response), response.status, response.error.message) == ("404", 404, "unknown bucket")


@pytest.mark.parametrize("status", [409, 413])
def test_c068_so_are_other_refusals(aero: AeroServer, photos: Any, status: int) -> None:
    aero.instead = [(status, {}, {"error": "no", "code": status})]
    response = photos.upload("a", b"x")
    assert (code(response), response.status) == (str(status), status)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("method", ["list", "list_"])
def test_c069_a_folder_is_listed(aero: AeroServer, photos: Any, method: str, wrapped: bool) -> None:
    aero.storage.wrapped = wrapped
    for name in ("folder/a", "folder/b", "other"):
        data(photos.upload(name, b"xyz"))
    found = data(getattr(photos, method)("folder/", limit=10))
    assert aero.last.line == "GET /storage/v1/object/list/photos?prefix=folder%2F&limit=10&offset=0"
    assert [(one.path, one.size, one.bucket) for one in found] == [("folder/a", 3, "photos"), ("folder/b", 3, "photos")]


def test_c069_an_empty_prefix_is_not_sent(aero: AeroServer, photos: Any) -> None:
    assert data(photos.list(offset=5)) == []
    assert aero.last.query == [("limit", "100"), ("offset", "5")]


def test_c069_names_below_a_folder_become_paths(aero: AeroServer, photos: Any) -> None:
    aero.instead = [(200, {}, [{"name": "a.txt", "id": None, "metadata": {"size": 7, "mimetype": "text/plain"}}])]
    (found,) = data(photos.list("folder"))
    assert (found.path, found.id) == ("a.txt", "")
    aero.instead = [(200, {}, [{"name": "a.txt", "metadata": {"size": 7, "mimetype": "text/plain"}}])]
    (found,) = data(photos.list("folder/"))
    assert (found.path, found.name, found.size, found.content_type) == ("folder/a.txt", "a.txt", 7, "text/plain")


@pytest.mark.parametrize("body", [{}, {"files": 5}, [1], "x"], ids=str)
def test_c069_a_list_that_is_none_is_invalid(aero: AeroServer, photos: Any, body: Any) -> None:
    aero.instead = [(200, {}, json.dumps(body))]
    assert code(photos.list()) == "INVALID_RESPONSE"


@pytest.mark.parametrize("path", ENCODED)
def test_c070_a_public_address_is_made_without_asking(aero: AeroServer, photos: Any, path: str) -> None:
    assert photos.get_public_url(path) == f"{aero.url}/storage/v1/object/public/photos/{ENCODED[path]}"
    assert aero.requests == []


def test_c070_there_is_none_for_a_path_that_names_nothing(photos: Any) -> None:
    with pytest.raises(InvalidRequestError, match="path"):
        photos.get_public_url("../x")


def test_c070_a_signed_address_becomes_absolute(aero: AeroServer, photos: Any) -> None:
    before = int(time.time())
    signed = data(photos.create_signed_url("a b", 60))
    assert aero.lines == ["POST /storage/v1/object/sign/photos/a%20b"]
    assert aero.last.json == {"expiresIn": 60}
    assert signed.url == f"{aero.url}/storage/v1/object/sign/photos/a b?token=t"
    assert before + 60 <= signed.expires_at <= time.time() + 60
    assert "token" not in repr(signed)


@pytest.mark.parametrize("member", ["signedUrl", "signedURL", "url"])
def test_c070_an_absolute_one_stays_as_it_is(aero: AeroServer, photos: Any, member: str) -> None:
    aero.instead = [(200, {}, {member: "https://cdn.example.com/a?t=1", "expires_at": 99})]
    signed = data(photos.create_signed_url("a"))
    assert (signed.url, signed.expires_at) == ("https://cdn.example.com/a?t=1", 99)


@pytest.mark.parametrize("body", [{}, {"url": ""}, {"url": 5}, []], ids=str)
def test_c070_an_answer_without_one_is_invalid(aero: AeroServer, photos: Any, body: Any) -> None:
    aero.instead = [(200, {}, body)]
    assert code(photos.create_signed_url("a")) == "INVALID_RESPONSE"


def test_buckets_are_made_and_listed(aero: AeroServer, client: AeroDBClient) -> None:
    assert data(client.storage.create_bucket("docs", public=True)) == {"name": "docs", "public": True}
    assert aero.last.json == {"name": "docs", "public": True}
    assert data(client.storage.list_buckets()) == [{"name": "photos"}, {"name": "docs"}]
    assert aero.lines == ["POST /storage/v1/bucket", "GET /storage/v1/bucket"]
    assert code(client.storage.create_bucket("x", public="yes")) == "VALIDATION_ERROR"  # type: ignore[arg-type]


def test_answers_that_are_no_objects_are_invalid(aero: AeroServer, client: AeroDBClient, photos: Any) -> None:
    aero.instead = [(200, {}, "[1]"), (200, {}, "[1]"), (200, {}, "{")]
    assert code(client.storage.create_bucket("x")) == "INVALID_RESPONSE"
    assert code(photos.upload("x", b"")) == "INVALID_RESPONSE"
    assert code(photos.upload("x", b"")) == "INVALID_RESPONSE"


def test_an_upload_without_an_answer_body_is_known_by_what_was_sent(aero: AeroServer, photos: Any) -> None:
    aero.instead = [(201, {}, b"")]
    stored = data(photos.upload("a/b", b"xy"))
    assert (stored.id, stored.name, stored.path, stored.size) == ("", "b", "a/b", 2)
