"""Functions that users give to be called: what is refused when it is given."""

from __future__ import annotations

import inspect
from typing import TypeVar

from .errors import InvalidArgumentError

__all__ = ["function_for", "no_coroutine"]

T = TypeVar("T")


def function_for(given: T, whose: str) -> T:
    """What was given, if it can be called and has its result at once.

    :param whose: what it was given to.
    :raises InvalidArgumentError: if not. The callbacks of an event loop are none of these: they wait for their results.
    """
    if not callable(given):
        raise InvalidArgumentError(f"{whose} takes a function, not {given!r}")
    if inspect.iscoroutinefunction(given) or inspect.isasyncgenfunction(given):
        raise InvalidArgumentError(
            f"{whose} takes a plain function here: nobody would await what the coroutine function {given!r} gives"
        )
    return given


def no_coroutine(result: T, whose: str) -> T:
    """What a function has returned, if that is no coroutine.

    :raises InvalidArgumentError: if it is one, which nobody would await.
    """
    if inspect.iscoroutine(result):
        result.close()
        raise InvalidArgumentError(f"{whose} takes a plain function here: what it returned would have to be awaited")
    return result
