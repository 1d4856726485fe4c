"""Every call that the specification shows, once and in its order: what goes over the wire, and what comes back."""

from __future__ import annotations

from typing import Any, List

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
    RowDeleteResponse,
    StorageStatsResponse,
    TableCreate,
    TableDeleteResponse,
    TableRead,
    TableUpdate,
    UserCreate,
    UserDeleteResponse,
    UserRead,
    UserUpdate,
)
from tests.client.seed_case import (
    FILE_BYTES,
    Call,
    SeedCall,
    bucket_json,
    deleted,
    file_json,
    is_a,
    is_count,
    is_pair,
    pair_reply,
    query_case,
    row_json,
    table_json,
    user_json,
)

AUTH: List[SeedCall] = [
    SeedCall(
        "auth.login",
        lambda db, things: db.auth.login(email=things.email, password=things.password),
        "POST /users/token",
        body=lambda things: {"email": things.email, "password": things.password},
        reply=pair_reply,
        expect=is_pair,
        bearer=False,
    ),
    SeedCall(
        "auth.refresh",
        lambda db, things: db.auth.refresh(refresh_token=things.refresh_token),
        "POST /users/token/refresh",
        body=lambda things: {"refresh_token": things.refresh_token},
        reply=pair_reply,
        expect=is_pair,
        bearer=False,
    ),
    SeedCall(
        "auth.logout",
        lambda db, things: db.auth.logout(refresh_token=things.refresh_token),
        "POST /users/logout",
        body=lambda things: {"refresh_token": things.refresh_token},
        reply=lambda things: (200, {"message": "Logged out"}),
        expect=is_a(LogoutResponse, message=lambda things: "Logged out"),
    ),
    SeedCall(
        "auth.logout_all",
        lambda db, things: db.auth.logout_all(),
        "POST /users/logout/all",
        reply=lambda things: (200, {"message": "Logged out everywhere"}),
        expect=is_a(LogoutResponse, message=lambda things: "Logged out everywhere"),
    ),
    SeedCall(
        "auth.me",
        lambda db, things: db.auth.me(),
        "GET /users/me",
        reply=lambda things: (200, user_json(things)),
        expect=is_a(UserRead, id=lambda things: things.user_id, email=lambda things: things.email),
    ),
    SeedCall(
        "auth.count",
        lambda db, things: db.auth.count(search="eve"),
        "GET /users/count?search=eve",
        reply=lambda things: (200, {"count": 3}),
        expect=is_count,
    ),
    SeedCall(
        "users.create",
        lambda db, things: db.auth.users.create(
            payload=UserCreate(email=things.new_email, password="password123", firstName="John", lastName="Doe")
        ),
        "POST /users/",
        body=lambda things: {
            "email": things.new_email,
            "password": "password123",
            "firstName": "John",
            "lastName": "Doe",
        },
        reply=lambda things: (201, user_json(things, email=things.new_email, firstName="John", lastName="Doe")),
        expect=is_a(UserRead, email=lambda things: things.new_email, firstName=lambda things: "John"),
    ),
    SeedCall(
        "users.list",
        lambda db, things: db.auth.users.list(limit=25),
        "GET /users/?limit=25",
        reply=lambda things: (200, [user_json(things)]),
        expect=lambda result, things: [user.id for user in result] == [things.user_id],
    ),
    SeedCall(
        "users.get",
        lambda db, things: db.auth.users.get(things.user_id),
        "GET /users/{user_id}",
        reply=lambda things: (200, user_json(things)),
        expect=is_a(UserRead, id=lambda things: things.user_id),
    ),
    SeedCall(
        "users.update",
        lambda db, things: db.auth.users.update(things.user_id, payload=UserUpdate(firstName="Augusta")),
        "PATCH /users/{user_id}",
        body=lambda things: {"firstName": "Augusta"},
        reply=lambda things: (200, user_json(things, firstName="Augusta")),
        expect=is_a(UserRead, id=lambda things: things.user_id, firstName=lambda things: "Augusta"),
    ),
    SeedCall(
        "users.delete",
        lambda db, things: db.auth.users.delete(things.user_id),
        "DELETE /users/{user_id}",
        expect=deleted(UserDeleteResponse, lambda things: things.user_id),
    ),
]

