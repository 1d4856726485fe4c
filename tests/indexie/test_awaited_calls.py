"""Every call that is awaited through ``selfdb.aio.indexie``: it gives what its blocking namesake gives."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any, Callable, Dict, Set

import pytest

import selfdb.aio.indexie
import selfdb.indexie
from selfdb.core.marks import mark_of

BOUND = 100.0
ROWS = [
    {"id": 1, "name": "Ann", "age": 30, "tags": ["a", "all"]},
    {"id": 2, "name": "Ben", "age": 20, "tags": ["b", "all"]},
    {"id": 3, "name": "Cid", "age": 40, "tags": ["c", "all"]},
]


def older(row: Any) -> None:
    row["age"] += 1


def made(db: Any) -> Any:
    return db.users.where("age").above(25)


# By face and method. Each is given the database with the rows above, and gives what is awaited.
CALLS: Dict[str, Callable[[Any], Any]] = {
    "Table.add": lambda db: db.users.add({"name": "Dan"}),
    "Table.put": lambda db: db.users.put({"id": 2, "name": "Dan"}),
    "Table.update": lambda db: db.users.update(1, older),
    "Table.upsert": lambda db: db.users.upsert(9, {"name": "Dan"}),
    "Table.delete": lambda db: db.users.delete(2),
    "Table.clear": lambda db: db.users.clear(),
    "Table.bulk_add": lambda db: db.users.bulk_add([{"name": "Dan"}, {"name": "Eve"}], all_keys=True),
    "Table.bulk_put": lambda db: db.users.bulk_put([{"id": 1, "name": "Dan"}, {"name": "Eve"}]),
    "Table.bulk_update": lambda db: db.users.bulk_update([(1, older), (2, {"age": 3}), (9, older)]),
    "Table.bulk_delete": lambda db: db.users.bulk_delete([1, 9]),
    "Table.get": lambda db: db.users.get({"name": "Ben"}),
    "Table.bulk_get": lambda db: db.users.bulk_get([3, 9, 1]),
    "Table.to_array": lambda db: db.users.to_array(),
    "Table.first": lambda db: db.users.first(),
    "Table.last": lambda db: db.users.last(),
    "Table.count": lambda db: db.users.count(),
    "Table.each": lambda db: db.users.each(lambda row: None),
    "Table.keys": lambda db: db.users.keys(),
    "Table.primary_keys": lambda db: db.users.primary_keys(),
    "Collection.to_array": lambda db: made(db).reverse().to_array(),
    "Collection.first": lambda db: made(db).first(),
    "Collection.last": lambda db: made(db).last(),
    "Collection.count": lambda db: made(db).or_("name").equals("Ben").count(),
    "Collection.each": lambda db: made(db).each(lambda row: None),
    "Collection.keys": lambda db: made(db).keys(),
    "Collection.primary_keys": lambda db: made(db).primary_keys(),
    "Collection.items": lambda db: made(db).items(),
    "Collection.sort_by": lambda db: made(db).sort_by("name"),
    "Collection.modify": lambda db: made(db).modify(older),
    "Collection.delete": lambda db: made(db).delete(),
    "Found.close": lambda db: begun(made(db)).close(),
    "Indexie.open": lambda db: db.open(),
    "Indexie.vacuum": lambda db: db.vacuum(),
    "Indexie.checkpoint": lambda db: db.checkpoint(),
    "Indexie.integrity_check": lambda db: db.integrity_check(),
    "Indexie.export_json": lambda db: db.export_json(db.path.with_suffix(".json")),
    "Indexie.import_json": lambda db: db.import_json(sample(db), clear=True),
    "Indexie.transaction": lambda db: db.transaction("r", "users", lambda: 7),
    "Indexie.exists": lambda db: type(db).exists(db.path),
    "Indexie.delete_database": lambda db: type(db).delete_database(db.path.with_suffix(".no")),
    "Indexie.database_names": lambda db: type(db).database_names(directory=db.path.parent),
    "Indexie.close": lambda db: db.close(),
    "Outbox.pending": lambda db: db.outbox.pending("users"),
    "Outbox.entries": lambda db: db.outbox.entries("ready"),
    "Outbox.flush": lambda db: db.outbox.flush(BOUND),
    "Outbox.retry": lambda db: db.outbox.retry(9),
    "Outbox.drop": lambda db: db.outbox.drop(9),
    "Outbox.retire": lambda db: db.outbox.retire("users"),
    "LiveQuery.ready": lambda db: live(db).ready(),
    "LiveQuery.wait_for_change": lambda db: live(db).wait_for_change(0.01, since=1),
    "LiveQuery.wait_until": lambda db: live(db).wait_until(lambda count: count == 3, BOUND),
    "LiveQuery.settle": lambda db: live(db).settle(BOUND),
    "LiveQuery.close": lambda db: live(db).close(),
    "OverlayTransaction.commit": lambda db: db.users.start_transaction().commit(),
    "OverlayTransaction.rollback": lambda db: db.users.start_transaction().rollback(),
}


def begun(query: Any) -> Any:
    return query.__aiter__() if hasattr(query, "__aiter__") else iter(query)


def live(db: Any) -> Any:
    face = selfdb.indexie if type(db) is selfdb.indexie.Indexie else selfdb.aio.indexie
    return face.use_live_query(lambda: db.users.count())


def sample(db: Any) -> Path:
    """A file to import."""
    path: Path = db.path.with_suffix(".json")
    with selfdb.indexie.Indexie(db.path) as other:
        other.users.update(1, {"name": "Zoe"})
        other.export_json(path)
    return path


def shown(result: Any) -> Any:
    """The result, if it is the same for both faces."""
    if isinstance(result, list):
        return [shown(each) for each in result]
    return type(result).__name__ if type(result).__name__ == "Indexie" else result


def declared(face: Any, path: Path) -> Any:
    db = face.Indexie(path, busy_timeout=5.0)
    db.version(1).stores({"users": "++id, &name, age, *tags"})
    return db


def plainly(calls: Dict[str, Callable[[Any], Any]], path: Path) -> Dict[str, Any]:
    db = declared(selfdb.indexie, path)
    results = {}
    for name, call in calls.items():
        db.open().users.clear()
        db.users.bulk_add(ROWS)
        try:
            result = call(db)
        except Exception as error:  # is as good a result
            result = type(error)
        results[name] = shown(result), db.open().users.to_array()
    db.close()
    return results


async def awaited(calls: Dict[str, Callable[[Any], Any]], path: Path) -> Dict[str, Any]:
    db = declared(selfdb.aio.indexie, path)
    results = {}
    for name, call in calls.items():
        await (await db.open()).users.clear()
        await db.users.bulk_add(ROWS)
        given = call(db)
        assert inspect.isawaitable(given)
        try:
            result = await given
        except Exception as error:
            result = type(error)
        results[name] = shown(result), await (await db.open()).users.to_array()
    await db.close()
    return results


@pytest.mark.parametrize("face", sorted({name.split(".")[0] for name in CALLS}))
def test_a_call_gives_what_its_blocking_namesake_gives(tmp_path: Path, face: str) -> None:
    calls = {name: call for name, call in CALLS.items() if name.split(".")[0] == face}
    for form in ("plain", "awaited"):
        (tmp_path / form).mkdir()
    expected = plainly(calls, tmp_path / "plain" / "x.indexie.db")
    given = asyncio.run(asyncio.wait_for(awaited(calls, tmp_path / "awaited" / "x.indexie.db"), BOUND))
    assert given == expected


def test_no_call_that_is_awaited_is_left_out() -> None:
    names: Set[str] = set()
    faces: Any = selfdb.aio.indexie
    for face in faces.HOMES:
        blocking = getattr(faces, face)._blocking_class
        for base in blocking.__mro__:
            for name, value in vars(base).items():
                function = getattr(value, "__func__", value)
                mark = mark_of(function) if inspect.isfunction(function) and not name.startswith("_") else None
                if mark is not None and mark.kind in ("blocking", "waiting"):
                    names.add(f"{face}.{name}")
    assert names == set(CALLS)


def test_many_rows_may_come_from_an_asynchronous_iterable(tmp_path: Path) -> None:
    async def items(*given: Any) -> Any:
        for each in given:
            await asyncio.sleep(0)
            yield each

    async def main() -> None:
        async with declared(selfdb.aio.indexie, tmp_path / "x.db") as db:
            assert await db.users.bulk_add(items(*ROWS), all_keys=True) == [1, 2, 3]
            assert await db.users.bulk_put(items({"name": "Dan"}), items(7)) == 7
            assert await db.users.bulk_update(items((1, {"age": 1}), (2, older))) == 2
            assert [row["age"] for row in await db.users.bulk_get(items(1, 2))] == [1, 21]
            assert await db.users.bulk_delete(items(1, 2, 9)) == 2
            assert await db.users.primary_keys() == [3, 7]

    asyncio.run(asyncio.wait_for(main(), BOUND))
