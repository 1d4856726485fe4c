"""Every call of the specification: byte for byte on a recording server, then on the embedded one."""

from __future__ import annotations

import json
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Callable, List

import pytest

from selfdb import SelfDB
from tests.client.conftest import ACCESS, Recorded
from tests.client.seed_calls import SEED_CALLS
from tests.client.seed_case import FILE_BYTES, SeedCall
from tests.support import Http, unique

RUN = [case for case in SEED_CALLS if not case.realtime]
each_call = pytest.mark.parametrize("case", RUN, ids=[case.id for case in RUN])

MADE_UP = SimpleNamespace(
    email="user@example.com",
    password="password123",
    refresh_token="refresh-token-that-is-given",
    new_email="new@example.com",
    user_id="0b5f7a52-0000-4000-8000-000000000001",
    table_id="0b5f7a52-0000-4000-8000-000000000002",
    new_table="users",
    row_id="0b5f7a52-0000-4000-8000-000000000003",
    bucket_id="0b5f7a52-0000-4000-8000-000000000004",
    bucket_name="public",
    new_bucket="uploads",
    file_id="0b5f7a52-0000-4000-8000-000000000005",
)


def test_the_table_holds_every_call_of_the_specification_once() -> None:
    assert len(SEED_CALLS) == 56
    assert len([case for case in SEED_CALLS if case.realtime]) == 8
    assert len(RUN) == 48
    assert len({case.id for case in SEED_CALLS}) == 56


@each_call
def test_on_the_wire(case: SeedCall, recorded: Recorded) -> None:
    status, body = case.reply(MADE_UP)
    recorded.will((status, {}, body))
    result = case.call(recorded.db, MADE_UP)
    assert case.expect(result, MADE_UP), result
    assert recorded.lines == [case.wire.format_map(vars(MADE_UP))]
    sent = recorded.last
    wanted = case.body(MADE_UP)
    if isinstance(wanted, bytes):
        assert sent.body == wanted
        assert sent.header("Content-Type") == "application/pdf"
    elif wanted is None:
        assert sent.body == b""
        assert sent.header("Content-Type") is None
    else:
        assert json.loads(sent.body) == wanted
        assert sent.header("Content-Type") == "application/json"
    assert sent.header("X-API-Key") == "replies-key"
    assert sent.header("Authorization") == (f"Bearer {ACCESS}" if case.bearer else None)
    assert sent.header("Cookie") is None
    assert sent.header("Idempotency-Key") is None


class Living:
    """Things on a real server, each made when a call first asks for it; the owner is the one signed in."""

    def __init__(self, db: SelfDB, email: str, user_id: str) -> None:
        self.db = db
        self.email = email
        self.user_id = user_id
        self.password = "password123"
        self.new_email = f"{unique('u')}@example.com"
        self.new_table = unique("t")
        self.new_bucket = unique("b")

    @property
    def refresh_token(self) -> str:
        return self._refresh_token

    @cached_property
    def _refresh_token(self) -> str:
        token = self.db.refresh_token
        assert token is not None
        return token

    @cached_property
    def table_id(self) -> str:
        schema = {"text": {"type": "text"}, "name": {"type": "text"}}
        table = self.db.tables.create({"name": unique("t"), "table_schema": schema})
        self.row_id = self.db.tables.data.insert(table.id, {"text": "hello", "name": "important"})["id"]
        return table.id

    @cached_property
    def row_id(self) -> str:
        assert self.table_id
        return self.row_id

    @cached_property
    def _bucket(self) -> Any:
        return self.db.storage.buckets.create({"name": unique("b")})

    @property
    def bucket_id(self) -> str:
        return str(self._bucket.id)

    @property
    def bucket_name(self) -> str:
        return str(self._bucket.name)

    @cached_property
    def file_id(self) -> str:
        return self.db.storage.files.upload(self.bucket_id, "notes.pdf", FILE_BYTES).file_id


# What has to be there before the call, where the call itself does not ask for it.
NEEDS = {
    "buckets.list": "bucket_id",
    "files.count": "file_id",
    "files.list": "file_id",
    "files.upload": "file_id",
    "files.download": "file_id",
}


@each_call
def test_on_the_embedded_server(case: SeedCall, server: Any, http: Http, connect: Callable[..., SelfDB]) -> None:
    user, _ = http.new_user()
    db = connect(server)
    db.auth.login(email=user["email"], password="password123")
    things = Living(db, user["email"], user["id"])
    assert things.refresh_token
    if case.id in NEEDS:
        getattr(things, NEEDS[case.id])
    result = case.call(db, things)
    assert case.expect(result, things), result


def test_a_base_query_makes_both_pages(recorded: Recorded) -> None:
    """As the specification writes it: one base, two pages."""
    empty: List[Any] = []
    recorded.will(*[{"data": empty, "total": 0, "page": number, "page_size": 100} for number in (1, 2)])
    base = recorded.db.tables.data.query("t").sort("created_at", "desc")
    first, second = base.page(1).execute(), base.page(2).execute()
    assert (first.page, second.page) == (1, 2)
    assert recorded.lines == [
        "GET /tables/t/data?sort_by=created_at&sort_order=desc&page=1",
        "GET /tables/t/data?sort_by=created_at&sort_order=desc&page=2",
    ]
