"""Ends that come early on an event loop: tasks that are cancelled or fail beside others, and loops that are over."""

from __future__ import annotations

import asyncio
import itertools
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from selfdb.aio.indexie import Indexie, use_live_query
from selfdb.indexie import InvalidArgumentError, Strategy, SubTransactionError, Timing, TransactionInactiveError

BOUND = 100.0
SCHEMA = {"users": "++id, &name, age", "logs": "++id, action"}


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, BOUND))


def declared(path: Path, **options: Any) -> Any:
    db = Indexie(path, timing=Timing().scaled(0.2), busy_timeout=30.0, **options)
    db.version(1).stores(SCHEMA)
    return db


async def cancelled(task: asyncio.Future[Any]) -> Any:
    task.cancel()
    results: Any = await asyncio.gather(task, return_exceptions=True)
    return results[0]


# Tasks beside each other


def test_a_task_beside_a_transaction_within_is_refused(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            inside, go_on = asyncio.Event(), asyncio.Event()

            async def within() -> None:
                async with db.transaction("rw", ["users"]):
                    await db.users.add({"name": "within"})
                    inside.set()
                    await go_on.wait()
                    raise ZeroDivisionError

            async with db.transaction("rw", ["users"]):
                task = asyncio.ensure_future(within())
                await inside.wait()
                with pytest.raises(SubTransactionError):
                    await db.users.add({"name": "beside"})
                go_on.set()
                with pytest.raises(ZeroDivisionError):
                    await task
                await db.users.add({"name": "after"})
            assert [row["name"] for row in await db.users.to_array()] == ["after"]

    run(main())


@pytest.mark.parametrize("how", ["left", "raised", "cancelled"])
def test_a_transaction_that_ends_before_a_task_within_leaves_no_lock(path: Path, how: str) -> None:
    async def main() -> None:
        async with declared(path) as db:
            inside, go_on = asyncio.Event(), asyncio.Event()
            tasks: List[asyncio.Future[Any]] = []

            async def within() -> None:
                async with db.transaction("rw", ["users"]):
                    await db.users.add({"name": "within"})
                    inside.set()
                    await go_on.wait()
                    await db.users.add({"name": "late"})

            async def outer() -> None:
                async with db.transaction("rw", ["users"]):
                    tasks.append(asyncio.ensure_future(within()))
                    await inside.wait()
                    if how == "raised":
                        raise ZeroDivisionError
                    if how == "cancelled":
                        await asyncio.sleep(BOUND)

            task = asyncio.ensure_future(outer())
            await inside.wait()
            if how == "cancelled":
                result = await cancelled(task)
            else:
                (result,) = await asyncio.gather(task, return_exceptions=True)
            kinds = {"left": SubTransactionError, "raised": ZeroDivisionError, "cancelled": asyncio.CancelledError}
            assert type(result) is kinds[how]
            async with db.transaction("rw", ["users"]):
                await db.users.add({"name": "another"})
                go_on.set()
                with pytest.raises(TransactionInactiveError):
                    await tasks[0]
            assert [row["name"] for row in await db.users.to_array()] == ["another"]

    run(main())


def test_tasks_that_fail_beside_others_leave_all_or_what_was_told(path: Path) -> None:
    """As a group of tasks does it: the others are cancelled, wherever they are."""

    async def main() -> None:
        async with declared(path) as db:
            for turns in range(10):
                told: Dict[int, str] = {}

                async def one(number: int, turns: int = turns, told: Dict[int, str] = told) -> None:
                    name = f"{turns}-{number}"
                    told[await db.users.add({"name": name})] = name

                async def fails(turns: int = turns) -> None:
                    for _ in range(turns):
                        await asyncio.sleep(0.0002)
                    raise ZeroDivisionError

                keeps = turns % 2 == 0
                try:
                    async with db.transaction("rw", ["users"]):
                        tasks = [asyncio.ensure_future(one(number)) for number in range(10)]
                        tasks.append(asyncio.ensure_future(fails()))
                        try:
                            await asyncio.gather(*tasks)
                        except ZeroDivisionError:
                            for task in tasks:
                                task.cancel()
                            await asyncio.gather(*tasks, return_exceptions=True)
                            if not keeps:
                                raise
                except ZeroDivisionError:
                    pass
                rows = {
                    row["id"]: row["name"] for row in await db.users.where("name").starts_with(f"{turns}-").to_array()
                }
                assert told.items() <= rows.items() if keeps else rows == {}
            assert await db.integrity_check() == []

    run(main())


# Cancelled


@pytest.mark.parametrize("form", ["network first", "overlay"])
def test_a_hook_on_the_loop_whose_write_is_cancelled(path: Path, form: str) -> None:
    async def main() -> None:
        async with declared(path) as db:
            inside, go_on = asyncio.Event(), asyncio.Event()
            ended: List[str] = []

            async def hook(payload: Dict[str, Any]) -> None:
                inside.set()
                try:
                    await go_on.wait()
                    ended.append("done")
                except asyncio.CancelledError:
                    ended.append("cancelled")
                    raise

            db.users.hook.on_add(hook, name="push")

            async def write() -> None:
                if form == "network first":
                    db.users.strategy = Strategy.NETWORK_FIRST
                    await db.users.add({"name": "Ann"})
                    return
                async with db.users.start_transaction(optimistic=True) as tx:
                    await db.users.add({"name": "Ann"})
                    await tx.commit()

            task = asyncio.ensure_future(write())
            await inside.wait()
            assert type(await cancelled(task)) is asyncio.CancelledError
            # A commit that has begun goes to its end; a single call is given up, and its hook with it.
            kept = form == "overlay"
            if kept:
                go_on.set()
            while not ended:
                await asyncio.sleep(0.001)
            assert ended == ["done" if kept else "cancelled"]
            while db._blocking._publisher.layers:
                await asyncio.sleep(0.001)
            assert await db.outbox.pending() == 0
            assert await db.users.count() == kept
            assert await db.users.add({"name": "Ben"}, silent=True)

    run(main())


def test_a_first_run_that_is_cancelled_before_a_thread_takes_it_may_be_made_again(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            lq: Any = use_live_query(lambda: db.users.count())
            free = threading.Event()
            busy = asyncio.ensure_future(lq._bridge.work(free.wait, (BOUND,), {}))
            await asyncio.sleep(0)
            task = asyncio.ensure_future(lq.ready())
            await asyncio.sleep(0)
            assert type(await cancelled(task)) is asyncio.CancelledError
            free.set()
            await busy
            assert await asyncio.wait_for(lq.ready(), BOUND) == 0
            await db.users.add({"name": "Ann"})
            assert await lq.wait_until(lambda count: count == 1, BOUND)
            await lq.close()

    run(main())


WAITS: Dict[str, Callable[[Any, Any], Any]] = {
    "wait_for_change": lambda lq, values: lq.wait_for_change(BOUND),
    "wait_until": lambda lq, values: lq.wait_until(lambda count: count == 99, BOUND),
    "iteration": lambda lq, values: values.__anext__(),
}


@pytest.mark.parametrize("wait", sorted(WAITS))
def test_a_wait_that_is_cancelled_misses_nothing(path: Path, wait: str) -> None:
    async def main() -> None:
        async with declared(path) as db:
            lq: Any = use_live_query(lambda: db.users.count())
            assert await lq.ready() == 0
            values = lq.__aiter__()
            assert await values.__anext__() == 0
            task = asyncio.ensure_future(WAITS[wait](lq, values))
            await asyncio.sleep(0.01)
            assert type(await cancelled(task)) is asyncio.CancelledError
            await db.users.add({"name": "Ann"})
            assert await values.__anext__() == 1
            assert await lq.wait_for_change(BOUND, since=1)
            assert lq._blocking._watch.changed._watchers == [], "nobody waits any more"
            await lq.close()

    run(main())


# Loops that are over


def test_hooks_of_a_loop_that_is_over_run_on_the_next_one(path: Path) -> None:
    db = declared(path)
    told: List[Any] = []

    async def hook(payload: Dict[str, Any]) -> None:
        await db.logs.add({"action": payload["item"]["name"]})
        told.append((payload["item"]["name"], asyncio.get_running_loop()))

    async def first() -> None:
        db.users.hook.on_add(hook, name="push")
        await db.users.add({"name": "Ann"})
        assert await db.outbox.flush(BOUND)
        assert told == [("Ann", asyncio.get_running_loop())]

    async def second() -> None:
        await db.users.add({"name": "Ben"})
        assert await db.outbox.flush(BOUND)
        assert told[1:] == [("Ben", asyncio.get_running_loop())]
        assert await db.logs.count() == 2
        assert db.users.hook.off(hook)
        await db.close()

    run(first())
    run(second())


def test_a_live_query_of_a_loop_that_is_over_goes_on_where_it_is_awaited_next(path: Path) -> None:
    db = declared(path)

    async def first() -> Any:
        lq: Any = use_live_query(lambda: db.users.count())
        assert await lq.ready() == 0
        return lq

    async def second(lq: Any) -> None:
        assert await lq.settle(BOUND)
        await db.users.add({"name": "Ann"})
        assert await lq.wait_until(lambda count: count == 1, BOUND) == 1
        async for count in lq:
            assert count == 1
            break
        await lq.close()
        await db.close()

    run(second(run(first())))


def test_two_loops_of_two_threads(path: Path) -> None:
    db = declared(path)
    errors: List[BaseException] = []

    async def main(name: str) -> None:
        lq: Any = use_live_query(lambda: db.users.where("name").starts_with(name).count())
        assert await lq.ready() == 0

        async def one(number: int) -> None:
            async with db.transaction("rw", ["users", "logs"]):
                await db.users.add({"name": f"{name}{number}"})
                await db.logs.add({"action": "added"})

        await asyncio.gather(*(one(number) for number in range(15)))
        assert await lq.wait_until(lambda count: count == 15, BOUND)
        await lq.close()

    def thread(name: str) -> None:
        try:
            run(main(name))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=thread, args=(name,)) for name in "ab"]
    for each in threads:
        each.start()
    for each in threads:
        each.join(BOUND)
    assert errors == []

    async def end() -> None:
        assert (await db.users.count(), await db.logs.count()) == (30, 30)
        await db.close()

    run(end())