SCHEMA = {"name": {"type": "text", "nullable": False}, "email": {"type": "varchar", "nullable": False}}

TABLES: List[SeedCall] = [
    SeedCall(
        "tables.count",
        lambda db, things: db.tables.count(search="docs"),
        "GET /tables/count?search=docs",
        reply=lambda things: (200, {"count": 0}),
        expect=is_count,
    ),
    SeedCall(
        "tables.create",
        lambda db, things: db.tables.create(
            payload=TableCreate(
                name=things.new_table,
                table_schema={
                    "name": {"type": "text", "nullable": False},
                    "email": {"type": "varchar", "nullable": False},
                },
                public=False,
            )
        ),
        "POST /tables/",
        body=lambda things: {"name": things.new_table, "table_schema": SCHEMA, "public": False},
        reply=lambda things: (201, table_json(things, name=things.new_table, table_schema=SCHEMA)),
        expect=is_a(TableRead, name=lambda things: things.new_table, table_schema=lambda things: SCHEMA),
    ),
    SeedCall(
        "tables.list",
        lambda db, things: db.tables.list(skip=0, limit=50, search="docs", sort_by="created_at", sort_order="desc"),
        "GET /tables/?skip=0&limit=50&search=docs&sort_by=created_at&sort_order=desc",
        reply=lambda things: (200, []),
        expect=lambda result, things: isinstance(result, list),
    ),
    SeedCall(
        "tables.get",
        lambda db, things: db.tables.get(things.table_id),
        "GET /tables/{table_id}",
        reply=lambda things: (200, table_json(things)),
        expect=is_a(TableRead, id=lambda things: things.table_id),
    ),
    SeedCall(
        "tables.update",
        lambda db, things: db.tables.update(
            things.table_id, TableUpdate(name=things.new_table, public=True, realtime_enabled=True)
        ),
        "PATCH /tables/{table_id}",
        body=lambda things: {"name": things.new_table, "public": True, "realtime_enabled": True},
        reply=lambda things: (200, table_json(things, name=things.new_table, public=True, realtime_enabled=True)),
        expect=is_a(
            TableRead,
            id=lambda things: things.table_id,
            name=lambda things: things.new_table,
            public=lambda things: True,
            realtime_enabled=lambda things: True,
        ),
    ),
    SeedCall(
        "tables.delete",
        lambda db, things: db.tables.delete(things.table_id),
        "DELETE /tables/{table_id}",
        expect=deleted(TableDeleteResponse, lambda things: things.table_id),
    ),
    SeedCall(
        "columns.add",
        lambda db, things: db.tables.columns.add(things.table_id, ColumnDefinition(name="age", type="integer")),
        "POST /tables/{table_id}/columns",
        body=lambda things: {"name": "age", "type": "integer", "nullable": True},
        reply=lambda things: (200, table_json(things, table_schema={"age": {"type": "integer", "nullable": True}})),
        expect=lambda result, things: type(result) is TableRead and result.table_schema["age"]["type"] == "integer",
    ),
    SeedCall(
        "columns.update",
        lambda db, things: db.tables.columns.update(things.table_id, "name", ColumnUpdate(new_name="title")),
        "PATCH /tables/{table_id}/columns/name",
        body=lambda things: {"new_name": "title"},
        reply=lambda things: (200, table_json(things, table_schema={"title": {"type": "text", "nullable": True}})),
        expect=lambda result, things: (
            type(result) is TableRead and "title" in result.table_schema and "name" not in result.table_schema
        ),
    ),
    SeedCall(
        "columns.remove",
        lambda db, things: db.tables.columns.remove(things.table_id, "name"),
        "DELETE /tables/{table_id}/columns/name",
        reply=lambda things: (200, table_json(things, table_schema={"text": {"type": "text", "nullable": True}})),
        expect=lambda result, things: type(result) is TableRead and list(result.table_schema) == ["text"],
    ),
]

