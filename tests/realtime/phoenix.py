"""A channel server that a test scripts: it answers joins as told, and sends and drops what it is told."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from tests.servers.scripted import BOUND, Peer, PeerGone, ScriptedServer
from tests.servers.websockets import TEXT, WebSocket, accept

Answer = Dict[str, Any]
OK: Answer = {"status": "ok", "response": {}}


def error(reason: str) -> Answer:
    return {"status": "error", "response": {"reason": reason}}


class Phoenix:
    """Every connection is opened, unless ``refuse`` has a status for it; every frame is written down.

    :ivar refuse: statuses of the next handshakes; 0 opens.
    :ivar joins: by topic, what the next joins are answered; ``None`` answers nothing. All others are ``ok``.
    :ivar accepts: what each ok of a join says that it accepts.
    """

    def __init__(self, **options: Any) -> None:
        self.refuse: List[int] = []
        self.joins: Dict[str, List[Optional[Answer]]] = {}
        self.accepts: Optional[List[str]] = None
        self.pushes: Dict[str, Optional[Answer]] = {}
        self.answers_leave = True
        self.sockets: List[WebSocket] = []
        self.frames: List[List[Any]] = []
        self._refused = self._counted = 0
        self._changed = threading.Condition()
        self.server = ScriptedServer(default=self._handle, **options)
        self.url = self.server.url

    def start(self) -> Phoenix:
        self.server.start()
        return self

    def stop(self) -> None:
        self.server.stop()

    @property
    def targets(self) -> List[str]:
        return [request.target for request in self.server.requests]

    @property
    def live(self) -> WebSocket:
        """The newest connection."""
        self.wait(lambda: self.sockets and len(self.sockets) + self._refused == len(self.server.requests))
        return self.sockets[-1]

    def wait(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + BOUND
        while not condition():
            assert time.monotonic() < end, f"what was waited for did not happen; frames: {self.frames}"
            with self._changed:
                self._changed.wait(0.005)

    def seen(self, event: str, topic: Optional[str] = None) -> List[List[Any]]:
        return [frame for frame in list(self.frames) if frame[3] == event and topic in (None, frame[2])]

    def _handle(self, peer: Peer) -> None:
        with self._changed:
            status = self.refuse.pop(0) if self.refuse else 0
        if status:
            peer.read_request()
            self._refused += 1
            peer.reply(status, b'{"detail":"refused"}')
            return
        ws = accept(peer)
        with self._changed:
            self.sockets.append(ws)
            self._changed.notify_all()
        while True:
            opcode, _ = message = ws.receive()
            if opcode == TEXT:
                self._answer(ws, json.loads(message[1]))
            else:
                self.frames.append([None, None, None, "binary", message[1]])

    def _answer(self, ws: WebSocket, frame: List[Any]) -> None:
        join_ref, ref, topic, event, _ = frame
        answer: Optional[Answer] = None
        if event == "phx_join":
            planned = self.joins.get(topic)
            answer = planned.pop(0) if planned else OK
            if answer is OK and self.accepts is not None:
                answer = {"status": "ok", "response": {"accepts": self.accepts}}
        elif event == "heartbeat":
            answer = OK
        elif event == "phx_leave":
            answer = OK if self.answers_leave else None
        else:
            answer = self.pushes.get(event)
        with self._changed:
            self.frames.append(frame)
            self._changed.notify_all()
        if answer is not None:
            ws.send_json([join_ref, ref, topic, "phx_reply", answer])
            if event == "phx_leave":
                ws.send_json([join_ref, join_ref, topic, "phx_close", {}])

    # What the test does

    def say(self, topic: str, event: str, payload: Any, join_ref: Optional[str] = None) -> None:
        self.live.send_json([join_ref, None, topic, event, payload])

    def insert(self, topic: str, number: Any) -> None:
        body = {"event": "INSERT", "table": topic[6:], "new": {"id": number}, "old": None}
        self.say(topic, "INSERT", body)

    def join_ref(self, topic: str) -> str:
        return str(self.seen("phx_join", topic)[-1][0])

    def break_off(self) -> None:
        """Break the newest connection off."""
        live = self.live
        self._counted = len(self.sockets)
        with contextlib.suppress(OSError):  # the client was faster
            live.peer.sock.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break the newest connection off and wait for the next one."""
        self.break_off()
        count = self._counted
        self.wait(lambda: len(self.sockets) > count)


__all__ = ["OK", "PeerGone", "Phoenix", "error"]
