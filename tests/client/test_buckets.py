"""Buckets, as the client sees them on the embedded server."""

from __future__ import annotations

import uuid
from typing import Any, Callable, Dict

import pytest

from selfdb import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    SelfDB,
    UnprocessableEntityError,
)
from selfdb.models import BucketCreate, BucketUpdate
from tests.client.conftest import Recorded
from tests.support import unique

NewBucket = Callable[..., Any]


def test_c078_life_of_a_bucket(admin: SelfDB) -> None:
    name = unique("b")
    payload = BucketCreate(name=name, public=True, description="d", file_size_limit=10, allowed_mime_types=["a/b"])
    answer = admin.with_raw_response.storage.buckets.create(payload)
    assert answer.status_code == 201
    bucket = answer.parse()
    assert (bucket.name, bucket.public, bucket.description) == (name, True, "d")
    assert (bucket.file_size_limit, bucket.allowed_mime_types) == (10, ["a/b"])
    assert (bucket.file_count, bucket.total_size) == (0, 0)
    assert bucket.owner_id == admin.auth.me().id
    assert bucket.created_at is not None
    assert admin.storage.buckets.get(bucket.id) == bucket
    assert [found.id for found in admin.storage.buckets.list(search=name)] == [bucket.id]
    assert admin.storage.buckets.count(search=name) == 1
    changed = admin.storage.buckets.update(bucket.id, BucketUpdate(public=False))
    assert (changed.public, changed.description, changed.file_size_limit) == (False, "d", 10)
    gone = admin.with_raw_response.storage.buckets.delete(bucket.id)
    assert (gone.status_code, gone.parse().bucket_id) == (204, bucket.id)
    with pytest.raises(NotFoundError, match="Bucket not found"):
        admin.storage.buckets.get(bucket.id)


def test_c078_an_explicit_none_lifts_a_limit(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin, file_size_limit=1, allowed_mime_types=["text/plain"])
    lifted = admin.storage.buckets.update(bucket.id, BucketUpdate(file_size_limit=None))
    assert (lifted.file_size_limit, lifted.allowed_mime_types) == (None, ["text/plain"])


def test_c078_a_name_that_is_taken(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    with pytest.raises(ConflictError):
        admin.storage.buckets.create({"name": bucket.name})
    other = new_bucket(admin)
    with pytest.raises(ConflictError):
        admin.storage.buckets.update(other.id, {"name": bucket.name})


@pytest.mark.parametrize("name", ["AB", "a_b", "..", "1.2.3.4", "ab", "-abc", "x" * 64])
def test_c078_names_that_are_none(admin: SelfDB, name: str) -> None:
    with pytest.raises(UnprocessableEntityError):
        admin.storage.buckets.create({"name": name})


@pytest.mark.parametrize("payload", [{}, {"public": True}, {"name": "abc", "realtime": True}, {"name": 5}, "abc"])
def test_c078_payloads_that_do_not_fit(recorded: Recorded, payload: Any) -> None:
    with pytest.raises(InvalidRequestError):
        recorded.db.storage.buckets.create(payload)
    assert recorded.lines == []


@pytest.mark.parametrize("change", [{"public": True}, {"name": "abc"}, {"description": None}, {}])
def test_c078_exactly_what_is_set_is_sent(recorded: Recorded, change: Dict[str, Any]) -> None:
    recorded.will(*[{"id": "b", "name": "abc"}] * 2)
    recorded.db.storage.buckets.update("b", BucketUpdate(**change))
    assert recorded.last.json == change
    recorded.db.storage.buckets.update("b", change)
    assert recorded.last.json == change


def test_c086_a_private_bucket(
    user: SelfDB, admin: SelfDB, anonymous: SelfDB, someone: Callable[[], SelfDB], new_bucket: NewBucket
) -> None:
    bucket = new_bucket(user)
    user.storage.files.upload(bucket.id, "a.txt", b"abc")
    stranger = someone()
    for db, error in ((anonymous, AuthenticationError), (stranger, PermissionDeniedError)):
        with pytest.raises(error):
            db.storage.files.download(bucket.name, "a.txt")
        with pytest.raises(error):
            db.storage.buckets.get(bucket.id)
        assert db.storage.buckets.count(search=bucket.name) == 0
    for db in (user, admin):
        assert db.storage.files.download(bucket.name, "a.txt") == b"abc"


def test_c086_a_public_bucket(user: SelfDB, anonymous: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(user, public=True)
    user.storage.files.upload(bucket.id, "a.txt", b"abc")
    assert anonymous.storage.files.download(bucket.name, "a.txt") == b"abc"
    with pytest.raises(AuthenticationError):
        anonymous.storage.buckets.update(bucket.id, {"public": False})
    with pytest.raises(AuthenticationError):
        anonymous.storage.buckets.delete(bucket.id)


def test_c092_a_bucket_goes_with_its_files(admin: SelfDB, new_bucket: NewBucket) -> None:
    bucket = new_bucket(admin)
    files = [admin.storage.files.upload(bucket.id, name, b"x").file_id for name in ("a", "b")]
    assert admin.storage.buckets.get(bucket.id).file_count == 2
    admin.storage.buckets.delete(bucket.id)
    for file_id in files:
        with pytest.raises(NotFoundError):
            admin.storage.files.get(file_id)
    with pytest.raises(NotFoundError):
        admin.storage.files.download(bucket.name, "a")


def test_iter_gives_each_bucket_once(admin: SelfDB, new_bucket: NewBucket) -> None:
    mark = unique("m")
    names = [f"{mark}-{number}" for number in range(5)]
    for name in names:
        new_bucket(admin, name=name)
    for page_size in (1, 2, 5, 6):
        found = admin.storage.buckets.iter(search=mark, page_size=page_size)
        assert [bucket.name for bucket in found] == names
    down = admin.storage.buckets.iter(search=mark, sort_by="name", sort_order="desc", page_size=2)
    assert [bucket.name for bucket in down] == names[::-1]


@pytest.mark.parametrize("kind", [str, uuid.UUID])
def test_ids_of_every_kind(admin: SelfDB, new_bucket: NewBucket, kind: Callable[[str], Any]) -> None:
    bucket = new_bucket(admin)
    file = admin.storage.files.upload(kind(bucket.id), "a.txt", b"x")
    assert admin.storage.files.get(kind(file.file_id)).bucket_id == bucket.id
    assert admin.storage.files.count(kind(bucket.id)) == 1
    assert admin.storage.files.list(bucket_id=kind(bucket.id)).total == 1
