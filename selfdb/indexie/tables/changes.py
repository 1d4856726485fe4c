"""What an update does to one document: paths, operators and functions, told apart and carried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Dict, Union

from ..errors import DataCloneError, DataError, InvalidArgumentError
from ..functions import function_for, no_coroutine
from ..keys.markers import DELETE, DELETE_FIELD, MAX_KEY, MIN_KEY, SKIP, Marker
from ..keys.paths import assign, discard, lookup
from ..ops import Operator

__all__ = ["Changes", "check", "revised"]

Changes = Union[Mapping[str, Any], Callable[[Any], Any]]
"""What ``update`` and ``modify`` take."""


def check(changes: Any) -> None:
    """Refuse what is neither a dict of paths nor a function, before anything is read.

    :raises InvalidArgumentError: for another type, or a marker that has no meaning here.
    :raises DataCloneError: for a path that is no string.
    """
    if not isinstance(changes, Mapping):
        if not callable(changes):
            raise InvalidArgumentError(
                f"changes are a dict of paths and values, or a function, not a {type(changes).__name__}"
            )
        function_for(changes, "an update")
        return
    for path, value in changes.items():
        if not isinstance(path, str):
            raise DataCloneError(f"the path {path!r} is no string", path=repr(path))
        if isinstance(value, Marker) and value is not DELETE_FIELD:
            raise InvalidArgumentError(f"{value!r} is no value for {path!r}: {_ways(value)}")


def _ways(marker: Marker) -> str:
    if marker in (MIN_KEY, MAX_KEY):
        return "it is a bound of ranges"
    return "return it from a function"


def revised(document: Any, changes: Changes, unchanged: Callable[[Any], bool]) -> Any:
    """``document``, edited in place; or :data:`SKIP` or :data:`DELETE`.

    :param unchanged: tells whether the document is still what is stored.
    :raises InvalidArgumentError: if a function returns a new dict and left its draft as it was, or a path does not fit.
    """
    if isinstance(changes, Mapping):
        return _set(document, changes)
    returned = no_coroutine(changes(document), "an update")
    if returned is SKIP or returned is DELETE:
        return returned
    if isinstance(returned, dict) and returned is not document and unchanged(document):
        raise InvalidArgumentError(
            "the function returned a dict and left its draft as it was, so nothing would be stored: edit the draft "
            "(lambda row: row.update({...})), or give the dict itself (update(key, {...}))"
        )
    return document


def _set(document: Any, changes: Mapping[str, Any]) -> Dict[str, Any]:
    if not isinstance(document, dict):
        raise DataError(f"paths lead into dicts, and this row is a {type(document).__name__}: give a function")
    for path, value in changes.items():
        if value is DELETE_FIELD:
            discard(document, path)
            continue
        if isinstance(value, Operator):
            value = value.applied_to(lookup(document, path), path)
        if not assign(document, path, value):
            raise InvalidArgumentError(f"{path!r} cannot be set: something that is no dict stands on the way")
    return document
