"""Realtime on a loop: waiting costs no thread, many wait at the same time, and what was begun is ended."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Callable, Iterator, List

import pytest

from selfdb import APIConnectionError, APITimeoutError, PermissionDeniedError, RealtimeError
from selfdb.aio import SelfDB
from tests.aio.kit import Run, bounded, echo, on_both, run_plain, threads_of_ours, until, workers
from tests.realtime.phoenix import Phoenix, error
from tests.servers.scripted import ScriptedServer

TOPIC = "table:orders"


@pytest.fixture
def phoenix() -> Iterator[Phoenix]:
    """A channel server that answers every join with ok."""
    server = Phoenix().start()
    yield server
    server.stop()


async def joined(server: Phoenix) -> Any:
    """A client that is connected and has joined `TOPIC`."""
    db = SelfDB(server.url, "key")
    await bounded(db.realtime.connect())
    await bounded(db.realtime.channel(TOPIC).subscribe())
    return db


@on_both
def test_a_thousand_streams_wait_without_a_thread_while_calls_go_on(
    run: Run, phoenix: Phoenix, replies: Callable[..., Any]
) -> None:
    server = replies(echo)

    async def main() -> None:
        db = await joined(phoenix)
        other = SelfDB(server.url, "key")
        await until(lambda: not workers())  # connecting and joining have taken none
        threads = set(threading.enumerate())
        channel = db.realtime.channel(TOPIC)
        streams = [channel.events() for _ in range(1000)]
        waits = [asyncio.ensure_future(stream.__anext__()) for stream in streams]
        await asyncio.sleep(0.05)
        assert set(threading.enumerate()) <= threads
        assert await bounded(asyncio.gather(*(other.auth.count(str(number)) for number in range(50)))) == [*range(50)]
        await bounded(other.close())
        await until(lambda: not workers())  # those of the calls go when they have heard of it
        assert not any(wait.done() for wait in waits)
        phoenix.insert(TOPIC, 1)
        assert [event.new["id"] for event in await bounded(asyncio.gather(*waits))] == [1] * 1000
        waits = [asyncio.ensure_future(stream.__anext__()) for stream in streams]
        await asyncio.sleep(0.01)
        for wait in waits[:500]:
            wait.cancel()
        for stream in streams[500:]:
            stream.close()
        outcomes = await bounded(asyncio.gather(*waits, return_exceptions=True))
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 500 + [StopAsyncIteration] * 500
        assert not workers()
        await bounded(db.close())

    run(main())


@on_both
def test_streams_that_wait_end_with_the_client(run: Run, phoenix: Phoenix) -> None:
    async def main() -> None:
        db = await joined(phoenix)
        channel = db.realtime.channel(TOPIC)

        async def listen() -> List[Any]:
            return [event.new["id"] async for event in channel.events()]

        listening = [asyncio.ensure_future(listen()) for _ in range(20)]
        await asyncio.sleep(0)
        phoenix.insert(TOPIC, 1)
        phoenix.insert(TOPIC, 2)
        await bounded(db.realtime.unsubscribe(TOPIC))
        assert all(len(found) <= 2 for found in await bounded(asyncio.gather(*listening)))
        await bounded(channel.subscribe())
        listening = [asyncio.ensure_future(listen()) for _ in range(20)]
        await asyncio.sleep(0)
        await bounded(db.close())
        assert await bounded(asyncio.gather(*listening)) == [[]] * 20

    run(main())


@on_both
def test_a_silence_ends_the_loop_and_not_the_stream_that_is_asked_again(run: Run, phoenix: Phoenix) -> None:
    async def main() -> None:
        db = await joined(phoenix)
        channel = db.realtime.channel(TOPIC)
        assert [event async for event in channel.events(timeout=0.01)] == []
        async with channel.events(timeout=0.01) as stream:
            assert await stream.get() is None
            phoenix.insert(TOPIC, 1)
            stream.timeout = 15
            assert (await bounded(stream.get())).new == {"id": 1}
        await bounded(db.close())

    run(main())


@on_both
def test_refusals_and_silence_are_raised_where_they_are_awaited(run: Run, phoenix: Phoenix) -> None:
    phoenix.joins["table:no"] = [error("unauthorized")]
    phoenix.joins["table:mute"] = [None]

    async def main() -> None:
        db = await joined(phoenix)
        with pytest.raises(PermissionDeniedError):
            await bounded(db.realtime.subscribe("table:no"))
        with pytest.raises(APITimeoutError):
            await bounded(db.realtime.channel("table:mute").subscribe(timeout=0.05))
        with pytest.raises(APITimeoutError):
            await bounded(db.realtime.channel(TOPIC).push("hello", {}, timeout=0.05))
        phoenix.pushes["hello"] = {"status": "ok", "response": {"number": 7}}
        assert await bounded(db.realtime.channel(TOPIC).push("hello", {})) == {"number": 7}
        await bounded(db.realtime.disconnect())
        with pytest.raises(RealtimeError):
            await bounded(db.realtime.subscribe(TOPIC))
        await bounded(db.close())

    run(main())


@on_both
def test_connecting_that_is_given_up_leaves_nothing(run: Run) -> None:
    server = ScriptedServer(default=lambda peer: peer.wait_for_close())

    async def main() -> None:
        db = SelfDB(server.url, "key")
        for _ in range(5):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(db.realtime.connect(), 0.02)
            await until(lambda: db.realtime.state == "disconnected" or not threads_of_ours())
        with pytest.raises(APITimeoutError):
            await bounded(db.realtime.connect(timeout=0.02))
        await until(lambda: not threads_of_ours() or threads_of_ours() == len(workers()))
        await bounded(db.close())
        await until(lambda: not threads_of_ours())

    with server:
        run(main())


@on_both
def test_a_server_that_is_not_there(run: Run) -> None:
    async def main() -> None:
        db = SelfDB("http://127.0.0.1:9", "key")
        with pytest.raises(APIConnectionError):
            await bounded(db.realtime.connect())
        await bounded(db.close())

    run(main())


@on_both
def test_connecting_at_the_same_time_is_one_connection(run: Run, phoenix: Phoenix) -> None:
    async def main() -> None:
        db = SelfDB(phoenix.url, "key")
        await bounded(asyncio.gather(*(db.realtime.connect() for _ in range(20))))
        channels = await bounded(asyncio.gather(*(db.realtime.subscribe(TOPIC) for _ in range(20))))
        assert {id(channel) for channel in channels} == {id(db.realtime.channel(TOPIC))}
        assert len(phoenix.sockets) == 1
        assert len(phoenix.seen("phx_join")) == 1
        await bounded(db.close())

    run(main())


@on_both
def test_follow_after_async_for_and_async_with(run: Run, phoenix: Phoenix, replies: Callable[..., Any]) -> None:
    page = {"data": [{"id": 0}], "total": 1, "page": 1, "page_size": 100}
    server = replies(lambda request: (200, {}, page))

    async def main() -> None:
        db = await joined(phoenix)
        other = SelfDB(server.url, "key")
        query = other.tables.data.query("orders")
        found: List[int] = []
        async for change in db.realtime.channel(TOPIC).follow(query):
            found.append(change.new["id"])
            if len(found) == 3:
                break
            phoenix.insert(TOPIC, len(found))
        assert found == [0, 1, 2]
        async with db.realtime.channel(TOPIC).follow(query) as changes:
            assert (await bounded(changes.__anext__())).new == {"id": 0}
            assert changes.caught_up
            assert changes.rows == [{"id": 0}]
        follower = await bounded(db.realtime.channel(TOPIC).follow(query))
        waits = asyncio.ensure_future(bounded(follower.__anext__()))
        assert (await waits).new == {"id": 0}
        waits = asyncio.ensure_future(bounded(follower.__anext__()))
        await asyncio.sleep(0.01)
        follower.close()
        with pytest.raises(StopAsyncIteration):
            await waits
        await bounded(other.close())
        await bounded(db.close())

    run(main())


def test_events_come_to_several_loops_of_one_client(phoenix: Phoenix) -> None:
    db = SelfDB(phoenix.url, "key")
    ready = threading.Barrier(4)
    found: List[List[int]] = []

    async def listen() -> None:
        stream = db.realtime.channel(TOPIC).events()
        ready.wait(60)
        found.append([(await bounded(stream.__anext__())).new["id"] for _ in range(50)])

    async def main() -> None:
        await bounded(db.realtime.connect())
        await bounded(db.realtime.subscribe(TOPIC))
        threads = [threading.Thread(target=run_plain, args=(listen(),), daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        ready.wait(60)
        for number in range(50):
            phoenix.insert(TOPIC, number)
        await until(lambda: len(found) == 3)
        for thread in threads:
            thread.join(60)
        await bounded(db.close())

    run_plain(main())
    assert found == [list(range(50))] * 3
