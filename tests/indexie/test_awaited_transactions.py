"""Transactions of tasks: whose calls they hold, on which thread, and what a task that is cancelled leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

import selfdb.indexie
from selfdb.aio.indexie import Indexie
from selfdb.indexie import AbortError, IndexieTimeoutError, TransactionInactiveError

BOUND = 100.0
SCHEMA = {"users": "++id, &name, age", "logs": "++id, action"}


def run(main: Any) -> Any:
    return asyncio.run(asyncio.wait_for(main, BOUND))


def declared(path: Path, **options: Any) -> Any:
    db = Indexie(path, **options)
    db.version(1).stores(SCHEMA)
    return db


def workers() -> int:
    return sum(thread.name == "selfdb-aio" for thread in threading.enumerate())


def test_the_function_runs_in_the_callers_task(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            mine, loop_thread = asyncio.current_task(), threading.current_thread()

            async def fill(tx: Any) -> str:
                assert asyncio.current_task() is mine
                assert threading.current_thread() is loop_thread
                assert (tx.mode, tx.scope, tx.active) == ("rw", ("users", "logs"), True)
                await db.users.add({"name": "Ann"})
                await tx.logs.add({"action": "added"})
                assert await tx.table("users").count() == 1
                return "done"

            assert await db.transaction("rw", ["users", db.logs], fill) == "done"
            assert await db.transaction("r", "users", lambda: 7) == 7
            assert (await db.users.count(), await db.logs.count()) == (1, 1)

            async def fails() -> None:
                await db.users.add({"name": "Ben"})
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await db.transaction("rw", ["users"], fails)

            async def aborts(tx: Any) -> None:
                await db.users.add({"name": "Ben"})
                tx.abort()

            with pytest.raises(AbortError):
                await db.transaction("rw", ["users"], aborts)
            assert await db.users.to_array() == [{"id": 1, "name": "Ann"}]

    run(main())


def test_a_block_is_kept_whole_or_not_at_all(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            done: List[str] = []

            async def committed() -> None:
                await asyncio.sleep(0)
                done.append("committed")

            async with db.transaction("rw", ["users"]) as tx:
                tx.on_commit(committed)
                tx.on_rollback(lambda: done.append("rolled back"))
                await db.users.add({"name": "Ann"})
                with pytest.raises(ZeroDivisionError):
                    async with db.transaction("rw", ["users"]) as inner:
                        inner.on_rollback(lambda: done.append("inner rolled back"))
                        await db.users.add({"name": "Ben"})
                        1 / 0
                assert await db.users.count() == 1
            assert done == ["inner rolled back", "committed"]
            with pytest.raises(TransactionInactiveError):
                tx.table("users")
            assert await db.users.count() == 1

    run(main())


def test_two_tasks_with_a_transaction_each_never_meet(path: Path) -> None:
    async def main() -> None:
        async with declared(path, busy_timeout=BOUND) as db:

            async def one(name: str, fails: bool) -> None:
                async with db.transaction("rw", ["users"]):
                    before = await db.users.count()
                    for number in range(3):
                        await db.users.add({"name": f"{name}{number}"})
                        await asyncio.sleep(0.002)
                        assert await db.users.count() == before + number + 1
                    if fails:
                        raise ZeroDivisionError

            tasks = [one(f"t{number}-", number % 3 == 0) for number in range(9)]
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [ZeroDivisionError, type(None), type(None)] * 3
            names = [row["name"] for row in await db.users.to_array()]
            assert sorted(names) == sorted(f"t{task}-{number}" for task in (1, 2, 4, 5, 7, 8) for number in range(3))

    run(main())


def test_calls_outside_see_nothing_of_it_before_its_end(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            inside, go_on = asyncio.Event(), asyncio.Event()

            async def writes() -> None:
                async with db.transaction("rw", ["users"]):
                    await db.users.add({"name": "Ann"})
                    inside.set()
                    await go_on.wait()

            task = asyncio.ensure_future(writes())
            await inside.wait()
            assert await db.users.to_array() == []
            go_on.set()
            await task
            assert await db.users.count() == 1

    run(main())


def test_gathered_calls_are_made_one_after_the_other_on_one_thread(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            threads = set()

            def mark(row: Dict[str, Any]) -> None:
                threads.add(threading.current_thread())
                row["seen"] = True

            async with db.transaction("rw", ["users", "logs"]):
                keys = await asyncio.gather(*(db.users.add({"name": f"n{number}"}) for number in range(50)))
                assert keys == list(range(1, 51)), "in the order in which they were asked for"
                await asyncio.gather(*(db.users.update(key, mark) for key in keys))
                await asyncio.sleep(0.01)
                await db.users.update(1, mark)
                async with db.transaction("rw", ["users"]):
                    await db.users.update(1, mark)
            assert len(threads) == 1
            assert await db.users.filter(lambda row: row["seen"]).count() == 50

    run(main())


def test_tasks_that_begin_within_are_part_of_it_until_it_ends(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            over = asyncio.Event()

            async def child() -> None:
                await db.users.add({"name": "within"})
                await over.wait()
                await db.users.add({"name": "behind"})

            with pytest.raises(ZeroDivisionError):
                async with db.transaction("rw", ["users"]):
                    task = asyncio.ensure_future(child())
                    while not await db.users.count():
                        await asyncio.sleep(0.001)
                    1 / 0
            over.set()
            await task
            assert [row["name"] for row in await db.users.to_array()] == ["behind"]

    run(main())


# Cancelled


@pytest.mark.parametrize("form", ["block", "function"])
def test_a_task_that_is_cancelled_in_it_leaves_nothing(path: Path, form: str) -> None:
    async def main() -> None:
        async with declared(path, busy_timeout=5.0) as db:
            inside = asyncio.Event()

            async def body() -> None:
                await db.users.add({"name": "Ann"})
                inside.set()
                await asyncio.sleep(3600)

            async def writes() -> None:
                if form == "function":
                    await db.transaction("rw", ["users"], body)
                    return
                async with db.transaction("rw", ["users"]):
                    await body()

            task = asyncio.ensure_future(writes())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await db.users.add({"name": "Ann"}) == 1, "the lock is free, the row and its key are undone"

    run(main())


def test_a_task_that_is_cancelled_at_any_moment_keeps_all_or_nothing(path: Path) -> None:
    async def main() -> None:
        async with declared(path, busy_timeout=5.0) as db:
            outcomes = set()

            async def writes(number: int) -> None:
                async with db.transaction("rw", ["users", "logs"]):
                    await db.users.add({"name": f"n{number}"})
                    await db.logs.add({"action": f"n{number}"})

            for number in range(60):
                task = asyncio.ensure_future(writes(number))
                for _ in range(number % 20):
                    await asyncio.sleep(0.0002)
                task.cancel()
                (result,) = await asyncio.gather(task, return_exceptions=True)
                outcomes.add(type(result))
                # One state of both: a commit that was under way goes on though its task is cancelled.
                async with db.transaction("r", ["users", "logs"]):
                    users = [row["name"] for row in await db.users.to_array()]
                    logs = [row["action"] for row in await db.logs.to_array()]
                assert users == logs
                if result is None:
                    assert users[-1] == f"n{number}"
            assert asyncio.CancelledError in outcomes
            assert await db.users.add({"name": "the lock is free"})

    run(main())


def test_who_is_cancelled_while_it_waits_for_its_turn_takes_no_lock(path: Path) -> None:
    async def main() -> None:
        async with declared(path, busy_timeout=20.0) as db:
            inside, go_on = asyncio.Event(), asyncio.Event()

            async def first() -> None:
                async with db.transaction("rw", ["users"]):
                    inside.set()
                    await go_on.wait()

            async def second() -> None:
                async with db.transaction("rw", ["users"]):
                    raise AssertionError("it never began")

            one = asyncio.ensure_future(first())
            await inside.wait()
            two = asyncio.ensure_future(second())
            await asyncio.sleep(0.05)
            two.cancel()
            with pytest.raises(asyncio.CancelledError):
                await two
            go_on.set()
            await one
            assert await db.users.add({"name": "Ann"}) == 1

    run(main())


def test_many_tasks_wait_for_their_turn_without_a_thread_each(path: Path) -> None:
    async def main() -> None:
        async with declared(path, busy_timeout=BOUND) as db:  # the last of them waits for all others

            async def one(number: int) -> None:
                async with db.transaction("rw", ["users"]):
                    await db.users.add({"name": f"n{number}"})

            before = workers()
            tasks = [asyncio.ensure_future(one(number)) for number in range(300)]
            await asyncio.sleep(0.02)
            assert workers() - before < 20
            assert await asyncio.wait_for(db.users.count(), BOUND) >= 0, "others get a thread meanwhile"
            await asyncio.gather(*tasks)
            assert await db.users.count() == 300

    run(main())


def test_a_write_waits_for_the_turn_of_a_task_and_says_so_in_the_end(path: Path) -> None:
    async def main() -> None:
        async with declared(path, busy_timeout=0.1) as db:
            outside = asyncio.Event()

            async def other() -> None:
                await outside.wait()
                with pytest.raises(IndexieTimeoutError):
                    await db.users.add({"name": "Ben"})

            task = asyncio.ensure_future(other())
            await asyncio.sleep(0)
            async with db.transaction("rw", ["users"]):
                outside.set()
                await task

    run(main())


def test_the_loop_goes_on_while_another_process_writes(path: Path, peer: Callable[[], Any]) -> None:
    async def main() -> None:
        async with declared(path) as db:
            await db.users.add({"name": "Ann"})
            other = peer()
            other.run("import sqlite3\nc = sqlite3.connect(path, isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\n")
            task = asyncio.ensure_future(db.users.add({"name": "Ben"}))
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert not task.done()
            assert await db.users.count() == 1
            other.run("c.execute('ROLLBACK'); c.close()")
            assert await task == 2

    run(main())


# What is between


def test_rows_one_after_the_other(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            await db.users.bulk_add([{"name": f"n{number:03}", "age": number} for number in range(250)])
            seen = [row["age"] async for row in db.users.where("age").above(9)]
            assert seen == list(range(10, 250))
            async for row in db.users.order_by("name").reverse():
                assert row["age"] == 249
                break
            rows = db.users.where("age").below(3).__aiter__()
            assert (await rows.__anext__())["age"] == 0
            await db.users.update(2, {"age": 1000})
            assert [row["age"] async for row in rows] == [1, 2], "the state of the first row"
            await rows.close()
            async with db.transaction("rw", ["users"]):
                async for row in db.users.where("age").below(5):
                    await db.users.update(row["id"], {"age": -1})
                assert await db.users.where("age").equals(-1).count() == 4

    run(main())


def test_a_step_that_is_cancelled_loses_no_row(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            await db.users.bulk_add([{"age": number} for number in range(1000)])
            rows, seen = db.users.to_collection().__aiter__(), []
            for number in range(2000):
                step = asyncio.ensure_future(rows.__anext__())
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                step.cancel()
                (row,) = await asyncio.gather(step, return_exceptions=True)
                if isinstance(row, StopAsyncIteration):
                    break
                if isinstance(row, dict):
                    seen.append(row["age"])
            seen += [row["age"] async for row in rows]
            assert seen == list(range(1000))
            async for row in db.users.filter(lambda row: row["age"] / (row["age"] - 100)):
                last = row["age"]
                if last == 50:
                    break
            with pytest.raises(ZeroDivisionError):
                async for row in db.users.filter(lambda row: row["age"] / (row["age"] - 100)):
                    last = row["age"]
            assert last < 100

    run(main())


def test_rows_that_outlive_their_database(path: Path) -> None:
    async def main() -> Any:
        async with declared(path) as db:
            await db.users.bulk_add([{"age": number} for number in range(500)])
            rows = db.users.to_collection().__aiter__()
            assert (await rows.__anext__())["age"] == 0
        return rows

    rows = run(main())
    items = rows._blocking._items
    rows._blocking._items = None
    if items is not None:
        items.close()
    del items, rows


def test_a_callback_for_each_row_may_call_the_store(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:
            await db.users.bulk_add([{"name": "Ann"}, {"name": "Ben"}])
            seen: List[Any] = []

            async def copy(row: Dict[str, Any]) -> None:
                seen.append(await db.logs.add({"action": row["name"]}))

            await db.users.each(copy)
            async with db.transaction("rw", ["users", "logs"]):
                await db.users.order_by("name").each(copy)
                assert await db.logs.count() == 4
            assert seen == [1, 2, 3, 4]

    run(main())


def test_hooks_of_an_upgrade_may_be_coroutine_functions(path: Path) -> None:
    async def main() -> None:
        db = declared(path)

        @db.on_populate  # type: ignore[untyped-decorator]
        async def populate(tx: Any) -> None:
            await tx.table("users").add({"name": "Ann"})
            await db.logs.add({"action": "populated"})

        assert asyncio.iscoroutinefunction(populate)
        ready: List[Any] = []
        db.on_ready(ready.append)
        assert await db.users.count() == 1
        assert ready == [db]
        await db.close()
        newer = declared(path)

        async def upgrade(tx: Any) -> None:
            assert await tx.table("logs").count() == 1
            async with newer.transaction("rw", ["users"]):
                await newer.users.add({"name": "Ben"})
            await asyncio.gather(*(newer.users.add({"name": f"n{number}"}) for number in range(5)))
            newer.logs.drop()

        newer.version(2).stores({"items": "++id"}).upgrade(upgrade)
        async with newer:
            assert await newer.users.count() == 7
            assert sorted(table.name for table in newer.tables) == ["items", "users"]

    run(main())


def test_questions_about_files_need_no_database(tmp_path: Path) -> None:
    async def main() -> None:
        assert await Indexie.exists("notes", directory=tmp_path) is False
        db = Indexie("notes", directory=tmp_path)
        db.version(1).stores(SCHEMA)
        async with db:
            assert db.is_open
        assert await Indexie.exists("notes", directory=tmp_path) is True
        assert await Indexie.database_names(directory=tmp_path) == ["notes"]
        assert await Indexie.delete_database("notes", directory=tmp_path) is True
        assert await Indexie.database_names(directory=tmp_path) == []

    run(main())


def test_both_faces_of_one_file(path: Path) -> None:
    async def main() -> None:
        with selfdb.indexie.Indexie(path) as other:
            async with declared(path) as db:
                await db.users.add({"name": "Ann"})
            loop = asyncio.get_running_loop()
            rows = await loop.run_in_executor(None, lambda: other.users.to_array())
            assert rows == [{"id": 1, "name": "Ann"}]

    declare = selfdb.indexie.Indexie(path)
    declare.version(1).stores(SCHEMA)
    declare.open().close()
    run(main())


@pytest.mark.parametrize("form", ["block", "function", "overlay", "waiting"])
def test_a_loop_that_ends_under_a_task_leaves_no_lock(path: Path, form: str) -> None:
    """Nobody tells such a task: its coroutine is closed when it is collected."""
    db = declared(path, busy_timeout=5.0)
    loop = asyncio.new_event_loop()
    inside = asyncio.Event()

    async def body() -> None:
        await db.users.add({"name": "Ann"})
        inside.set()
        await asyncio.sleep(3600)

    async def writes() -> None:
        if form == "function":
            await db.transaction("rw", ["users"], body)
        elif form == "overlay":
            async with db.users.start_transaction(optimistic=True):
                await body()
        else:
            async with db.transaction("rw", ["users"]):
                await body()

    async def begun() -> None:
        await inside.wait()

    tasks = [loop.create_task(writes())]
    loop.run_until_complete(asyncio.wait_for(begun(), BOUND))
    if form == "waiting":
        tasks.append(loop.create_task(writes()))
        loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    for task in reversed(tasks):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be
        # One that was waiting says that there is no loop; the others end without a word.
        with contextlib.suppress(RuntimeError):
            task.get_coro().close()  # type: ignore[union-attr]
    blocking = db._blocking
    assert blocking.users.to_array() == []
    assert blocking.users.add({"name": "Ann"}) in (1, 2)
    blocking.close()
    db._bridge.close()
