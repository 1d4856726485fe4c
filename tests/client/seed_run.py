"""What a call of the specification is run against, on either face of the client, and what is checked of it there."""

from __future__ import annotations

import json
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from selfdb import SelfDB
from tests.client.conftest import ACCESS
from tests.client.seed_case import FILE_BYTES, SeedCall
from tests.servers.replies import ReplyServer
from tests.support import unique

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


def check_exchange(case: SeedCall, server: ReplyServer) -> None:
    """Whether the one request that came to ``server`` is, to the byte, the one of ``case``."""
    assert server.lines == [case.wire.format_map(vars(MADE_UP))]
    sent = server.requests[-1]
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


# What has to be there before the call, where the call itself does not ask for it.
NEEDS = {
    "buckets.list": "bucket_id",
    "files.count": "file_id",
    "files.list": "file_id",
    "files.upload": "file_id",
    "files.download": "file_id",
}


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

    def prepare(self, case: SeedCall) -> None:
        """Make what has to be there before the call."""
        if case.id in NEEDS:
            getattr(self, NEEDS[case.id])
