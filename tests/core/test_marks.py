"""Marks of methods and classes."""

from __future__ import annotations

from selfdb.core.marks import Mark, blocking, inner, mark_of, passing


@blocking
class Marked:
    @blocking
    def plain(self) -> None: ...

    @blocking(opens=True, closes=True, callbacks=("a",), sources=("b",))
    def full(self, a: object, b: object) -> None: ...

    @passing(callbacks=("a",))
    def passes(self, a: object) -> None: ...

    @inner
    def within(self) -> None: ...

    def bare(self) -> None: ...


class Derived(Marked):
    pass


def test_each_mark_says_how_the_method_is_treated() -> None:
    assert mark_of(Marked.plain) == Mark("blocking")
    assert mark_of(Marked.full) == Mark("blocking", True, True, ("a",), ("b",))
    assert mark_of(Marked.passes) == Mark("passing", callbacks=("a",))
    assert mark_of(Marked.within) == Mark("inner")
    assert mark_of(Marked.bare) is None


def test_the_mark_of_a_class_is_not_that_of_its_bases() -> None:
    assert mark_of(Marked) == Mark("blocking")
    assert mark_of(Derived) is None
    assert mark_of(Derived.plain) == Mark("blocking")


def test_a_marked_function_is_itself() -> None:
    def function() -> int:
        return 3

    assert blocking(function) is function
    assert passing()(function) is function
    assert mark_of(function) == Mark("passing")
    assert mark_of(object()) is None
