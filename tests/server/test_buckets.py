"""Buckets over raw HTTP, on both databases."""

from __future__ import annotations

import threading
import uuid
from typing import Any, Dict, List

import pytest

from tests.server.storage import download, listed, new_bucket, refreshed, stored
from tests.support import Http, unique

FIELDS = {
    "id",
    "name",
    "public",
    "owner_id",
    "description",
    "file_size_limit",
    "allowed_mime_types",
    "file_count",
    "total_size",
    "created_at",
    "updated_at",
}


def test_c078_a_bucket_is_created_read_changed_counted_and_deleted(http: Http) -> None:
    name = unique("b")
    body = {
        "name": name,
        "public": False,
        "description": "pictures",
        "file_size_limit": 1000,
        "allowed_mime_types": ["image/*", "text/plain"],
    }
    answer = http.post("/storage/buckets/", json=body, bearer=http.admin)
    assert answer.status_code == 201
    bucket = answer.json()
    assert set(bucket) == FIELDS
    assert {key: bucket[key] for key in body} == body
    assert (bucket["file_count"], bucket["total_size"]) == (0, 0)
    assert bucket["owner_id"] == http.get("/users/me", bearer=http.admin).json()["id"]
    assert bucket["created_at"].endswith("+00:00")
    route = f"/storage/buckets/{bucket['id']}"
    assert http.get(route, bearer=http.admin).json() == bucket
    assert http.get("/storage/buckets/", params={"search": name}, bearer=http.admin).json() == [bucket]

    changed = http.patch(route, json={"public": True, "file_size_limit": None}, bearer=http.admin)
    assert changed.status_code == 200
    expected = {**bucket, "public": True, "file_size_limit": None}
    assert {**changed.json(), "updated_at": None} == {**expected, "updated_at": None}
    assert changed.json()["updated_at"] > bucket["updated_at"]
    assert http.patch(route, json={}, bearer=http.admin).json() == changed.json()

    assert http.get("/storage/buckets/count", params={"search": name}, bearer=http.admin).json() == {"count": 1}
    gone = http.delete(route, bearer=http.admin)
    assert (gone.status_code, gone.content) == (204, b"")
    assert http.get(route, bearer=http.admin).status_code == 404
    assert http.get("/storage/buckets/count", params={"search": name}, bearer=http.admin).json() == {"count": 0}


def test_c078_a_taken_name_is_409_for_new_and_renamed_buckets(http: Http) -> None:
    first, second = new_bucket(http), new_bucket(http)
    answer = http.post("/storage/buckets/", json={"name": first["name"]}, bearer=http.admin)
    assert (answer.status_code, answer.json()) == (409, {"detail": "Bucket name already exists"})
    route = f"/storage/buckets/{second['id']}"
    assert http.patch(route, json={"name": first["name"]}, bearer=http.admin).status_code == 409
    assert http.patch(route, json={"name": second["name"]}, bearer=http.admin).status_code == 200
    assert refreshed(http, first) == first


@pytest.mark.parametrize(
    "name", ["AB", "a_b", "..", "1.2.3.4", "ab", "a" * 64, "-abc", "abc-", "a..b", "a b", "ä-b", "abc\n", ""]
)
def test_c078_a_bad_name_is_422(http: Http, name: str) -> None:
    answer = http.post("/storage/buckets/", json={"name": name}, bearer=http.admin)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "name"]


@pytest.mark.parametrize("name", ["abc", "1.2.3", "a.b-c", "0" * 63])
def test_c078_a_good_name_at_the_edge_is_taken(http: Http, name: str) -> None:
    answer = http.post("/storage/buckets/", json={"name": name}, bearer=http.admin)
    assert answer.status_code == 201
    assert http.delete(f"/storage/buckets/{answer.json()['id']}", bearer=http.admin).status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        {"public": "yes"},
        {"file_size_limit": 0},
        {"file_size_limit": 2**63},
        {"file_size_limit": True},
        {"allowed_mime_types": ["png"]},
        {"allowed_mime_types": ["image/png\r\nX-Evil: 1"]},
        {"allowed_mime_types": "image/png"},
        {"description": "d" * 501},
        {"owner_id": str(uuid.uuid4())},
    ],
)
def test_c078_a_bad_field_is_422_and_changes_nothing(http: Http, body: Dict[str, Any]) -> None:
    bucket = new_bucket(http)
    assert http.post("/storage/buckets/", json={"name": unique("b"), **body}, bearer=http.admin).status_code == 422
    assert http.patch(f"/storage/buckets/{bucket['id']}", json=body, bearer=http.admin).status_code == 422
    assert http.patch(f"/storage/buckets/{bucket['id']}", json={"name": None}, bearer=http.admin).status_code == 422
    assert refreshed(http, bucket) == bucket


@pytest.mark.parametrize("bucket_id", ["nothing", "00000000-0000-4000-8000-000000000000", "%00", "a%2Fb", "%ff"])
def test_c078_an_unknown_or_malformed_id_is_404(http: Http, bucket_id: str) -> None:
    route = f"/storage/buckets/{bucket_id}"
    assert http.get(route, bearer=http.admin).status_code == 404
    assert http.patch(route, json={}, bearer=http.admin).status_code == 404
    assert http.delete(route, bearer=http.admin).status_code == 404


