"""A model that is made when somebody looks at it, where making it at once would cost more than the call it is of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

__all__ = ["unread"]

T = TypeVar("T")


def unread(make: Callable[[], T]) -> T:
    """The model that ``make`` returns, which is called once: when anything of it is asked for.

    Only for a ``make`` that is certain not to fail. What stands for the model is told from it by ``type()`` alone: for
    ``isinstance``, ``==``, ``copy``, ``pickle`` and pydantic itself it is that model.
    """
    return cast(T, _Unread(make))


class _Unread:
    __slots__ = ("_made",)
    _made: Callable[[], Any]

    def __init__(self, make: Callable[[], Any]) -> None:
        object.__setattr__(self, "_made", functools.cache(make))

    # Also for what Python itself asks an object for: `__class__`, `__dict__`, `__reduce_ex__`, `__deepcopy__` ...
    def __getattribute__(self, name: str) -> Any:
        return getattr(_made(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_made(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_made(self), name)

    # ... but for these, which it looks for in the type. They are those that a model has.
    def __repr__(self) -> str:
        return repr(_made(self))

    def __str__(self) -> str:
        return str(_made(self))

    def __eq__(self, other: object) -> bool:
        return bool(_made(self) == (_made(other) if type(other) is _Unread else other))

    def __hash__(self) -> int:
        return hash(_made(self))

    def __bool__(self) -> bool:
        return bool(_made(self))

    def __iter__(self) -> Iterator[Any]:
        return iter(_made(self))

    def __dir__(self) -> list[str]:
        return dir(_made(self))

    def __copy__(self) -> Any:
        import copy

        return copy.copy(_made(self))


def _made(stand_in: _Unread) -> Any:
    return object.__getattribute__(stand_in, "_made")()
