"""Update operators: what to do to the value that is there, instead of a value to put in its place.

::

    db.users.update(1, {"visits": ops.add(1), "tags": ops.add(["new"]), "credit": ops.remove(10)})
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from .errors import InvalidArgumentError
from .keys.paths import MISSING

__all__ = ["Operator", "add", "remove"]


class Operator:
    """A change of a value that depends on the value itself. Immutable, for any number of updates."""

    __slots__ = ("_apply", "_name", "_operand")

    def __init__(self, name: str, operand: Any, apply: Callable[[Any, Any], Any]) -> None:
        self._name = name
        self._operand = operand
        self._apply = apply

    def __repr__(self) -> str:
        return f"ops.{self._name}({self._operand!r})"

    def applied_to(self, value: Any, path: str) -> Any:
        """The new value.

        :param value: the present one; :data:`~.paths.MISSING` if there is none.
        :raises InvalidArgumentError: if the operator is not for a value of such a type.
        """
        if value is MISSING or value is None:
            value = _nothing_like(self._operand)
        try:
            return self._apply(value, self._operand)
        except TypeError:
            raise InvalidArgumentError(
                f"ops.{self._name}() of a {type(self._operand).__name__} cannot be applied to {path!r}, "
                f"which holds a {type(value).__name__}"
            ) from None


def add(operand: Any) -> Operator:
    """Add a number to the number that is there, or the elements of a list to the list that is there.

    A value that is missing or ``None`` counts as 0, or as an empty list. A list becomes a sorted one without doubles.

    :param operand: int, float, Decimal or timedelta; or a list, tuple or set.
    :raises InvalidArgumentError: if ``operand`` is something else; the update raises it if the value does not fit.
    """
    return Operator("add", _checked("add", operand), _added)


def remove(operand: Any) -> Operator:
    """Subtract a number, or take elements out of the list that is there. Otherwise as :func:`add`."""
    return Operator("remove", _checked("remove", operand), _removed)


_COLLECTIONS = (list, tuple, set, frozenset)
_NUMBERS = (int, float, Decimal, datetime.timedelta)


def _checked(name: str, operand: Any) -> Any:
    if isinstance(operand, _COLLECTIONS):
        return tuple(operand)
    if isinstance(operand, _NUMBERS) and not isinstance(operand, bool):
        return operand
    raise InvalidArgumentError(f"ops.{name}() takes a number or a list, not a {type(operand).__name__}")


def _nothing_like(operand: Any) -> Any:
    if isinstance(operand, tuple):
        return []
    return datetime.timedelta() if isinstance(operand, datetime.timedelta) else 0


def _added(value: Any, operand: Any) -> Any:
    if not isinstance(operand, tuple):
        return _number(value) + operand
    return _set_like(value, [*_elements(value), *operand])


def _removed(value: Any, operand: Any) -> Any:
    if not isinstance(operand, tuple):
        return _number(value) - operand
    return _set_like(value, [element for element in _elements(value) if element not in operand])


def _number(value: Any) -> Any:
    # datetime + timedelta is as good a sum as any
    if isinstance(value, bool) or not isinstance(value, (*_NUMBERS, datetime.date)):
        raise TypeError
    return value


def _elements(value: Any) -> list[Any]:
    if not isinstance(value, _COLLECTIONS):
        raise TypeError
    return list(value)


def _set_like(before: Any, elements: list[Any]) -> Any:
    """``elements`` without doubles, in order; of the type that was there before."""
    if isinstance(before, (set, frozenset)):
        return type(before)(elements)
    kept: list[Any] = []
    for element in elements:
        if not any(element == other and type(element) is type(other) for other in kept):
            kept.append(element)
    try:
        return sorted(kept)
    except TypeError:  # kinds that do not compare: told apart by kind first
        return sorted(kept, key=lambda element: (type(element).__name__, repr(element)))
