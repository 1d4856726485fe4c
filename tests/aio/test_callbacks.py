"""Callbacks and sources of somebody on a loop: where they run, in which order, how they fail, and what they may do."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List

import pytest

from selfdb import APITimeoutError, RealtimeError
from selfdb.aio import SelfDB
from selfdb.core.dispatch import Dispatcher, Full, Job
from selfdb.core.loops import LoopCallback, LoopSource
from selfdb.models import RealtimePayload
from selfdb.realtime.channel_machine import Deliver
from tests.aio.kit import BOUND, Run, bounded, on_both, run_plain, until, wait_until
from tests.realtime.phoenix import Phoenix
from tests.servers.replies import Request

TOPIC = "table:orders"
CLOSE_SECONDS = 2.0
SLACK = 5.0


@pytest.fixture
def phoenix() -> Iterator[Phoenix]:
    """A channel server that answers every join with ok."""
    server = Phoenix().start()
    yield server
    server.stop()


async def joined(server: Phoenix, **options: Any) -> Any:
    """A client that is connected and has joined `TOPIC`."""
    db = SelfDB(server.url, "key")
    await bounded(db.realtime.connect(**options))
    await bounded(db.realtime.channel(TOPIC).subscribe())
    return db


def payload(number: int) -> RealtimePayload:
    return RealtimePayload("INSERT", "orders", {"id": number}, None, {"id": number})


def uploaded(request: Request) -> Any:
    return 200, {}, {"success": True, "bucket": "b", "path": "f", "size": len(request.body), "file_id": "i"}


@on_both
def test_both_kinds_run_on_the_callers_loop_in_order(run: Run, phoenix: Phoenix) -> None:
    async def main() -> None:
        db = await joined(phoenix)
        home, seen = threading.current_thread(), []

        def plain(event: Any) -> None:
            assert threading.current_thread() is home
            assert asyncio.get_running_loop()
            seen.append(("plain", event.new["id"]))

        async def coroutine(event: Any) -> None:
            assert threading.current_thread() is home
            seen.append(("begins", event.new["id"]))
            await asyncio.sleep(0.002)
            seen.append(("ends", event.new["id"]))

        db.realtime.channel(TOPIC).on("INSERT", plain).on("INSERT", coroutine)
        for number in range(20):
            phoenix.insert(TOPIC, number)
        await until(lambda: ("ends", 19) in seen)
        assert seen == [(what, number) for number in range(20) for what in ("plain", "begins", "ends")]
        await bounded(db.close())

    run(main())


@on_both
def test_what_callbacks_raise_reaches_on_error_and_the_next_event_comes(run: Run, phoenix: Phoenix) -> None:
    async def main() -> None:
        db = await joined(phoenix)
        errors: List[BaseException] = []
        seen: List[int] = []

        async def report(error: BaseException) -> None:
            await asyncio.sleep(0)
            errors.append(error)

        def plain(event: Any) -> None:
            raise KeyError("plain")

        async def coroutine(event: Any) -> None:
            seen.append(event.new["id"])
            raise ValueError("coroutine")

        async def gives_up(event: Any) -> None:
            raise asyncio.CancelledError

        db.realtime.on_error(report)
        db.realtime.channel(TOPIC).on("INSERT", plain).on("INSERT", coroutine).on("INSERT", gives_up)
        phoenix.insert(TOPIC, 1)
        phoenix.insert(TOPIC, 2)
        await until(lambda: len(errors) == 6)
        assert [type(error) for error in errors] == [KeyError, ValueError, RealtimeError] * 2
        assert seen == [1, 2]
        await bounded(db.close())

    run(main())


def test_off_takes_a_callback_away_and_on_twice_adds_one(phoenix: Phoenix) -> None:
    async def main() -> None:
        db = await joined(phoenix)
        seen: List[str] = []

        async def coroutine(event: Any) -> None:
            seen.append("coroutine")

        def plain(event: Any) -> None:
            seen.append("plain")

        channel = db.realtime.channel(TOPIC)
        channel.on("INSERT", coroutine).on("INSERT", coroutine).on("INSERT", plain)
        phoenix.insert(TOPIC, 1)
        await until(lambda: seen == ["coroutine", "plain"])
        assert channel.off("INSERT", coroutine) is channel
        phoenix.insert(TOPIC, 2)
        await until(lambda: seen == ["coroutine", "plain", "plain"])
        db.realtime.off(TOPIC, "INSERT")
        db.realtime.on(TOPIC, "INSERT", coroutine)
        phoenix.insert(TOPIC, 3)
        await until(lambda: seen == ["coroutine", "plain", "plain", "coroutine"])
        await bounded(db.close())

    run_plain(main())


@on_both
def test_on_before_any_loop_runs(run: Run, phoenix: Phoenix) -> None:
    seen: List[Any] = []

    async def coroutine(event: Any) -> None:
        seen.append((event.new["id"], asyncio.get_running_loop()))

    db = SelfDB(phoenix.url, "key")
    db.realtime.channel(TOPIC).on("INSERT", coroutine)

    async def main() -> None:
        await bounded(db.realtime.connect())
        await bounded(db.realtime.channel(TOPIC).subscribe())
        phoenix.insert(TOPIC, 1)
        await until(lambda: seen == [(1, asyncio.get_running_loop())])
        await bounded(db.close())

    run(main())


def test_without_any_loop_a_callback_says_that_there_is_none() -> None:
    db = SelfDB("http://127.0.0.1:9", "key")
    db.realtime.channel(TOPIC).on("INSERT", print)
    blocking = db._blocking
    errors: List[BaseException] = []
    blocking.realtime.on_error(errors.append)
    handlers = blocking.realtime.channel(TOPIC)._handlers
    handlers.queued += 1
    handlers.deliver(handlers.queued, payload(1))
    assert "no event loop has awaited this client" in str(errors[0])
    blocking.close()


def test_a_callback_stays_on_the_loop_that_it_was_given_on(phoenix: Phoenix) -> None:
    """Two loops in two threads, one client: the first one's callback runs there, whoever joins."""
    db = SelfDB(phoenix.url, "key")
    seen: List[Any] = []
    given, over = threading.Event(), threading.Event()

    async def coroutine(event: Any) -> None:
        seen.append(threading.current_thread())

    async def first() -> None:
        db.realtime.channel(TOPIC).on("INSERT", coroutine)
        given.set()
        await until(over.is_set)

    async def second() -> None:
        await bounded(db.realtime.connect())
        await bounded(db.realtime.channel(TOPIC).subscribe())
        phoenix.insert(TOPIC, 1)
        await until(lambda: seen)
        await bounded(db.close())

    thread = threading.Thread(target=run_plain, args=(first(),), daemon=True)
    thread.start()
    assert given.wait(BOUND)
    run_plain(second())
    over.set()
    thread.join(BOUND)
    assert seen == [thread]


