"""Silent writes: they tell live queries and nobody else, whatever writes them."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie import Strategy, use_live_query
from selfdb.indexie.timing import Timing

from .kit import Calls

QUICK = Timing(outbox_poll=0.01, retry_first=0.01)


@pytest.fixture
def db(make_db: Callable[..., Any]) -> Any:
    return make_db(timing=QUICK).open()


def told(calls: Calls, *fields: str) -> List[Any]:
    return [tuple(payload[field] for field in fields) for payload in calls.values]


def test_c093_silent_tells_live_queries_and_nobody_else(db: Any) -> None:
    calls, background = Calls(), Calls()
    db.users.hook.on_add(calls, name="push")
    db.users.hook.on_add(background, durable=False)
    with use_live_query(lambda: db.users.count()) as query:
        db.users.add({"name": "Ann"}, silent=True)
        assert query.wait_for_change(10)
        assert query.value == 1
    assert db.outbox.entries() == []
    db.users.add({"name": "Bob"})  # whoever is told is told in order: had the first one been told, it would be here
    background.wait(1)
    calls.wait(1)
    assert told(calls, "key") == told(background, "key") == [(2,)]


def test_c093_silent_is_nobody_s_business_with_network_first_either(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_add(calls, name="push")
    db.users.strategy = Strategy.NETWORK_FIRST
    db.users.add({"name": "Ann"}, silent=True)
    assert db.users.count() == 1
    assert calls.values == []


SILENT: Dict[str, Callable[[Any], Any]] = {
    "add": lambda users: users.add({"age": 9}, silent=True),
    "put": lambda users: users.put({"id": 1, "age": 9}, silent=True),
    "update": lambda users: users.update(1, {"age": 9}, silent=True),
    "upsert": lambda users: users.upsert(7, {"age": 9}, silent=True),
    "delete": lambda users: users.delete(1, silent=True),
    "clear": lambda users: users.clear(silent=True),
    "bulk_add": lambda users: users.bulk_add([{"age": 9}], silent=True),
    "bulk_put": lambda users: users.bulk_put([{"id": 1, "age": 9}], silent=True),
    "bulk_update": lambda users: users.bulk_update([(1, {"age": 9})], silent=True),
    "bulk_delete": lambda users: users.bulk_delete([1], silent=True),
    "modify": lambda users: users.where("age").above(0).modify({"age": 9}, silent=True),
    "delete of a query": lambda users: users.where("age").above(0).delete(silent=True),
}


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("write", SILENT)
def test_c093_every_kind_of_write_may_be_silent(db: Any, write: str, strategy: Strategy) -> None:
    db.users.add({"age": 1})
    calls = Calls()
    for register in (db.users.hook.on_add, db.users.hook.on_update, db.users.hook.on_delete):
        register(calls, name="push")
        register(calls, durable=False)
    db.users.strategy = strategy
    with use_live_query(lambda: db.users.to_array()) as query:
        SILENT[write](db.users)
        assert query.wait_for_change(10)
        assert query.value == db.users.to_array() != [{"age": 1, "id": 1}]
    assert db.outbox.entries() == []
    db.users.strategy = Strategy.LOCAL_FIRST
    db.users.add({"id": 50})  # whoever is told is told in order: had the silent one been told, it would be here
    calls.wait(2)
    assert told(calls, "op", "key") == [("add", 50)] * 2


@pytest.mark.parametrize("said, entries", [(None, 0), (False, 1), (True, 0)], ids=["unsaid", "loud", "silent"])
def test_c093_writes_inside_a_hook_are_silent_unless_they_say_otherwise(db: Any, said: Any, entries: int) -> None:
    done = Calls()

    @db.users.hook.on_update(name="writes")
    def writes(payload: Dict[str, Any]) -> None:
        db.users.add({"name": "by the hook"}, **({} if said is None else {"silent": said}))
        done(payload)

    db.users.hook.on_add(lambda payload: None, name="told", durable=False)
    added = Calls()
    db.users.hook.on_add(added, durable=False)
    key = db.users.add({"name": "Ann"}, silent=True)
    db.users.update(key, {"name": "Bob"})
    done.wait(1)
    assert db.outbox.flush(10)
    db.users.add({"name": "last"})
    added.wait(entries + 1)
    assert [payload["item"]["name"] for payload in added.values] == ["by the hook"] * entries + ["last"]