DATA: List[SeedCall] = [
    SeedCall(
        "data.fetch",
        lambda db, things: db.tables.data.fetch(
            things.table_id, page=2, page_size=25, sort_by="created_at", search="query"
        ),
        "GET /tables/{table_id}/data?search=query&sort_by=created_at&page=2&page_size=25",
        reply=lambda things: (200, {"data": [], "total": 0, "page": 2, "page_size": 25}),
        expect=lambda result, things: (result.data, result.total, result.page, result.page_size) == ([], 0, 2, 25),
    ),
    SeedCall(
        "data.insert",
        lambda db, things: db.tables.data.insert(things.table_id, {"text": "hi"}),
        "POST /tables/{table_id}/data",
        body=lambda things: {"text": "hi"},
        reply=lambda things: (201, row_json(things, text="hi")),
        expect=lambda result, things: type(result) is dict and result["text"] == "hi" and bool(result["id"]),
    ),
    SeedCall(
        "data.update_row",
        lambda db, things: db.tables.data.update_row(things.table_id, things.row_id, {"text": "ho"}, id_column="id"),
        "PATCH /tables/{table_id}/data/{row_id}?id_column=id",
        body=lambda things: {"text": "ho"},
        reply=lambda things: (200, row_json(things, text="ho")),
        expect=lambda result, things: (result["id"], result["text"]) == (things.row_id, "ho"),
    ),
    SeedCall(
        "data.delete_row",
        lambda db, things: db.tables.data.delete_row(things.table_id, things.row_id, id_column="id"),
        "DELETE /tables/{table_id}/data/{row_id}?id_column=id",
        expect=deleted(RowDeleteResponse, lambda things: things.row_id),
    ),
]

QUERIES: List[SeedCall] = [
    query_case(
        "query: all methods",
        lambda db, things: (
            db.tables.data.query(things.table_id)
            .search("hello")
            .sort("created_at", "desc")
            .page(2)
            .page_size(50)
            .execute()
        ),
        "search=hello&sort_by=created_at&sort_order=desc&page=2&page_size=50",
        page=2,
        page_size=50,
    ),
    query_case(
        "query: simple search",
        lambda db, things: db.tables.data.query(things.table_id).search("hello").execute(),
        "search=hello",
    ),
    query_case(
        "query: paginated with sorting",
        lambda db, things: (
            db.tables.data.query(things.table_id).sort("created_at", "desc").page(2).page_size(25).execute()
        ),
        "sort_by=created_at&sort_order=desc&page=2&page_size=25",
        page=2,
        page_size=25,
    ),
    query_case(
        "query: all parameters",
        lambda db, things: (
            db.tables.data.query(things.table_id)
            .search("important")
            .sort("updated_at", "asc")
            .page(3)
            .page_size(100)
            .execute()
        ),
        "search=important&sort_by=updated_at&sort_order=asc&page=3&page_size=100",
        page=3,
        page_size=100,
    ),
    query_case(
        "query: page 1 of a base",
        lambda db, things: db.tables.data.query(things.table_id).sort("created_at", "desc").page(1).execute(),
        "sort_by=created_at&sort_order=desc&page=1",
    ),
    query_case(
        "query: page 2 of a base",
        lambda db, things: db.tables.data.query(things.table_id).sort("created_at", "desc").page(2).execute(),
        "sort_by=created_at&sort_order=desc&page=2",
        page=2,
    ),
    query_case(
        "query: oldest first",
        lambda db, things: db.tables.data.query(things.table_id).sort("created_at", "asc").page_size(10).execute(),
        "sort_by=created_at&sort_order=asc&page_size=10",
        page_size=10,
    ),
    query_case(
        "query: one line",
        lambda db, things: db.tables.data.query(things.table_id).search("term").sort("name").execute(),
        "search=term&sort_by=name&sort_order=desc",
        hits=0,
    ),
]


