"""A channel: one socket's interest in one table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .journal import TableFacts
    from .socket import Socket

__all__ = ["Channel", "may_read", "table_name"]

_TOPIC = re.compile(r"table:([a-z][a-z0-9_]{0,62})\Z")


class Channel:
    """A joined channel. ``after`` is the last event before it: it is told of those above, each once."""

    __slots__ = ("after", "join_ref", "owner_id", "socket", "table_id", "topic")

    def __init__(self, socket: Socket, topic: str, join_ref: Optional[str], facts: TableFacts, after: int) -> None:
        self.socket = socket
        self.topic = topic
        self.join_ref = join_ref
        self.table_id = facts.id
        self.owner_id = facts.owner_id
        self.after = after


def table_name(topic: str) -> Optional[str]:
    """The table that a topic is about, ``None`` if no table could have that name."""
    match = _TOPIC.match(topic)
    return None if match is None else match.group(1)


def may_read(*, public: bool, owner_id: str, user_id: str, role: str) -> bool:
    """Whether a signed-in user may see the rows of a table."""
    return public or owner_id == user_id or role == "ADMIN"
