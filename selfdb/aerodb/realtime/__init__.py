"""Events of an AeroDB server: plain JSON frames over one WebSocket."""

from __future__ import annotations

from .channel import RealtimeChannel
from .client import RealtimeClient

__all__ = ["RealtimeChannel", "RealtimeClient"]