@on_both
def test_a_loop_that_is_closed_while_a_callback_waits_holds_nobody_up(run: Run, phoenix: Phoenix) -> None:
    kept: List[Any] = []
    errors: List[BaseException] = []
    seen: List[int] = []

    async def stuck(event: Any) -> None:
        kept.append(event)
        await asyncio.sleep(3600)

    async def main() -> None:
        db = await joined(phoenix)
        blocking = db._blocking
        blocking.realtime.on_error(errors.append)
        db.realtime.channel(TOPIC).on("INSERT", stuck)
        blocking.realtime.channel(TOPIC).on("UPDATE", lambda event: seen.append(1))
        phoenix.insert(TOPIC, 1)
        await until(lambda: kept)
        kept.append(blocking)

    run(main())
    phoenix.say(TOPIC, "UPDATE", {"event": "UPDATE", "table": "orders", "new": {"id": 1}, "old": None})
    wait_until(lambda: seen)
    phoenix.insert(TOPIC, 2)  # for a loop that is closed already
    wait_until(lambda: len(errors) == 2)
    assert all(isinstance(error, (RealtimeError, RuntimeError)) for error in errors)
    kept[1].close()


def test_a_loop_that_is_closed_without_its_tasks_being_told() -> None:
    """Such a task never ends; the thread that waits for it looks around now and then."""
    loop = asyncio.new_event_loop()
    begun: List[int] = []

    async def stuck() -> None:
        begun.append(1)
        await asyncio.sleep(3600)

    callback = LoopCallback(stuck, lambda: loop)
    errors: List[BaseException] = []

    def call() -> None:
        try:
            callback()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()

    async def until_begun() -> None:
        await until(lambda: begun)

    loop.run_until_complete(until_begun())
    tasks = asyncio.all_tasks(loop)
    loop.close()
    thread.join(BOUND)
    assert [str(error) for error in errors] == ["the event loop is closed"]
    for task in tasks:
        task._log_destroy_pending = False
        task.get_coro().close()


def test_on_its_own_loops_thread_a_callback_cannot_be_waited_for() -> None:
    async def main() -> None:
        callback = LoopCallback(print, asyncio.get_running_loop)
        with pytest.raises(RuntimeError, match="own thread"):
            callback()

    run_plain(main())


def test_callbacks_are_equal_where_their_functions_are() -> None:
    one, two, three = (LoopCallback(function, asyncio.new_event_loop) for function in (print, print, repr))
    assert one == two
    assert hash(one) == hash(two)
    assert one != three
    assert one != print
    assert repr(one) == "<LoopCallback <built-in function print>>"


