"""Uploads and the catalogue of files over raw HTTP, on both databases."""

from __future__ import annotations

import threading
import uuid
from http.client import HTTPConnection
from typing import Any, Dict, Iterator, List, Optional
from urllib.parse import quote, urlsplit

import pytest

from tests.server.storage import download, listed, new_bucket, refreshed, stored, upload
from tests.support import Http, unique

FIELDS = {
    "id",
    "name",
    "bucket_id",
    "bucket_name",
    "path",
    "size",
    "mime_type",
    "owner_id",
    "metadata",
    "created_at",
    "updated_at",
}


def test_c079_an_upload_answers_with_bucket_name_path_size_and_id(http: Http) -> None:
    bucket = new_bucket(http)
    answer = upload(http, bucket, "notes.pdf", b"%PDF-", mime="application/pdf", bearer=http.admin)
    assert answer.status_code == 201
    reply = answer.json()
    file_id = reply.pop("file_id")
    assert reply == {"success": True, "bucket": bucket["name"], "path": "/notes.pdf", "size": 5}
    file = http.get(f"/storage/files/{file_id}").json()
    assert set(file) == FIELDS
    assert file["owner_id"] == bucket["owner_id"]
    expected = {
        "name": "notes.pdf",
        "bucket_id": bucket["id"],
        "bucket_name": bucket["name"],
        "path": "/notes.pdf",
        "size": 5,
        "mime_type": "application/pdf",
        "metadata": None,
    }
    assert {key: file[key] for key in expected} == expected
    after = refreshed(http, bucket)
    assert (after["file_count"], after["total_size"]) == (1, 5)


def test_c082_both_routes_are_one(http: Http) -> None:
    bucket = new_bucket(http)
    query = {"bucket_id": bucket["id"], "filename": "a.bin", "content_type": "image/png"}
    answer = http.post("/storage/files/upload", params=query, data=b"12", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 201
    assert http.get(f"/storage/files/{answer.json()['file_id']}").json()["mime_type"] == "image/png"
    again = upload(http, bucket, "a.bin", b"123", bearer=http.admin)
    assert (again.status_code, again.json()["file_id"]) == (200, answer.json()["file_id"])
    for bucket_id in (str(uuid.uuid4()), "nothing", "\0"):
        lost = http.post("/storage/files/upload", params={**query, "bucket_id": bucket_id}, data=b"12")
        assert (lost.status_code, lost.json()) == (404, {"detail": "Bucket not found"})
    assert http.post("/storage/files/upload", params={"filename": "a"}, data=b"12").status_code == 422
    assert http.post(f"/storage/buckets/{bucket['id']}/files", data=b"12").status_code == 422


@pytest.mark.parametrize(
    ("filename", "path", "key"),
    [
        ("notes.pdf", None, "/notes.pdf"),
        ("notes.pdf", "", "/notes.pdf"),
        ("notes.pdf", "/", "/notes.pdf"),
        ("notes.pdf", "/docs", "/docs/notes.pdf"),
        ("notes.pdf", "docs/2025/", "/docs/2025/notes.pdf"),
        ("p/1.png", "p/1.png", "/p/1.png"),
        ("1.png", "p/1.png", "/p/1.png"),
        ("1.png", "p/21.png", "/p/21.png/1.png"),
        ("/p/1.png", None, "/p/1.png"),
    ],
)
def test_c080_file_name_and_directory_make_the_key(http: Http, filename: str, path: Optional[str], key: str) -> None:
    bucket = new_bucket(http)
    assert stored(http, bucket, filename, b"x", path=path)["path"] == key
    assert listed(http, bucket)["data"][0]["name"] == key.rpartition("/")[2]
    assert download(http, bucket, key).content == b"x"


def _parts() -> Iterator[bytes]:
    for number in range(200):
        yield bytes([number]) * 5000


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\xff\r\n\0", bytes(range(256)) * 4096 * 20, b"a" * (256 * 1024), b"b" * (256 * 1024 + 1)],
    ids=["nothing", "binary", "20MiB", "a block", "a block and one"],
)
def test_c081_what_comes_back_is_byte_identical(http: Http, data: bytes) -> None:
    bucket = new_bucket(http)
    assert stored(http, bucket, "data.bin", data)["size"] == len(data)
    answer = download(http, bucket, "data.bin")
    assert answer.content == data
    assert answer.headers["Content-Length"] == str(len(data))