# Under many commits


def test_c079_a_live_query_under_a_thousand_commits(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            lq: Any = use_live_query(lambda: db.users.count())
            await lq.ready()
            seen: List[int] = []
            many, commits = asyncio.Event(), itertools.count(1)

            async def note(count: int) -> None:
                await many.wait()  # whatever is committed during a callback is one run more
                seen.append(count)

            lq.subscribe(note)

            async def writes(name: str) -> None:
                for number in range(250):
                    await db.users.add({"name": f"{name}{number}"})
                    if next(commits) == 700:
                        many.set()

            await asyncio.gather(*map(writes, "abcd"))
            assert await lq.wait_until(lambda count: count == 1000, BOUND)
            while seen[-1] != 1000:
                await asyncio.sleep(0.001)
            assert seen == sorted(set(seen))
            assert len(seen) == lq.version < 500
            await lq.close()

    run(main())


# Functions


@pytest.mark.parametrize("call", ["update", "modify", "filter", "until", "attach_schema"])
def test_a_function_that_a_thread_calls_is_no_coroutine_function(path: Path, call: str) -> None:
    async def function(row: Any) -> bool:
        return False

    calls: Dict[str, Callable[[Any], Any]] = {
        "update": lambda users: users.update(1, function),
        "modify": lambda users: users.to_collection().modify(function),
        "filter": lambda users: users.filter(function).to_array(),
        "until": lambda users: users.to_collection().until(function).to_array(),
        "attach_schema": lambda users: users.attach_schema(function),
    }

    async def main() -> None:
        async with declared(path) as db:
            await db.users.add({"name": "Ann"})
            with pytest.raises(InvalidArgumentError, match="plain function"):
                await calls[call](db.users)

    run(main())


@pytest.mark.parametrize("form", ["plain", "coroutine"])
def test_functions_that_the_loop_calls_may_be_coroutine_functions(path: Path, form: str) -> None:
    async def main() -> None:
        db = declared(path)
        told: List[str] = []
        loop = asyncio.get_running_loop()

        def note(what: str) -> Callable[..., Any]:
            def plain(*_: Any) -> bool:
                assert asyncio.get_running_loop() is loop
                told.append(what)
                return True

            async def coroutine(*_: Any) -> bool:
                await asyncio.sleep(0)
                return plain()

            return coroutine if form == "coroutine" else plain

        db.on_populate(note("populate"))
        db.on_ready(note("ready"))
        async with db:
            async with db.transaction("rw", ["users"]) as tx:
                tx.on_commit(note("commit"))
                await db.users.add({"name": "Ann"})
            with pytest.raises(ZeroDivisionError):
                async with db.transaction("rw", ["users"]) as tx:
                    tx.on_rollback(note("rollback"))
                    1 / 0
            await db.users.each(note("each"))
            lq: Any = use_live_query(lambda: db.users.count())
            assert await lq.wait_until(note("pred"), BOUND) == 1
            lq.subscribe(note("subscribe"))
            while "subscribe" not in told:
                await asyncio.sleep(0.001)
            await lq.close()
            db.outbox.max_attempts = 1
            db.outbox.on_dead(note("dead"))

            async def fails(payload: Dict[str, Any]) -> None:
                raise ConnectionError

            db.users.hook.on_add(fails, name="fails")
            await db.users.add({"name": "Ben"})
            while "dead" not in told:
                await asyncio.sleep(0.001)
        assert told == ["populate", "ready", "commit", "rollback", "each", "pred", "subscribe", "dead"]

    run(main())
