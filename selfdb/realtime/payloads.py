"""From a frame's event and payload to what a callback is given, whatever shape the server uses. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..core.messages import redact
from ..models import RealtimePayload

__all__ = ["normalised", "resync_mark", "table_of", "without_secrets"]

RESYNC = "resync"


def resync_mark(topic: str) -> RealtimePayload:
    """What the handlers of ``resync`` are given."""
    return RealtimePayload(event=RESYNC, table=table_of(topic), new=None, old=None, raw={})


def normalised(topic: str, event: str, payload: Any) -> RealtimePayload | None:
    """The payload of a data event; ``None`` if this is none.

    Understands ``{event, table, new, old}``, ``{action, table, new_data, old_data}`` as an event called ``change``,
    both wrapped (as JSON text too) in an event called ``broadcast``, and ``record``/``old_record`` for new and old.
    """
    raw = payload if isinstance(payload, dict) else {"payload": payload}
    content: Any = payload
    name = event
    if event.lower() == "broadcast" and isinstance(payload, dict):
        content = payload.get("payload")
        if isinstance(content, str):
            try:
                content = json.loads(content)
            except (ValueError, RecursionError):
                return None
        name = "change"
    if not isinstance(content, dict):
        return RealtimePayload(name.upper(), table_of(topic), None, None, raw)
    get = content.get
    if name.lower() == "change":
        name = _text(get("action")) or _text(get("event")) or name
    else:
        said = get("event")
        if said and isinstance(said, str):
            name = said
    table = get("table")
    # What is usual is looked at here: a call costs more than the look does.
    new, old = get("new"), get("old")
    if not isinstance(new, dict):
        new = _row(get("new_data"), get("record"))
    if not isinstance(old, dict):
        old = _row(get("old_data"), get("old_record"))
    return RealtimePayload(name.upper(), table if table and isinstance(table, str) else table_of(topic), new, old, raw)


def without_secrets(payload: Any, secrets: Sequence[str]) -> Any:
    """The payload of a refusal without what the server may have echoed; nothing, where that cannot be found out."""
    try:
        return json.loads(redact(json.dumps(payload), secrets))
    except (TypeError, ValueError, RecursionError):  # bytes, or nested deeper than can be written
        return {}


def table_of(topic: str) -> str:
    """The table whose events ``topic`` brings; the topic itself if it names none."""
    return topic[6:] if topic.startswith("table:") else topic


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _row(usual: Any, other: Any) -> dict[str, Any] | None:
    if isinstance(usual, dict):
        return usual
    return other if isinstance(other, dict) else None
