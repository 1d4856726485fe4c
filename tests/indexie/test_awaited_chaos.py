"""Tasks that write in every way, and are cancelled at any moment: what was acknowledged is there, nothing is held."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

from selfdb.aio.indexie import Indexie, use_live_query
from selfdb.indexie import DatabaseClosedError, HookError, Timing, TransactionInactiveError
from tests import soak

BOUND = 600.0 if soak.LONG else 200.0
ROUNDS = soak.amount("SELFDB_IX_CANCELLED", here=60, long=5000)
SCHEMA = {"users": "++id, &name", "logs": "++id, &name"}


def declared(path: Path, **options: Any) -> Any:
    db = Indexie(path, timing=Timing().scaled(0.1), **options)
    db.version(1).stores(SCHEMA)
    return db


class Writers:
    """Each way to write a pair of rows of one name, one in each table."""

    def __init__(self, db: Any) -> None:
        self.db = db
        self.kept: Set[str] = set()

    async def block(self, name: str) -> None:
        async with self.db.transaction("rw", ["users", "logs"]):
            await self.db.users.add({"name": name})
            await self.db.logs.add({"name": name})
        self.kept.add(name)

    async def function(self, name: str) -> None:
        async def both() -> None:
            await asyncio.gather(self.db.users.add({"name": name}), self.db.logs.add({"name": name}))

        await self.db.transaction("rw", ["users", "logs"], both)
        self.kept.add(name)

    async def nested(self, name: str) -> None:
        async with self.db.transaction("rw", ["users", "logs"]):
            await self.db.users.add({"name": name})
            async with self.db.transaction("rw", ["logs"]):
                await self.db.logs.add({"name": name})
        self.kept.add(name)

    async def hidden(self, name: str) -> None:
        async with self.db.start_transaction(["users", "logs"]) as tx:
            await self.db.users.add({"name": name})
            await self.db.logs.add({"name": name})
            await tx.commit()
        self.kept.add(name)

    async def optimistic(self, name: str) -> None:
        async with self.db.start_transaction(["users", "logs"], optimistic=True) as tx:
            await self.db.users.add({"name": f"shown {name}"})  # and until the next line the others see one of two
            await self.db.logs.add({"name": f"shown {name}"})
            await tx.commit()
        self.kept.add(f"shown {name}")

    async def reading(self, name: str) -> None:
        async with self.db.transaction("r", ["users", "logs"]):
            users = [row["name"] async for row in self.db.users.where("name").below("shown")]
            assert users == [row["name"] async for row in self.db.logs.where("name").below("shown")]

    async def live(self, name: str) -> None:
        async with use_live_query(self._both) as lq:
            await lq.ready()
            assert lq.value[0] == lq.value[1]

    async def _both(self) -> Any:
        return [await table.where("name").below("shown").keys() for table in (self.db.users, self.db.logs)]

    @property
    def all(self) -> List[Any]:
        return [self.block, self.function, self.nested, self.hidden, self.optimistic, self.reading, self.live]


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_tasks_that_are_cancelled_at_any_moment(path: Path) -> None:
    chance = soak.chance("cancelled writers")
    given_up = 0

    async def main() -> None:
        nonlocal given_up
        async with declared(path) as db:
            writers = Writers(db)

            async def told(payload: Dict[str, Any]) -> None:
                await asyncio.sleep(0)
                await db.logs.count()

            db.users.hook.on_add(told, name="told")
            for number in range(ROUNDS):
                tasks = [
                    asyncio.ensure_future(chance.choice(writers.all)(f"{number}-{each}"))
                    for each in range(chance.randrange(1, 6))
                ]
                for task in tasks:
                    if chance.random() < 0.6:
                        await asyncio.sleep(chance.random() * 0.004)
                        task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    given_up += isinstance(result, asyncio.CancelledError)
                    if result is not None and not isinstance(result, asyncio.CancelledError):
                        raise result
            blocking = db._blocking

            def held() -> bool:
                with blocking._connections._lock:  # other threads make connections meanwhile
                    return bool(blocking._publisher.layers) or any(each.holder for each in blocking._connections._known)

            while held():
                await asyncio.sleep(0.01)  # what was given up while it was committed comes to its end a moment later
            assert await db.users.add({"name": "the lock is free"}), "nobody holds it"
            await db.logs.add({"name": "the lock is free"})
            users = [row["name"] for row in await db.users.to_array()]
            logs = [row["name"] for row in await db.logs.to_array()]
            assert sorted(users) == sorted(logs)
            assert writers.kept <= set(users)
            assert await db.outbox.flush(BOUND)
            assert await db.integrity_check() == []

    asyncio.run(asyncio.wait_for(main(), BOUND))
    assert given_up > ROUNDS / 6
    soak.figure("IX", f"{ROUNDS} rounds of tasks that write, {given_up} of them cancelled: nothing torn, nothing held")


def test_a_database_that_is_closed_under_a_transaction(path: Path) -> None:
    async def main() -> None:
        db = declared(path)
        await db.open()
        for optimistic in (None, True, False):
            inside, closed = asyncio.Event(), asyncio.Event()

            async def writes(
                optimistic: Any = optimistic, inside: asyncio.Event = inside, closed: asyncio.Event = closed
            ) -> None:
                if optimistic is None:
                    async with db.transaction("rw", ["users"]):
                        await db.users.add({"name": "Ann"})
                        inside.set()
                        await closed.wait()
                else:
                    async with db.users.start_transaction(optimistic=optimistic) as tx:
                        await db.users.add({"name": "Ann"})
                        inside.set()
                        await closed.wait()
                        await tx.commit()

            task = asyncio.ensure_future(writes())
            await inside.wait()
            await db.close()
            closed.set()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            await db.open()
            if optimistic is None and result is None:  # it had the file, and could still finish
                assert [row["name"] for row in await db.users.to_array()] == ["Ann"]
            else:
                assert isinstance(result, (DatabaseClosedError, TransactionInactiveError))
                assert await db.users.count() == 0
            assert await db.users.add({"name": "Ben"})
            await db.users.clear()
        await db.close()

    asyncio.run(asyncio.wait_for(main(), BOUND))


def test_a_hook_that_is_cancelled_is_one_that_failed(path: Path) -> None:
    async def main() -> None:
        async with declared(path) as db:

            async def gives_up(payload: Dict[str, Any]) -> None:
                raise asyncio.CancelledError

            db.users.hook.on_add(gives_up, name="gives up")
            with pytest.raises(HookError):
                async with db.users.start_transaction(optimistic=True) as tx:
                    await db.users.add({"name": "Ann"})
                    await tx.commit()
            assert await db.users.count() == 0

    asyncio.run(asyncio.wait_for(main(), BOUND))