@on_both
def test_a_callback_that_waits_for_events_is_told_and_its_task_is_not(run: Run, phoenix: Phoenix) -> None:
    async def main() -> None:
        db = await joined(phoenix)
        channel = db.realtime.channel(TOPIC)
        stream = channel.events()
        errors: List[BaseException] = []
        later: List[Any] = []

        async def wants_more(event: Any) -> None:
            for waits in (stream.__anext__, stream.get, lambda: channel.wait_for("INSERT")):
                try:
                    await waits()
                except RealtimeError as error:
                    errors.append(error)
            later.append(asyncio.ensure_future(goes_on()))

        async def goes_on() -> Any:
            await until(lambda: ended)
            return [(await stream.__anext__()).new["id"] for _ in range(2)]

        ended: List[int] = []
        channel.on("INSERT", wants_more).on("UPDATE", lambda event: ended.append(1))
        phoenix.insert(TOPIC, 1)
        await until(lambda: len(errors) == 3)
        assert all("callback" in str(error) for error in errors)
        channel.off("INSERT", wants_more)
        phoenix.say(TOPIC, "UPDATE", {"event": "UPDATE", "table": "orders", "new": {"id": 2}, "old": None})
        assert await bounded(later[0]) == [1, 2]
        await bounded(db.close())

    run(main())


@on_both
@pytest.mark.parametrize("how", ["close", "disconnect", "unsubscribe"])
def test_leaving_from_within_a_callback(run: Run, how: str, phoenix: Phoenix) -> None:
    async def main() -> None:
        db = await joined(phoenix)
        left: List[str] = []

        async def leave(event: Any) -> None:
            if how == "unsubscribe":
                await db.realtime.unsubscribe(TOPIC)
            else:
                await (db.close() if how == "close" else db.realtime.disconnect())
            left.append(db.realtime.state)

        db.realtime.channel(TOPIC).on("INSERT", leave)
        phoenix.insert(TOPIC, 1)
        await until(lambda: left)
        assert left == ["connected" if how == "unsubscribe" else "disconnected"]
        await bounded(db.close())

    run(main())


@on_both
def test_closing_does_not_wait_for_a_callback_that_is_stuck(run: Run, phoenix: Phoenix) -> None:
    async def main() -> None:
        db = await joined(phoenix)
        release, begun = asyncio.Event(), []

        async def stuck(event: Any) -> None:
            begun.append(event)
            await release.wait()

        db.realtime.channel(TOPIC).on("INSERT", stuck)
        phoenix.insert(TOPIC, 1)
        await until(lambda: begun)
        before = time.perf_counter()
        await bounded(db.close())
        assert time.perf_counter() - before < CLOSE_SECONDS * SLACK
        release.set()

    run(main())


def test_a_slow_coroutine_keeps_memory_bounded_and_losses_are_told() -> None:
    """100 000 events against a queue of 100: what is dropped is counted, and a resync stands where it was."""

    async def main() -> None:
        db = SelfDB("http://127.0.0.1:9", "key")
        blocking = db._blocking.realtime
        blocking._dispatcher.full = Full(max_items=100)
        errors: List[BaseException] = []
        seen: List[Any] = []
        release = asyncio.Event()

        async def slow(event: Any) -> None:
            await release.wait()
            seen.append(event.new["id"])

        async def again(event: Any) -> None:
            seen.append("resync")

        channel = db.realtime.channel(TOPIC).on("INSERT", slow).on("resync", again)
        db.realtime.on_error(errors.append)
        await bounded(db.realtime.channel(TOPIC).subscribe())
        deepest = 0
        for number in range(100_000):
            body = {"event": "INSERT", "table": "orders", "new": {"id": number}, "old": None}
            blocking._perform([Deliver(TOPIC, "INSERT", body)], 10)
            deepest = max(deepest, len(blocking._dispatcher._jobs))
        # The announcements of losses, one a run of losses, are not dropped.
        assert deepest <= 100 + 2
        release.set()
        await until(lambda: seen and seen[-1] == 99_999)
        given = [number for number in seen if number != "resync"]
        assert given == sorted(given)
        assert len(given) <= 102
        told = sum(int(str(error).split(" ")[0]) for error in errors)
        assert told + len(given) == 100_000
        assert seen.count("resync") == len(errors) >= 1
        assert channel is db.realtime.channel(TOPIC)
        await bounded(db.close())

    run_plain(main())


