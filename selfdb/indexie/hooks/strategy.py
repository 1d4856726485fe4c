"""When a table's hooks are told of a write: after it is kept, or before."""

from __future__ import annotations

from enum import Enum

__all__ = ["Strategy"]


class Strategy(str, Enum):
    """What ``table.strategy`` may be.

    ``LOCAL_FIRST``: the row is stored, the call returns, and hooks run in the background; a durable one is repeated
    until it succeeds. ``NETWORK_FIRST``: the hooks run first, within the call, and only if all of them succeed the row
    is stored; what they change in ``payload["item"]`` is stored with it.
    """

    LOCAL_FIRST = "local_first"
    NETWORK_FIRST = "network_first"
