"""A database that is closed while transactions are under way: what they wrote is kept, and no more is taken."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Callable, List

import pytest

from selfdb.aio.indexie import Indexie as AioIndexie
from selfdb.indexie import DatabaseClosedError, Indexie, TransactionInactiveError, use_live_query

from .kit import SOON, Calls, elsewhere

Make = Callable[..., Any]


@pytest.fixture(params=["itself", "another thread"])
def close(request: Any) -> Callable[[Any], None]:
    """How it is closed."""
    if request.param == "itself":
        return lambda db: db.close()

    return lambda db: elsewhere(db.close)


def names(db: Any) -> List[str]:
    return [row["name"] for row in db.users.to_array()]


def test_what_a_block_has_written_is_kept_at_its_end(make_db: Make, close: Callable[[Any], None]) -> None:
    db = make_db().open()
    ends: List[str] = []
    with db.transaction("rw", "users") as tx:
        tx.on_commit(lambda: ends.append("kept"))
        db.users.add({"name": "Ann"})
        with db.transaction("rw", "users"):
            db.users.add({"name": "Ben"})
            close(db)
            assert not db.is_open
    assert ends == ["kept"]
    other = make_db(busy_timeout=0.0).open()
    assert names(other) == ["Ann", "Ben"]
    other.close()
    assert Indexie.delete_database(db.path, timeout=0.0), "nothing of it has the file open any more"


def test_another_operation_of_the_block_is_refused_and_undoes_it(make_db: Make, close: Callable[[Any], None]) -> None:
    for operation in (lambda: db.users.add({}), lambda: db.users.count(), lambda: db.users.get(1)):
        db = make_db().open()
        with pytest.raises(DatabaseClosedError), db.transaction("rw", "users"):
            db.users.add({"name": "Ann"})
            close(db)
            operation()
        assert names(make_db(busy_timeout=0.0)) == [], "the lock is nobody's"


def test_a_block_that_catches_the_refusal_keeps_what_it_had(make_db: Make, close: Callable[[Any], None]) -> None:
    db = make_db().open()
    with db.transaction("rw", "users"):
        db.users.add({"name": "Ann"})
        close(db)
        with pytest.raises(DatabaseClosedError):
            db.users.bulk_add([{"name": "Ben"}, {"name": "Cleo"}])
    assert names(make_db()) == ["Ann"]


def test_an_error_after_it_undoes_the_block(make_db: Make, close: Callable[[Any], None]) -> None:
    db = make_db().open()
    with pytest.raises(ZeroDivisionError), db.transaction("rw", "users"):
        db.users.add({"name": "Ann"})
        close(db)
        raise ZeroDivisionError
    assert names(make_db(busy_timeout=0.0)) == []


def test_a_function_is_a_block_too(make_db: Make, close: Callable[[Any], None]) -> None:
    db = make_db().open()
    assert db.transaction("rw", "users", lambda: (db.users.add({"name": "Ann"}), close(db))) == (1, None)
    assert names(make_db()) == ["Ann"]


def test_a_block_that_reads_ends_in_peace(make_db: Make, close: Callable[[Any], None]) -> None:
    db = make_db().open()
    with db.transaction("r", "users"):
        assert db.users.count() == 0
        close(db)
    assert Indexie.delete_database(db.path, timeout=0.0)


def test_hooks_are_owed_what_the_block_has_written(make_db: Make, close: Callable[[Any], None]) -> None:
    db, told = make_db().open(), Calls()
    db.users.hook.on_add(told, name="push")
    with db.transaction("rw", "users"):
        db.users.add({"name": "Ann"})
        close(db)
    assert told.values == []
    again = make_db()
    again.users.hook.on_add(told, name="push")
    again.open()
    told.wait(1)
    assert again.outbox.flush(SOON)


def test_a_block_goes_on_when_it_is_opened_again(make_db: Make, close: Callable[[Any], None]) -> None:
    db = make_db().open()
    with db.transaction("rw", "users"):
        db.users.add({"name": "Ann"})
        close(db)
        db.open()
        counted = use_live_query(db.users.count)
        assert counted.value == 0
        db.users.add({"name": "Ben"})
        assert db.users.count() == 2
    assert counted.wait_until(lambda count: count == 2, SOON)
    assert names(db) == ["Ann", "Ben"]


def test_an_overlay_is_rolled_back_by_it(make_db: Make, close: Callable[[Any], None]) -> None:
    db = make_db().open()
    with db.users.start_transaction() as tx:
        db.users.add({"name": "Ann"})
        close(db)
        with pytest.raises((TransactionInactiveError, DatabaseClosedError)):
            tx.commit()
    assert names(make_db()) == []


def test_the_same_with_await(make_db: Make) -> None:
    path: Path = make_db().path

    async def main() -> None:
        db = AioIndexie(path)
        db.version(1).stores({"users": "++id"})
        async with db.transaction("rw", ["users"]):
            await db.users.add({"name": "Ann"})
            await db.close()
        await db.open()
        with pytest.raises(DatabaseClosedError):
            async with db.transaction("rw", ["users"]):
                await db.users.add({"name": "Ben"})
                await db.close()
                await db.users.count()
        await db.open()
        assert [row["name"] for row in await db.users.to_array()] == ["Ann"]
        await db.close()

    asyncio.run(asyncio.wait_for(main(), SOON))
