"""The frames of the realtime protocol: what is sent, and what is understood of what comes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Optional, Union

from ...core.encoding import decode_json
from ..parsing import mapping_at, object_of, text_at
from ..types import RealtimePayload

__all__ = ["Acknowledged", "Event", "Frame", "Refused", "decode", "subscribe", "unsubscribe"]


class Event(NamedTuple):
    """Something happened."""

    channel: str
    payload: RealtimePayload


class Acknowledged(NamedTuple):
    """A subscription stands."""

    channel: str


class Refused(NamedTuple):
    """The server refuses, or has failed.

    :ivar channel: what it is about; ``None`` if it does not say.
    """

    channel: Optional[str]
    message: str
    code: Optional[str]


Frame = Union[Event, Acknowledged, Refused]


def subscribe(channel: str) -> str:
    """The frame that asks for the events of ``channel``."""
    return _frame("subscribe", channel)


def unsubscribe(channel: str) -> str:
    """The frame that asks for them no more."""
    return _frame("unsubscribe", channel)


def _frame(kind: str, channel: str) -> str:
    return json.dumps({"type": kind, "channel": channel}, ensure_ascii=False, separators=(",", ":"))


def decode(data: bytes) -> Frame | None:
    """What a frame says; ``None`` if it is none, or nothing that anybody has to know."""
    try:
        frame = decode_json(data)
    except ValueError:
        return None
    fields = object_of(frame)
    kind, channel = fields.get("type"), text_at(fields, "channel")
    if kind == "event" and channel is not None:
        payload = mapping_at(fields, "payload")
        return None if payload is None else Event(channel, _payload(payload))
    if kind == "subscribed" and channel is not None:
        return Acknowledged(channel)
    if kind == "error":
        code: Any = fields.get("code")
        message = text_at(fields, "error", "message") or text_at(object_of(fields.get("error")), "message")
        return Refused(channel, message or "Unknown error", None if code is None else str(code))
    return None


def _payload(fields: dict[str, Any]) -> RealtimePayload:
    return RealtimePayload(
        text_at(fields, "type") or "",
        text_at(fields, "table") or "",
        text_at(fields, "schema") or "",
        text_at(fields, "commit_timestamp") or "",
        mapping_at(fields, "new"),
        mapping_at(fields, "old"),
    )
