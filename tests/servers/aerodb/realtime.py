"""The realtime service: one JSON frame for each thing, as the contract writes them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from tests.servers.scripted import BOUND, Peer, PeerGone, Received, ScriptedServer
from tests.servers.websockets import PING, PONG, WebSocket, accept


class AeroRealtime:
    """Every connection is opened, unless ``refuse`` has a status for it; every frame of a client is written down.

    :ivar refuse: statuses of the next handshakes; 0 opens.
    :ivar acknowledges: whether subscriptions are answered.
    :ivar errors: what a subscription is refused with, by channel.
    :ivar deaf: whether pings go unanswered.
    """

    def __init__(self, **options: Any) -> None:
        self.refuse: List[int] = []
        self.acknowledges = True
        self.errors: Dict[str, Dict[str, Any]] = {}
        self.deaf = False
        self.sockets: List[WebSocket] = []
        self.frames: List[Dict[str, Any]] = []
        self.texts: List[str] = []
        self.pings = 0
        self.opened_at: List[float] = []
        self._changed = threading.Condition()
        self.server = ScriptedServer(default=self._handle, **options)
        self.url = self.server.url

    def start(self) -> AeroRealtime:
        self.server.start()
        return self

    def stop(self) -> None:
        self.server.stop()

    @property
    def requests(self) -> List[Received]:
        """The handshakes."""
        return self.server.requests

    def wait(self, ready: Callable[[], Any], what: str = "it") -> Any:
        """Until ``ready()``; AssertionError if that takes too long."""
        end = time.monotonic() + BOUND
        while True:
            found = ready()
            if found:
                return found
            assert time.monotonic() < end, f"waited for {what} in vain"
            with self._changed:
                self._changed.wait(0.01)

    def subscribed(self, count: int = 1) -> List[str]:
        """Channels in the order in which they were asked for, once there are ``count``."""
        self.wait(lambda: len(self._asked("subscribe")) >= count, f"{count} subscriptions")
        return self._asked("subscribe")

    def _asked(self, kind: str) -> List[str]:
        return [frame["channel"] for frame in list(self.frames) if frame["type"] == kind]

    def unsubscribed(self) -> List[str]:
        """Channels that were left."""
        return self._asked("unsubscribe")

    @property
    def live(self) -> WebSocket:
        """The newest connection."""
        socket: WebSocket = self.wait(lambda: self.sockets and self.sockets[-1], "a connection")
        return socket

    def say(self, frame: Any) -> None:
        """Send ``frame`` on the newest connection; text as it is."""
        self.live.send(0x1, frame.encode() if isinstance(frame, str) else json.dumps(frame).encode())

    def event(self, channel: str, kind: str = "INSERT", **payload: Any) -> None:
        """Tell of something."""
        self.say({"type": "event", "channel": channel, "payload": {"type": kind, **payload}})

    def drop(self) -> None:
        """Close the newest connection without a word."""
        with contextlib.suppress(OSError):
            self.live.peer.sock.shutdown(socket.SHUT_RDWR)

    def _handle(self, peer: Peer) -> None:
        status = self.refuse.pop(0) if self.refuse else 0
        if status:
            peer.read_request()
            peer.reply(status, json.dumps({"error": "refused", "code": status}).encode())
            return
        ws = accept(peer)
        with self._changed:
            self.sockets.append(ws)
            self.opened_at.append(time.monotonic())
            self._changed.notify_all()
        with contextlib.suppress(PeerGone):
            while True:
                opcode, data = ws.receive()
                if opcode == PING:
                    self._ping(ws)
                    continue
                self._take(ws, data.decode())

    def _ping(self, ws: WebSocket) -> None:
        with self._changed:
            self.pings += 1
            self._changed.notify_all()
        if not self.deaf:
            ws.send(PONG)

    def _take(self, ws: WebSocket, text: str) -> None:
        frame = json.loads(text)
        with self._changed:
            self.texts.append(text)
            self.frames.append(frame)
            self._changed.notify_all()
        if frame["type"] != "subscribe":
            return
        error: Optional[Dict[str, Any]] = self.errors.get(frame["channel"])
        if error is not None:
            ws.send_json({"type": "error", "channel": frame["channel"], **error})
        elif self.acknowledges:
            ws.send_json({"type": "subscribed", "channel": frame["channel"]})
