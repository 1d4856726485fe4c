"""What a call of the specification is as a test case, and the things, replies and expectations it is made of.

``call`` gets a client and the things to call it with, and returns what the client's method returns, so that
the same table serves a client whose methods are awaited. `Things` may be made up, or live on a real server:
the scripted reply and the expectation are made from the same ones.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Protocol, Tuple

from selfdb.models import TableDataResponse, TokenPair

FILE_BYTES = b"%PDF-1.7 \x00\xff"


class Things(Protocol):
    """What the calls are made with. The user is the one who is signed in, and owns the rest."""

    email: str
    password: str
    refresh_token: str
    new_email: str
    user_id: str
    table_id: str
    new_table: str
    row_id: str
    bucket_id: str
    bucket_name: str
    new_bucket: str
    file_id: str


Call = Callable[[Any, Any], Any]
Reply = Tuple[int, Any]


class SeedCall(NamedTuple):
    """One call of the specification.

    :ivar wire: method, path and query, with the names of things in braces.
    :ivar body: the JSON that is sent, or bytes, or ``None`` for none.
    :ivar reply: from things to ``(status, body)``.
    :ivar expect: whether the result is what it should be, whoever answered.
    :ivar bearer: whether the access token goes along.
    :ivar realtime: it belongs to realtime, and has no exchange of its own; ``wire`` names the frame.
    """

    id: str
    call: Call
    wire: str
    body: Callable[[Any], Any] = lambda things: None
    reply: Callable[[Any], Reply] = lambda things: (204, b"")
    expect: Callable[[Any, Any], bool] = lambda result, things: True
    bearer: bool = True
    realtime: bool = False


# Replies


def pair_reply(things: Things) -> Reply:
    return 200, {"access_token": "new-access-token", "refresh_token": "new-refresh-token", "token_type": "bearer"}


def is_pair(result: Any, things: Things) -> bool:
    return (
        type(result) is TokenPair
        and bool(result.access_token)
        and result.refresh_token not in (None, things.refresh_token)
        and result.token_type == "bearer"
    )


def user_json(things: Things, **fields: Any) -> Dict[str, Any]:
    return {
        "id": things.user_id,
        "email": things.email,
        "firstName": "Ada",
        "lastName": "Byron",
        "role": "USER",
        "isActive": True,
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": None,
        **fields,
    }


def table_json(things: Things, **fields: Any) -> Dict[str, Any]:
    return {
        "id": things.table_id,
        "name": "notes",
        "table_schema": {"text": {"type": "text", "nullable": True}, "name": {"type": "text", "nullable": True}},
        "public": False,
        "realtime_enabled": False,
        "row_count": 1,
        **fields,
    }


def row_json(things: Things, **fields: Any) -> Dict[str, Any]:
    return {"id": things.row_id, "text": "hello", "name": "important", **fields}


def bucket_json(things: Things, **fields: Any) -> Dict[str, Any]:
    return {"id": things.bucket_id, "name": things.bucket_name, "public": False, **fields}


def file_json(things: Things, **fields: Any) -> Dict[str, Any]:
    return {"id": things.file_id, "name": "notes.pdf", "path": "/notes.pdf", "size": len(FILE_BYTES), **fields}


def is_a(model: type, **fields: Callable[[Any], Any]) -> Callable[[Any, Any], bool]:
    """Whether a result is exactly of ``model`` and its fields are what the functions make of the things."""

    def check(result: Any, things: Any) -> bool:
        return type(result) is model and all(getattr(result, name) == of(things) for name, of in fields.items())

    return check


def deleted(model: type, of: Callable[[Any], Any]) -> Callable[[Any, Any], bool]:
    return lambda result, things: type(result) is model and result.deleted_id == of(things) and bool(result.message)


def is_count(result: Any, things: Any) -> bool:
    return type(result) is int and result >= 0


def _page(things: Things, page: int, page_size: int, rows: int = 1) -> Reply:
    data = [row_json(things)] * rows
    return 200, {"data": data, "total": 1, "page": page, "page_size": page_size}


def query_case(id: str, call: Call, query: str, *, page: int = 1, page_size: int = 100, hits: int = 1) -> SeedCall:
    """A query of the builder; on page 1 one row is found, beyond it none."""
    rows = hits if page == 1 else 0

    def expect(result: Any, things: Any) -> bool:
        return (
            isinstance(result, TableDataResponse)
            and (result.page, result.page_size, result.total) == (page, page_size, hits)
            and [row["id"] for row in result.data] == [things.row_id] * rows
        )

    return SeedCall(
        id,
        call,
        f"GET /tables/{{table_id}}/data?{query}",
        reply=lambda things: (200, {**_page(things, page, page_size, rows)[1], "total": hits}),
        expect=expect,
    )