def test_c081_a_chunked_body_without_length_works(http: Http) -> None:
    bucket = new_bucket(http)
    whole = b"".join(_parts())
    assert stored(http, bucket, "data.bin", _parts())["size"] == len(whole)
    assert download(http, bucket, "data.bin").content == whole


def test_c083_overwriting_keeps_id_and_owner_and_counts_once(http: Http) -> None:
    bucket = new_bucket(http)
    user, bearer = http.new_user()
    first = stored(http, bucket, "a.txt", b"first", mime="text/plain", bearer=bearer)
    before = http.get(f"/storage/files/{first['file_id']}").json()
    meta = http.patch(f"/storage/files/{first['file_id']}", json={"metadata": {"tag": 1}}, bearer=bearer)
    assert meta.status_code == 200
    answer = upload(http, bucket, "a.txt", b"second one", mime="text/html", bearer=http.admin)
    assert answer.status_code == 200
    assert answer.json() == {**first, "size": 10}
    page = listed(http, bucket)
    assert page["total"] == 1
    after = page["data"][0]
    assert after["updated_at"] > before["updated_at"]
    assert after == {
        **before,
        "size": 10,
        "mime_type": "text/html",
        "metadata": {"tag": 1},
        "owner_id": user["id"],
        "updated_at": after["updated_at"],
    }
    now = refreshed(http, bucket)
    assert (now["file_count"], now["total_size"]) == (1, 10)


def test_c083_overwriting_needs_the_right_to_delete(http: Http) -> None:
    _, owner = http.new_user()
    _, uploader = http.new_user()
    _, stranger = http.new_user()
    bucket = new_bucket(http, owner)
    stored(http, bucket, "a.txt", b"first", bearer=uploader)
    before = listed(http, bucket)
    for bearer in (stranger, None):
        assert upload(http, bucket, "a.txt", b"evil", bearer=bearer).status_code == 403
    assert listed(http, bucket) == before
    assert download(http, bucket, "a.txt").content == b"first"
    for number, bearer in enumerate((uploader, owner, http.admin)):
        assert upload(http, bucket, "a.txt", b"%d" % number, bearer=bearer).status_code == 200
    stored(http, bucket, "nobody.txt", b"first")
    assert upload(http, bucket, "nobody.txt", b"evil").status_code == 403


NAMES = ["a b.txt", "100%.txt", "50%25.txt", "grün/ü.txt", "a#b?c&d=e.txt", "a+b.txt", "'\";--.txt", "😀.txt", "%2e%2e"]


@pytest.mark.parametrize("name", NAMES)
def test_c084_difficult_names_are_found_with_and_without_a_slash(http: Http, name: str) -> None:
    bucket = new_bucket(http)
    assert stored(http, bucket, name, name.encode(), mime="application/json")["path"] == f"/{name}"
    for path in (name, f"/{name}"):
        answer = download(http, bucket, path)
        assert (answer.status_code, answer.content) == (200, name.encode())


