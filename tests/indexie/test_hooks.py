"""Hooks: who is told of what, under which name, inline or in the background."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie.errors import HookError, InvalidArgumentError, InvalidStateError, WriteConflictError
from selfdb.indexie.hooks.strategy import Strategy
from selfdb.indexie.keys.markers import DELETE_FIELD
from selfdb.indexie.live.live import use_live_query
from selfdb.indexie.timing import Timing

from .kit import Calls, wait_until

QUICK = Timing(outbox_poll=0.01, retry_first=0.01)


@pytest.fixture
def db(make_db: Callable[..., Any]) -> Any:
    return make_db(timing=QUICK).open()


def told(calls: Calls, *fields: str) -> List[Any]:
    return [tuple(payload[field] for field in fields) for payload in calls.values]


# Case 91: the network comes first


def test_c091_a_raising_hook_stores_nothing_and_is_told(db: Any) -> None:
    def refuse(payload: Dict[str, Any]) -> None:
        raise OSError("no network")

    db.users.strategy = Strategy.NETWORK_FIRST
    db.users.hook.on_add(refuse)
    with pytest.raises(HookError) as caught:
        db.users.add({"name": "Ann"})
    assert isinstance(caught.value.__cause__, OSError)
    assert (caught.value.table, caught.value.op, caught.value.key) == ("users", "add", 1)
    assert caught.value.hook is not None
    assert caught.value.hook.endswith("refuse")
    assert caught.value.completed == []
    assert db.users.to_array() == []
    assert db.outbox.entries() == []


def test_c091_no_live_query_notices(db: Any) -> None:
    def refuse(payload: Dict[str, Any]) -> None:
        raise OSError("no network")

    db.users.strategy = Strategy.NETWORK_FIRST
    db.users.hook.on_add(refuse)
    with use_live_query(lambda: db.users.to_array()) as query:
        seen = Calls()
        query.subscribe(seen)
        seen.wait(1)
        with pytest.raises(HookError):
            db.users.add({"name": "Ann"})
        assert query.settle(10)
        assert seen.values == [[]]


def test_c091_what_a_hook_sets_in_the_item_is_stored(db: Any) -> None:
    db.users.strategy = Strategy.NETWORK_FIRST

    @db.users.hook.on_add
    def number(payload: Dict[str, Any]) -> None:
        assert db.users.count() == 0  # the row comes after it
        payload["item"]["srv"] = 7

    key = db.users.add({"name": "Ann"})
    assert db.users.get(key) == {"name": "Ann", "id": key, "srv": 7}
    assert db.outbox.entries() == []


def test_c091_the_key_is_the_same_in_payload_and_row(db: Any) -> None:
    db.users.strategy = "network_first"
    calls = Calls()
    db.users.hook.on_add(calls, name="push")
    assert db.users.add({"name": "Ann"}) == 1
    assert told(calls, "key", "optimistic", "attempt") == [(1, False, 1)]
    assert calls.threads == [threading.current_thread()]


@pytest.mark.parametrize("op", ["update", "delete", "put", "modify", "clear", "bulk_add"])
def test_c091_every_kind_of_write_waits_for_its_hooks(db: Any, op: str) -> None:
    key = db.users.add({"name": "Ann", "age": 1}, silent=True)

    def refuse(payload: Dict[str, Any]) -> None:
        raise OSError("no network")

    db.users.strategy = Strategy.NETWORK_FIRST
    for register in (db.users.hook.on_add, db.users.hook.on_update, db.users.hook.on_delete):
        register(refuse)
    writes: Dict[str, Callable[[], Any]] = {
        "update": lambda: db.users.update(key, {"age": 2}),
        "delete": lambda: db.users.delete(key),
        "put": lambda: db.users.put({"id": key, "name": "Bob"}),
        "modify": lambda: db.users.where("age").above(0).modify({"age": 9}),
        "clear": lambda: db.users.clear(),
        "bulk_add": lambda: db.users.bulk_add([{"name": "b"}, {"name": "c"}]),
    }
    before = db.users.to_array()
    with pytest.raises(HookError):
        writes[op]()
    assert db.users.to_array() == before


def test_c091_a_row_that_moved_meanwhile_is_a_conflict(db: Any) -> None:
    key = db.users.add({"name": "Ann"}, silent=True)
    db.users.strategy = Strategy.NETWORK_FIRST

    @db.users.hook.on_update
    def elsewhere(payload: Dict[str, Any]) -> None:
        thread = threading.Thread(target=lambda: db.users.update(key, {"name": "Eve"}, silent=True))
        thread.start()
        thread.join()

    with pytest.raises(WriteConflictError) as caught:
        db.users.update(key, {"name": "Bob"})
    assert caught.value.hooks_succeeded
    assert caught.value.keys == [key]
    assert db.users.get(key)["name"] == "Eve"


def test_c091_a_clash_is_found_before_any_hook_runs(db: Any) -> None:
    from selfdb.indexie.errors import ConstraintError

    db.users.add({"email": "a"}, silent=True)
    db.users.strategy = Strategy.NETWORK_FIRST
    calls = Calls()
    db.users.hook.on_add(calls, name="push")
    with pytest.raises(ConstraintError) as caught:
        db.users.add({"email": "a"})
    assert caught.value.index == "email"
    assert not caught.value.hooks_succeeded
    assert calls.values == []


@pytest.mark.parametrize("write", ["put", "update", "modify", "bulk_put"])
def test_c091_what_a_hook_sets_in_a_changed_item_is_stored(db: Any, write: str) -> None:
    db.users.add({"name": "Ann"}, silent=True)
    db.users.strategy = Strategy.NETWORK_FIRST

    @db.users.hook.on_update
    def number(payload: Dict[str, Any]) -> None:
        payload["item"]["srv"] = payload["old"]["name"]

    writes: Dict[str, Callable[[], Any]] = {
        "put": lambda: db.users.put({"id": 1, "name": "Bob"}),
        "update": lambda: db.users.update(1, {"name": "Bob"}),
        "modify": lambda: db.users.to_collection().modify({"name": "Bob"}),
        "bulk_put": lambda: db.users.bulk_put([{"id": 1, "name": "Bob"}]),
    }
    writes[write]()
    assert db.users.to_array() == [{"name": "Bob", "id": 1, "srv": "Ann"}]


def test_c091_a_hook_may_put_another_document_there_or_take_it_out_of_its_payload(db: Any) -> None:
    db.users.add({"name": "Ann"}, silent=True)
    db.users.strategy = Strategy.NETWORK_FIRST
    others = [{"id": 1, "whole": True}]

    @db.users.hook.on_update
    def other(payload: Dict[str, Any]) -> None:
        item = payload.pop("item")
        assert item["id"] == 1
        if others:
            payload["item"] = others.pop()

    db.users.update(1, {"age": 5})
    assert db.users.get(1) == {"id": 1, "whole": True}
    db.users.update(1, {"age": 6})
    assert db.users.get(1) == {"id": 1, "whole": True, "age": 6}


def test_c091_a_hook_may_not_change_the_key(db: Any) -> None:
    from selfdb.indexie.errors import DataError

    db.users.strategy = Strategy.NETWORK_FIRST

    @db.users.hook.on_add
    def other(payload: Dict[str, Any]) -> None:
        payload["item"]["id"] = 99

    with pytest.raises(DataError, match="key"):
        db.users.add({"name": "Ann"})
    assert db.users.count() == 0


# Case 92: no network while the file is locked


@pytest.mark.parametrize("op", ["add", "update", "delete"])
def test_c092_network_first_within_a_transaction_is_refused(db: Any, op: str) -> None:
    key = db.users.add({"name": "Ann"}, silent=True)
    db.users.strategy = Strategy.NETWORK_FIRST
    writes = {
        "add": lambda: db.users.add({}),
        "update": lambda: db.users.update(key, {"name": "B"}),
        "delete": lambda: db.users.delete(key),
    }
    with pytest.raises(InvalidStateError, match="start_transaction"):
        db.transaction("rw", "users", writes[op])
    assert db.users.to_array() == [{"name": "Ann", "id": key}]


def test_c092_a_silent_write_is_no_network_call(db: Any) -> None:
    db.users.strategy = Strategy.NETWORK_FIRST
    db.transaction("rw", "users", lambda: db.users.add({"name": "Ann"}, silent=True))
    assert db.users.count() == 1


# Case 99: coroutine functions


def test_c099_a_coroutine_function_is_awaited_in_the_background(db: Any) -> None:
    seen = Calls()

    @db.users.hook.on_add
    async def later(payload: Dict[str, Any]) -> str:
        await asyncio.sleep(0)
        seen(payload["item"]["name"])
        return "ignored"

    db.users.add({"name": "Ann"})
    db.users.add({"name": "Bob"})
    assert seen.wait(2) == ["Ann", "Bob"]
    assert db.outbox.flush(10)


def test_c099_one_that_fails_is_tried_again(db: Any) -> None:
    seen = Calls()

    @db.users.hook.on_add
    async def fails(payload: Dict[str, Any]) -> None:
        await asyncio.sleep(0)
        seen(payload["attempt"])
        if payload["attempt"] < 3:
            raise OSError("not yet")

    db.users.add({"name": "Ann"})
    assert seen.wait(3) == [1, 2, 3]
    assert db.outbox.flush(10)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_c099_what_it_gives_is_ignored(db: Any, strategy: Strategy) -> None:
    calls = Calls()

    @db.users.hook.on_add(name="gives")
    async def gives(payload: Dict[str, Any]) -> Dict[str, Any]:
        await asyncio.sleep(0)
        calls(payload)
        return {"name": "given", "id": 99}

    db.users.strategy = strategy
    assert db.users.add({"name": "Ann"}) == 1
    assert db.outbox.flush(10)
    assert len(calls.values) == 1
    assert db.users.to_array() == [{"name": "Ann", "id": 1}]


def test_what_a_hook_in_the_background_changes_in_its_payload_changes_nothing_else(db: Any) -> None:
    seen = Calls()

    def edits(payload: Dict[str, Any]) -> None:
        seen(dict(payload["item"]))
        payload["item"]["name"] = "changed"
        payload["item"]["id"] = 99
        payload["operation_id"] = "another"
        if payload["attempt"] < 2:
            raise OSError("once more")

    db.users.hook.on_add(edits, name="first")
    db.users.hook.on_add(edits, name="second")
    db.users.add({"name": "Ann"})
    assert db.outbox.flush(10)
    assert seen.values == [{"name": "Ann", "id": 1}] * len(seen.values)
    assert len(seen.values) > 2
    assert db.users.to_array() == [{"name": "Ann", "id": 1}]


@pytest.mark.parametrize("where", ["thread", "loop"])
def test_c099_inline_it_ends_before_the_call_returns(db: Any, where: str) -> None:
    db.users.strategy = Strategy.NETWORK_FIRST

    @db.users.hook.on_add
    async def number(payload: Dict[str, Any]) -> None:
        await asyncio.sleep(0.01)
        payload["item"]["srv"] = 7

    if where == "thread":
        key = db.users.add({"name": "Ann"})
    else:

        async def blocking_call() -> Any:
            return db.users.add({"name": "Ann"})

        key = asyncio.run(blocking_call())
    assert db.users.get(key)["srv"] == 7


def test_c099_inline_its_error_is_the_call_s(db: Any) -> None:
    db.users.strategy = Strategy.NETWORK_FIRST

    @db.users.hook.on_add
    async def refuse(payload: Dict[str, Any]) -> None:
        await asyncio.sleep(0)
        raise OSError("no network")

    async def blocking_call() -> Any:
        return db.users.add({"name": "Ann"})

    for run in (lambda: db.users.add({"name": "Ann"}), lambda: asyncio.run(blocking_call())):
        with pytest.raises(HookError) as caught:
            run()
        assert isinstance(caught.value.__cause__, OSError)
    assert db.users.count() == 0


def test_c099_writes_inside_a_coroutine_are_silent_too(db: Any) -> None:
    seen = Calls()

    @db.users.hook.on_update
    async def writes(payload: Dict[str, Any]) -> None:
        await asyncio.sleep(0)
        db.users.add({"name": "by the hook"})
        seen(payload)

    added = Calls()
    db.users.hook.on_add(added, name="added")
    key = db.users.add({"name": "Ann"}, silent=True)
    db.users.update(key, {"name": "Bob"})
    seen.wait(1)
    assert db.outbox.flush(10)
    assert added.values == []


# What they are told


def test_what_an_add_tells(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_add(calls, durable=False)
    db.users.add({"name": "Ann", "address": {"city": "Oslo"}})
    (payload,) = calls.wait(1)
    assert payload["item"] == {"name": "Ann", "address": {"city": "Oslo"}, "id": 1}
    assert (payload["table"], payload["op"], payload["key"], payload["old"]) == ("users", "add", 1, None)
    assert (payload["changes"], payload["all"], payload["attempt"]) == ({}, False, 1)
    assert payload["created_at"].tzinfo is not None


def test_what_an_update_tells_makes_the_new_row_of_the_old_one(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_update(calls, durable=False)
    old = {"name": "Ann", "address": {"city": "Oslo", "zip": 1}, "gone": 1, "x.y": 0, "a": {"b": 1}}
    key = db.users.add(old, silent=True)
    db.users.put({"id": key, "name": "Bob", "address": {"city": "Rome", "zip": 1}, "x.y": 5, "a": {"b": 2}, "n": {}})
    (payload,) = calls.wait(1)
    assert payload["changes"]["name"] == "Bob"
    assert payload["changes"]["gone"] is DELETE_FIELD
    other = db.users.add({name: value for name, value in payload["old"].items() if name != "id"}, silent=True)
    db.users.update(other, payload["changes"], silent=True)
    assert {**db.users.get(other), "id": key} == payload["item"] == db.users.get(key)


def test_the_path_of_a_nested_change(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_update(calls, durable=False)
    key = db.users.add({"address": {"city": "Oslo", "zip": 1}, "tags": ["a"]}, silent=True)
    db.users.update(key, {"address.city": "Rome"})
    db.users.update(key, lambda user: user["tags"].append("b"))
    db.users.update(key, lambda user: user.update(tags=[1, 2.0]))
    db.users.update(key, lambda user: user.update(tags=[1.0, 2.0]))
    assert [payload["changes"] for payload in calls.wait(4)] == [
        {"address.city": "Rome"},
        {"tags": ["a", "b"]},
        {"tags": [1, 2.0]},
        {"tags": [1.0, 2.0]},
    ]


def test_what_a_delete_and_a_clear_tell(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_delete(calls, durable=False)
    db.users.bulk_add([{"name": "a"}, {"name": "b"}, {"name": "c"}])
    db.users.delete(1)
    db.users.clear()
    calls.wait(2)
    assert told(calls, "op", "key", "item", "all") == [("delete", 1, None, False), ("delete", None, None, True)]
    assert calls.values[0]["old"] == {"name": "a", "id": 1}


@pytest.mark.parametrize(
    "write",
    [
        lambda users: users.delete(99),
        lambda users: users.update(1, {"name": "Ann"}),
        lambda users: users.put({"name": "Ann", "id": 1}),
        lambda users: users.update(99, {"name": "x"}, missing="ignore"),
    ],
    ids=["delete of nothing", "update to the same", "put of the same", "update of nothing"],
)
def test_what_changes_nothing_tells_nobody(db: Any, write: Callable[[Any], Any]) -> None:
    db.users.add({"name": "Ann"}, silent=True)
    calls = Calls()
    for register in (db.users.hook.on_add, db.users.hook.on_update, db.users.hook.on_delete):
        register(calls, name="push")
    write(db.users)
    assert db.outbox.entries() == []
    assert calls.values == []


def test_hooks_of_a_table_are_called_in_the_order_of_their_registration(db: Any) -> None:
    order: List[str] = []
    for name in ("z", "a", "m"):
        db.users.hook.on_add(functools.partial(lambda name, payload: order.append(name), name), name=name)
    db.users.add({})
    assert db.outbox.flush(10)
    assert order == ["z", "a", "m"]


def test_a_background_hook_that_raises_is_logged_and_the_next_is_told(db: Any, caplog: Any) -> None:
    calls = Calls()

    def fails(payload: Dict[str, Any]) -> None:
        raise ValueError("mine")

    db.users.hook.on_add(fails, durable=False)
    db.users.hook.on_add(calls, durable=False)
    db.users.add({})
    db.users.add({})
    calls.wait(2)
    assert "mine" in caplog.text


def test_a_rolled_back_write_tells_nobody(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_add(calls, durable=False)
    db.users.hook.on_add(calls, name="push")

    def fails() -> None:
        db.users.add({})
        raise KeyError("mine")

    with pytest.raises(KeyError):
        db.transaction("rw", "users", fails)
    assert db.outbox.entries() == []
    db.users.add({"name": "kept"})
    calls.wait(2)
    assert {payload["item"]["name"] for payload in calls.values} == {"kept"}


def test_a_nested_block_that_was_undone_tells_nobody(db: Any) -> None:
    db.users.hook.on_add(print, name="push")
    db.outbox.pause()

    def fails() -> None:
        db.users.add({"name": "inner"})
        raise KeyError

    def work() -> None:
        db.users.add({"name": "outer"})
        with pytest.raises(KeyError):
            db.transaction("rw", "users", fails)

    db.transaction("rw", "users", work)
    assert [entry.item["name"] for entry in db.outbox.entries()] == ["outer"]


# Registration


def test_a_durable_hook_without_a_name_is_refused_with_the_way_out(db: Any) -> None:
    for nameless in (lambda payload: None, functools.partial(print), Calls()):
        with pytest.raises(InvalidArgumentError, match=r"name=.*durable=False"):
            db.users.hook.on_add(nameless)
    assert db.users.add({}) == 1
    assert db.outbox.entries() == []


def test_two_hooks_of_one_name_are_refused_with_the_way_out(db: Any) -> None:
    db.users.hook.on_add(Calls(), name="push")
    with pytest.raises(InvalidArgumentError, match=r"push.*name=.*off\(\)"):
        db.users.hook.on_add(Calls(), name="push")
    db.users.hook.on_update(Calls(), name="push")
    db.users.hook.on_add(Calls(), name="push", durable=False)


def test_a_function_is_named_by_its_module_and_qualified_name(db: Any) -> None:
    def push(payload: Dict[str, Any]) -> None:
        raise OSError

    db.users.hook.on_add(push)
    db.outbox.pause()
    db.users.add({})
    (entry,) = db.outbox.entries()
    assert entry.hooks == (f"{__name__}.{push.__qualname__}",)


@pytest.mark.parametrize("bad", [5, "text", ()])
def test_what_cannot_be_called_is_refused(db: Any, bad: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        db.users.hook.on_add(bad)


@pytest.mark.parametrize("name", ["", 5, b"x"])
def test_a_name_is_a_text(db: Any, name: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        db.users.hook.on_add(Calls(), name=name)


def test_off_ends_it_in_this_process(db: Any) -> None:
    calls = Calls()
    db.users.hook.on_add(calls, durable=False)
    db.users.hook.on_update(calls, durable=False)
    assert db.users.hook.off(calls)
    assert not db.users.hook.off(calls)
    marker = Calls()
    db.users.hook.on_add(marker, durable=False)
    db.users.add({})
    marker.wait(1)
    assert calls.values == []


def test_decorators_give_the_function_back(db: Any) -> None:
    @db.users.hook.on_add
    def one(payload: Dict[str, Any]) -> None: ...

    @db.users.hook.on_add(name="two")
    def two(payload: Dict[str, Any]) -> None: ...

    assert callable(one)
    assert callable(two)
    db.users.add({})
    assert db.outbox.flush(10)


def test_hooks_may_be_registered_before_the_database_is_open(make_db: Callable[..., Any]) -> None:
    db = make_db(timing=QUICK)
    calls = Calls()
    db.users.hook.on_add(calls, name="push")
    assert not db.is_open
    db.users.add({})
    calls.wait(1)


def test_an_unknown_strategy_is_refused(db: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="LOCAL_FIRST"):
        db.users.strategy = "sometimes"
    assert db.users.strategy is Strategy.LOCAL_FIRST


def test_the_strategy_is_the_table_s_whichever_object_stands_for_it(db: Any) -> None:
    db.users.strategy = Strategy.NETWORK_FIRST
    assert db.table("users").strategy is db["users"].strategy is Strategy.NETWORK_FIRST


def test_hooks_of_another_process_get_entries_from_a_network_first_one(db: Any, peer: Callable[[], Any]) -> None:
    other = peer()
    other.run(
        """
from selfdb.indexie import Indexie
import pathlib
db = Indexie(pathlib.Path(path))
db.open()
db.outbox.pause()
db.users.hook.on_add(print, name="theirs")
"""
    )
    calls = Calls()
    db.users.hook.on_add(calls, name="mine")
    db.users.strategy = Strategy.NETWORK_FIRST
    db.users.add({"name": "Ann"})
    assert len(calls.values) == 1
    (entry,) = db.outbox.entries()
    assert entry.hooks == ("theirs",)
    assert entry.operation_id == calls.values[0]["operation_id"]
    other.run("db.outbox.resume(); result = db.outbox.flush(10); db.close()")
    wait_until(lambda: db.outbox.pending() == 0)
