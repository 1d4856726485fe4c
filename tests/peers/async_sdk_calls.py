"""Every call of the published asynchronous SDK 0.0.5, but realtime; prints what each returned as JSON.

Run by the interpreter of an environment that holds that SDK and nothing of ours, with the server's URL and
API key in SELFDB_PEER_URL and SELFDB_PEER_KEY.
"""

import asyncio
import dataclasses
import importlib.metadata
import io
import json
import os

import selfdb as peer
from selfdb import SelfDB
from selfdb.exceptions import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
)
from selfdb.models import (
    BucketCreate,
    BucketUpdate,
    ColumnDefinition,
    ColumnUpdate,
    TableCreate,
    TableUpdate,
    UserCreate,
    UserRole,
    UserUpdate,
)

RESULTS = {}


def plain(value):
    if dataclasses.is_dataclass(value):
        return {"class": type(value).__name__, **plain(dataclasses.asdict(value))}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if hasattr(value, "isoformat"):
        return {"time": value.isoformat()}
    return value


async def call(name, awaitable):
    """Await it, keep its result under ``name``, return it."""
    value = await awaitable
    assert name not in RESULTS, name
    RESULTS[name] = plain(value)
    return value


async def refused(name, awaitable, kind):
    try:
        await awaitable
    except kind as error:
        RESULTS[name] = {"error": type(error).__name__, "status": error.status_code, "text": str(error)}
    else:
        raise AssertionError(f"{name} was not refused")


async def unparsable(name, awaitable):
    """A call that does its work, and whose 204 this SDK cannot parse."""
    try:
        await awaitable
    except json.JSONDecodeError:
        RESULTS[name] = "204"
    else:
        raise AssertionError(f"{name} was parsed")


async def users(admin, stranger):
    pair = await call("auth.login", admin.auth.login(email="admin@example.com", password="password"))
    await call("auth.refresh", admin.auth.refresh())
    await call("auth.refresh successor", admin.auth.refresh())
    await refused("auth.refresh access", stranger.auth.refresh(pair.access_token), AuthenticationError)
    await call("auth.me", admin.auth.me())
    await refused("auth.login wrong", stranger.auth.login("admin@example.com", "wrong-one"), AuthenticationError)
    await refused("auth.me anonymous", stranger.auth.me(), AuthenticationError)
    payload = UserCreate(email="eve@example.com", password="password123", firstName="Eve", lastName="Peer")
    user = await call("auth.users.create", stranger.auth.users.create(payload))
    await refused("auth.users.create again", stranger.auth.users.create(payload), ConflictError)
    await call("auth.count", admin.auth.count())
    await call("auth.count search", admin.auth.count(search="peer"))
    await call("auth.users.list", admin.auth.users.list(limit=25, sort_by="email", sort_order="asc"))
    await call("auth.users.list search", admin.auth.users.list(search="EVE"))
    await refused("auth.users.list bad", admin.auth.users.list(sort_by="password"), UnprocessableEntityError)
    await call("auth.users.get", admin.auth.users.get(user.id))
    update = UserUpdate(firstName="Evelyn", password="password456", role=UserRole.USER)
    await call("auth.users.update", admin.auth.users.update(user.id, update))
    await call("auth.login user", stranger.auth.login("eve@example.com", "password456"))
    return user


async def tables(admin, other):
    schema = {
        "name": {"type": "text", "nullable": False},
        "age": {"type": "integer", "nullable": True},
        "active": {"type": "boolean", "nullable": True, "default": True},
    }
    payload = TableCreate(name="users", table_schema=schema, public=True, description="People", metadata={"a": 1})
    table = await call("tables.create", admin.tables.create(payload))
    await refused("tables.create again", admin.tables.create(payload), ConflictError)
    await call("tables.count", admin.tables.count())
    await call("tables.count search", admin.tables.count(search="peop"))
    await call("tables.list", admin.tables.list(skip=0, limit=50, sort_by="created_at", sort_order="desc"))
    await call("tables.get", other.tables.get(table.id))
    await refused(
        "tables.update other", other.tables.update(table.id, TableUpdate(public=False)), PermissionDeniedError
    )
    await call("tables.update", admin.tables.update(table.id, TableUpdate(name="people", realtime_enabled=True)))
    column = ColumnDefinition(name="city", type="varchar", default="Bern")
    await call("tables.columns.add", admin.tables.columns.add(table.id, column))
    await call("tables.columns.update", admin.tables.columns.update(table.id, "city", ColumnUpdate(new_name="town")))
    await call("tables.columns.remove", admin.tables.columns.remove(table.id, "age"))
    rows = []
    for name in ("Ada", "Bob", "50% Cid"):
        rows.append(await call(f"tables.data.insert {name}", admin.tables.data.insert(table.id, {"name": name})))
    await refused("tables.data.insert bad", admin.tables.data.insert(table.id, {"nope": 1}), BadRequestError)
    await call(
        "tables.data.fetch", other.tables.data.fetch(table.id, page=1, page_size=2, sort_by="name", sort_order="asc")
    )
    await call("tables.data.fetch search", other.tables.data.fetch(table.id, search="50%"))
    query = admin.tables.data.query(table.id).search("b").sort("name", "desc").page(1).page_size(50)
    await call("tables.data.query", query.execute())
    await call(
        "tables.data.query page 2", admin.tables.data.query(table.id).sort("name", "asc").page(2).page_size(2).execute()
    )
    await call("tables.data.update_row", admin.tables.data.update_row(table.id, rows[0]["id"], {"town": "Thun"}))
    by_name = admin.tables.data.update_row(table.id, "Bob", {"active": False}, id_column="name")
    await call("tables.data.update_row by name", by_name)
    await unparsable("tables.data.delete_row", admin.tables.data.delete_row(table.id, rows[0]["id"]))
    await call("tables.data.fetch after", admin.tables.data.fetch(table.id))
    await unparsable("tables.delete", admin.tables.delete(table.id))
    await refused("tables.get after", admin.tables.get(table.id), NotFoundError)


