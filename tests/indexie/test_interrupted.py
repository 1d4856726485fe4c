"""Ctrl-C at any point of a write: the next one can be made, here and in another process, and is not lost."""

from __future__ import annotations

import contextvars
import dis
import gc
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import pytest

import selfdb
from selfdb.indexie.errors import TransactionInactiveError
from tests import soak

EVERY = soak.amount("SELFDB_IX_INTERRUPT_STEP", here=29, long=1)
"""Every how many of the points."""

PACKAGE = str(Path(selfdb.__file__ or "").parent)


class Point:
    """Raises `KeyboardInterrupt` at point number ``at`` that this thread comes to: after a call, or at the end of a
    loop's round. There the interpreter looks for signals; elsewhere, as between a block's last step and the release of
    its lock, it does not."""

    _names: Dict[Any, Dict[int, str]] = {}

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ""
        self._last: Dict[Any, Optional[str]] = {}

    def __enter__(self) -> Point:
        gc.disable()  # what is collected in between, other tests' garbage too, would be interrupted in its end
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exception: Any) -> None:
        sys.settrace(None)
        gc.enable()
        self._last.clear()

    def _trace(self, frame: Any, event: str, argument: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return None
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self._trace
        if event in ("return", "exception"):  # a call that raised is followed by no look; where it is caught, neither
            self._last.pop(frame, None)
        if event != "opcode":
            return self._trace
        names = self._names.get(code)
        if names is None:
            names = self._names[code] = {each.offset: each.opname for each in dis.get_instructions(code)}
        before, name = self._last.get(frame), names.get(frame.f_lasti, "")
        self._last[frame] = name
        looks = before is not None and (before.startswith("CALL") or before in {"RESUME", "JUMP_BACKWARD"})
        # What comes between a call and a return with its result comes within the block of that call.
        if looks and not name.startswith("RETURN"):
            self.left -= 1
            if self.left == 0:
                self.where = f"{code.co_filename}:{frame.f_lineno} after {before}"
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace


def add(db: Any) -> None:
    db.users.add({"name": "Ann", "tags": [1]})


def bulk(db: Any) -> None:
    db.users.bulk_add([{"name": "Ann"}, {"name": "Bea"}])


def block(db: Any) -> None:
    with db.transaction("rw", "users"):
        add(db)


def nested(db: Any) -> None:
    with db.transaction("rw", "users"):
        block(db)


def function(db: Any) -> None:
    db.transaction("rw", "users", lambda: add(db))


def optimistic(db: Any) -> None:
    with db.users.start_transaction(optimistic=True) as tx:
        add(db)
        tx.commit()


def hidden(db: Any) -> None:
    with db.users.start_transaction() as tx:
        add(db)
        tx.commit()


@pytest.mark.timeout(3600 if soak.LONG else 300)
@pytest.mark.parametrize("write", [add, bulk, block, nested, function, optimistic, hidden])
def test_c074_an_interrupt_at_any_point_leaves_no_lock_and_no_scope(
    make_db: Callable[..., Any], write: Callable[[Any], None]
) -> None:
    db = make_db(busy_timeout=0.1).open()
    db.users.add({"name": "first"})
    at = EVERY if EVERY == 1 else 1 + soak.chance(f"interrupts of {write.__name__}").randrange(EVERY)
    interrupted = 0
    while True:
        context = contextvars.copy_context()
        with Point(at) as point:
            try:
                context.run(write, db)
            except KeyboardInterrupt:
                interrupted += 1
        try:
            # In what the interrupted call may have left behind, and beside it.
            context.run(db.users.put, {"id": 1, "name": str(at)})
        except (TransactionInactiveError, TimeoutError) as error:
            raise AssertionError(f"interrupted at {point.where}: {error}") from error
        assert db.users.get(1)["name"] == str(at), point.where
        assert db._publisher.layers == (), point.where
        assert not db._connections._turns.taken, point.where
        if point.left > 0:
            break  # that call was over before it came there
        at += EVERY
    assert interrupted >= 140 // EVERY
    assert db.integrity_check() == []
