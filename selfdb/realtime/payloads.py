"""From a frame to what a callback is given, whatever shape the server uses; and what may be sent. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..core.messages import redact
from ..exceptions import InvalidRequestError
from ..models import RealtimePayload
from ..models.events import payload_of
from .frames import Frame, encode, encode_binary

__all__ = ["normalised", "resync_mark", "sendable", "table_of", "without_secrets"]

RESYNC = "resync"

_PLAIN = frozenset({"INSERT", "UPDATE", "DELETE"})

_OTHERWISE = frozenset({"new_data", "record", "old_data", "old_record"})
"""What servers call ``new`` and ``old`` as well."""


def resync_mark(topic: str) -> RealtimePayload:
    """What the handlers of ``resync`` are given."""
    return RealtimePayload(event=RESYNC, table=table_of(topic), new=None, old=None, raw={})


def normalised(topic: str, event: str, payload: Any) -> RealtimePayload | None:
    """The payload of a data event; ``None`` if this is none.

    Understands ``{event, table, new, old}``, ``{action, table, new_data, old_data}`` as an event called ``change``,
    both wrapped (as JSON text too) in an event called ``broadcast``, and ``record``/``old_record`` for new and old.
    """
    raw = payload if isinstance(payload, dict) else {"payload": payload}
    if event in _PLAIN and raw.get("event") == event and _OTHERWISE.isdisjoint(raw):
        return _of_row(event, topic, raw, raw)  # nearly all: what follows would come to the same
    content: Any = payload
    name = event
    kind = event.lower()
    if kind == "broadcast" and isinstance(payload, dict):
        content = payload.get("payload")
        if isinstance(content, str):
            try:
                content = json.loads(content)
            except (ValueError, RecursionError):
                return None
        name = kind = "change"
    if not isinstance(content, dict):
        return RealtimePayload(name.upper(), table_of(topic), None, None, raw)
    get = content.get
    if kind == "change":
        name = _text(get("action")) or _text(get("event")) or name
    else:
        said = get("event")
        if said and isinstance(said, str):
            name = said
    if not _OTHERWISE.isdisjoint(content):
        new, old = (
            _row(get("new"), get("new_data"), get("record")),
            _row(get("old"), get("old_data"), get("old_record")),
        )
        content = {"table": get("table"), "new": new, "old": old}
    return _of_row(name.upper(), topic, content, raw)


def _of_row(name: str, topic: str, content: dict[str, Any], raw: dict[str, Any]) -> RealtimePayload:
    get = content.get
    table, new, old = get("table"), get("new"), get("old")
    if not table or not isinstance(table, str):
        table = table_of(topic)
    return payload_of(name, table, new if isinstance(new, dict) else None, old if isinstance(old, dict) else None, raw)


def sendable(topic: str, event: str, payload: Any) -> Any:
    """``payload`` as it is at this moment, if it can be sent.

    :raises InvalidRequestError: if not.
    """
    if not isinstance(event, str) or not event or event.startswith("phx_"):
        raise InvalidRequestError("event must be a str that is not empty and does not begin with phx_")
    try:
        if isinstance(payload, (bytes, bytearray)):
            encode_binary(Frame("", "", topic, event, b""))
            return bytes(payload)
        return json.loads(encode(Frame(None, None, topic, event, payload)).encode("utf-8"))[4]
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"this payload cannot be sent: {error}") from None


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


def _row(*values: Any) -> Any:
    """The first that is a row."""
    return next((value for value in values if isinstance(value, dict)), None)
