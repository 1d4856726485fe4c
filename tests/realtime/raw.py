"""Raw sockets to the embedded server, without our client: frames as they are on the wire."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import urlencode

import websocket

from selfdb.realtime.frames import Frame, decode
from tests.support import Http, unique

FULL = "/realtime/socket/websocket"
SHORT = "/realtime/socket"
SECONDS = 60.0


def address(server: Any, path: str = FULL, **query: Optional[str]) -> str:
    """The URL of a socket; ``api_key`` stands for ``X-API-Key``, ``None`` leaves a value out."""
    given = {"X-API-Key" if name == "api_key" else name: value for name, value in query.items() if value is not None}
    return server.url.replace("http", "ws", 1) + path + "?" + urlencode(given)


class Raw:
    """One socket. Every wait has a bound; ``stop()`` cuts the line without a word."""

    def __init__(
        self, server: Any, token: Optional[str], *, path: str = FULL, vsn: Optional[str] = "2.0.0", **options: Any
    ) -> None:
        options.setdefault("suppress_origin", True)
        # The check is written in Python and takes seconds for a megabyte; parsing finds the same.
        options.setdefault("skip_utf8_validation", True)
        url = address(server, path, vsn=vsn, api_key=server.api_key, token=token)
        self.ws = websocket.create_connection(url, timeout=SECONDS, redirect_limit=0, **options)

    def stop(self) -> None:
        self.ws.shutdown()

    def text(self, text: str) -> None:
        self.ws.send(text)

    def binary(self, data: bytes) -> None:
        self.ws.send_binary(data)

    def send(self, join_ref: Optional[str], ref: Optional[str], topic: str, event: str, payload: Any = None) -> None:
        self.text(json.dumps([join_ref, ref, topic, event, {} if payload is None else payload]))

    def receive(self) -> Any:
        """The next message, parsed."""
        opcode, data = self.ws.recv_data()
        assert opcode == websocket.ABNF.OPCODE_TEXT, (opcode, data)
        return json.loads(data)

    def frame(self) -> Frame:
        return decode(json.dumps(self.receive()))

    def join(self, topic: str, ref: str = "1") -> Any:
        """Join and return the reply's payload; it must be the next message."""
        self.send(ref, ref, topic, "phx_join")
        frame = self.frame()
        assert (frame.join_ref, frame.ref, frame.topic, frame.event) == (ref, ref, topic, "phx_reply")
        return frame.payload

    def joined(self, topic: str, ref: str = "1") -> Raw:
        assert self.join(topic, ref) == {"status": "ok", "response": {"accepts": ["access_token"]}}
        return self

    def ask(self, join_ref: Optional[str], ref: str, topic: str, event: str, payload: Any = None) -> Any:
        """Push and return the next message."""
        self.send(join_ref, ref, topic, event, payload)
        return self.receive()

    def beat(self, ref: str = "beat") -> None:
        """A heartbeat; its reply must be the next message, so nothing else was sent before."""
        assert self.ask(None, ref, "phoenix", "heartbeat") == [
            None,
            ref,
            "phoenix",
            "phx_reply",
            {"status": "ok", "response": {}},
        ]

    def ended(self) -> Tuple[int, str]:
        """Read on until the server closes; code and reason."""
        while True:
            opcode, data = self.ws.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big"), data[2:].decode()


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for ``condition``, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


class Table:
    """A table of one user, changed over HTTP."""

    def __init__(self, http: Http, bearer: str, *, public: bool = True, realtime: bool = True) -> None:
        self.http, self.bearer = http, bearer
        self.name = unique("t")
        body = {"name": self.name, "table_schema": {"n": {"type": "integer"}, "a": {"type": "text"}}, "public": public}
        self.id = self._ok(http.post("/tables/", json=body, bearer=bearer), 201)["id"]
        if realtime:
            self.change(realtime_enabled=True)

    @property
    def topic(self) -> str:
        return f"table:{self.name}"

    @staticmethod
    def _ok(answer: Any, status: int) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def change(self, **changes: Any) -> None:
        self._ok(self.http.patch(f"/tables/{self.id}", json=changes, bearer=self.bearer), 200)

    def drop(self) -> None:
        self._ok(self.http.delete(f"/tables/{self.id}", bearer=self.bearer), 204)

    def insert(self, n: int = 0, a: str = "") -> Dict[str, Any]:
        answer = self.http.post(f"/tables/{self.id}/data", json={"n": n, "a": a}, bearer=self.bearer)
        row: Dict[str, Any] = self._ok(answer, 201)
        return row

    def update(self, row_id: str, **values: Any) -> Dict[str, Any]:
        answer = self.http.patch(f"/tables/{self.id}/data/{row_id}", json=values, bearer=self.bearer)
        row: Dict[str, Any] = self._ok(answer, 200)
        return row

    def delete(self, row_id: str) -> None:
        self._ok(self.http.delete(f"/tables/{self.id}/data/{row_id}", bearer=self.bearer), 204)

    def event(self, kind: str, new: Any, old: Any) -> List[Any]:
        """The frame that tells of a change."""
        return [None, None, self.topic, kind, {"event": kind, "table": self.name, "new": new, "old": old}]


def together(*calls: Callable[[], Any]) -> None:
    """Run ``calls`` in threads of their own; the first failure is raised."""
    failures: List[BaseException] = []

    def run(call: Callable[[], Any]) -> None:
        try:
            call()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if failures:
        raise failures[0]