def _on_realtime(id: str, call: Call, frame: str) -> SeedCall:
    return SeedCall(id, call, frame, realtime=True)


def _channel(db: Any, topic: str) -> Any:
    return db.realtime.channel(topic).on("INSERT", lambda payload: None)


REALTIME: List[SeedCall] = [
    _on_realtime("realtime.connect", lambda db, things: db.realtime.connect(), "open"),
    _on_realtime(
        "channel.subscribe", lambda db, things: _channel(db, "table:users").subscribe(), "phx_join table:users"
    ),
    _on_realtime(
        "channel.unsubscribe", lambda db, things: _channel(db, "table:users").unsubscribe(), "phx_leave table:users"
    ),
    _on_realtime("realtime.disconnect", lambda db, things: db.realtime.disconnect(), "close"),
    # The usage example, call by call; its login is an exchange.
    SeedCall(
        "example: login",
        lambda db, things: db.auth.login(email=things.email, password=things.password),
        "POST /users/token",
        body=lambda things: {"email": things.email, "password": things.password},
        reply=pair_reply,
        expect=is_pair,
        bearer=False,
    ),
    _on_realtime("example: connect", lambda db, things: db.realtime.connect(), "open"),
    _on_realtime(
        "example: subscribe", lambda db, things: _channel(db, "table:orders").subscribe(), "phx_join table:orders"
    ),
    _on_realtime(
        "example: unsubscribe", lambda db, things: _channel(db, "table:orders").unsubscribe(), "phx_leave table:orders"
    ),
    _on_realtime("example: disconnect", lambda db, things: db.realtime.disconnect(), "close"),
]