@on_both
def test_progress_runs_on_the_loop_and_what_it_raises_ends_the_upload(run: Run, replies: Callable[..., Any]) -> None:
    server = replies(uploaded)

    class Enough(Exception):
        pass

    async def main() -> None:
        home, seen = threading.current_thread(), []

        async def coroutine(done: int, total: Any) -> None:
            await asyncio.sleep(0)
            seen.append((done, total, threading.current_thread() is home))

        async def enough(done: int, total: Any) -> None:
            raise Enough

        def enough_already(done: int, total: Any) -> None:
            raise Enough

        async with SelfDB(server.url, "key") as db:
            files = db.storage.files
            await bounded(files.upload("b", "f", b"x" * 600_000, progress=coroutine))
            assert seen[-1] == (600_000, 600_000, True)
            assert all(here for _, _, here in seen)
            assert len(seen) > 1
            for progress in (enough, enough_already):
                with pytest.raises(Enough):
                    await bounded(files.upload("b", "f", b"x" * 600_000, progress=progress))
            await bounded(files.upload("b", "f", b"more"))

    run(main())
    assert [len(request.body) for request in server.requests if len(request.body) in (600_000, 4)] == [600_000, 4]


@on_both
def test_asynchronous_iterables_as_bodies(run: Run, replies: Callable[..., Any]) -> None:
    server = replies(uploaded)

    class Torn(Exception):
        pass

    async def blocks(count: int, then: Any = None) -> AsyncIterator[bytes]:
        for number in range(count):
            await asyncio.sleep(0)
            yield b"%04d" % number
        if then is not None:
            raise then

    class Iterable:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return blocks(3)

    async def main() -> None:
        async with SelfDB(server.url, "key") as db:
            assert (await bounded(db.storage.files.upload("b", "f", blocks(100)))).size == 400
            assert (await bounded(db.storage.files.upload("b", "f", Iterable()))).size == 12
            assert (await bounded(db.storage.files.upload("b", "f", blocks(0)))).size == 0
            with pytest.raises(Torn):
                await bounded(db.storage.files.upload("b", "f", blocks(3, Torn())))
            assert (await bounded(db.storage.files.upload("b", "f", blocks(1)))).size == 4

    run(main())
    assert server.requests[0].body == b"".join(b"%04d" % number for number in range(100))


@on_both
def test_asynchronous_iterables_as_rows(run: Run, replies: Callable[..., Any]) -> None:
    server = replies(lambda request: (200, {}, request.json))

    class Torn(Exception):
        pass

    async def rows(count: int, then: Any = None) -> AsyncIterator[Dict[str, int]]:
        for number in range(count):
            await asyncio.sleep(0)
            yield {"n": number}
        if then is not None:
            raise then

    async def main() -> None:
        done: List[Any] = []

        async def progress(count: int, total: Any) -> None:
            await asyncio.sleep(0)
            done.append((count, total))

        async with SelfDB(server.url, "key") as db:
            data = db.tables.data
            report = await bounded(data.insert_many("t", rows(50), concurrency=4, progress=progress))
            assert [outcome.result for outcome in report.done] == [{"n": number} for number in range(50)]
            assert done == [(count + 1, None) for count in range(50)]
            with pytest.raises(Torn):
                await bounded(data.insert_many("t", rows(5, Torn())))
            deleted = await bounded(data.delete_many("t", rows(0)))
            assert len(deleted) == 0

    run(main())


@on_both
def test_a_coroutine_function_as_predicate(run: Run, phoenix: Phoenix) -> None:
    async def main() -> None:
        db = await joined(phoenix)
        channel = db.realtime.channel(TOPIC)

        async def third(event: Any) -> bool:
            await asyncio.sleep(0)
            return bool(event.new["id"] == 3)

        async def fails(event: Any) -> bool:
            raise KeyError("no")

        for predicate in (third, lambda event: event.new["id"] == 3):
            waits = asyncio.ensure_future(channel.wait_for("INSERT", predicate))
            await asyncio.sleep(0)
            for number in range(5):
                phoenix.insert(TOPIC, number)
            assert (await bounded(waits)).new == {"id": 3}
        waits = asyncio.ensure_future(channel.wait_for("INSERT", fails))
        await asyncio.sleep(0)
        phoenix.insert(TOPIC, 1)
        with pytest.raises(KeyError):
            await bounded(waits)
        with pytest.raises(APITimeoutError):
            await channel.wait_for("INSERT", third, timeout=0.01)
        await bounded(db.close())

    run(main())


def test_an_interrupt_in_a_callback_ends_the_loop_and_not_the_thread() -> None:
    loop = asyncio.new_event_loop()

    def interrupted() -> None:
        raise KeyboardInterrupt

    errors: List[BaseException] = []
    dispatcher = Dispatcher(on_error=errors.append)
    dispatcher.put(Job(LoopCallback(interrupted, lambda: loop)))
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    wait_until(lambda: errors)
    assert isinstance(errors[0], KeyboardInterrupt)
    dispatcher.close()
    loop.close()


def test_a_source_is_an_iterator_for_threads() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def main() -> None:
        loop = asyncio.get_running_loop()
        source = LoopSource(numbers(), loop)
        assert iter(source) is source
        assert await bounded(loop.run_in_executor(None, list, source)) == [0, 1, 2]

    run_plain(main())
