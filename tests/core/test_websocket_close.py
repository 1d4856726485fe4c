"""The link closes in time whatever the peer does, and survives forks, signals and the end of the interpreter."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest

from selfdb.core.websocket import Address, After, Link, LinkState, _Run
from selfdb.core.wsopen import Opening
from selfdb.exceptions import APITimeoutError
from tests.conftest import Tls
from tests.core.kit import Background, in_forked_child, in_threads, wait_until
from tests.core.links import SLACK, Naps, Owner, address_of, echo, opened, quiet
from tests.servers.scripted import Peer, ScriptedServer, read, reply, stall
from tests.servers.websockets import TEXT, accept

LONG = 60.0
"""Seconds that what is done a hundred times may take."""

Scripted = Callable[..., ScriptedServer]
OwnerOf = Callable[..., Owner]


@pytest.mark.parametrize("handler", [quiet, echo, opened(lambda ws: ws.peer.stall())], ids=["quiet", "echo", "deaf"])
def test_r16_close_returns_in_time(scripted: Scripted, owner_of: OwnerOf, handler: Any) -> None:
    owner = owner_of(scripted(handler))
    link = owner.open()
    began = time.monotonic()
    link.close()
    assert time.monotonic() - began < 2.0 * SLACK
    wait_until(lambda: not (link._thread and link._thread.is_alive()))


def test_close_says_goodbye_after_what_waits(scripted: Scripted, owner_of: OwnerOf) -> None:
    seen: List[Any] = []

    def handler(peer: Peer) -> None:
        ws = accept(peer)
        try:
            while True:
                seen.append(ws.receive()[1])
        finally:
            seen.append(ws.closed_with)

    owner = owner_of(scripted(handler))
    link = owner.open()
    for number in range(100):
        link.send(str(number))
    assert link.close() == 0
    wait_until(lambda: len(seen) == 101)
    assert seen == [*(str(number).encode() for number in range(100)), 1000]


@pytest.mark.parametrize(
    "script", [stall(), [read(), stall()]], ids=["before the request was read", "while it waits for the answer"]
)
def test_r16_close_while_it_connects(scripted: Scripted, owner_of: OwnerOf, script: Any) -> None:
    server = scripted(script)
    owner = owner_of(server)
    link = owner.started(connect_timeout=60.0)
    server.wait_for(connections=1)
    wait_until(lambda: link._run is not None and link._run.opening is not None)
    began = time.monotonic()
    assert link.close() == 0
    assert time.monotonic() - began < 2.0 * SLACK
    assert owner.refusals == []
    wait_until(lambda: not (link._thread and link._thread.is_alive()))


def test_close_while_it_waits_to_reconnect(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted([read(), reply(503)]), After.LATER)
    link = owner.started(steps=[3600.0])
    wait_until(lambda: bool(owner.refusals))
    began = time.monotonic()
    link.close()
    assert time.monotonic() - began < 2.0 * SLACK


def test_close_while_the_owner_looks_for_the_address(scripted: Scripted, owner_of: OwnerOf) -> None:
    server = scripted()
    asked, go = threading.Event(), threading.Event()

    def address() -> Address:
        asked.set()
        assert go.wait(60)
        return address_of(server)

    owner = owner_of(address)
    link = owner.started()
    assert asked.wait(60)
    assert link.close(0.05) == 0
    assert link.state is LinkState.DISCONNECTED
    go.set()
    wait_until(lambda: not (link._thread and link._thread.is_alive()))
    assert server.connections == 0


def test_close_leaves_a_stuck_owner_behind(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(echo, echo))
    go, stuck = threading.Event(), threading.Event()

    def hang(data: bytes) -> None:
        stuck.set()
        assert go.wait(60)

    owner.on_received = hang
    link = owner.open()
    assert stuck.wait(60)
    link.send("never")
    assert link.close(0.05) == 1
    owner.on_received = lambda data: None
    link.start()
    wait_until(lambda: owner.opens == 2)
    go.set()
    wait_until(lambda: len([t for t in threading.enumerate() if t.name == "selfdb-link"]) == 1)
    assert link.state is LinkState.CONNECTED  # what the old thread says does not count


def test_r20_close_from_its_own_thread(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(echo))
    link = owner.link()
    closed: List[int] = []
    owner.on_received = lambda data: closed.append(link.close())
    link.start()
    wait_until(lambda: bool(closed) and link.state is LinkState.DISCONNECTED)
    assert owner.messages == [(TEXT, b"hello")]
    wait_until(lambda: not (link._thread and link._thread.is_alive()))
    assert owner.states == ["connecting", "connected", "closing", "disconnected"]


def test_close_from_many_threads_at_once(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(quiet))
    link = owner.open()
    assert in_threads(8, link.close) == [0] * 8
    assert owner.states == ["connecting", "connected", "closing", "disconnected"]


def test_r20_close_in_a_signal_handler_while_sending(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(quiet))
    link = owner.open()
    closed: List[float] = []

    def on_alarm(number: int, stack: Any) -> None:
        began = time.monotonic()
        link.close()
        closed.append(time.monotonic() - began)

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        while not closed:
            link.send("x" * 100)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert closed[0] < 2.0 * SLACK


def test_a_closed_link_starts_again(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(default=echo))
    link = owner.link()
    for count in (1, 2, 3):
        link.start()
        wait_until(lambda count=count: len(owner.messages) == count)  # type: ignore[misc]
        assert link.close() == 0
    assert owner.states == ["connecting", "connected", "closing", "disconnected"] * 3


def test_without_a_run_nothing_happens() -> None:
    link = Link(Owner(None))
    link.wake()
    link.drop("nothing")
    link.stop()
    assert link.close() == 0
    assert link.state is LinkState.DISCONNECTED


def test_a_waker_that_is_full_wakes_all_the_same(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(echo))
    stuck, go = threading.Event(), threading.Event()

    def hang(data: bytes) -> None:
        stuck.set()
        assert go.wait(60)

    owner.on_received = hang
    link = owner.open()
    assert stuck.wait(60)
    for _ in range(5_000):
        link.wake()
    owner.on_received = lambda data: None
    go.set()
    link.send("after")
    wait_until(lambda: len(owner.messages) == 2)


def test_r03_a_hundred_drops_make_a_hundred_connections(scripted: Scripted, owner_of: OwnerOf) -> None:
    ended = [threading.Event() for _ in range(101)]

    def handler(peer: Peer) -> None:
        ws = accept(peer)
        if peer.number:
            assert ended[peer.number - 1].wait(LONG), "the one before it is still open"
        if peer.number < 100:
            ws.say_close(1012)
        ws.wait_for_end()
        ended[peer.number].set()

    server = scripted(default=handler)
    owner = owner_of(server)
    owner.started(clock=Naps())
    wait_until(lambda: owner.opens == 101, LONG)
    assert server.connections == 101
    assert len(owner.losses) == 100


def test_a_server_that_accepts_and_drops_is_called_ever_more_seldom(scripted: Scripted, owner_of: OwnerOf) -> None:
    steps = [0.1, 0.3, 0.9]

    def handler(peer: Peer) -> None:
        ws = accept(peer)
        if peer.number == 5:
            ws.send(TEXT, b"a message")  # which shows that it works again
        ws.say_close(1012)
        ws.wait_for_end()

    server = scripted(default=handler)
    owner = owner_of(server)
    naps = Naps()
    owner.started(clock=naps, steps=steps)
    wait_until(lambda: len(naps.naps) >= 7)
    assert naps.naps[:7] == pytest.approx([*steps, 0.9, 0.9, 0.1, 0.3])


# Processes


@pytest.mark.parametrize("secure", [False, True])
def test_r65_a_forked_child_has_no_link_and_the_parent_goes_on(
    scripted: Scripted, owner_of: OwnerOf, tls: Tls, secure: bool
) -> None:
    server = scripted(echo, echo, tls=tls.server if secure else None)
    owner = owner_of(address_of(server, context=ssl.create_default_context(cafile=tls.ca)))
    link = owner.open()
    wait_until(lambda: len(owner.messages) == 1)

    def child() -> bytes:
        state = link.state.value
        assert link.close() == 0
        owner.messages.clear()
        link.start()
        wait_until(lambda: len(owner.messages) == 1)
        link.close()
        return state.encode()

    assert in_forked_child(child) == b"disconnected"
    assert link.state is LinkState.CONNECTED
    link.send("of the parent")
    wait_until(lambda: len(owner.messages) == 2)
    assert owner.messages[1] == (TEXT, b"of the parent")
    assert owner.losses == []


def test_a_fork_while_it_connects(scripted: Scripted, owner_of: OwnerOf) -> None:
    go = threading.Event()

    def slow(peer: Peer) -> None:
        peer.stall(go)
        echo(peer)

    server = scripted(slow)
    owner = owner_of(server)
    link = owner.started()
    wait_until(lambda: link._run is not None and link._run.opening is not None and link._run.opening._sock is not None)
    assert in_forked_child(lambda: link.state.value.encode()) == b"disconnected"
    go.set()
    wait_until(lambda: len(owner.messages) == 1)


EXIT = """
import sys, threading
from selfdb.core.websocket import Link
from tests.core.links import Owner
from selfdb.core.websocket import Address
owner = Owner(Address(sys.argv[1], "http://127.0.0.1"))
opened = threading.Event()
owner.on_opened = opened.set
link = owner.link()
link.start()
assert opened.wait(60)
print("open", flush=True)
"""


def test_c119_an_open_link_does_not_hold_up_the_exit(scripted: Scripted) -> None:
    gone: List[float] = []

    def handler(peer: Peer) -> None:
        accept(peer).wait_for_end()
        gone.append(time.monotonic())

    server = scripted(handler)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", EXIT, server.url.replace("http", "ws", 1)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"open\n"
        began = time.monotonic()
        assert process.wait(30) == 0, process.stderr.read()
        assert time.monotonic() - began < 1.0 * SLACK
        assert process.stderr.read() == b""
    wait_until(lambda: bool(gone))


def test_a_handshake_that_takes_too_long(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(stall()))
    running = Background(lambda: owner.started(connect_timeout=0.1))
    running.result()
    wait_until(lambda: bool(owner.refusals))
    assert type(owner.refusals[0]) is APITimeoutError


def test_a_closed_link_that_somebody_else_closes_first(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(quiet))
    link = owner.open()
    run = link._run
    assert run is not None

    class Overtaken(threading.Event):
        def wait(self, timeout: Any = None) -> bool:
            run.ended = inner  # type: ignore[union-attr]
            link.close()
            return True

    inner, run.ended = run.ended, Overtaken()
    wait_until(lambda: link.close() == 0)
    assert owner.states == ["connecting", "connected", "closing", "disconnected"]


def test_nobody_has_to_listen_to_the_states(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(echo))
    link = Link(owner)
    link.start()
    wait_until(lambda: len(owner.messages) == 1)
    link.close()


def test_stopped_in_the_moment_of_opening_it_does_not_open(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(quiet))
    link = Link(owner, on_state=lambda state: link.stop() if state is LinkState.CONNECTED else None)
    link.start()
    wait_until(lambda: link.state is LinkState.DISCONNECTED)
    assert owner.opens == 0
    assert link.close() == 0


def test_a_connection_that_breaks_while_sending(scripted: Scripted, owner_of: OwnerOf) -> None:
    go = threading.Event()
    owner = owner_of(scripted(opened(lambda ws: ws.peer.stall(go), lambda ws: ws.peer.reset()), echo))
    owner.reading = False  # so that it is not the reading that notices
    link = owner.open()
    go.set()

    def sent() -> bool:
        link.send("x")
        return bool(owner.losses)

    wait_until(sent)
    assert "broke" in str(owner.losses[0])
    owner.reading = True
    link.wake()
    wait_until(lambda: owner.opens == 2)


def test_a_frame_that_is_forgotten_while_it_is_sent() -> None:
    link = Link(Owner(None))
    link.send("one")

    class Socket:
        def send(self, data: Any) -> int:
            assert link.discard_unsent() == 1
            return len(data)

    assert link._write(Socket()) is False
    assert link.close() == 0


def test_what_a_child_lets_go_of(scripted: Scripted, owner_of: OwnerOf) -> None:
    """What a fork calls in the child, on a run that no thread of this process serves."""
    link = Link(Owner(None))
    link._run = run = _Run()
    run.sock, other = socket.socketpair()
    run.opening = Opening(Address("ws://127.0.0.1/", "http://127.0.0.1"), 1.0)
    run.opening._sock = waiting = socket.socket()
    link.send("of the parent")
    link._renew_in_child()
    assert link.state is LinkState.DISCONNECTED
    assert [sock.fileno() for sock in (run.sock, run.waking, run._waker, waiting)] == [-1] * 4
    assert link.discard_unsent() == 0
    other.close()


def test_stopped_while_the_handshake_ends(
    scripted: Scripted, owner_of: OwnerOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Opening.run

    def stopping(self: Opening) -> Any:
        sock = run(self)
        link.stop()
        return sock

    monkeypatch.setattr(Opening, "run", stopping)
    owner = owner_of(scripted(quiet))
    link = owner.link()
    link.start()  # whose thread may be faster than this one
    wait_until(lambda: owner.states[-1:] == ["disconnected"])
    assert link.state is LinkState.DISCONNECTED
    assert owner.states == ["connecting", "closing", "disconnected"]
    assert owner.opens == 0


def test_a_run_that_opened_nothing_yet_has_nothing_to_let_go_of() -> None:
    run = _Run()
    run.let_go()
    assert run.waking.fileno() == -1
    assert run.sock is None
