"""What realtime callbacks are given. Here is no pydantic: each event makes one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

__all__ = ["RealtimePayload"]


@dataclass(frozen=True)
class RealtimePayload:
    """What a realtime callback is given.

    :ivar event: ``INSERT``, ``UPDATE``, ``DELETE``, or another event of the server in upper case; ``resync`` where
        events may have been missed.
    :ivar table: the table's name.
    :ivar new: the row as it is now, for INSERT and UPDATE.
    :ivar old: the row as it was, for UPDATE and DELETE.
    :ivar raw: the whole payload as it came.
    """

    event: str
    table: str
    new: Optional[Dict[str, Any]]
    old: Optional[Dict[str, Any]]
    raw: Dict[str, Any]
