"""How much work Python does for something, counted rather than timed: the same on any machine."""

from __future__ import annotations

import gc
import sys
from typing import Any, Callable, NamedTuple

WARM_UP = 50
TRIES = 10
SLACK = 0.1


class Work(NamedTuple):
    """What one run took on the thread that made it.

    :ivar instructions: steps of the interpreter, in functions of Python.
    :ivar calls: calls of functions, those of C among them.
    """

    instructions: int
    calls: int


def work_of(run: Callable[[], object]) -> Work:
    """The least that ``run`` takes, once everything that is made only once has been made."""
    for _ in range(WARM_UP):
        run()
    enabled = gc.isenabled()
    gc.disable()  # what it finalizes belongs to whoever ran before
    try:
        return min(Work(_instructions(run), _calls(run)) for _ in range(TRIES))
    finally:
        if enabled:
            gc.enable()


def _instructions(run: Callable[[], object]) -> int:
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def _calls(run: Callable[[], object]) -> int:
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


def about(work: Work, known: Work) -> None:
    """Fail where ``work`` is more than ``known`` by a tenth, or less: a figure too high hides what comes next."""
    for name, is_now, was in zip(Work._fields, work, known):
        assert abs(is_now - was) <= was * SLACK, f"{name}: {is_now}, not {was}; if that is right, note it"
