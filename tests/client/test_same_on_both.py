"""The same calls on SQLite and on PostgreSQL: every answer the same, status by status and byte by byte."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Tuple

import pytest
import requests

from selfdb import SelfDB, SelfDBError

Answer = Tuple[str, int, str]

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)")
TOKEN = re.compile(r"[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}")
DURATION = re.compile(r'"upload_time":[0-9.e-]+')

A_MOMENT = "2026-01-02T03:04:05.678901+00:00"
EIGHT = {
    "a_text": {"type": "text"},
    "a_varchar": {"type": "varchar(20)", "nullable": False, "default": "v"},
    "an_integer": {"type": "integer"},
    "a_bigint": {"type": "bigint"},
    "a_boolean": {"type": "boolean", "default": True},
    "a_timestamp": {"type": "timestamp"},
    "a_jsonb": {"type": "jsonb"},
    "a_uuid": {"type": "uuid"},
}
ROWS: List[Dict[str, Any]] = [
    {"a_text": "ä 'quoted' \U0001f389", "an_integer": -(2**31), "a_bigint": 2**63 - 1, "a_timestamp": A_MOMENT},
    {"a_text": "b", "an_integer": "5", "a_boolean": "f", "a_jsonb": {"z": 1, "a": [1.5, None, "x"]}},
    {"a_text": None, "a_varchar": "w", "a_jsonb": "text", "a_uuid": "0B5F7A52-0000-4000-8000-00000000000A"},
    {"a_text": "B_%", "a_timestamp": "2026-01-02 03:04:05", "a_jsonb": [], "an_integer": 7},
]
REFUSED: List[Dict[str, Any]] = [
    {},
    {"colour": "red"},
    {"a_varchar": None},
    {"a_varchar": "x" * 21},
    {"an_integer": 2**31},
    {"an_integer": True},
    {"a_bigint": 2**63},
    {"a_boolean": "maybe"},
    {"a_timestamp": "yesterday"},
    {"a_uuid": "x"},
    {"a_text": "a\0b"},
]
Calls = List[Callable[[], Any]]


def _users(db: SelfDB) -> None:
    eve = {"email": "eve@example.com", "password": "password123", "firstName": "Eve", "lastName": "O'Neil"}
    user = db.auth.users.create(eve)
    _all(
        lambda: db.auth.users.create({**eve, "email": "EVE@example.com"}),
        lambda: db.auth.users.create({**eve, "email": "short@example.com", "password": "short"}),
        lambda: db.auth.users.list(sort_by="email", sort_order="asc"),
        lambda: db.auth.users.list(search="o'n", limit=1),
        lambda: db.auth.users.list(sort_by="password"),
        lambda: db.auth.count(search="EVE"),
        lambda: db.auth.users.get(user.id),
        lambda: db.auth.users.get("not-a-uuid"),
        lambda: db.auth.users.update(user.id, {"lastName": "B", "isActive": False}),
        lambda: db.auth.users.update(user.id, {"email": "admin@example.com"}),
        lambda: db.auth.users.delete(db.auth.me().id),
        lambda: db.auth.users.delete(user.id),
        lambda: db.auth.users.delete(user.id),
    )


def _tables(db: SelfDB) -> None:
    table = db.tables.create({"name": "users", "table_schema": EIGHT, "description": "d", "metadata": {"b": 1, "a": 2}})
    columns, data = db.tables.columns, db.tables.data
    for row in ROWS + REFUSED:
        _all(lambda row=row: data.insert(table.id, row))
    for name in (*EIGHT, "created_at", "colour"):  # and not the id, which is drawn at random
        for order in ("asc", "desc"):
            _all(lambda name=name, order=order: data.query(table.id).sort(name, order).execute())
    for term in ("b", "B_%", "Ä", "nothing"):
        _all(lambda term=term: data.query(table.id).search(term).execute())
    first = data.query(table.id).first()
    assert first is not None
    _all(
        lambda: db.tables.create({"name": "users", "table_schema": EIGHT}),
        lambda: db.tables.create({"name": "Abc", "table_schema": {"a": {"type": "money"}}}),
        lambda: db.tables.list(search="USE"),
        lambda: db.tables.count(),
        lambda: data.fetch(table.id, page=2, page_size=3),
        lambda: data.update_row(table.id, first["id"], {"a_jsonb": {"n": None}, "a_boolean": None}),
        lambda: data.update_row(table.id, 7, {"a_text": "seven"}, id_column="an_integer"),
        lambda: data.update_row(table.id, "x", {"a_text": "y"}, id_column="an_integer"),
        lambda: data.update_row(table.id, "v", {"a_text": "y"}, id_column="a_varchar"),
        lambda: data.update_row(table.id, first["id"], {}),
        lambda: columns.add(table.id, {"name": "state", "type": "text", "default_value": "open"}),
        lambda: columns.add(table.id, {"name": "must", "type": "text", "nullable": False}),
        lambda: columns.add(table.id, {"name": "State", "type": "text"}),
        lambda: columns.add(table.id, {"name": "once", "type": "integer", "unique": True}),
        lambda: data.insert(table.id, {"once": 1}),
        lambda: data.insert(table.id, {"once": 1}),
        lambda: columns.update(table.id, "an_integer", {"type": "text"}),
        lambda: columns.update(table.id, "a_text", {"type": "integer"}),
        lambda: columns.update(table.id, "a_boolean", {"new_name": "flag", "default_value": None}),
        lambda: columns.update(table.id, "colour", {"nullable": True}),
        lambda: columns.remove(table.id, "a_uuid"),
        lambda: columns.remove(table.id, "id"),
        lambda: data.fetch(table.id),
        lambda: data.delete_row(table.id, first["id"]),
        lambda: data.delete_row(table.id, first["id"]),
        lambda: db.tables.update(table.id, {"name": "renamed", "public": True, "realtime_enabled": True}),
        lambda: db.tables.get(table.id),
        lambda: db.tables.delete(table.id),
        lambda: db.tables.get(table.id),
    )


def _storage(db: SelfDB) -> None:
    buckets, files = db.storage.buckets, db.storage.files
    bucket = buckets.create({"name": "uploads", "file_size_limit": 10, "allowed_mime_types": ["text/plain"]})
    upload = files.upload(bucket.id, "a b.txt", b"0123456789", path="/docs")
    _all(
        lambda: buckets.create({"name": "uploads"}),
        lambda: buckets.create({"name": "a_b"}),
        lambda: files.upload(bucket.id, "big.txt", b"x" * 11),
        lambda: files.upload(bucket.id, "a.png", b""),
        lambda: files.upload(bucket.id, "a b.txt", b"new", path="docs"),
        lambda: files.upload("not-a-uuid", "a.txt", b""),
        lambda: files.download("uploads", "docs/a b.txt"),
        lambda: files.download("uploads", "docs/nothing"),
        lambda: files.list(bucket_id=bucket.id, search="A B", page_size=50),
        lambda: files.stats(),
        lambda: files.count(bucket.id),
        lambda: files.total_count(search="docs/"),
        lambda: files.update_metadata(upload.file_id, {"b": [1], "a": None}),
        lambda: files.get(upload.file_id),
        lambda: buckets.update(bucket.id, {"file_size_limit": None, "public": True}),
        lambda: buckets.list(sort_by="total_size"),
        lambda: buckets.count(search="UP"),
        lambda: files.delete(upload.file_id),
        lambda: files.delete(upload.file_id),
        lambda: buckets.delete(bucket.id),
        lambda: buckets.get(bucket.id),
    )


def _all(*calls: Callable[[], Any]) -> None:
    """Each call; what is refused is an answer too."""
    for call in calls:
        try:
            call()
        except SelfDBError as error:
            if error.status_code is None or error.status_code >= 500:
                raise


def _heard(server: Any, story: Callable[[SelfDB], None]) -> List[Answer]:
    """What the server answered to each request of a story, without what differs each time."""
    answers: List[Answer] = []
    names: Dict[str, str] = {}

    def same(text: str) -> str:
        text = TOKEN.sub("token", text)
        text = MOMENT.sub(lambda found: found[0] if found[0] == A_MOMENT else "moment", text)
        text = DURATION.sub('"upload_time":0', text)
        return UUID.sub(lambda found: names.setdefault(found[0], f"id-{len(names)}"), text)

    def note(answer: requests.Response, **options: Any) -> None:
        path = same(str(answer.request.path_url))
        stream = answer.ok and "/download/" in path  # whoever reads it here takes it away from the client
        text = answer.headers["Content-Type"] if stream else same(answer.text)
        answers.append((f"{answer.request.method} {path}", answer.status_code, text))

    with requests.Session() as session:
        session.trust_env = False
        session.hooks["response"].append(note)
        with SelfDB(server.url, server.api_key, session=session, max_retries=0) as db:
            db.auth.login("admin@example.com", "password")
            story(db)
    return answers


@pytest.mark.parametrize("story", [_users, _tables, _storage], ids=["users", "tables", "storage"])
def test_c123_both_databases_answer_alike(make_server: Callable[..., Any], story: Callable[[SelfDB], None]) -> None:
    sqlite, postgresql = (_heard(make_server(backend=backend), story) for backend in ("sqlite", "postgresql"))
    assert len(sqlite) > 15
    for one, other in zip(sqlite, postgresql):
        assert one == other
    assert len(sqlite) == len(postgresql)
