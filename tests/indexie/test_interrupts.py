"""Ctrl-C at any point of a call: all of it is stored or nothing, and nobody keeps the lock."""

from __future__ import annotations

import contextlib
import gc
import io
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

import selfdb
from selfdb.indexie import TransactionInactiveError, use_live_query
from selfdb.indexie.blocks import Block
from selfdb.indexie.scope import current

from .conftest import SCHEMA
from .kit import SOON

OURS = str(Path(selfdb.__file__).parent)


def interrupted(call: Callable[[], object], number: int, kept: Optional[List[BaseException]] = None) -> bool:
    """Call it, with a KeyboardInterrupt at the ``number``-th point where the interpreter may raise one; if it has.

    :param kept: where the error goes, with all frames that it went through, as into `sys.last_value` at a prompt.
    """
    points = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal points
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(OURS):
            points += 1
            if points == number:
                sys.setprofile(None)
                raise KeyboardInterrupt

    sys.setprofile(count)
    try:
        call()
    except KeyboardInterrupt as error:
        if kept is not None:
            kept.append(error)
        return True
    finally:
        sys.setprofile(None)
    return points >= number


def two(db: Any) -> None:
    db.users.add({"age": 1})
    db.users.add({"age": 2})


def block(db: Any) -> None:
    with db.transaction("rw", "users"):
        two(db)


def kept(db: Any) -> None:
    # What it is known by lives on, as in a program that goes on in the same function.
    with db.transaction("rw", "users") as db.kept:
        two(db)


def nested(db: Any) -> None:
    with db.transaction("rw", "users"):
        block(db)


def forgotten(db: Any) -> None:
    with db.users.start_transaction(optimistic=True):
        two(db)


def overlay(db: Any, **options: Any) -> None:
    with db.users.start_transaction(**options) as tx:
        two(db)
        tx.commit()


CALLS: Dict[str, Tuple[Callable[[Any], object], int]] = {
    "add": (lambda db: db.users.add({"age": 1}), 1),
    "bulk_add": (lambda db: db.users.bulk_add([{"tags": ["a"]}, {"tags": ["b"]}]), 2),
    "update": (lambda db: db.users.update(1, {"age": db.users.count()}), 0),
    "count": (lambda db: db.users.where("age").above(0).count(), 0),
    "transaction": (lambda db: db.transaction("rw", "users", lambda: two(db)), 2),
    "outbox": (lambda db: db.outbox.entries(), 0),
    "retry": (lambda db: db.outbox.retry(1), 0),
    "checkpoint": (lambda db: db.checkpoint(), 0),
    "integrity": (lambda db: db.integrity_check(), 0),
    "export": (lambda db: db.export_json(io.StringIO()), 0),
    "block": (block, 2),
    "kept": (kept, 2),
    "nested": (nested, 2),
    "optimistic": (lambda db: overlay(db, optimistic=True), 2),
    "hidden": (overlay, 2),
    "forgotten": (forgotten, 0),
    "reading": (lambda db: db.transaction("r", "users", db.users.count), 0),
    "iteration": (lambda db: list(db.users.where("age").above(0)), 0),
}


# A generator that is interrupted while it is thrown away can tell nobody.
@pytest.mark.usefixtures("unheard")
@pytest.mark.parametrize("name", CALLS)
def test_c069_an_interrupt_at_any_point(make_db: Callable[..., Any], name: str) -> None:
    call, added = CALLS[name]
    db = make_db(SCHEMA, busy_timeout=0.2).open()
    db.users.add({})
    call(db)
    number, before = 1, db.users.count()
    # An iteration that somebody still has goes on; everything else is over though its frames are kept.
    kept: Optional[List[BaseException]] = None if name == "iteration" else []
    while interrupted(lambda: call(db), number, kept):
        assert current(db) is None, f"point {number} leaves a transaction behind"
        assert db._publisher.layers == (), f"point {number} leaves an overlay"
        held = [each for each in db._connections._known if each.holder or each.in_transaction]
        assert held == [], f"point {number} leaves a connection in use"
        assert db.users.count() - before in (0, added), f"point {number} leaves a part"
        db.users.put({"id": 1, "age": number}, silent=True)  # the lock is nobody's
        number, before = number + 1, db.users.count()
    assert number > 20
    assert db.integrity_check() == []


def undone_within(db: Any, number: int) -> bool:
    """A transaction within another one is undone after a call of it was interrupted; whether it was interrupted."""
    with db.transaction("rw", "users"):
        db.users.add({"age": 1})
        try:
            with db.transaction("rw", "users"):
                db.users.add({"age": 2})
                was = interrupted(lambda: db.users.bulk_add([{"age": 3}, {"age": 4}]), number)
                raise ZeroDivisionError
        except ZeroDivisionError:
            return was


@pytest.mark.usefixtures("unheard")
def test_c066_who_goes_on_after_an_interrupt_undoes_all_of_what_is_undone(make_db: Callable[..., Any]) -> None:
    db = make_db(SCHEMA).open()
    kept, refused, number, going_on = 0, 0, 1, True
    while going_on:
        before = db.users.count()
        try:
            going_on = undone_within(db, number)
            kept += 1
        except TransactionInactiveError:
            refused += 1  # it cannot tell any more, and keeps nothing
        added = [row["age"] for row in db.users.to_array()][before:]
        assert added in ([1], []), f"point {number}"
        number += 1
    assert min(kept, refused) > 0
    assert db.integrity_check() == []


@pytest.mark.usefixtures("unheard")
def test_c097_a_live_query_sees_an_overlay_go_whose_end_was_interrupted(make_db: Callable[..., Any]) -> None:
    db = make_db(SCHEMA).open()
    db.users.add({})
    with use_live_query(db.users.count) as counted:
        number = 1
        while interrupted(lambda: forgotten(db), number):
            counted.settle(SOON)
            assert counted.value == 1, f"point {number}"
            number += 7
    assert number > 300


def test_c097_a_block_that_is_looked_at_goes_on(make_db: Callable[..., Any]) -> None:
    db = make_db(SCHEMA).open()
    transaction = db.transaction("rw", "users")
    assert hasattr(transaction, "__exit__")
    with transaction:
        assert hasattr(transaction, "__exit__")
        two(db)
    with contextlib.ExitStack() as stack:
        entered = stack.enter_context(db.transaction("rw", "users"))
        gc.collect()
        two(db)
        assert entered.mode == "rw"
    by_hand = db.transaction("rw", "users")
    by_hand.__enter__()
    two(db)
    by_hand.__exit__(None, None, None)
    assert (db.users.count(), current(db)) == (6, None)


def test_c097_who_lets_go_of_the_end_of_a_block_has_left_it(make_db: Callable[..., Any]) -> None:
    """As the interpreter does where an interrupt comes between the block and the first line of its ``__exit__``."""
    db = make_db(SCHEMA).open()
    for begun in (db.transaction("rw", "users"), db.users.start_transaction(optimistic=True)):
        leave = begun.__exit__
        begun.__enter__()
        two(db)
        del leave
        assert (db.users.count(), current(db), begun.active) == (0, None, False)
    with pytest.raises(NotImplementedError):
        Block()._lost(None)
