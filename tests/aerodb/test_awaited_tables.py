"""Tables through the awaitable face, on PostgREST: the same rows, in order, while the loop goes on."""

from __future__ import annotations

import asyncio
from typing import Any, Callable, Coroutine, List

import pytest
from pydantic import BaseModel

from selfdb.aerodb.envelope import AeroDBRequestError
from selfdb.aio.aerodb import AeroDBClient
from tests.servers.postgrest import PostgRest

ALL = list(range(1, 2501))


class Number(BaseModel):
    id: int
    label: str


def awaited(rest: PostgRest, use: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        async with AeroDBClient(rest.url) as client:
            return await use(client)

    return asyncio.run(run())


@pytest.mark.parametrize("key", [None, "id"])
def test_c082_a_stream_is_looped_over(rest: PostgRest, key: Any) -> None:
    async def use(client: Any) -> List[int]:
        query = client.from_("numbers", model=Number)
        return [row.id async for row in (query if key else query.order("id")).stream(size=1000, key=key)]

    assert awaited(rest, use) == ALL
    assert len(rest.requests) == 3


def test_c082_a_failure_is_raised_behind_the_last_good_row(rest: PostgRest) -> None:
    async def use(client: Any) -> Any:
        rest.instead = lambda request: (500, {}, b'{"message":"no"}') if len(rest.requests) == 2 else None
        seen: List[int] = []
        async with client.from_("numbers").stream(size=1000, key="id") as stream:
            with pytest.raises(AeroDBRequestError, match="no"):
                async for row in stream:
                    seen.append(row["id"])
        return seen, stream.error.status

    assert awaited(rest, use) == (ALL[:1000], 500)


def test_pages_are_looped_over(rest: PostgRest) -> None:
    async def use(client: Any) -> List[int]:
        return [len(page.data) async for page in client.from_("numbers").pages(size=1000, key="id")]

    assert awaited(rest, use) == [1000, 1000, 500]


def test_tasks_share_a_base_query(rest: PostgRest) -> None:
    async def use(client: Any) -> Any:
        base = client.from_("numbers").select("id").order("id")
        return await asyncio.gather(*(base.eq("id", number).execute() for number in range(1, 41)))

    assert [found.data for found in awaited(rest, use)] == [[{"id": number}] for number in range(1, 41)]


def test_a_wrong_argument_is_a_response_here_too(rest: PostgRest) -> None:
    async def use(client: Any) -> Any:
        return await client.from_("numbers").limit(-1).execute(), await client.from_("users").update({"age": 1})

    wrong, unfiltered = awaited(rest, use)
    assert (wrong.error.code, unfiltered.error.code) == ("VALIDATION_ERROR", "UNFILTERED_WRITE")
    assert rest.requests == []