BAD_KEYS = [
    "../x",
    "a/../x",
    "a/./x",
    "..",
    ".",
    "a//b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "s" * 256,
    "/".join(["s" * 200] * 6),
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_c085_a_bad_key_is_400_and_nothing_is_stored(http: Http, key: str) -> None:
    bucket = new_bucket(http)
    assert upload(http, bucket, key, b"x").status_code == 400
    assert upload(http, bucket, "x", b"x", path=key).status_code == 400
    # http.client sends the path as it stands; others normalise dots away.
    where = urlsplit(http.url)
    connection = http_connection(where.hostname, where.port)
    try:
        target = f"/storage/files/download/{bucket['name']}/{quote(key).replace('.', '%2E')}"
        connection.request("GET", target, headers={"X-API-Key": http.api_key})
        # No route takes a line break, so that one is not there rather than refused.
        assert connection.getresponse().status == (404 if "\n" in key else 400)
    finally:
        connection.close()
    assert listed(http, bucket)["total"] == 0


def http_connection(host: Any, port: Any) -> HTTPConnection:
    return HTTPConnection(host, port, timeout=30)


@pytest.mark.parametrize("filename", ["", "/", "//"])
def test_c085_an_empty_name_is_400(http: Http, filename: str) -> None:
    assert upload(http, new_bucket(http), filename, b"x").status_code == 400


def test_c085_keys_at_the_edge_are_taken(http: Http) -> None:
    bucket = new_bucket(http)
    for key in ("s" * 255, "/".join(["s" * 204] * 5), "...", ".hidden"):
        stored(http, bucket, key, b"x")
        assert download(http, bucket, key).status_code == 200


def test_c086_a_private_bucket_takes_and_gives_to_owner_and_admin_only(http: Http) -> None:
    _, owner = http.new_user()
    _, stranger = http.new_user()
    bucket = new_bucket(http, owner, public=False)
    file_id = stored(http, bucket, "a.txt", b"secret", bearer=owner)["file_id"]
    for bearer, status in ((None, 401), (stranger, 403)):
        assert download(http, bucket, "a.txt", bearer=bearer).status_code == status
        assert upload(http, bucket, "b.txt", b"x", bearer=bearer).status_code == status
        assert http.get(f"/storage/files/{file_id}", bearer=bearer).status_code == status
        for route in ("/storage/files/", "/storage/files/count"):
            assert http.get(route, params={"bucket_id": bucket["id"]}, bearer=bearer).status_code == status
        assert http.get("/storage/files/total-count", params={"search": "/a.txt"}, bearer=bearer).status_code == 200
        seen = http.get("/storage/files/", params={"page_size": 1000}, bearer=bearer).json()["data"]
        assert file_id not in [file["id"] for file in seen]
    for bearer in (owner, http.admin):
        assert download(http, bucket, "a.txt", bearer=bearer).content == b"secret"
        assert http.get(f"/storage/files/{file_id}", bearer=bearer).status_code == 200
    assert refreshed(http, bucket)["file_count"] == 1


def test_c087_strangers_upload_to_a_public_bucket_and_delete_their_own(http: Http) -> None:
    _, owner = http.new_user()
    user, uploader = http.new_user()
    bucket = new_bucket(http, owner)
    theirs = stored(http, bucket, "owner.txt", b"x", bearer=owner)["file_id"]
    own = stored(http, bucket, "own.txt", b"x", bearer=uploader)["file_id"]
    nobodys = stored(http, bucket, "nobody.txt", b"x")["file_id"]
    assert http.get(f"/storage/files/{own}").json()["owner_id"] == user["id"]
    assert http.get(f"/storage/files/{nobodys}").json()["owner_id"] is None
    for file_id in (theirs, nobodys):
        assert http.delete(f"/storage/files/{file_id}").status_code == 401
        assert http.delete(f"/storage/files/{file_id}", bearer=uploader).status_code == 403
        refused = http.patch(f"/storage/files/{file_id}", json={"metadata": {}}, bearer=uploader)
        assert refused.status_code == 403
    assert http.delete(f"/storage/files/{own}", bearer=uploader).status_code == 204
    assert http.delete(f"/storage/files/{nobodys}", bearer=owner).status_code == 204
    assert http.delete(f"/storage/files/{theirs}", bearer=http.admin).status_code == 204


def test_c088_a_file_beyond_the_limit_is_413_and_nothing_is_stored(http: Http) -> None:
    bucket = new_bucket(http, file_size_limit=1000)
    stored(http, bucket, "fits", b"x" * 1000)
    for data in (b"x" * 1001, iter([b"x" * 600, b"x" * 600])):
        answer = upload(http, bucket, "fits", data, bearer=http.admin)
        assert (answer.status_code, "1000 bytes" in answer.json()["detail"]) == (413, True)
    assert download(http, bucket, "fits").content == b"x" * 1000
    assert refreshed(http, bucket)["total_size"] == 1000


def test_c088_a_type_that_is_not_allowed_is_415_and_nothing_is_stored(http: Http) -> None:
    bucket = new_bucket(http, allowed_mime_types=["image/*", "Text/Plain"])
    for mime in ("image/png", "IMAGE/jpeg", "text/plain; charset=utf-8"):
        stored(http, bucket, unique("f"), b"x", mime=mime)
    for mime in ("text/html", "imagex/png", "application/octet-stream", "nonsense"):
        assert upload(http, bucket, "refused", b"x", mime=mime).status_code == 415
    stored(http, bucket, "guessed.png", b"x", mime=None)
    assert upload(http, bucket, "guessed.zip", b"x", mime=None).status_code == 415
    assert refreshed(http, bucket)["file_count"] == 4


def test_c088_refusals_come_before_the_body_is_sent(http: Http) -> None:
    bucket = new_bucket(http, file_size_limit=10, allowed_mime_types=["text/plain"])
    private = new_bucket(http, public=False)
    cases = [
        (bucket, "f", "text/html", "5", 415),
        (bucket, "f", "text/plain", "11", 413),
        (private, "f", "text/plain", "5", 401),
        (bucket, "a/../b", "text/plain", "5", 400),
    ]
    where = urlsplit(http.url)
    for target, filename, mime, length, status in cases:
        connection = http_connection(where.hostname, where.port)
        try:
            connection.putrequest("POST", f"/storage/buckets/{target['id']}/files?filename={filename}")
            for name, value in (
                ("X-API-Key", http.api_key),
                ("Content-Type", mime),
                ("Content-Length", length),
                ("Expect", "100-continue"),
            ):
                connection.putheader(name, value)
            connection.endheaders()
            assert connection.getresponse().status == status
        finally:
            connection.close()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("nonsense", "application/octet-stream"),
        ("text/", "application/octet-stream"),
        ("text/plain\r\nX-Evil: 1", "application/octet-stream"),
        ("text/plain; a=ü", "application/octet-stream"),
        ("text/" + "x" * 255, "application/octet-stream"),
        ("", "image/png"),
        (None, "image/png"),
    ],
)
def test_c084_only_a_proper_mime_type_is_kept(http: Http, sent: Optional[str], kept: str) -> None:
    bucket = new_bucket(http)
    query = {"bucket_id": bucket["id"], "filename": "picture.png"}
    if sent is not None:
        query["content_type"] = sent
    answer = http.post("/storage/files/upload", params=query, data=b"x")
    assert answer.status_code == 201
    assert http.get(f"/storage/files/{answer.json()['file_id']}").json()["mime_type"] == kept
    got = download(http, bucket, "picture.png")
    assert got.headers["Content-Type"] == kept
    assert "X-Evil" not in got.headers


