"""Realtime over Phoenix Channels: ``client.realtime``.

Names are imported when they are first used, so that a server can use the frames without the client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Dict

if TYPE_CHECKING:
    from .channel import Channel
    from .client import Realtime
    from .events import EventStream

__all__ = ["Channel", "EventStream", "Realtime"]

_HOMES: Dict[str, str] = {"Channel": "channel", "EventStream": "events", "Realtime": "client"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
