"""What a method is to somebody who lives on an event loop: marked where it is defined, read by `asynchronous`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

__all__ = ["Mark", "blocking", "inner", "inner_names", "mark_of", "passing", "set_steps"]

F = TypeVar("F", bound=Callable[..., Any])

_NAME = "_selfdb_mark"


class Mark(NamedTuple):
    """How the awaitable face treats a method, or a class.

    :ivar kind: ``blocking`` (done by a worker thread), ``waiting`` (a generator of steps, see
        :mod:`selfdb.core.waits`), ``passing`` (called as it is) or ``inner`` (the face has no such method).
    :ivar opens: whether it returns something to be closed or looped over, so that ``async with`` and ``async for``
        may stand before it without an ``await``.
    :ivar closes: whether it ends its object: once begun, nothing interrupts it.
    :ivar callbacks: its parameters that are callbacks; on a loop they may be coroutine functions.
    :ivar sources: its parameters that are iterables; on a loop they may be asynchronous ones.
    :ivar steps: the generator function itself, if it is ``waiting``.
    :ivar asks: its parameters that its steps call with :func:`~selfdb.core.waits.ask`; on a loop they may be coroutine
        functions.
    """

    kind: str
    opens: bool = False
    closes: bool = False
    callbacks: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    steps: Callable[..., Any] | None = None
    asks: tuple[str, ...] = ()


@overload
def blocking(function: F) -> F: ...


@overload
def blocking(
    *, opens: bool = ..., closes: bool = ..., callbacks: tuple[str, ...] = ..., sources: tuple[str, ...] = ...
) -> Callable[[F], F]: ...


def blocking(
    function: F | None = None,
    *,
    opens: bool = False,
    closes: bool = False,
    callbacks: tuple[str, ...] = (),
    sources: tuple[str, ...] = (),
) -> Any:
    """Mark a method that waits for the network or the disk; or a class that holds such methods.

    Arguments as in :class:`Mark`.
    """
    mark = Mark("blocking", opens, closes, callbacks, sources)
    return _marker(mark) if function is None else _marker(mark)(function)


def passing(*, callbacks: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Mark a method that does not wait, but takes callbacks."""
    return _marker(Mark("passing", callbacks=callbacks))


def inner(function: F) -> F:
    """Mark a method that only other parts of this package call, though its name has no underscore; or a base class that
    has such methods and attributes alone. The attributes are those that it annotates."""
    return _marker(Mark("inner"))(function)


def _marker(mark: Mark) -> Callable[[F], F]:
    def set_mark(function: F) -> F:
        setattr(function, _NAME, mark)
        return function

    return set_mark


def set_steps(function: Callable[..., Any], steps: Callable[..., Any], opens: bool, asks: tuple[str, ...]) -> None:
    """Mark ``function`` as what a thread makes of the generator function ``steps``."""
    setattr(function, _NAME, Mark("waiting", opens, steps=steps, asks=asks))


def inner_names(cls: type) -> frozenset[str]:
    """What the face of ``cls`` lacks for being a base's that is marked as :func:`inner`."""
    names: set[str] = set()
    for base in cls.__mro__:
        mark = mark_of(base)
        if mark is not None and mark.kind == "inner":
            names.update(vars(base), vars(base).get("__annotations__", ()))
    return frozenset(name for name in names if not name.startswith("_"))


def mark_of(thing: Any) -> Mark | None:
    """The mark of a function, or of a class itself; not of its bases."""
    mark = vars(thing).get(_NAME) if isinstance(thing, type) else getattr(thing, _NAME, None)
    return mark if isinstance(mark, Mark) else None
