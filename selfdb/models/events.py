"""What realtime callbacks are given. Here is no pydantic: each event makes one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

__all__ = ["RealtimePayload", "payload_of"]


class _Fields:
    """What a payload holds, as long as it may be set."""

    __slots__ = ("__weakref__", "event", "new", "old", "raw", "table")

    def __init__(
        self,
        event: str,
        table: str,
        new: Optional[Dict[str, Any]],
        old: Optional[Dict[str, Any]],
        raw: Dict[str, Any],
    ) -> None:
        self.event = event
        self.table = table
        self.new = new
        self.old = old
        self.raw = raw


@dataclass(frozen=True)
class RealtimePayload(_Fields):
    """What a realtime callback is given.

    :ivar event: ``INSERT``, ``UPDATE``, ``DELETE``, or another event of the server in upper case; ``resync`` where
        events may have been missed.
    :ivar table: the table's name.
    :ivar new: the row as it is now, for INSERT and UPDATE.
    :ivar old: the row as it was, for UPDATE and DELETE.
    :ivar raw: the whole payload as it came.
    """

    __slots__ = ()

    event: str
    table: str
    new: Optional[Dict[str, Any]]
    old: Optional[Dict[str, Any]]
    raw: Dict[str, Any]

    def __reduce__(self) -> Any:
        return RealtimePayload, (self.event, self.table, self.new, self.old, self.raw)


def payload_of(
    event: str,
    table: str,
    new: Optional[Dict[str, Any]],
    old: Optional[Dict[str, Any]],
    raw: Dict[str, Any],
) -> RealtimePayload:
    """``RealtimePayload(event, table, new, old, raw)`` for half the time: one is made for every event.

    Its fields are set before it becomes what nobody may change, without asking for each whether it may be set.
    """
    fields = _Fields(event, table, new, old, raw)
    fields.__class__ = RealtimePayload
    return fields  # type: ignore[return-value]  # it is one now