async def storage(admin, other):
    buckets, files = admin.storage.buckets, admin.storage.files
    payload = BucketCreate(name="public-docs", description="Papers", public=True, file_size_limit=1 << 20)
    bucket = await call("buckets.create", buckets.create(payload))
    await refused("buckets.create again", buckets.create(payload), ConflictError)
    await call("buckets.count", buckets.count())
    await call("buckets.count search", buckets.count(search="public"))
    await call("buckets.list", buckets.list(limit=20, sort_by="name", sort_order="asc"))
    await call("buckets.get", buckets.get(bucket.id))
    await call("buckets.update", buckets.update(bucket.id, BucketUpdate(description="Letters")))
    content = bytes(range(256)) * 16
    upload = files.upload(bucket.id, "notes.pdf", content, path="/docs", content_type="application/pdf")
    uploaded = await call("files.upload", upload)
    await call("files.upload stream", files.upload(bucket.id, "ü #1+.txt", io.BytesIO(b"text")))
    await call("files.upload other", other.storage.files.upload(bucket.id, "hers.txt", b"hers"))
    await call("files.stats", files.stats())
    await call("files.total_count", files.total_count())
    await call("files.total_count search", files.total_count(search="pdf"))
    await call("files.count", files.count(bucket_id=bucket.id))
    await call("files.count search", files.count(bucket_id=bucket.id, search="hers"))
    await call("files.list", files.list(bucket_id=bucket.id, page_size=50, sort_by="name", sort_order="asc"))
    await call("files.get", files.get(uploaded.file_id))
    await call("files.update_metadata", files.update_metadata(uploaded.file_id, {"tag": "archive"}))
    downloaded = await files.download(bucket_name="public-docs", path="docs/notes.pdf")
    RESULTS["files.download"] = downloaded == content
    await call("files.download text", files.download(bucket_name="public-docs", path="hers.txt"))
    await refused("files.download absent", files.download("public-docs", "absent"), NotFoundError)
    await refused("files.delete other", other.storage.files.delete(uploaded.file_id), PermissionDeniedError)
    await call("files.delete", files.delete(uploaded.file_id))
    await refused("files.get after", files.get(uploaded.file_id), NotFoundError)
    await call("buckets.delete", buckets.delete(bucket.id))
    await refused("buckets.get after", buckets.get(bucket.id), NotFoundError)


async def farewell(admin, other, user):
    await call("auth.logout", other.auth.logout())
    RESULTS["tokens after logout"] = [other.access_token, other.refresh_token]
    await other.auth.login("eve@example.com", "password456")
    async with client() as second:
        pair = await second.auth.login("eve@example.com", "password456")
        await call("auth.logout_all", other.auth.logout_all())
        await refused("auth.refresh after logout_all", second.auth.refresh(pair.refresh_token), AuthenticationError)
    await unparsable("auth.users.delete", admin.auth.users.delete(user.id))
    await refused("auth.users.get after", admin.auth.users.get(user.id), NotFoundError)


def client(key=None):
    return SelfDB(base_url=os.environ["SELFDB_PEER_URL"], api_key=key or os.environ["SELFDB_PEER_KEY"])


async def main():
    RESULTS["version"] = importlib.metadata.version("selfdb")
    RESULTS["home"] = peer.__file__
    async with client() as admin, client() as other, client("wrong-key") as unknown:
        user = await users(admin, other)
        await tables(admin, other)
        await storage(admin, other)
        await farewell(admin, other, user)
        await refused("wrong key", unknown.tables.list(), AuthenticationError)


asyncio.run(main())
print(json.dumps(RESULTS))
