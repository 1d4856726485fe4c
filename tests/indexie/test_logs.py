"""The log: who failed, where, and why; nothing of any document."""

from __future__ import annotations

import logging
from typing import Any, Callable, Dict, List

import pytest

from selfdb.indexie import HookError, Strategy, use_live_query
from selfdb.indexie.timing import Timing

from .kit import SOON, wait_until

SECRET = "hunter-" + "2" * 8


def fail(*_: Any) -> None:
    raise ZeroDivisionError("mine")


@pytest.fixture
def db(make_db: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, "selfdb.indexie")
    database = make_db(timing=Timing(outbox_poll=0.01, retry_first=0.01, retry_limit=0.01)).open()
    database.users.add({"name": SECRET}, silent=True)
    return database


def change(db: Any) -> None:
    db.users.update(1, {"name": SECRET + SECRET, "email": SECRET})


def a_durable_hook(db: Any) -> None:
    db.outbox.max_attempts = 2
    db.users.hook.on_update(fail, name="durable")
    db.outbox.on_dead(fail)
    change(db)
    wait_until(lambda: db.outbox.entries("dead"))


def a_hook_that_drops(db: Any) -> None:
    def drop(payload: Dict[str, Any]) -> None:
        raise db.outbox.Drop("not wanted")

    db.users.hook.on_update(drop, name="drops")
    change(db)
    wait_until(lambda: db.outbox.entries("dead"))


def a_hook_in_the_background(db: Any) -> None:
    done: List[Any] = []
    db.users.hook.on_update(fail, name="background", durable=False)
    db.users.hook.on_update(done.append, name="after", durable=False)
    change(db)
    wait_until(lambda: done)


def a_hook_that_comes_first(db: Any) -> None:
    db.users.strategy = Strategy.NETWORK_FIRST
    db.users.hook.on_update(fail, name="first")
    with pytest.raises(HookError) as caught:
        change(db)
    assert SECRET not in str(caught.value)


def a_live_query(db: Any) -> None:
    runs: List[int] = []

    def function() -> Any:
        rows = db.users.to_array()
        runs.append(1)
        return rows if len(runs) == 1 else fail()

    with use_live_query(function, name="the query") as query:
        change(db)
        assert not query.settle(SOON)


def a_callback(db: Any) -> None:
    errors: List[BaseException] = []

    def told(error: BaseException) -> None:
        errors.append(error)
        fail()

    with use_live_query(lambda: db.users.to_array(), name="the query") as query:
        query.subscribe(fail, on_error=told)
        change(db)
        wait_until(lambda: errors)


def a_callback_of_a_commit(db: Any) -> None:
    with db.transaction("rw", "users") as tx:
        tx.on_commit(fail)
        change(db)


@pytest.mark.parametrize(
    "what, said",
    [
        (a_durable_hook, "durable failed 2 times"),
        (a_hook_that_drops, "drops operation"),
        (a_hook_in_the_background, "the hook background failed"),
        (a_hook_that_comes_first, ""),
        (a_live_query, "the query failed"),
        (a_callback, "a callback of live query the query failed"),
        (a_callback_of_a_commit, "failed"),
    ],
)
def test_it_says_who_failed_and_nothing_of_the_documents(
    db: Any, caplog: pytest.LogCaptureFixture, what: Callable[[Any], None], said: str
) -> None:
    what(db)
    wait_until(lambda: said in caplog.text)
    db.close()
    assert SECRET not in caplog.text
    assert {record.name for record in caplog.records} <= {"selfdb.indexie"}
