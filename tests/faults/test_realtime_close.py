"""Closing at the worst moments: whoever is silent, full or stuck, it takes no longer than promised, leaves no thread
and no descriptor behind, and a fresh connection works."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Sequence

import pytest

from selfdb import SelfDB, SelfDBError
from selfdb.core.wsframes import Message
from tests import soak
from tests.core.kit import Background, in_threads
from tests.faults.realtime_kit import BOUND, SLACK, TOPIC, Subscriber, descriptors, our_threads, until
from tests.realtime.clients import client, phoenix
from tests.servers.scripted import Peer
from tests.servers.tcpproxy import TcpProxy
from tests.servers.websockets import accept

__all__ = ["client", "phoenix"]

CLOSE_SECONDS = 2.0

Make = Callable[..., Any]


class Scene:
    """A client in trouble, and how it gets out of it afterwards.

    :ivar stuck: names of threads that may live on, because what they are in cannot be interrupted.
    """

    def __init__(self, db: SelfDB, free: Callable[[], Any] = lambda: None, stuck: str = "") -> None:
        self.db = db
        self.free = free
        self.stuck = stuck
        self.waiting: List[Background] = []


def in_background(scene: Scene, work: Callable[[], Any]) -> Scene:
    scene.waiting.append(Background(work))
    return scene


@pytest.fixture
def scenes(
    phoenix: Make, client: Make, scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Dict[str, Callable[[], Scene]]]:
    proxies: List[TcpProxy] = []

    def connected(**options: Any) -> Subscriber:
        server = phoenix()
        return Subscriber(server, client(server), **options)

    def idle() -> Scene:
        return Scene(connected().db)

    def blocked_callback(behind: int = 0, **options: Any) -> Scene:
        subscriber = connected(**options)
        stands, go = threading.Event(), threading.Event()

        def stand(payload: Any) -> None:
            stands.set()
            go.wait()

        subscriber.channel.on("*", stand)
        subscriber.server.insert(TOPIC, 1)
        until(stands.is_set)
        for number in range(behind):
            subscriber.server.insert(TOPIC, number)
        return Scene(subscriber.db, go.set, "selfdb-dispatch")

    def full_queue() -> Scene:
        scene = blocked_callback(20, overflow="block", max_items=1, block_seconds=8.0)
        until(lambda: bool(scene.db.realtime._held))
        return scene

    def never_answers() -> Scene:
        server = scripted(default=lambda peer: peer.wait_for_close())
        scene = Scene(client(server))
        in_background(scene, lambda: scene.db.realtime.connect(timeout=60))
        server.wait_for(connections=1)
        return scene

    def not_even_accepted() -> Scene:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        taken = []
        for _ in range(4):  # the queue of the listener is full: further packets are dropped
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            taken.append(sock)
        db = SelfDB(f"http://127.0.0.1:{listener.getsockname()[1]}", "key", max_retries=0)
        scene = Scene(db, lambda: [sock.close() for sock in (*taken, listener)])
        in_background(scene, lambda: db.realtime.connect(timeout=60))
        until(lambda: db.realtime._link._run is not None and db.realtime._link._run.opening is not None)
        return scene

    def stalled_tls() -> Scene:
        server = scripted(default=lambda peer: peer.stall())
        db = SelfDB(server.url.replace("http", "https"), "key", max_retries=0)
        scene = in_background(Scene(db), lambda: db.realtime.connect(timeout=60))
        server.wait_for(connections=1)
        return scene

    def peer_that_does_not_read() -> Scene:
        joined = threading.Event()

        def handler(peer: Peer) -> None:
            ws = accept(peer)
            frame = ws.receive_json()
            ws.send_json([frame[0], frame[1], frame[2], "phx_reply", {"status": "ok", "response": {}}])
            joined.set()
            peer.stall()

        server = scripted(default=handler)
        db = client(server)
        db.realtime.connect()
        channel = db.realtime.channel(TOPIC)
        channel.subscribe()
        assert joined.wait(BOUND)
        scene = Scene(db)
        link = db.realtime._link
        while True:  # what the system takes is megabytes, and it takes its time
            in_background(scene, lambda: channel.push("shout", "x" * 900_000, timeout=60))
            last, begun = scene.waiting[-1], link._begun
            threading.Event().wait(0.1)
            if last.ended and link._unsent and 0 < link._begun == begun:
                break
        assert "send queue is full" in str(last.result()), "who cannot be served waited for a time-out"
        return scene

    def hanging_dns() -> Scene:
        asked, go = threading.Event(), threading.Event()
        original = socket.getaddrinfo

        def hang(host: Any, *arguments: Any, **options: Any) -> Any:
            if host != "hangs.test":
                return original(host, *arguments, **options)
            asked.set()
            go.wait()
            raise socket.gaierror(-2, "at last")

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        db = SelfDB("http://hangs.test:9", "key", max_retries=0)
        scene = in_background(Scene(db, go.set, "selfdb-resolve"), lambda: db.realtime.connect(timeout=60))
        assert asked.wait(BOUND)
        return scene

    def server_is_away() -> Scene:
        server = phoenix()
        subscriber = Subscriber(server, client(server))
        server.refuse[:] = [503] * 1000
        server.break_off()
        until(lambda: subscriber.realtime.state == "reconnecting" and len(server.refuse) < 998)
        return Scene(subscriber.db)

    def cable_pulled() -> Scene:
        server = phoenix()
        proxies.append(TcpProxy(server.server.port).start())
        db = SelfDB(proxies[-1].url, "key", max_retries=0)
        db.realtime.connect()
        db.realtime.channel(TOPIC).subscribe()
        proxies[-1].stall(new=True)
        scene = Scene(db)
        in_background(scene, lambda: db.realtime.channel(TOPIC).push("shout", {}, timeout=60))
        in_background(scene, lambda: db.realtime.channel("table:another").subscribe(timeout=60))
        until(lambda: db.realtime.channel("table:another").state == "joining")
        return scene

    made = (idle, blocked_callback, full_queue, never_answers, not_even_accepted, stalled_tls)
    made += (peer_that_does_not_read, hanging_dns, server_is_away, cable_pulled)  # type: ignore[assignment]
    yield {function.__name__: function for function in made}
    for proxy in proxies:
        proxy.stop()


SCENES = (
    "idle",
    "blocked_callback",
    "full_queue",
    "never_answers",
    "not_even_accepted",
    "stalled_tls",
    "peer_that_does_not_read",
    "hanging_dns",
    "server_is_away",
    "cable_pulled",
)


def _from_this_thread(db: SelfDB) -> None:
    db.close()


def _from_twenty_threads(db: SelfDB) -> None:
    assert in_threads(20, db.close) == [None] * 20


def _disconnect_first(db: SelfDB) -> None:
    db.realtime.disconnect()
    db.close()


def _from_a_signal_handler(db: SelfDB) -> None:
    called: List[int] = []

    def handle(number: int, frame: Any) -> None:
        db.close()
        called.append(number)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        signal.raise_signal(signal.SIGUSR1)
        until(lambda: bool(called), CLOSE_SECONDS * SLACK)
    finally:
        signal.signal(signal.SIGUSR1, before)


WAYS = (_from_this_thread, _from_twenty_threads, _disconnect_first, _from_a_signal_handler)


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__[1:] for way in WAYS])
@pytest.mark.parametrize("name", SCENES)
def test_g08_close_takes_no_longer_than_promised(
    name: str, way: Callable[[SelfDB], None], scenes: Dict[str, Callable[[], Scene]], phoenix: Make, client: Make
) -> None:
    threads = our_threads()
    scene = scenes[name]()
    try:
        began = time.monotonic()
        way(scene.db)
        took = time.monotonic() - began
        assert took < CLOSE_SECONDS * SLACK
        for waiting in scene.waiting:  # whoever waited is told so, and does not wait for a time-out
            assert isinstance(waiting.result(), SelfDBError)
        assert scene.db.realtime.state == "disconnected"
        until(lambda: our_threads() - threads <= {scene.stuck})
    finally:
        scene.free()
    until(lambda: not our_threads() - threads)
    soak.figure("G08", f"{name}, {way.__name__[1:]}: closed within {took:.3f} s, no thread left")
    server = phoenix()
    Subscriber(server, client(server)).still_works()


def test_g08_close_from_the_callback_itself(phoenix: Make, client: Make) -> None:
    server = phoenix()
    subscriber = Subscriber(server, client(server))
    took: List[float] = []

    def close(payload: Any) -> None:
        began = time.monotonic()
        subscriber.db.close()
        took.append(time.monotonic() - began)

    subscriber.channel.on("*", close)
    server.insert(TOPIC, 1)
    until(lambda: bool(took))
    assert took[0] < CLOSE_SECONDS * SLACK
    until(lambda: not our_threads())
    assert subscriber.errors == []
    soak.figure("G08", f"from a callback: closed within {took[0]:.3f} s")


def test_g08_a_hundred_lives_leave_no_descriptor(phoenix: Make) -> None:
    """Connect, subscribe and close in every order of haste; the same client and new ones."""
    server = phoenix()
    with SelfDB(server.url, "key", max_retries=0) as kept:
        kept.realtime.connect()  # what the process loads once is loaded
        kept.realtime.disconnect()
        until(lambda: not our_threads())
        before = descriptors()
        for number in range(soak.amount("SELFDB_CLIENT_CLOSES", here=30, long=100)):
            with contextlib.ExitStack() as stack:
                db = stack.enter_context(SelfDB(server.url, "key", max_retries=0)) if number % 2 else kept
                db.realtime.connect()
                if number % 3:
                    db.realtime.channel(TOPIC).subscribe()
                if number % 5 == 0:
                    with contextlib.suppress(AssertionError, OSError):
                        server.break_off()
                db.realtime.disconnect()
        until(lambda: not our_threads())
        until(lambda: all(ws.peer.ended for ws in server.sockets))
        until(lambda: descriptors() <= before)


def test_g08_a_fresh_connection_begins_when_the_old_one_has_ended(
    phoenix: Make, client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = phoenix()
    with TcpProxy(server.server.port) as proxy:
        db = SelfDB(proxy.url, "key", max_retries=0)
        db.realtime.connect()
        busy, go = threading.Event(), threading.Event()
        received = db.realtime.received

        def slowly(messages: Sequence[Message]) -> bool:
            busy.set()
            assert go.wait(BOUND)
            return received(messages)

        monkeypatch.setattr(db.realtime, "received", slowly)
        server.say(TOPIC, "INSERT", {})
        assert busy.wait(BOUND)  # a large message, say, that takes its time
        leaving = Background(db.realtime.disconnect)
        until(lambda: db.realtime.state == "closing")
        coming = Background(lambda: db.realtime.connect(timeout=30))
        until(lambda: db.realtime.state == "connecting")
        threading.Event().wait(0.1)  # time to do it wrong
        assert proxy.opened == 1
        go.set()
        assert (leaving.result(), coming.result()) == (None, None)
        assert db.realtime.connected
        assert (proxy.opened, proxy.most_open) == (2, 1)
        db.close()


def test_g08_a_fresh_connect_waits_for_what_is_on_its_way_out(phoenix: Make) -> None:
    """Threads that connect and disconnect one client as they like: it never has two sockets."""
    server = phoenix()
    with TcpProxy(server.server.port) as proxy, SelfDB(proxy.url, "key", max_retries=0) as db:
        stopping = threading.Event()

        def connects() -> None:
            while not stopping.is_set():
                with contextlib.suppress(SelfDBError):
                    db.realtime.connect(timeout=5)

        def disconnects() -> None:
            while not stopping.wait(0.003):
                db.realtime.disconnect()

        workers = [Background(work) for work in (connects, connects, disconnects, disconnects)]
        until(lambda: proxy.opened >= 60, 60)
        stopping.set()
        assert [worker.result() for worker in workers] == [None] * 4
        db.realtime.connect()
        db.realtime.channel(TOPIC).subscribe()
        assert proxy.open == 1
        assert proxy.most_open == 1, f"{proxy.most_open} sockets of one client at one time"
