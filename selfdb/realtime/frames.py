"""Frames of Phoenix Channels, both serializers, to and from text and bytes. Pure; client and server stand on it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Optional, Union

from pydantic_core import from_json

__all__ = ["Frame", "decode", "decode_push", "decode_text", "encode", "encode_binary", "encode_v1", "refuses"]

REPLY = "phx_reply"
_PUSH, _REPLY, _BROADCAST = 0, 1, 2


class Frame(NamedTuple):
    """One message of a channel.

    :ivar join_ref: names the join that it belongs to; ``None`` for broadcasts and for the connection's own.
    :ivar ref: names a push, or the push that a reply is for.
    :ivar payload: JSON, or bytes in a binary frame.
    """

    join_ref: Optional[str]
    ref: Optional[str]
    topic: str
    event: str
    payload: Any


_new = tuple.__new__


def encode(frame: Frame) -> str:
    """``frame`` in version 2: an array."""
    return json.dumps(list(frame), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encode_v1(frame: Frame) -> str:
    """``frame`` in version 1: an object, as servers send it, without ``join_ref``."""
    body = {"topic": frame.topic, "event": frame.event, "payload": frame.payload, "ref": frame.ref}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encode_binary(frame: Frame, *, from_server: bool = False) -> bytes:
    """A push (or, ``from_server``, a reply or broadcast) whose payload is bytes, in version 2.

    A server's reply has ``phx_reply`` as its event and ``{"status": str, "response": bytes}`` as its payload; a
    server's frame without a ``join_ref`` is a broadcast.

    :raises ValueError: if a part is longer than 255 bytes.
    """
    payload = frame.payload
    if not from_server:
        kind, parts = _PUSH, [frame.join_ref or "", frame.ref or "", frame.topic, frame.event]
    elif frame.event == REPLY:
        kind, parts = _REPLY, [frame.join_ref or "", frame.ref or "", frame.topic, payload["status"]]
        payload = payload["response"]
    elif frame.join_ref is None:
        kind, parts = _BROADCAST, [frame.topic, frame.event]
    else:
        kind, parts = _PUSH, [frame.join_ref, frame.topic, frame.event]
    encoded = [part.encode("utf-8") for part in parts]
    if any(len(part) > 255 for part in encoded):
        raise ValueError("a part of a binary frame has at most 255 bytes")
    return bytes([kind, *(len(part) for part in encoded)]) + b"".join(encoded) + bytes(payload)


def decode(data: Union[str, bytes], *, binary: bool = False) -> Frame:
    """A frame of a server, in either version.

    :param binary: ``data`` came as a binary message.
    :raises ValueError: if it is none.
    """
    if binary:
        return _binary(bytes(data) if not isinstance(data, str) else data.encode("latin-1"), from_server=True)
    return decode_text(data)


def decode_push(data: Union[str, bytes], *, binary: bool = False) -> Frame:
    """A frame of a client, in either version.

    :raises ValueError: if it is none.
    """
    if binary:
        return _binary(bytes(data) if not isinstance(data, str) else data.encode("latin-1"), from_server=False)
    return decode_text(data)


def refuses(frame: Frame) -> bool:
    """Whether ``frame`` is a reply that says no."""
    return frame.event == REPLY and not (isinstance(frame.payload, dict) and frame.payload.get("status") == "ok")


def decode_text(data: Union[str, bytes]) -> Frame:
    """A frame in a text message, of a server or a client, in either version.

    :raises ValueError: if it is none.
    """
    try:
        # A quarter of the time of json.loads. It knows less (no half of a surrogate pair, no deep nesting), but what
        # it takes, it reads in the same way; so what it refuses is left to json.loads to judge. Of values it keeps
        # none in its cache: they are somebody's data.
        body = from_json(data, cache_strings="keys")
    except ValueError:
        body = _loads(data)
    if isinstance(body, list):
        if len(body) < 5:
            raise ValueError("a frame has five elements")
        join_ref, ref, topic, event, payload = body if len(body) == 5 else body[:5]
    elif isinstance(body, dict):
        join_ref, ref, topic, event, payload = _version_1(body)
    else:
        raise ValueError("a frame is an array or an object")
    if not isinstance(topic, str) or not isinstance(event, str):
        raise ValueError("topic and event are strings")
    if join_ref is not None:
        join_ref = _ref(join_ref)
    if ref is not None:
        ref = _ref(ref)
    if payload is None:
        payload = {}
    # What Frame(...) does, without the call of a Python function that only passes its arguments on.
    return _new(Frame, (join_ref, ref, topic, event, payload))


def _version_1(body: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
    """The parts of an object, which may be of a gateway in front of the channel server: it says ``channel``."""
    get = body.get
    if "topic" not in body and isinstance(get("channel"), str):
        if get("type") != "broadcast":
            raise ValueError("not a broadcast")
        return None, None, body["channel"], get("event"), get("payload")
    return get("join_ref"), get("ref"), get("topic"), get("event"), get("payload")


def _loads(data: Union[str, bytes]) -> Any:
    try:
        return json.loads(data if isinstance(data, str) else data.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _ref(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # some clients count in numbers
    raise ValueError("a ref is a string or null")


def _binary(data: bytes, *, from_server: bool) -> Frame:
    if not data:
        raise ValueError("an empty binary frame")
    kind = data[0]
    if kind == _BROADCAST:
        (topic, event), rest = _parts(data, 2)
        return Frame(None, None, topic, event, rest)
    if kind == _REPLY:
        (join_ref, ref, topic, status), rest = _parts(data, 4)
        return Frame(join_ref or None, ref or None, topic, REPLY, {"status": status, "response": rest})
    if kind != _PUSH:
        raise ValueError(f"binary frames of kind {kind} are not known")
    if from_server:
        (join_ref, topic, event), rest = _parts(data, 3)
        return Frame(join_ref or None, None, topic, event, rest)
    (join_ref, ref, topic, event), rest = _parts(data, 4)
    return Frame(join_ref or None, ref or None, topic, event, rest)


def _parts(data: bytes, count: int) -> tuple[list[str], bytes]:
    at = 1 + count
    if len(data) < at:
        raise ValueError("a binary frame breaks off in its sizes")
    parts = []
    for size in data[1:at]:
        if at + size > len(data):
            raise ValueError("a binary frame breaks off in its strings")
        parts.append(data[at : at + size].decode("utf-8"))
        at += size
    return parts, data[at:]
