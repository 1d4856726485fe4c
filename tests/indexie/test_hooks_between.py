"""What is said of hooks and of the outbox while it is in the middle of its work, each brought to that one moment."""

from __future__ import annotations

import threading
from typing import Any, Callable

import pytest

from selfdb.indexie import DatabaseClosedError, Indexie
from selfdb.indexie.hooks import outbox_tables
from selfdb.indexie.timing import Timing

from .kit import SOON, Calls, wait_until

Make = Callable[..., Any]


@pytest.fixture
def db(make_db: Make) -> Any:
    return make_db(timing=Timing(outbox_poll=0.01, retry_first=0.01, retry_limit=0.02)).open()


# Hooks that go


def test_a_hook_that_is_taken_away_in_the_middle_of_a_look_is_told_nothing_that_is_written_after(db: Any) -> None:
    calls, looked = Calls(), Calls()
    delivery = db.outbox._delivery
    claim = delivery._claim

    def claim_without_it(*given: Any) -> Any:
        delivery._claim = claim
        assert db.users.hook.off(calls)
        found = claim(*given)
        looked(found)
        return found

    db.users.hook.on_add(calls, name="push")
    delivery._claim = claim_without_it
    db.users.add({"name": "Ann"})
    assert looked.wait(1) == [None]
    assert [entry.hooks for entry in db.outbox.entries()] == [("push",)]
    db.users.hook.on_add(calls, name="push")
    assert db.outbox.flush(SOON)
    assert len(calls.values) == 1


def test_a_hook_that_is_taken_away_by_the_one_before_it_is_not_told(db: Any) -> None:
    second = Calls()
    first = Calls(lambda payload: db.users.hook.off(second))
    db.outbox.pause()
    db.users.hook.on_add(first, name="first")
    db.users.hook.on_add(second, name="second")
    db.users.add({"name": "Ann"})
    db.users.add({"name": "Ben"})
    db.outbox.resume()
    first.wait(2)  # by then the outbox has done what it does of the first entry
    assert second.values == []
    wait_until(lambda: [entry.hooks for entry in db.outbox.entries()] == [("second",)] * 2)
    db.users.hook.off(first)
    db.users.hook.on_add(second, name="second")
    assert db.outbox.flush(SOON)
    assert [payload["item"]["name"] for payload in second.values] == ["Ann", "Ben"]


def test_a_hook_that_is_told_from_memory_and_is_taken_away_is_told_no_more(db: Any) -> None:
    go = threading.Event()
    calls, last = Calls(lambda payload: go.wait(SOON)), Calls()
    db.users.hook.on_add(calls, durable=False)
    db.users.add({"name": "Ann"})
    db.users.add({"name": "Ben"})
    calls.wait(1)
    assert db.users.hook.off(calls)
    go.set()
    db.users.hook.on_add(last, durable=False)
    db.users.add({"name": "Cid"})  # told after all that waited before it
    last.wait(1)
    assert [payload["item"]["name"] for payload in calls.values] == ["Ann"]


# Hooks that the file does not know yet


def unannounced(db: Any, callback: Callable[[Any], Any]) -> None:
    """Have a hook, as one has whose registration must not wait for the file: the outbox tells the file later."""
    wake, db.outbox.wake = db.outbox.wake, lambda: None
    with db.transaction("rw", "users"):
        db.users.hook.on_add(callback, name="push")
    db.outbox.wake = wake


def test_a_hook_that_is_retired_before_it_is_announced_is_not_announced_any_more(db: Any) -> None:
    unannounced(db, Calls())
    hooks = db._hooks
    look = hooks.unannounced

    def look_too_early() -> Any:
        found = look()
        hooks.unannounced = look
        db.outbox.retire("users", "push")
        return found

    hooks.unannounced = look_too_early
    db.outbox._announce_now()
    db.users.add({"name": "Ann"})
    assert db.outbox.entries() == []


