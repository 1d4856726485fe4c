"""What type checkers must accept of ``selfdb.aio``, with the types that they must see: read by a test, never run.

The functions called ``seed_...`` hold every awaited call of the specification, as it stands there.
"""

# pyright: strict

from __future__ import annotations

from pathlib import Path
from typing import Any, AsyncIterator, Dict, List, Optional, Union

from pydantic import BaseModel
from typing_extensions import assert_type

from selfdb.aio import (
    BulkReport,
    Channel,
    Download,
    EventStream,
    Follower,
    RawResponse,
    RowIterator,
    SelfDB,
    TableDataQueryBuilder,
)
from selfdb.aio.indexie import (
    Collection,
    Indexie,
    LiveQuery,
    OverlayTransaction,
    Strategy,
    Table,
    Transaction,
    Version,
    use_live_query,
)
from selfdb.models import (
    BucketCreate,
    BucketDeleteResponse,
    BucketResponse,
    BucketUpdate,
    ColumnDefinition,
    ColumnUpdate,
    FileDataResponse,
    FileDeleteResponse,
    FileResponse,
    FileUploadResponse,
    LogoutResponse,
    RealtimePayload,
    RowDeleteResponse,
    StorageStatsResponse,
    SystemStatus,
    TableCreate,
    TableDataResponse,
    TableDeleteResponse,
    TableRead,
    TableUpdate,
    TokenPair,
    UserCreate,
    UserDeleteResponse,
    UserRead,
    UserUpdate,
)

Row = Dict[str, Any]


class Note(BaseModel):
    title: str


# The specification


async def seed_auth(selfdb: SelfDB, user_id: str) -> None:
    assert_type(await selfdb.auth.login(email="...", password="..."), TokenPair)
    assert_type(await selfdb.auth.refresh(refresh_token="..."), TokenPair)
    assert_type(await selfdb.auth.logout(refresh_token="..."), LogoutResponse)
    assert_type(await selfdb.auth.logout_all(), LogoutResponse)
    assert_type(await selfdb.auth.me(), UserRead)
    assert_type(await selfdb.auth.count(search="eve"), int)
    payload = UserCreate(email="user@example.com", password="password123", firstName="John", lastName="Doe")
    assert_type(await selfdb.auth.users.create(payload=payload), UserRead)
    assert_type(await selfdb.auth.users.list(limit=25), List[UserRead])
    assert_type(await selfdb.auth.users.get(user_id), UserRead)
    assert_type(await selfdb.auth.users.update(user_id, payload=UserUpdate(firstName="Jane")), UserRead)
    assert_type(await selfdb.auth.users.delete(user_id), UserDeleteResponse)


async def seed_tables(selfdb: SelfDB, table_id: str, row_id: str, updates: Row) -> None:
    assert_type(await selfdb.tables.count(search="docs"), int)
    schema = {"name": {"type": "text", "nullable": False}, "email": {"type": "varchar", "nullable": False}}
    table = await selfdb.tables.create(payload=TableCreate(name="users", table_schema=schema, public=False))
    assert_type(table, TableRead)
    tables = await selfdb.tables.list(skip=0, limit=50, search="docs", sort_by="created_at", sort_order="desc")
    assert_type(tables, List[TableRead])
    assert_type(await selfdb.tables.get(table_id), TableRead)
    changes = TableUpdate(name="new_name", public=True, realtime_enabled=True)
    assert_type(await selfdb.tables.update(table_id, changes), TableRead)
    assert_type(await selfdb.tables.delete(table_id), TableDeleteResponse)
    column = ColumnDefinition(name="age", type="integer")
    assert_type(await selfdb.tables.columns.add(table_id, column), TableRead)
    assert_type(await selfdb.tables.columns.update(table_id, "name", ColumnUpdate(new_name="title")), TableRead)
    assert_type(await selfdb.tables.columns.remove(table_id, "name"), TableRead)
    rows = await selfdb.tables.data.fetch(table_id, page=2, page_size=25, sort_by="created_at", search="query")
    assert_type(rows, TableDataResponse[Row])
    assert_type(await selfdb.tables.data.insert(table_id, {"text": "hi"}), Row)
    assert_type(await selfdb.tables.data.update_row(table_id, row_id, updates, id_column="id"), Row)
    assert_type(await selfdb.tables.data.delete_row(table_id, row_id, id_column="id"), RowDeleteResponse)


async def seed_queries(selfdb: SelfDB, table_id: str) -> None:
    query = selfdb.tables.data.query(table_id)
    assert_type(query, TableDataQueryBuilder[Row])
    result = await query.search("hello").sort("created_at", "desc").page(2).page_size(50).execute()
    assert_type(result, TableDataResponse[Row])
    assert_type(result.data[0], Row)
    result = await selfdb.tables.data.query(table_id).search("hello").execute()
    result = await selfdb.tables.data.query(table_id).sort("created_at", "desc").page(2).page_size(25).execute()
    result = (
        await selfdb.tables.data.query(table_id)
        .search("important")
        .sort("updated_at", "asc")
        .page(3)
        .page_size(100)
        .execute()
    )
    base_query = selfdb.tables.data.query(table_id).sort("created_at", "desc")
    assert_type(await base_query.page(1).execute(), TableDataResponse[Row])
    assert_type(await base_query.page(2).execute(), TableDataResponse[Row])
    oldest_first = await selfdb.tables.data.query(table_id).sort("created_at", "asc").page_size(10).execute()
    assert_type(oldest_first, TableDataResponse[Row])
    result = await selfdb.tables.data.query(table_id).search("term").sort("name").execute()


