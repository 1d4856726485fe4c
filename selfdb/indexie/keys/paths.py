"""Dotted paths into documents: looking up, setting and removing what they lead to."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["MISSING", "Missing", "assign", "discard", "lookup"]


class Missing:
    """The type of :data:`MISSING`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
"""What a path leads to where the document has nothing: no value of a document is it."""


def lookup(document: Any, path: str) -> Any:
    """What ``path`` leads to in ``document``, or :data:`MISSING`.

    A property whose own name is the whole path, dots and all, comes before the way from dict to dict.
    """
    if not isinstance(document, dict):
        return MISSING
    value = document.get(path, MISSING)
    if value is not MISSING or "." not in path:
        return value
    value = document
    for part in path.split("."):
        if not isinstance(value, dict):
            return MISSING
        value = value.get(part, MISSING)
        if value is MISSING:
            return MISSING
    return value


def assign(document: dict[str, Any], path: str, value: Any) -> bool:
    """Set what ``path`` leads to, in place; dicts that are missing on the way are made.

    :returns: False, and nothing is changed, if something that is no dict stands in the way.
    """
    if path in document or "." not in path:
        document[path] = value
        return True
    parts = path.split(".")
    place = document
    for at, part in enumerate(parts[:-1]):
        below = place.get(part, MISSING)
        if below is MISSING or below is None:
            for missing in reversed(parts[at + 1 :]):
                value = {missing: value}
            place[part] = value
            return True
        if not isinstance(below, dict):
            return False
        place = below
    place[parts[-1]] = value
    return True


def discard(document: dict[str, Any], path: str) -> None:
    """Remove what ``path`` leads to, in place, if it is there; emptied dicts on the way stay."""
    if path in document or "." not in path:
        document.pop(path, None)
        return
    *way, last = path.split(".")
    place: Any = document
    for part in way:
        place = place.get(part)
        if not isinstance(place, dict):
            return
    place.pop(last, None)
