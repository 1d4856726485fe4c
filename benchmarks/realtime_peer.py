"""One realtime client under measurement, in a process of its own: ``python realtime_peer.py NAME PORT TOPIC``.

Reads lines of "rate COUNT WINDOWS" and "latency COUNT RATE" and answers each with a line of JSON. Every event comes
to a callback, or out of a loop that decodes it, as the row that was inserted; one that is missing ends the process.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from typing import Any, Callable, Dict, List

KEY = "bench-key-0123456789"
TOKEN = "bench-token"
SECONDS = 60.0
"""Within which all events of a window have come, or some were lost."""

Row = Dict[str, Any]
Take = Callable[[Row], None]


class Control:
    """Has events sent."""

    def __init__(self, port: int, topic: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._topic = topic

    def send(self, count: int, rate: float = 0.0) -> None:
        """Returns at once."""
        self._sock.sendall(f"{self._topic} {count} {rate}\n".encode())


class Blocking:
    """`selfdb.Realtime`: a callback on the dispatcher's thread, behind its bounded queue."""

    def __init__(self, port: int, topic: str) -> None:
        from selfdb import SelfDB

        self._db: Any = SelfDB(f"http://127.0.0.1:{port}", KEY)
        self._db.access_token = TOKEN
        self._db.realtime.on_error(self._failed)
        self._db.realtime.connect()
        self._take: Take = print
        self._db.realtime.channel(topic).on("INSERT", self._came).subscribe()
        self._all = threading.Event()
        self._left = 0

    def _failed(self, error: BaseException) -> None:
        print(f"selfdb: {error}", file=sys.stderr, flush=True)

    def _came(self, payload: Any) -> None:
        self._take(payload.new)
        self._left -= 1
        if not self._left:
            self._all.set()

    def deliver(self, send: Callable[[], None], count: int, take: Take) -> None:
        self._take, self._left = take, count
        self._all.clear()
        send()
        if not self._all.wait(SECONDS):
            raise SystemExit(f"{self._left} events were lost")

    def close(self) -> None:
        self._db.close()


class Published:
    """The published SDK: a callback on the event loop."""

    def __init__(self, port: int, topic: str) -> None:
        import asyncio

        from selfdb import SelfDB  # its own environment has the published one

        self._asyncio = asyncio
        self._loop = asyncio.new_event_loop()
        self._all = asyncio.Event()
        self._take: Take = print
        self._left = 0
        self._client: Any = SelfDB(base_url=f"http://127.0.0.1:{port}", api_key=KEY)
        self._loop.run_until_complete(self._connect(topic))

    async def _connect(self, topic: str) -> None:
        self._client._http.access_token = TOKEN  # there is no other way to it but a login
        await self._client.realtime.connect()
        await self._client.realtime.channel(topic).on("INSERT", self._came).subscribe()

    def _came(self, payload: Any) -> None:
        self._take(payload.new)
        self._left -= 1
        if not self._left:
            self._all.set()

    def deliver(self, send: Callable[[], None], count: int, take: Take) -> None:
        self._take, self._left = take, count
        self._all.clear()
        send()
        self._loop.run_until_complete(self._asyncio.wait_for(self._all.wait(), SECONDS))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())


def _join(topic: str) -> str:
    return json.dumps(["1", "1", topic, "phx_join", {}])


def _url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/realtime/socket/websocket?vsn=2.0.0&X-API-Key={KEY}&token={TOKEN}"


class Received:
    """A loop over messages."""

    receive: Callable[[], Any]
    close: Callable[[], Any]

    def deliver(self, send: Callable[[], None], count: int, take: Take) -> None:
        send()
        receive, decode = self.receive, json.loads
        for _ in range(count):
            take(decode(receive())[4]["new"])


class Websockets(Received):
    """``websockets``, the blocking client."""

    def __init__(self, port: int, topic: str) -> None:
        from websockets.sync.client import connect

        opening = contextlib.ExitStack()
        opened = opening.enter_context(connect(_url(port)))
        opened.send(_join(topic))
        opened.recv()
        self.receive, self.close = opened.recv, opening.close


class WebsocketClient(Received):
    """``websocket-client``."""

    def __init__(self, port: int, topic: str) -> None:
        import websocket

        opened = websocket.create_connection(_url(port))
        opened.send(_join(topic))
        opened.recv()
        self.receive, self.close = opened.recv, opened.close


class Raw:
    """The limit: a plain socket, and frames that are known to be whole texts of 126 to 65535 bytes."""

    def __init__(self, port: int, topic: str) -> None:
        import websocket

        opened = websocket.create_connection(_url(port))
        opened.send(_join(topic))
        opened.recv()
        assert opened.sock is not None
        self.close, self._sock = opened.close, opened.sock

    def deliver(self, send: Callable[[], None], count: int, take: Take) -> None:
        send()
        decode, receive, data, left = json.loads, self._sock.recv, b"", count
        while left:
            data += receive(65536)
            at = 0
            while len(data) - at >= 4:
                end = at + 4 + (data[at + 2] << 8 | data[at + 3])
                if end > len(data):
                    break
                take(decode(data[at + 4 : end])[4]["new"])
                at = end
                left -= 1
            data = data[at:]


PEERS: Dict[str, Any] = {
    "selfdb": Blocking,
    "sdk-0.0.5": Published,
    "websockets": Websockets,
    "websocket-client": WebsocketClient,
    "raw socket": Raw,
}


def rate(client: Any, control: Control, count: int, windows: int) -> Dict[str, float]:
    """``windows`` times ``count`` events, as fast as they are taken."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(windows):
        client.deliver(lambda: control.send(count), count, lambda row: None)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"rate": count * windows / wall, "cpu": cpu / (count * windows)}


def latency(client: Any, control: Control, count: int, per_second: float) -> Dict[str, float]:
    """Seconds from the sending of an event to its callback."""
    late: List[int] = []
    cpu = time.process_time()
    client.deliver(
        lambda: control.send(count, per_second),
        count,
        lambda row: late.append(time.monotonic_ns() - int(row["sent"])),
    )
    cpu = time.process_time() - cpu
    late.sort()
    return {"p50": late[count // 2] / 1e9, "p99": late[int(count * 0.99)] / 1e9, "cpu": cpu / count}


def main(name: str, port: str, topic: str) -> None:
    """Serve measurements until standard input ends."""
    client, control = PEERS[name](int(port), topic), Control(int(port), topic)
    rate(client, control, 1000, 2)
    print("ready", flush=True)
    for line in sys.stdin:
        question, count, argument = line.split()
        if question == "rate":
            figures = rate(client, control, int(count), int(argument))
        else:
            figures = latency(client, control, int(count), float(argument))
        print(json.dumps(figures), flush=True)
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:4])
