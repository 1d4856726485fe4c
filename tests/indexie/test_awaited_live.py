"""Live queries, hooks and overlays on an event loop: what runs there, what is tracked, and what takes no thread."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from selfdb.aio.indexie import Indexie, use_live_query
from selfdb.indexie import DatabaseClosedError, HookError, InvalidStateError, ReadOnlyError, Strategy, Timing

BOUND = 100.0
SCHEMA = {"users": "++id, &name, age", "logs": "++id, action"}


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, BOUND))


def declared(path: Path, **options: Any) -> Any:
    db = Indexie(path, timing=Timing().scaled(0.2), **options)
    db.version(1).stores(SCHEMA)
    return db


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def workers() -> int:
    return sum(thread.name == "selfdb-aio" for thread in threading.enumerate())


# Live queries


def test_the_function_runs_on_the_loop_and_is_tracked(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            runs: List[asyncio.AbstractEventLoop] = []

            async def adults() -> Any:
                runs.append(asyncio.get_running_loop())
                first = await db.users.where("age").above(18).primary_keys()
                return first, await db.users.where("age").above(18).count()

            lq = use_live_query(adults, name="adults")
            assert (lq.value, lq.version, lq.closed) == (None, 0, False)
            assert await lq.ready() == ([], 0)
            assert await lq.ready() == lq.value == lq() == ([], 0)
            await db.users.add({"name": "Ann", "age": 30})
            assert await lq.wait_for_change(BOUND)
            assert (lq.value, lq.version) == (([1], 1), 2)
            await db.users.add({"name": "Ben", "age": 3})
            await db.logs.add({"action": "nothing of its range"})
            assert await lq.settle(BOUND)
            assert (lq.version, len(runs)) == (2, 2)
            assert await lq.wait_for_change(0.01) is False
            await db.users.update(2, {"age": 19})
            assert await lq.wait_until(lambda value: value[1] == 2, BOUND) == ([2, 1], 2)
            assert set(runs) == {asyncio.get_running_loop()}
            await lq.close()
            with pytest.raises(DatabaseClosedError):
                await lq.wait_for_change(1)

    run(main())


def test_a_query_that_it_gives_is_read(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            await db.users.add({"name": "Ann", "age": 30})

            async def later() -> Any:
                return db.users

            for fn in (lambda: db.users.order_by("name"), lambda: db.users, later):
                lq = use_live_query(fn)
                assert await lq.ready() == [{"id": 1, "name": "Ann", "age": 30}]
                await lq.close()

    run(main())


def test_what_goes_wrong_in_it(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:

            async def fails() -> None:
                await db.users.count()
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await use_live_query(fails).ready()
            with pytest.raises(ReadOnlyError):
                await use_live_query(lambda: db.users.add({"name": "Ann"})).ready()
            with pytest.raises(InvalidStateError):
                await use_live_query(lambda: 7).ready()
            assert await db.users.count() == 0

    run(main())


def test_values_one_after_the_other(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            lq = use_live_query(lambda: db.users.count())
            seen: List[int] = []

            async def follow() -> None:
                async for count in lq:
                    seen.append(count)
                seen.append(-1)

            await lq.ready()
            task = asyncio.ensure_future(follow())
            await until(lambda: seen == [0])
            for number in range(3):
                await db.users.add({"name": f"n{number}"})
                await until(lambda number=number: seen[-1] == number + 1)
            await lq.close()
            await task
            assert seen == [0, 1, 2, 3, -1]

    run(main())


def test_an_iteration_begins_by_itself(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            await db.users.add({"name": "Ann"})
            lq = use_live_query(lambda: db.users.count())
            async for count in lq:
                assert count == 1
                break
            await lq.close()
            for wait in ("wait_for_change", "settle"):
                lq = use_live_query(lambda: db.users.count())
                assert await getattr(lq, wait)(BOUND)
                assert lq.value == 1
                await lq.close()
            lq = use_live_query(lambda: db.users.count())
            assert await lq.wait_until(lambda count: count == 1, BOUND) == 1
            await lq.close()

    run(main())


def test_waiting_takes_no_thread(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            lq = use_live_query(lambda: db.users.count())
            await lq.ready()
            before = workers()

            async def one() -> int:
                return int(await lq.wait_until(lambda count: count == 1, BOUND))

            tasks = [asyncio.ensure_future(one()) for _ in range(500)]
            tasks += [asyncio.ensure_future(lq.wait_for_change(BOUND)) for _ in range(500)]
            await asyncio.sleep(0.05)
            assert workers() <= before + 1
            await db.users.add({"name": "Ann"})
            assert set(await asyncio.gather(*tasks)) == {1, True}
            await lq.close()

    run(main())


def test_subscribers_run_on_the_loop(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            lq = use_live_query(lambda: db.users.count())
            await lq.ready()
            seen: List[Any] = []

            async def note(count: int) -> None:
                await asyncio.sleep(0)
                if count:
                    await db.logs.add({"action": f"counted {count}"})
                seen.append((count, asyncio.get_running_loop()))

            end = lq.subscribe(note)
            await until(lambda: seen)
            await db.users.add({"name": "Ann"})
            await until(lambda: len(seen) == 2)
            end()
            await db.users.add({"name": "Ben"})
            assert await lq.settle(BOUND)
            loop = asyncio.get_running_loop()
            assert seen == [(0, loop), (1, loop)]
            assert await db.logs.count() == 1
            await lq.close()

    run(main())


def test_changes_of_another_process(path: Path, peer: Callable[[], Any]) -> None:
    async def main() -> None:
        async with declared(path) as db:
            lq = use_live_query(lambda: db.users.where("age").above(5).primary_keys())
            assert await lq.ready() == []
            peer().run(
                "from pathlib import Path\nfrom selfdb.indexie import Indexie\n"
                "with Indexie(Path(path)) as db:\n    db.users.add({'name': 'Ann', 'age': 6})"
            )
            assert await lq.wait_until(lambda keys: keys == [1], BOUND)
            await lq.close()

    run(main())


def test_a_query_that_nobody_holds_ends_itself(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            lq = use_live_query(lambda: db.users.count())
            await lq.ready()
            watch = lq._blocking._watch
            del lq
            while not watch.closed:  # the thread of its first run lets go of it a moment later
                gc.collect()
                await asyncio.sleep(0.001)

    run(main())


# Hooks


@pytest.mark.parametrize("form", ["plain", "coroutine"])
def test_hooks_run_on_the_loop_and_write_silently(path: Path, form: str) -> None:
    async def main() -> None:
        async with declared(path) as db:
            told: List[Any] = []

            async def write(payload: Dict[str, Any]) -> None:
                told.append((payload["op"], payload["item"]["name"], asyncio.get_running_loop()))
                await db.users.put({**payload["item"], "told": True})
                await db.logs.add({"action": "told"})

            async def coroutine(payload: Dict[str, Any]) -> None:
                await write(payload)

            def plain(payload: Dict[str, Any]) -> Any:
                return write(payload)

            async def never(payload: Dict[str, Any]) -> None:
                raise AssertionError("it was written by a hook")

            hook = coroutine if form == "coroutine" else plain
            assert db.users.hook.on_add(hook, name="tell") is hook
            db.logs.hook.on_add(never, name="never")
            db.users.hook.on_update(never, name="never")
            await db.users.add({"name": "Ann"})
            assert await db.outbox.flush(BOUND)
            assert told == [("add", "Ann", asyncio.get_running_loop())]
            assert await db.users.get(1) == {"id": 1, "name": "Ann", "told": True}
            assert await db.outbox.pending() == 0
            assert db.users.hook.off(hook)
            await db.users.add({"name": "Ben"})
            assert len(told) == 1

    run(main())


def test_a_hook_that_comes_first_may_ask_the_store(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            db.users.strategy = Strategy.NETWORK_FIRST
            assert db.users.strategy is Strategy.NETWORK_FIRST

            async def ask(payload: Dict[str, Any]) -> None:
                await asyncio.sleep(0)
                payload["item"]["others"] = await db.logs.count()
                if payload["item"]["name"] == "Eve":
                    raise ConnectionError("no")

            db.users.hook.on_add(ask, name="ask")
            assert await db.users.add({"name": "Ann"}) == 1
            assert await db.users.get(1) == {"id": 1, "name": "Ann", "others": 0}
            with pytest.raises(HookError) as caught:
                await db.users.add({"name": "Eve"})
            assert isinstance(caught.value.__cause__, ConnectionError)
            assert await db.users.count() == 1

    run(main())


# Overlays


def test_an_overlay_is_the_tasks_own_or_everybodys(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            lq = use_live_query(lambda: db.users.order_by("name").keys())
            assert await lq.ready() == []
            inside, go_on = asyncio.Event(), asyncio.Event()

            async def writes(optimistic: bool, name: str) -> None:
                async with db.users.start_transaction(optimistic=optimistic) as tx:
                    await asyncio.gather(*(db.users.add({"name": f"{name}{number}"}) for number in range(3)))
                    assert [operation.op for operation in tx.operations] == ["add"] * 3
                    assert await db.users.where("name").starts_with(name).count() == 3
                    inside.set()
                    await go_on.wait()
                    await tx.commit()

            hidden = asyncio.ensure_future(writes(False, "h"))
            await inside.wait()
            assert await db.users.count() == 0
            assert await lq.settle(BOUND)
            assert lq.version == 1
            inside.clear()
            shown = asyncio.ensure_future(writes(True, "s"))
            await inside.wait()
            assert await db.users.count() == 3
            assert await lq.wait_until(lambda names: names == ["s0", "s1", "s2"], BOUND)
            go_on.set()
            await asyncio.gather(hidden, shown)
            assert await lq.wait_until(lambda names: len(names) == 6, BOUND)
            rows = await db.users.to_array()
            assert sorted(row["name"] for row in rows) == ["h0", "h1", "h2", "s0", "s1", "s2"]
            await lq.close()

    run(main())


def test_the_order_of_what_is_gathered_is_the_order_of_the_hooks(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            order: List[Any] = []

            async def note(payload: Dict[str, Any]) -> None:
                await db.users.count()
                order.append(payload["item"]["name"])

            db.users.hook.on_add(note, name="note")
            async with db.users.start_transaction(optimistic=True) as tx:
                await asyncio.gather(*(db.users.add({"name": f"n{number:02}"}) for number in range(30)))
                await tx.commit()
            assert order == [f"n{number:02}" for number in range(30)]

    run(main())


@pytest.mark.parametrize("how", ["left", "raised", "cancelled", "hook"])
def test_what_was_not_committed_is_gone(path: Path, how: str) -> None:
    async def main() -> None:
        async with declared(path) as db:
            inside = asyncio.Event()

            async def refuses(payload: Dict[str, Any]) -> None:
                await asyncio.sleep(0)
                raise ConnectionError("no")

            db.users.hook.on_add(refuses, name="refuses")

            async def writes() -> None:
                async with db.users.start_transaction(optimistic=True) as tx:
                    await db.users.add({"name": "Ann"})
                    inside.set()
                    if how == "raised":
                        raise ZeroDivisionError
                    if how == "cancelled":
                        await asyncio.sleep(3600)
                    if how == "hook":
                        await tx.commit()

            task = asyncio.ensure_future(writes())
            await inside.wait()
            if how == "cancelled":
                task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            kind = {"raised": ZeroDivisionError, "cancelled": asyncio.CancelledError, "hook": HookError}
            assert type(result) is kind.get(how, type(None))
            assert await db.users.count() == 0
            assert await db.users.add({"name": "Ann"}, silent=True)

    run(main())