def test_c086_a_private_bucket_is_for_its_owner_and_admins(http: Http) -> None:
    _, owner = http.new_user()
    _, stranger = http.new_user()
    bucket = new_bucket(http, owner, public=False)
    route = f"/storage/buckets/{bucket['id']}"
    assert http.get(route).status_code == 401
    assert http.get(route).headers["WWW-Authenticate"] == "Bearer"
    assert http.get(route, bearer=stranger).status_code == 403
    for bearer in (owner, http.admin):
        assert http.get(route, bearer=bearer).json() == bucket
    seen = {"search": bucket["name"]}
    for bearer, count in ((None, 0), (stranger, 0), (owner, 1), (http.admin, 1)):
        assert len(http.get("/storage/buckets/", params=seen, bearer=bearer).json()) == count
        assert http.get("/storage/buckets/count", params=seen, bearer=bearer).json() == {"count": count}


def test_c087_only_its_owner_and_admins_change_a_public_bucket(http: Http) -> None:
    _, owner = http.new_user()
    _, stranger = http.new_user()
    bucket = new_bucket(http, owner)
    route = f"/storage/buckets/{bucket['id']}"
    assert http.get(route).json() == bucket
    for method in ("PATCH", "DELETE"):
        assert http.request(method, route, json={"public": False}).status_code == 401
        assert http.request(method, route, json={"public": False}, bearer=stranger).status_code == 403
    assert refreshed(http, bucket) == bucket
    assert http.patch(route, json={"public": False}, bearer=owner).status_code == 200
    assert http.delete(route, bearer=http.admin).status_code == 204
    assert http.post("/storage/buckets/", json={"name": unique("b")}).status_code == 401


def test_c078_lists_page_without_overlap_in_every_order(http: Http) -> None:
    mark = unique("m")
    buckets = [new_bucket(http, description=f"{mark} {number}") for number in range(5)]
    for number, bucket in enumerate(buckets):
        stored(http, bucket, "f", b"x" * (10 - number), bearer=http.admin)
    for key in ("name", "created_at", "updated_at", "file_count", "total_size"):
        for order in ("asc", "desc"):
            pages: List[Dict[str, Any]] = []
            for skip in range(0, 6, 2):
                params = {"search": mark, "sort_by": key, "sort_order": order, "skip": skip, "limit": 2}
                page = http.get("/storage/buckets/", params=params, bearer=http.admin).json()
                assert len(page) <= 2
                pages += page
            assert {bucket["id"] for bucket in pages} == {bucket["id"] for bucket in buckets}
            values = [bucket[key] for bucket in pages]
            assert values == sorted(values, reverse=order == "desc")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "skip=-1", "sort_by=owner_id", "sort_order=up", "search=%00"]
)
def test_c078_bad_list_parameters_are_422(http: Http, query: str) -> None:
    assert http.get(f"/storage/buckets/?{query}").status_code == 422


def test_c078_unknown_query_keys_are_400(http: Http) -> None:
    answer = http.get("/storage/buckets/?b=1&limit=2&a=3")
    assert (answer.status_code, answer.json()) == (400, {"detail": "Unknown query parameters: b, a"})
    assert http.get("/storage/buckets/count?skip=1").status_code == 400


def test_c078_search_is_literal_and_ignores_case(http: Http) -> None:
    mark = unique("m")
    bucket = new_bucket(http, description=f"{mark} 50% Größe")
    new_bucket(http, description=f"{mark} 500 groesse")
    for text in (f"{mark} 50%", f"{mark.upper()} 50% GRÖSSE"[: len(mark) + 4]):
        found = http.get("/storage/buckets/", params={"search": text}, bearer=http.admin).json()
        assert [item["id"] for item in found] == [bucket["id"]]
    assert http.get("/storage/buckets/count", params={"search": f"{mark}_50"}).json() == {"count": 0}


def test_c092_deleting_a_bucket_deletes_its_files(http: Http) -> None:
    bucket = new_bucket(http)
    reply = stored(http, bucket, "a.txt", b"one")
    stored(http, bucket, "b.txt", b"two")
    assert download(http, bucket, "a.txt").content == b"one"
    assert http.delete(f"/storage/buckets/{bucket['id']}", bearer=http.admin).status_code == 204
    assert download(http, bucket, "a.txt").status_code == 404
    assert http.get(f"/storage/files/{reply['file_id']}").status_code == 404
    again = new_bucket(http, name=bucket["name"])
    assert listed(http, again)["total"] == 0


def test_c034_buckets_go_with_their_owner_and_files_in_others_buckets_stay(http: Http) -> None:
    user, bearer = http.new_user()
    own = new_bucket(http, bearer)
    other = new_bucket(http)
    stored(http, own, "mine.txt", b"mine", bearer=bearer)
    file_id = stored(http, other, "theirs.txt", b"theirs", bearer=bearer)["file_id"]
    assert http.get(f"/storage/files/{file_id}").json()["owner_id"] == user["id"]
    assert http.delete(f"/users/{user['id']}", bearer=http.admin).status_code == 204
    assert http.get(f"/storage/buckets/{own['id']}", bearer=http.admin).status_code == 404
    assert download(http, own, "mine.txt").status_code == 404
    assert http.get(f"/storage/files/{file_id}").json()["owner_id"] is None
    assert download(http, other, "theirs.txt").content == b"theirs"


def test_c124_one_of_many_who_claim_a_name_at_once_gets_it(http: Http) -> None:
    name = unique("b")
    statuses: List[int] = []
    start = threading.Barrier(8)
    bearer = http.admin

    def claim() -> None:
        start.wait(10)
        statuses.append(http.post("/storage/buckets/", json={"name": name}, bearer=bearer).status_code)

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(statuses) == [201] + [409] * 7