STORAGE: List[SeedCall] = [
    SeedCall(
        "buckets.count",
        lambda db, things: db.storage.buckets.count(search="uploads"),
        "GET /storage/buckets/count?search=uploads",
        reply=lambda things: (200, {"count": 2}),
        expect=is_count,
    ),
    SeedCall(
        "buckets.create",
        lambda db, things: db.storage.buckets.create(payload=BucketCreate(name=things.new_bucket)),
        "POST /storage/buckets/",
        body=lambda things: {"name": things.new_bucket, "public": False},
        reply=lambda things: (201, bucket_json(things, name=things.new_bucket)),
        expect=is_a(BucketResponse, name=lambda things: things.new_bucket, public=lambda things: False),
    ),
    SeedCall(
        "buckets.list",
        lambda db, things: db.storage.buckets.list(limit=20),
        "GET /storage/buckets/?limit=20",
        reply=lambda things: (200, [bucket_json(things)]),
        expect=lambda result, things: things.bucket_id in [bucket.id for bucket in result],
    ),
    SeedCall(
        "buckets.get",
        lambda db, things: db.storage.buckets.get(things.bucket_id),
        "GET /storage/buckets/{bucket_id}",
        reply=lambda things: (200, bucket_json(things)),
        expect=is_a(BucketResponse, id=lambda things: things.bucket_id, name=lambda things: things.bucket_name),
    ),
    SeedCall(
        "buckets.update",
        lambda db, things: db.storage.buckets.update(things.bucket_id, BucketUpdate(public=True)),
        "PATCH /storage/buckets/{bucket_id}",
        body=lambda things: {"public": True},
        reply=lambda things: (200, bucket_json(things, public=True)),
        expect=is_a(BucketResponse, id=lambda things: things.bucket_id, public=lambda things: True),
    ),
    SeedCall(
        "buckets.delete",
        lambda db, things: db.storage.buckets.delete(things.bucket_id),
        "DELETE /storage/buckets/{bucket_id}",
        expect=deleted(BucketDeleteResponse, lambda things: things.bucket_id),
    ),
    SeedCall(
        "files.stats",
        lambda db, things: db.storage.files.stats(),
        "GET /storage/files/stats",
        reply=lambda things: (200, {"total_files": 1, "total_size": 11, "total_buckets": 1}),
        expect=lambda result, things: type(result) is StorageStatsResponse,
    ),
    SeedCall(
        "files.total_count",
        lambda db, things: db.storage.files.total_count(search="pdf"),
        "GET /storage/files/total-count?search=pdf",
        reply=lambda things: (200, {"count": 1}),
        expect=is_count,
    ),
    SeedCall(
        "files.count",
        lambda db, things: db.storage.files.count(bucket_id=things.bucket_id),
        "GET /storage/files/count?bucket_id={bucket_id}",
        reply=lambda things: (200, {"count": 1}),
        expect=lambda result, things: result == 1,
    ),
    SeedCall(
        "files.upload",
        lambda db, things: db.storage.files.upload(things.bucket_id, filename="notes.pdf", data=FILE_BYTES),
        "POST /storage/buckets/{bucket_id}/files?filename=notes.pdf",
        body=lambda things: FILE_BYTES,
        reply=lambda things: (
            201,
            {
                "success": True,
                "bucket": things.bucket_name,
                "path": "/notes.pdf",
                "size": len(FILE_BYTES),
                "file_id": things.file_id,
            },
        ),
        expect=is_a(
            FileUploadResponse,
            success=lambda things: True,
            bucket=lambda things: things.bucket_name,
            path=lambda things: "/notes.pdf",
            size=lambda things: len(FILE_BYTES),
            file_id=lambda things: things.file_id,
        ),
    ),
    SeedCall(
        "files.list",
        lambda db, things: db.storage.files.list(bucket_id=things.bucket_id, page_size=50),
        "GET /storage/files/?bucket_id={bucket_id}&page_size=50",
        reply=lambda things: (200, {"data": [file_json(things)], "total": 1, "page": 1, "page_size": 50}),
        expect=lambda result, things: (
            type(result) is FileDataResponse
            and [file.id for file in result.data] == [things.file_id]
            and (result.total, result.page, result.page_size) == (1, 1, 50)
        ),
    ),
    SeedCall(
        "files.get",
        lambda db, things: db.storage.files.get(things.file_id),
        "GET /storage/files/{file_id}",
        reply=lambda things: (200, file_json(things)),
        expect=is_a(FileResponse, id=lambda things: things.file_id, path=lambda things: "/notes.pdf"),
    ),
    SeedCall(
        "files.delete",
        lambda db, things: db.storage.files.delete(things.file_id),
        "DELETE /storage/files/{file_id}",
        expect=deleted(FileDeleteResponse, lambda things: things.file_id),
    ),
    SeedCall(
        "files.update_metadata",
        lambda db, things: db.storage.files.update_metadata(things.file_id, {"tag": "archive"}),
        "PATCH /storage/files/{file_id}",
        body=lambda things: {"metadata": {"tag": "archive"}},
        reply=lambda things: (200, file_json(things, metadata={"tag": "archive"})),
        expect=is_a(FileResponse, id=lambda things: things.file_id, metadata=lambda things: {"tag": "archive"}),
    ),
    SeedCall(
        "files.download",
        lambda db, things: db.storage.files.download(bucket_name=things.bucket_name, path="notes.pdf"),
        "GET /storage/files/download/{bucket_name}/notes.pdf",
        reply=lambda things: (200, FILE_BYTES),
        expect=lambda result, things: result == FILE_BYTES,
    ),
]

SEED_CALLS: List[SeedCall] = AUTH + TABLES + DATA + QUERIES + REALTIME + STORAGE
"""In the order of the specification."""
