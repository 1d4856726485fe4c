"""Downloads over raw HTTP: ranges, entity tags, headers, and what happens to one that is under way."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import pytest
import requests

from selfdb.server.downloads import ByteRange, Unsatisfiable, asked_range
from tests.server.storage import download, new_bucket, stored
from tests.support import Http

CONTENT = b"0123456789"


@pytest.fixture(scope="module")
def bucket(http: Http) -> Dict[str, Any]:
    bucket = new_bucket(http)
    stored(http, bucket, "ten.txt", CONTENT, mime="text/plain", bearer=http.admin)
    stored(http, bucket, "empty.txt", b"", mime="text/plain", bearer=http.admin)
    return bucket


@pytest.mark.parametrize(
    ("asked", "part", "where"),
    [
        ("bytes=2-5", b"2345", "2-5"),
        ("bytes=0-0", b"0", "0-0"),
        ("bytes=9-9", b"9", "9-9"),
        ("bytes=7-", b"789", "7-9"),
        ("bytes=7-1000", b"789", "7-9"),
        ("bytes=-3", b"789", "7-9"),
        ("bytes=-1000", CONTENT, "0-9"),
        ("bytes=0-", CONTENT, "0-9"),
        ("Bytes = 2 - 5", b"2345", "2-5"),
        ("bytes=2-" + "9" * 100, b"23456789", "2-9"),
    ],
)
def test_c093_a_range_is_206_with_just_those_bytes(
    http: Http, bucket: Dict[str, Any], asked: str, part: bytes, where: str
) -> None:
    answer = download(http, bucket, "ten.txt", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["Content-Range"] == f"bytes {where}/10"
    assert answer.headers["Content-Length"] == str(len(part))
    assert answer.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=" + "9" * 5000 + "-"])
def test_c093_a_range_outside_is_416(http: Http, bucket: Dict[str, Any], asked: str) -> None:
    answer = download(http, bucket, "ten.txt", headers={"Range": asked})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */10")
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_c093_nothing_of_an_empty_file_can_be_asked_for(http: Http, bucket: Dict[str, Any], asked: str) -> None:
    answer = download(http, bucket, "empty.txt", headers={"Range": asked})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */0")


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,3-4", "bytes=5-2", "bytes=-", "bytes", "lines=1-2", "bytes=a-b", "bytes=1-2-3", "bytes=\u0663-"],
)
def test_c093_what_is_no_single_range_gets_the_whole_file(http: Http, bucket: Dict[str, Any], asked: str) -> None:
    answer = download(http, bucket, "ten.txt", headers={"Range": asked.encode("utf-8")})  # type: ignore[dict-item]
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert "Content-Range" not in answer.headers


def _by_hand(header: str, size: int) -> Optional[Tuple[int, int]]:
    first, last = header[len("bytes=") :].split("-")
    if first == "":
        start, end = size - min(int(last), size), size - 1
    else:
        start, end = int(first), size - 1 if last == "" else min(int(last), size - 1)
        if last != "" and int(last) < int(first):
            return None
    return (start, end - start + 1) if start <= end else (-1, -1)


def test_c093_all_small_ranges_are_right() -> None:
    for size in range(5):
        for first in ["", *map(str, range(7))]:
            for last in ["", *map(str, range(7))]:
                if first == last == "":
                    continue
                header = f"bytes={first}-{last}"
                expected = _by_hand(header, size)
                try:
                    got = asked_range(header, size)
                except Unsatisfiable:
                    assert expected == (-1, -1), (header, size)
                else:
                    assert got == (None if expected is None else ByteRange(*expected)), (header, size)


def test_c093_the_tag_is_strong_and_changes_with_each_overwrite(http: Http) -> None:
    bucket = new_bucket(http)
    tags = set()
    for _ in range(3):
        stored(http, bucket, "a", b"same", bearer=http.admin)
        answer = download(http, bucket, "a")
        assert answer.headers["ETag"].startswith('"')
        assert answer.headers["Accept-Ranges"] == "bytes"
        tags.add(answer.headers["ETag"])
        assert download(http, bucket, "a", headers={"Range": "bytes=1-"}).headers["ETag"] == answer.headers["ETag"]
    assert len(tags) == 3


def test_c093_if_range_gives_the_part_only_of_the_same_version(http: Http) -> None:
    bucket = new_bucket(http)
    stored(http, bucket, "a", b"first", bearer=http.admin)
    tag = download(http, bucket, "a").headers["ETag"]
    asked = {"Range": "bytes=1-2", "If-Range": tag}
    assert download(http, bucket, "a", headers=asked).content == b"ir"
    for other in (f"W/{tag}", '"other"', "Fri, 20 Nov 2026 23:55:24 GMT", ""):
        whole = download(http, bucket, "a", headers={**asked, "If-Range": other})
        assert (whole.status_code, whole.content) == (200, b"first")
        outside = download(http, bucket, "a", headers={"Range": "bytes=99-", "If-Range": other})
        assert (outside.status_code, outside.content) == (200, b"first")
    stored(http, bucket, "a", b"second", bearer=http.admin)
    answer = download(http, bucket, "a", headers=asked)
    assert (answer.status_code, answer.content) == (200, b"second")


def test_c093_if_none_match_is_304_for_the_same_version(http: Http, bucket: Dict[str, Any]) -> None:
    tag = download(http, bucket, "ten.txt").headers["ETag"]
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = download(http, bucket, "ten.txt", headers={"If-None-Match": header})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
    for header in ('"other"', tag.strip('"')):
        assert download(http, bucket, "ten.txt", headers={"If-None-Match": header}).status_code == 200


def test_c093_head_tells_what_get_would_send(http: Http, bucket: Dict[str, Any]) -> None:
    path = f"/storage/files/download/{bucket['name']}/ten.txt"
    got = http.get(path)
    answer = http.head(path, headers={"Range": "bytes=2-5"})
    assert (answer.status_code, answer.content) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Accept-Ranges"):
        assert answer.headers[name] == got.headers[name]
    assert http.head(f"/storage/files/download/{bucket['name']}/nothing").status_code == 404


@pytest.mark.parametrize(
    ("mime", "attached"),
    [
        ("text/html", True),
        ("Text/HTML; charset=utf-8", True),
        ("image/svg+xml", True),
        ("application/xml", True),
        ("application/xhtml+xml", True),
        ("text/javascript", True),
        ("application/x-shockwave-flash", True),
        ("image/png", False),
        ("text/plain; charset=utf-8", False),
        ("application/pdf", False),
    ],
)
def test_c084_a_stored_page_cannot_run_in_the_servers_origin(http: Http, mime: str, attached: bool) -> None:
    bucket = new_bucket(http)
    stored(http, bucket, "dir/pä\"ge's.x", b"<script>alert(1)</script>", mime=mime)
    answer = download(http, bucket, "dir/pä\"ge's.x")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == mime
    disposition = answer.headers.get("Content-Disposition")
    assert disposition == ("attachment; filename*=UTF-8''p%C3%A4%22ge%27s.x" if attached else None)


@pytest.mark.parametrize("path", ["download/nothing-here/a", "download/UPPER/a", "download/a%00b/a", "nothing"])
def test_c084_what_is_not_there_is_404(http: Http, path: str) -> None:
    assert http.get(f"/storage/files/{path}", bearer=http.admin).status_code == 404


@pytest.mark.parametrize("end", ["overwritten", "deleted", "with its bucket"])
def test_c083_a_download_under_way_keeps_its_bytes(http: Http, end: str) -> None:
    bucket = new_bucket(http)
    # More than the buffers of both sockets and the server hold.
    whole = bytes(range(256)) * 4096 * 24
    file_id = stored(http, bucket, "big", whole, bearer=http.admin)["file_id"]
    url = f"{http.url}/storage/files/download/{bucket['name']}/big"
    with requests.get(url, headers={"X-API-Key": http.api_key}, stream=True, timeout=60) as answer:
        begun = answer.raw.read(1000)
        if end == "overwritten":
            stored(http, bucket, "big", b"other", bearer=http.admin)
        elif end == "deleted":
            assert http.delete(f"/storage/files/{file_id}", bearer=http.admin).status_code == 204
        else:
            assert http.delete(f"/storage/buckets/{bucket['id']}", bearer=http.admin).status_code == 204
        assert begun + answer.raw.read() == whole
    after = download(http, bucket, "big")
    assert (after.content == b"other") if end == "overwritten" else (after.status_code == 404)


def test_c083_a_client_that_goes_away_does_not_disturb_the_server(http: Http) -> None:
    bucket = new_bucket(http)
    whole = b"x" * (24 * 1024 * 1024)
    stored(http, bucket, "big", whole, bearer=http.admin)
    url = f"{http.url}/storage/files/download/{bucket['name']}/big"
    for _ in range(3):
        with requests.get(url, headers={"X-API-Key": http.api_key}, stream=True, timeout=60) as answer:
            assert answer.raw.read(10) == b"x" * 10
    assert download(http, bucket, "big").content == whole