def test_c089_the_list_pages_searches_and_sorts(http: Http) -> None:
    bucket = new_bucket(http)
    for number in range(7):
        stored(http, bucket, f"report {number}.txt", b"x" * (7 - number), path="Jahr_1")
    stored(http, bucket, "other%file.txt", b"x", path="JahrX1")
    seen: List[str] = []
    for page in (1, 2, 3):
        params = {"page": page, "page_size": 3, "sort_by": "size", "sort_order": "asc", "search": "REPORT"}
        body = listed(http, bucket, params=params)
        assert set(body) == {"data", "total", "page", "page_size"}
        assert (body["total"], body["page"], body["page_size"]) == (7, page, 3)
        seen += [file["size"] for file in body["data"]]
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    beyond = listed(http, bucket, params={"page": 9, "page_size": 3})
    assert (beyond["data"], beyond["total"]) == ([], 8)
    assert listed(http, bucket, params={"search": "%"})["total"] == 1
    assert listed(http, bucket, params={"search": "jahr_"})["total"] == 7
    assert listed(http, bucket, params={"search": "/Jahr"})["total"] == 8
    by_skip = listed(http, bucket, params={"skip": 2, "limit": 3, "sort_by": "path", "sort_order": "asc"})
    by_page = listed(http, bucket, params={"page_size": 8, "sort_by": "path", "sort_order": "asc"})
    assert by_skip["data"] == by_page["data"][2:5]
    newest = [file["path"] for file in listed(http, bucket)["data"]]
    assert newest[0] == "/JahrX1/other%file.txt"