async def seed_realtime(selfdb: SelfDB) -> None:
    await selfdb.realtime.connect()
    channel = (
        selfdb.realtime.channel("table:users")
        .on("INSERT", lambda payload: print(f"New user: {payload.new}"))
        .on("UPDATE", lambda payload: print(f"Updated: {payload.old} -> {payload.new}"))
        .on("DELETE", lambda payload: print(f"Deleted: {payload.old}"))
        .on("*", lambda payload: print(f"Any event: {payload.event}"))
    )
    assert_type(channel, Channel)
    assert_type(await channel.subscribe(), Channel)
    await channel.unsubscribe()
    await selfdb.realtime.disconnect()


async def seed_example() -> None:
    selfdb = SelfDB(base_url="http://localhost:8000", api_key="your-key")
    await selfdb.auth.login(email="admin@example.com", password="password")
    await selfdb.realtime.connect()
    channel = selfdb.realtime.channel("table:orders").on("INSERT", lambda p: print(f"New order: {p.new}"))
    await channel.subscribe()
    await channel.unsubscribe()
    await selfdb.realtime.disconnect()


async def seed_storage(selfdb: SelfDB, bucket_id: str, file_id: str, file_bytes: bytes) -> None:
    assert_type(await selfdb.storage.buckets.count(search="uploads"), int)
    assert_type(await selfdb.storage.buckets.create(payload=BucketCreate(name="uploads")), BucketResponse)
    assert_type(await selfdb.storage.buckets.list(limit=20), List[BucketResponse])
    assert_type(await selfdb.storage.buckets.get(bucket_id), BucketResponse)
    assert_type(await selfdb.storage.buckets.update(bucket_id, BucketUpdate(public=True)), BucketResponse)
    assert_type(await selfdb.storage.buckets.delete(bucket_id), BucketDeleteResponse)
    assert_type(await selfdb.storage.files.stats(), StorageStatsResponse)
    assert_type(await selfdb.storage.files.total_count(search="pdf"), int)
    assert_type(await selfdb.storage.files.count(bucket_id=bucket_id), int)
    response = await selfdb.storage.files.upload(bucket_id, filename="notes.pdf", data=file_bytes)
    assert_type(response, FileUploadResponse)
    assert_type(await selfdb.storage.files.list(bucket_id=bucket_id, page_size=50), FileDataResponse)
    assert_type(await selfdb.storage.files.get(file_id), FileResponse)
    assert_type(await selfdb.storage.files.delete(file_id), FileDeleteResponse)
    assert_type(await selfdb.storage.files.update_metadata(file_id, {"tag": "archive"}), FileResponse)
    assert_type(await selfdb.storage.files.download(bucket_name="public", path="notes.pdf"), bytes)


# What the package has besides


async def clients(folder: Path) -> None:
    async with SelfDB("http://127.0.0.1:8000", "key", timeout=(1, None), deadline=None) as db:
        assert_type(db, SelfDB)
        assert_type(await db.status(), SystemStatus)
        assert_type(await db.wait_ready(timeout=5), SystemStatus)
        assert_type(db.with_options(timeout=1, headers={"X-Trace": "1"}).as_user("token"), SelfDB)
        assert_type(await db.as_guest().auth.login("a@example.com", "password"), TokenPair)
        assert_type(db.access_token, Optional[str])
        db.access_token = None
        assert_type(db.base_url, str)
    async with SelfDB.local(folder, max_retries=0) as db:
        assert_type(db, SelfDB)
    local = await SelfDB.local()
    assert_type(local, SelfDB)
    await local.close()


async def raw_answers(db: SelfDB) -> None:
    raw = db.with_raw_response
    assert_type(await raw.auth.me(), RawResponse[UserRead])
    assert_type((await raw.auth.me()).parse(), UserRead)
    assert_type(await raw.tables.list(limit=5), RawResponse[List[TableRead]])
    assert_type(await raw.tables.data.insert("t", {"a": 1}), RawResponse[Row])
    assert_type((await raw.storage.files.count("b", search="x")).parse(), int)
    assert_type((await raw.storage.files.download("b", "a")).parse(), bytes)


