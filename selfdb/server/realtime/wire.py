"""What the server says on a socket, as text in either version of the protocol, and what it makes of what it hears."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional, Union

from ...realtime.frames import Frame, decode_push, encode, encode_v1

__all__ = ["ACCEPTS", "Broadcast", "V1", "V2", "closed", "hear", "reply"]

V1 = 1
V2 = 2

#: What the reply to a join tells the client it may push.
ACCEPTS: Dict[str, Any] = {"accepts": ["access_token"]}

_PUSH = 0


def hear(data: Union[str, bytes]) -> Frame:
    """The frame of a client.

    :raises ValueError: it is none, or one whose names could not be said back.
    """
    if isinstance(data, bytes):
        if data[:1] != bytes([_PUSH]):
            raise ValueError("a client's binary frame is a push")
        return decode_push(data, binary=True)
    frame = decode_push(data)
    # JSON can spell what UTF-8 cannot carry.
    "".join((frame.topic, frame.ref or "", frame.join_ref or "")).encode("utf-8")
    return frame


def version_of(data: Union[str, bytes]) -> int:
    """The version that a frame of a client, one that was understood, is written in."""
    return V1 if isinstance(data, str) and data.lstrip()[:1] == "{" else V2


def _rendered(frame: Frame, version: int) -> str:
    return encode_v1(frame) if version == V1 else encode(frame)


def reply(version: int, join_ref: Optional[str], to: Frame, status: str, response: Dict[str, Any]) -> str:
    """The answer to a push."""
    return _rendered(Frame(join_ref, to.ref, to.topic, "phx_reply", {"status": status, "response": response}), version)


def closed(version: int, join_ref: Optional[str], topic: str) -> str:
    """The word that a channel is no more."""
    return _rendered(Frame(join_ref, join_ref, topic, "phx_close", {}), version)


class Broadcast:
    """One event for many sockets; rendered once for each version, around a payload that is JSON already."""

    def __init__(self, topic: str, event: str, payload: str) -> None:
        self._topic = json.dumps(topic, ensure_ascii=False)
        self._event = json.dumps(event)
        self._payload = payload
        self._texts: Dict[int, str] = {}

    def text(self, version: int) -> str:
        """The frame in this version."""
        found = self._texts.get(version)
        if found is None:
            if version == V1:
                found = f'{{"topic":{self._topic},"event":{self._event},"payload":{self._payload},"ref":null}}'
            else:
                found = f"[null,null,{self._topic},{self._event},{self._payload}]"
            self._texts[version] = found
        return found
