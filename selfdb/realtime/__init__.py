"""Realtime over Phoenix Channels: ``client.realtime``."""

from .channel import Channel
from .client import Realtime
from .events import EventStream

__all__ = ["Channel", "EventStream", "Realtime"]
