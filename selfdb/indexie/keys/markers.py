"""The values that stand for something else: the ends of the key order, and what an update may do instead of setting."""

from __future__ import annotations

from typing import Any, Tuple

__all__ = ["DELETE", "DELETE_FIELD", "MAX_KEY", "MIN_KEY", "SKIP", "Marker"]


class Marker:
    """One of the names below; there is only one object of each, in copies and pickles too."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def __copy__(self) -> Marker:
        return self

    def __deepcopy__(self, memo: Any) -> Marker:
        return self

    def __reduce__(self) -> Tuple[Any, ...]:
        return _named, (self._name,)


def _named(name: str) -> Marker:
    marker = globals()[name]
    assert isinstance(marker, Marker)
    return marker


MIN_KEY = Marker("MIN_KEY")
"""Below every key: a bound of ranges, also inside arrays; never a key itself."""

MAX_KEY = Marker("MAX_KEY")
"""Above every key: a bound of ranges, also inside arrays; never a key itself."""

SKIP = Marker("SKIP")
"""Returned by a callable given to ``update`` or ``modify``: leave the row as it was."""

DELETE = Marker("DELETE")
"""Returned by a callable given to ``update`` or ``modify``: delete the row."""

DELETE_FIELD = Marker("DELETE_FIELD")
"""As a value of the changes given to ``update`` or ``modify``: remove this field."""
