"""What realtime callbacks are given. Here is no pydantic: each event makes one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

__all__ = ["RealtimePayload"]


@dataclass(frozen=True, init=False)
class RealtimePayload:
    """What a realtime callback is given.

    :ivar event: ``INSERT``, ``UPDATE``, ``DELETE``, or another event of the server in upper case; ``resync`` where
        events may have been missed.
    :ivar table: the table's name.
    :ivar new: the row as it is now, for INSERT and UPDATE.
    :ivar old: the row as it was, for UPDATE and DELETE.
    :ivar raw: the whole payload as it came.
    """

    __slots__ = ("__weakref__", "event", "new", "old", "raw", "table")

    event: str
    table: str
    new: Optional[Dict[str, Any]]
    old: Optional[Dict[str, Any]]
    raw: Dict[str, Any]

    def __init__(
        self,
        event: str,
        table: str,
        new: Optional[Dict[str, Any]],
        old: Optional[Dict[str, Any]],
        raw: Dict[str, Any],
    ) -> None:
        _set_event(self, event)
        _set_table(self, table)
        _set_new(self, new)
        _set_old(self, old)
        _set_raw(self, raw)

    def __reduce__(self) -> Any:
        return RealtimePayload, (self.event, self.table, self.new, self.old, self.raw)


# One payload is made for every event, and thousands may wait: it has slots, and its fields are set past the
# ``__setattr__`` that keeps everybody else from changing them, without the look-ups that a frozen dataclass does.
_set_event, _set_table, _set_new, _set_old, _set_raw = (
    RealtimePayload.__dict__[field].__set__ for field in ("event", "table", "new", "old", "raw")
)
