"""Ctrl-C at any point of a call: all of it is stored or nothing, and nobody keeps the lock."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import pytest

import selfdb
from selfdb.indexie.scope import current

from .conftest import SCHEMA

OURS = str(Path(selfdb.__file__).parent)


def interrupted(call: Callable[[], object], number: int) -> bool:
    """Call it, with a KeyboardInterrupt at the ``number``-th point where the interpreter may raise one; if it has."""
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
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return points >= number


def two(db: Any) -> None:
    db.users.add({"age": 1})
    db.users.add({"age": 2})


CALLS: Dict[str, Tuple[Callable[[Any], object], int]] = {
    "add": (lambda db: db.users.add({"age": 1}), 1),
    "bulk_add": (lambda db: db.users.bulk_add([{"tags": ["a"]}, {"tags": ["b"]}]), 2),
    "update": (lambda db: db.users.update(1, {"age": db.users.count()}), 0),
    "count": (lambda db: db.users.where("age").above(0).count(), 0),
    "transaction": (lambda db: db.transaction("rw", "users", lambda: two(db)), 2),
    "outbox": (lambda db: db.outbox.entries(), 0),
}


# A generator that is interrupted while it is thrown away can tell nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", CALLS)
def test_c069_an_interrupt_at_any_point(make_db: Callable[..., Any], name: str) -> None:
    call, added = CALLS[name]
    db = make_db(SCHEMA, busy_timeout=0.2).open()
    db.users.add({})
    call(db)
    number, before = 1, db.users.count()
    while interrupted(lambda: call(db), number):
        assert current(db) is None, f"point {number} leaves a transaction behind"
        assert db.users.count() - before in (0, added), f"point {number} leaves a part"
        db.users.add({}, silent=True)  # the lock is nobody's
        number, before = number + 1, db.users.count()
    assert number > 20
    assert db.integrity_check() == []
