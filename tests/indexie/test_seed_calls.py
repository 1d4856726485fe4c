"""The calls of the specification, blocking and awaited, from one table."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any, Callable, List

import pytest

import selfdb.aio.indexie as aio
import selfdb.indexie as blocking
from tests.indexie.seed_calls import (
    LATER,
    NAME,
    NEW,
    OTHER_CALLS,
    SEED_CALLS,
    STORES_1,
    STORES_2,
    SUBSTITUTIONS,
    SeedCall,
    at_hand,
    note_of,
)

BOUND = 60.0

STRATEGIES = {"local_first": blocking.Strategy.LOCAL_FIRST, "network_first": blocking.Strategy.NETWORK_FIRST}

CALLS = [*SEED_CALLS, *OTHER_CALLS]
each_call = pytest.mark.parametrize("case", CALLS, ids=[case.id for case in CALLS])


def test_the_table_is_whole() -> None:
    assert (len(SEED_CALLS), len(LATER), len(OTHER_CALLS)) == (26, 3, 22)
    assert all(case.awaited for case in SEED_CALLS), "29 awaits of the store's, three of which are later work"
    assert len({case.id for case in CALLS}) == 48
    assert all(SUBSTITUTIONS.values())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where databases that are named are."""
    monkeypatch.setenv("SELFDB_INDEXIE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def first_version(folder: Path) -> None:
    """A file of version 1, which the database of a case finds."""
    db = blocking.Indexie(NAME)
    db.version(1).stores(STORES_1)
    db.open().close()


def declare(db: Any, hook: Callable[..., Any]) -> None:
    db.version(1).stores(STORES_1)
    db.version(2).stores(STORES_2).upgrade(hook)


def elsewhere(work: Callable[[Any], Any]) -> None:
    with blocking.Indexie(NAME) as other:
        work(other)


# Blocking


def run_blocking(case: SeedCall) -> Any:
    given = at_hand()
    results: List[Any] = []

    def fn(*calls: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            result = None
            for call in calls:
                result = call()
            return result

        return run

    def caught(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            given.error = error
            return error

    given.fn, given.caught, given.elsewhere = fn, caught, elsewhere
    db = blocking.Indexie(NAME)
    if case.scene == "declaring":
        made = case.call(db, given)
        with db:
            given.stores = tuple(table.name for table in db.tables)
        return case.check(made, [], given)

    def hook(txn: Any) -> None:
        if case.scene == "upgrade":
            results.append(case.call(db, given))

    def on_hook(payload: Any) -> None:
        given.notes.append(note_of(payload))

    def counts(payload: Any) -> None:
        given.notes.append(("rows when the hook ran", db.users.count()))

    def scene() -> None:
        for call in case.before:
            call(db, given)
        results.append(case.call(db, given))

    declare(db, hook)
    try:
        if case.scene != "upgrade":
            db.open()
        fill_through(db, case)
        if case.scene == "transaction":
            db.transaction(blocking.Indexie.Mode.READ_WRITE, ["users", "logs"], scene)
        elif case.scene in ("optimistic", "standard"):
            if case.scene == "optimistic":
                db.users.hook.on_add(on_hook, name="sync_to_server")
            with db.users.start_transaction(optimistic=case.scene == "optimistic") as given.tx:
                scene()
                if given.tx.active:
                    given.tx.commit()
        elif case.scene == "live":
            with blocking.use_live_query(lambda: case.call(db, given)) as users:
                assert users.value == case.rows
                db.users.add(NEW)
                assert users.wait_for_change(BOUND)
                results.append(users.value)
        elif case.scene == "hooked":
            db.users.hook.on_add(on_hook)
            db.users.hook.on_update(on_hook)
            db.users.hook.on_delete(on_hook)
            scene()
            assert db.outbox.flush(BOUND)
        elif case.scene in STRATEGIES:
            db.users.strategy = STRATEGIES[case.scene]
            db.users.hook.on_add(counts, name="counts")
            scene()
            assert len(given.notes) == 1 or case.scene == "local_first", "the call has not waited for the hook"
            assert db.outbox.flush(BOUND)
        elif case.scene == "block":
            with blocking.use_live_query(lambda: db.users.count()) as count, case.call(db, given) as given.tx:
                results.append(given.tx.optimistic)
                db.users.add(NEW)
                assert count.settle(BOUND)
                given.notes.append(("shown before the commit", count.value))
        elif case.scene == "upgrade":
            db.open()
        else:
            scene()
        given.stores = tuple(table.name for table in db.tables)
        return case.check(results[-1], db.users.to_array(), given)
    finally:
        db.close()


def fill_through(db: Any, case: SeedCall) -> None:
    """On the blocking face, whichever one ``db`` is; an upgrade is still to come where that is the case."""
    there = getattr(db, "_blocking", db)
    if case.scene == "upgrade":
        with blocking.Indexie(NAME) as older:
            older.users.bulk_add(case.rows)
        return
    there.users.bulk_add(case.rows, silent=True)


@each_call
def test_blocking(case: SeedCall) -> None:
    assert run_blocking(case)


# Awaited


async def run_awaited(case: SeedCall) -> Any:
    given = at_hand()
    results: List[Any] = []

    def fn(*calls: Callable[[], Any]) -> Callable[[], Any]:
        async def run() -> Any:
            result = None
            for call in calls:
                result = await call()
            return result

        return run

    async def caught(call: Callable[[], Any]) -> Any:
        try:
            return await call()
        except Exception as error:
            given.error = error
            return error

    async def away(work: Callable[[Any], Any]) -> None:
        await asyncio.get_running_loop().run_in_executor(None, elsewhere, work)

    given.fn, given.caught, given.elsewhere = fn, caught, away
    db: Any = aio.Indexie(NAME)
    if case.scene == "declaring":
        made = case.call(db, given)
        async with db:
            given.stores = tuple(table.name for table in db.tables)
        return case.check(made, [], given)

    async def result_of(call: Callable[[Any, Any], Any]) -> Any:
        made = call(db, given)
        assert inspect.isawaitable(made) is (case.awaited or call is not case.call)
        return await made if inspect.isawaitable(made) else made

    def hook(txn: Any) -> None:
        if case.scene == "upgrade":
            results.append(case.call(db, given))

    async def counts(payload: Any) -> None:
        given.notes.append(("rows when the hook ran", await db.users.count()))

    async def on_hook(payload: Any) -> None:
        await asyncio.sleep(0)
        given.notes.append(note_of(payload))

    async def scene() -> None:
        for call in case.before:
            await result_of(call)
        results.append(await result_of(case.call))

    declare(db, hook)
    try:
        if case.scene != "upgrade":
            await db.open()
        await asyncio.get_running_loop().run_in_executor(None, fill_through, db, case)
        if case.scene == "transaction":
            await db.transaction(aio.Indexie.Mode.READ_WRITE, ["users", "logs"], scene)
        elif case.scene in ("optimistic", "standard"):
            if case.scene == "optimistic":
                db.users.hook.on_add(on_hook, name="sync_to_server")
            async with db.users.start_transaction(optimistic=case.scene == "optimistic") as given.tx:
                await scene()
                if given.tx.active:
                    await given.tx.commit()
        elif case.scene == "live":
            users = aio.use_live_query(lambda: case.call(db, given))
            assert await users.ready() == case.rows
            await db.users.add(NEW)
            assert await users.wait_for_change(BOUND)
            results.append(users.value)
            await users.close()
        elif case.scene == "hooked":
            db.users.hook.on_add(on_hook, name="on_add")
            db.users.hook.on_update(on_hook, name="on_update")
            db.users.hook.on_delete(on_hook, name="on_delete")
            await scene()
            assert await db.outbox.flush(BOUND)
        elif case.scene in STRATEGIES:
            db.users.strategy = STRATEGIES[case.scene]
            db.users.hook.on_add(counts, name="counts")
            await scene()
            assert len(given.notes) == 1 or case.scene == "local_first", "the call has not waited for the hook"
            assert await db.outbox.flush(BOUND)
        elif case.scene == "block":
            count = aio.use_live_query(lambda: db.users.count())
            await count.ready()
            async with case.call(db, given) as given.tx:
                results.append(given.tx.optimistic)
                await db.users.add(NEW)
                assert await count.settle(BOUND)
                given.notes.append(("shown before the commit", count.value))
            await count.close()
        elif case.scene == "upgrade":
            await db.open()
        else:
            await scene()
        given.stores = tuple(table.name for table in db.tables)
        return case.check(results[-1], await db.users.to_array(), given)
    finally:
        await db.close()


@each_call
def test_awaited(case: SeedCall) -> None:
    assert asyncio.run(asyncio.wait_for(run_awaited(case), BOUND))


def test_every_name_of_the_face_is_there() -> None:
    for name in aio.__all__:
        assert getattr(aio, name) is not None
    assert set(aio.__all__) <= set(dir(aio))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aio.nothing