async def loops(db: SelfDB) -> None:
    async for table in db.tables.iter(search="a"):
        assert_type(table, TableRead)
    assert_type([user.email async for user in db.auth.users.iter()], List[str])
    async for bucket in db.storage.buckets.iter():
        assert_type(bucket, BucketResponse)
    async for file in db.storage.files.iter(bucket_id="b"):
        assert_type(file, FileResponse)
    query = db.tables.data.query("t").as_model(Note)
    async for row in db.tables.data.query("t"):
        assert_type(row, Row)
    async for note in query:
        assert_type(note, Note)
    async for page in query.pages():
        assert_type(page, TableDataResponse[Note])
    rows = query.__aiter__()
    assert_type(rows, RowIterator[Note])
    assert_type(await rows.__anext__(), Note)
    assert_type(rows.total, Optional[int])
    assert_type(await query.first(), Optional[Note])
    assert_type(await query.count(), int)


async def lines() -> AsyncIterator[bytes]:
    yield b"line\n"


async def some_rows() -> AsyncIterator[Row]:
    yield {"a": 1}


async def told(done: int, total: Optional[int]) -> None:
    print(done, total)


def told_at_once(done: int, total: Optional[int]) -> None:
    print(done, total)


async def streams(db: SelfDB, path: Path) -> None:
    files = db.storage.files
    async with files.stream("b", "p", progress=told) as blocks:
        assert_type(blocks, Download)
        assert_type(blocks.total, Optional[int])
        async for block in blocks:
            assert_type(block, bytes)
    async for block in files.stream("b", "p"):
        assert_type(block, bytes)
    download = await files.stream("b", "p", progress=told_at_once)
    assert_type(download, Download)
    download.close()
    assert_type(await files.download_to("b", "p", path, progress=told), int)
    await files.upload("b", "lines", lines(), progress=told)
    await files.upload("b", "lines", [b"a", b"b"], progress=told_at_once)
    assert_type(await db.tables.data.insert_many("t", some_rows(), progress=told), BulkReport[Row])
    report = await db.tables.data.delete_many("t", [1, "2"], progress=told_at_once)
    assert_type(report, BulkReport[RowDeleteResponse])
    assert_type([outcome.result for outcome in report], List[Optional[RowDeleteResponse]])


async def heard(payload: RealtimePayload) -> None:
    print(payload.event)


async def is_large(payload: RealtimePayload) -> bool:
    return payload.new is not None and bool(payload.new["size"] > 1000)


async def state_changed(state: str) -> None:
    print(state)


async def failed(error: BaseException) -> None:
    print(error)


async def events(db: SelfDB) -> None:
    db.realtime.on_state_change(state_changed)
    db.realtime.on_state_change(print)
    db.realtime.on_error(failed)
    channel = db.realtime.channel("table:orders").on("INSERT", heard).off("INSERT", heard).off("*")
    assert_type(db.realtime.on("table:orders", "*", heard), Channel)
    assert_type(await db.realtime.subscribe("table:orders"), Channel)
    assert_type(await channel.wait_for("INSERT", is_large), RealtimePayload)
    assert_type(await channel.wait_for("INSERT", lambda payload: payload.new is not None, timeout=1), RealtimePayload)
    answer: Union[Row, str] = await channel.push("ping", {"a": 1})
    assert_type(channel.state, str)
    async with channel.events(timeout=1, resync=True) as stream:
        assert_type(stream, EventStream)
        stream.timeout = None
        assert_type(await stream.get(), Optional[RealtimePayload])
        async for event in stream:
            assert_type(event, RealtimePayload)
    async for event in channel.events():
        assert_type(event.new, Optional[Row])
    query = db.tables.data.query("t").as_model(Note)
    async for change in channel.follow(query, key="title"):
        assert_type(change, RealtimePayload)
    async with channel.follow(query) as follower:
        assert_type(follower, Follower)
        assert_type(follower.caught_up, bool)
        assert_type(await follower.__anext__(), RealtimePayload)
    (await channel.follow(query)).close()
    print(answer)


async def local_store() -> None:
    db = Indexie("notes")
    assert_type(db.version(1).stores({"notes": "++id, title"}), Version)
    async with db:
        assert_type(db.notes, Table[Any])
        assert_type(db.notes.strategy, Strategy)
        assert_type(await db.notes.update(1, {"title": "x"}), bool)
        assert_type(await db.notes.count(), int)
        query = db.notes.order_by("title").reverse()
        assert_type(query, Collection[Any])
        async for row in query:
            print(row)
        async with db.transaction("rw", ["notes"]) as tx:
            assert_type(tx, Transaction)
            assert_type(tx.notes, Table[Any])

        async def count() -> int:
            return await db.notes.count()

        assert_type(await db.transaction(Indexie.Mode.READ_ONLY, "notes", count), int)
        assert_type(await db.transaction("r", "notes", lambda: "x"), str)
        async with db.notes.start_transaction(optimistic=True) as overlay:
            assert_type(overlay, OverlayTransaction)
            await overlay.commit()

        async def push(payload: Dict[str, Any]) -> None:
            print(payload["item"])

        db.notes.hook.on_add(push, name="push")
        assert_type(await db.outbox.flush(1), bool)
        async with use_live_query(count) as live:
            assert_type(live, LiveQuery[Any])
            assert_type(await live.wait_for_change(1), bool)
            async for value in live:
                print(value)
    assert_type(await Indexie.database_names(), List[str])