@pytest.mark.parametrize(
    "query", ["page=0", "page_size=0", "page_size=1001", "skip=-1", "limit=0", "sort_by=owner_id", "sort_order=x"]
)
def test_c089_bad_list_parameters_are_422(http: Http, query: str) -> None:
    assert http.get(f"/storage/files/?{query}").status_code == 422


def test_c089_unknown_query_keys_are_400_and_unknown_buckets_404(http: Http) -> None:
    for route in ("", "count", "total-count", "stats"):
        assert http.get(f"/storage/files/{route}?colour=red").status_code == 400
    for route in ("", "count"):
        for bucket_id in (str(uuid.uuid4()), "nothing", "%00"):
            assert http.get(f"/storage/files/{route}?bucket_id={bucket_id}").status_code == 404


def test_c090_numbers_agree_with_the_list(http: Http) -> None:
    mark = unique("m")
    _, bearer = http.new_user()
    private = new_bucket(http, bearer, public=False)
    public = new_bucket(http)

    def numbers(bearer: Optional[str]) -> Dict[str, Any]:
        stats = http.get("/storage/files/stats", bearer=bearer).json()
        assert set(stats) == {"total_files", "total_size", "total_buckets", "buckets_count"}
        assert stats["total_buckets"] == stats["buckets_count"]
        assert stats["total_buckets"] == http.get("/storage/buckets/count", bearer=bearer).json()["count"]
        assert stats["total_files"] == http.get("/storage/files/total-count", bearer=bearer).json()["count"]
        assert stats["total_files"] == http.get("/storage/files/count", bearer=bearer).json()["count"]
        assert stats["total_files"] == http.get("/storage/files/", bearer=bearer).json()["total"]
        return stats

    before = numbers(bearer)
    nobody = numbers(None)
    stored(http, private, f"{mark}.txt", b"12345", bearer=bearer)
    stored(http, public, f"{mark}.txt", b"123", bearer=bearer)
    after = numbers(bearer)
    assert after["total_files"] - before["total_files"] == 2
    assert after["total_size"] - before["total_size"] == 8
    assert numbers(None)["total_size"] - nobody["total_size"] == 3
    for who, count in ((None, 1), (bearer, 2), (http.admin, 2)):
        assert http.get("/storage/files/total-count", params={"search": mark}, bearer=who).json() == {"count": count}
    for bucket in (private, public):
        params = {"bucket_id": bucket["id"], "search": mark}
        assert http.get("/storage/files/count", params=params, bearer=bearer).json() == {"count": 1}


def test_c091_metadata_is_replaced_whole_and_kept(http: Http) -> None:
    bucket = new_bucket(http)
    file_id = stored(http, bucket, "a", b"x", bearer=http.admin)["file_id"]
    route = f"/storage/files/{file_id}"
    for metadata in ({"tag": "archive", "n": [1, 2.5, None, {"ü": True}]}, {"other": 1e300}, {}, None):
        answer = http.patch(route, json={"metadata": metadata}, bearer=http.admin)
        assert (answer.status_code, answer.json()["metadata"]) == (200, metadata)
        assert http.get(route).json() == answer.json()
    for body in ({}, {"metadata": []}, {"metadata": "x"}, {"metadata": {}, "name": "b"}):
        assert http.patch(route, json=body, bearer=http.admin).status_code == 422
    assert http.patch(route, json={"metadata": {}}).status_code == 401
    unknown = http.patch(f"/storage/files/{uuid.uuid4()}", json={"metadata": {}}, bearer=http.admin)
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "File not found"})