def test_a_hook_that_is_being_retired_is_not_announced_meanwhile(db: Any) -> None:
    unannounced(db, Calls())
    hooks = db._hooks
    forget = hooks.retire
    announcing = threading.Thread(target=db.outbox._announce_now)

    def forget_late(*given: Any) -> None:
        announcing.start()
        announcing.join(0.1)  # it waits for the file, which it must not have before the hook is forgotten
        forget(*given)

    hooks.retire = forget_late
    db.outbox.retire("users", "push")
    announcing.join(SOON)
    db.users.add({"name": "Ann"})
    assert db.outbox.entries() == []


def test_a_hook_whose_announcement_ends_after_the_file_was_closed_is_announced_in_the_next_one() -> None:
    db: Any = Indexie(":memory:")
    db.version(1).stores({"users": "++id"})
    with db:
        hooks = db._hooks
        announced = hooks.announced

        def too_late(*given: Any) -> None:
            hooks.announced = announced
            db.close()
            announced(*given)

        hooks.announced = too_late
        calls = Calls()
        db.users.hook.on_add(calls, name="push")
        db.open()
        db.users.add({"name": "Ann"})
        calls.wait(1)
        assert db.outbox.flush(SOON)


# The outbox


@pytest.mark.parametrize("paused", [True, False])
def test_a_pause_while_the_database_is_opened_holds(make_db: Make, paused: bool) -> None:
    db = make_db()
    outbox, calls = db.outbox, Calls()
    make = outbox._new_delivery

    def make_in_between() -> Any:
        made = make()
        (outbox.pause if paused else outbox.resume)()
        return made

    if not paused:
        outbox.pause()
    outbox._new_delivery = make_in_between
    db.users.hook.on_add(calls, name="push")
    db.open().users.add({"name": "Ann"})
    if paused:
        assert outbox._delivery._claim() is None
        assert calls.values == []
        outbox.resume()
    assert outbox.flush(SOON)
    assert len(calls.values) == 1


def test_a_flush_beside_a_close_raises(db: Any) -> None:
    opened = db.outbox._opened

    def opened_and_closed() -> None:
        db.outbox._opened = opened
        opened()
        db.close()

    db.outbox._opened = opened_and_closed
    with pytest.raises(DatabaseClosedError):
        db.outbox.flush(SOON)


def refused(payload: Any) -> None:
    raise Indexie(":memory:").outbox.Drop("not wanted")


def test_who_hears_of_a_dead_entry_and_goes_before_it_counts_as_told_leaves_it_to_the_next(
    db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, told = Calls(), Calls()
    off = db.outbox.on_dead(gone)
    unreported = outbox_tables.unreported
    seen = threading.Event()

    def seen_and_gone(connection: Any) -> bool:
        found = unreported(connection)
        if found and not seen.is_set():
            off()
            seen.set()
        return found

    monkeypatch.setattr(outbox_tables, "unreported", seen_and_gone)
    db.users.hook.on_add(refused, name="push")
    db.users.add({"name": "Ann"})
    assert seen.wait(SOON)
    db.outbox.on_dead(told)
    (entry,) = told.wait(1)
    assert entry.item["name"] == "Ann"
    assert gone.values == []


def test_who_hears_of_dead_entries_twice_and_ends_one_of_them_twice_hears_once(db: Any) -> None:
    told = Calls()
    off = db.outbox.on_dead(told)
    db.outbox.on_dead(told)
    off()
    off()
    db.users.hook.on_add(refused, name="push")
    for name in ("Ann", "Ben"):
        db.users.add({"name": name})
    assert sorted(entry.item["name"] for entry in told.wait(2)) == ["Ann", "Ben"]


def test_who_goes_when_a_dead_entry_counts_as_told_was_told(db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Calls()
    off = db.outbox.on_dead(told)
    report = outbox_tables.report

    def gone_and_reported(connection: Any) -> Any:
        off()
        return report(connection)

    monkeypatch.setattr(outbox_tables, "report", gone_and_reported)
    db.users.hook.on_add(refused, name="push")
    db.users.add({"name": "Ann"})
    (entry,) = told.wait(1)
    assert entry.item["name"] == "Ann"
