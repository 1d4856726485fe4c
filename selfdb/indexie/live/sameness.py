"""Whether two results of a live query are the same, so that nobody has to be told of the second one."""

from __future__ import annotations

__all__ = ["same"]


def same(one: object, other: object) -> bool:
    """Whether nobody could tell the two results apart.

    Stricter than ``==`` in that ``1``, ``1.0`` and ``True`` differ, and wider in that NaN is the same as NaN. What
    cannot be compared differs.
    """
    try:
        return _same(one, other)
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything, and arrays do
        return False


def _same(one: object, other: object) -> bool:
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is str or kind is int:
        return one == other
    if kind is dict:
        assert isinstance(one, dict)
        assert isinstance(other, dict)
        if len(one) != len(other):
            return False
        return all(key in other and _same(value, other[key]) for key, value in one.items())
    if kind is list or kind is tuple:
        assert isinstance(one, (list, tuple))
        assert isinstance(other, (list, tuple))
        return len(one) == len(other) and all(map(_same, one, other))
    if kind is float:
        return one == other or (one != one and other != other)
    return bool(one == other)