def test_c092_a_deleted_file_is_gone(http: Http) -> None:
    bucket = new_bucket(http)
    file_id = stored(http, bucket, "a", b"xyz", bearer=http.admin)["file_id"]
    gone = http.delete(f"/storage/files/{file_id}", bearer=http.admin)
    assert (gone.status_code, gone.content) == (204, b"")
    assert download(http, bucket, "a").status_code == 404
    for method in ("GET", "DELETE"):
        assert http.request(method, f"/storage/files/{file_id}", bearer=http.admin).status_code == 404
    after = refreshed(http, bucket)
    assert (after["file_count"], after["total_size"]) == (0, 0)
    assert stored(http, bucket, "a", b"new", bearer=http.admin)["file_id"] != file_id


def test_c124_fifty_uploads_at_once_lose_nothing(http: Http) -> None:
    bucket = new_bucket(http)
    bearer = http.admin
    statuses: List[int] = []
    start = threading.Barrier(50)

    def one(number: int) -> None:
        start.wait(30)
        # Every fifth writes the same file.
        name = "shared" if number % 5 == 0 else f"file {number}"
        statuses.append(upload(http, bucket, name, bytes([number]) * (10_000 + number), bearer=bearer).status_code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(statuses) == [200] * 9 + [201] * 41
    files = listed(http, bucket)["data"]
    assert len(files) == 41
    now = refreshed(http, bucket)
    assert (now["file_count"], now["total_size"]) == (41, sum(file["size"] for file in files))
    for file in files:
        content = download(http, bucket, file["path"]).content
        assert len(content) == file["size"]
        assert len(set(content)) == 1


def test_c124_uploads_race_with_the_deletion_of_their_bucket(http: Http) -> None:
    bearer = http.admin
    for _ in range(3):
        bucket = new_bucket(http)
        statuses: List[int] = []
        start = threading.Barrier(7)

        def one(number: int, bucket: Dict[str, Any] = bucket, start: threading.Barrier = start) -> None:
            start.wait(30)
            statuses.append(upload(http, bucket, f"f{number}", b"x" * 1000, bearer=bearer).status_code)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        start.wait(30)
        assert http.delete(f"/storage/buckets/{bucket['id']}", bearer=bearer).status_code == 204
        for thread in threads:
            thread.join(60)
        assert len(statuses) == 6
        assert set(statuses) <= {201, 404}


def test_c124_uploads_race_with_the_deletion_of_their_uploader(http: Http) -> None:
    bucket = new_bucket(http)
    total = 0
    for turn in range(3):
        user, bearer = http.new_user()
        own = new_bucket(http, bearer)
        statuses: List[int] = []
        start = threading.Barrier(9)

        def one(
            number: int,
            target: Dict[str, Any],
            turn: int = turn,
            bearer: str = bearer,
            statuses: List[int] = statuses,
            start: threading.Barrier = start,
        ) -> None:
            start.wait(30)
            statuses.append(upload(http, target, f"{turn}-{number}", b"x" * 1000, bearer=bearer).status_code)

        threads = [threading.Thread(target=one, args=(number, (bucket, own)[number % 2])) for number in range(8)]
        for thread in threads:
            thread.start()
        start.wait(30)
        assert http.delete(f"/users/{user['id']}", bearer=http.admin).status_code == 204
        for thread in threads:
            thread.join(60)
        assert len(statuses) == 8
        assert set(statuses) <= {201, 401, 404}
        assert http.get(f"/storage/buckets/{own['id']}", bearer=http.admin).status_code == 404
        files = listed(http, bucket)
        assert total <= files["total"] <= total + 4
        total = files["total"]
        assert {file["owner_id"] for file in files["data"]} <= {None}
    now = refreshed(http, bucket)
    assert (now["file_count"], now["total_size"]) == (total, total * 1000)
