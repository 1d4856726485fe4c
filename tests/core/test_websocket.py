"""The link opens, reopens, and notices a dead peer."""

from __future__ import annotations

import logging
import os
import random
import ssl
import threading
import time
from typing import Any, Callable, List

import pytest

from selfdb.core import websocket
from selfdb.core.websocket import RECONNECT_STEPS, Address, After, Link, LinkState
from selfdb.core.wsframes import FrameDecoder
from selfdb.exceptions import APIConnectionError, PermissionDeniedError, RealtimeError, SelfDBError
from tests.conftest import Tls
from tests.core.kit import wait_until
from tests.core.links import SLACK, Naps, Owner, address_of, echo, opened
from tests.servers.scripted import Peer, ScriptedServer, close, half_close, read, reply, reset
from tests.servers.websockets import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebSocket, accept, frame

Scripted = Callable[..., ScriptedServer]
OwnerOf = Callable[..., Owner]


def says(*frames: bytes) -> Callable[[Peer], None]:
    return opened(lambda ws: ws.raw(b"".join(frames)))


# Opening


def test_it_opens_sends_and_receives(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(echo))
    link = owner.open()
    assert link.state is LinkState.CONNECTED
    link.send("héllo")
    link.send(b"\0\xff")
    link.send("")
    wait_until(lambda: len(owner.messages) == 4)
    assert owner.messages == [(TEXT, b"hello"), (TEXT, "héllo".encode()), (BINARY, b"\0\xff"), (TEXT, b"")]
    assert abs((link.last_message_at or 0) - time.time()) < 60
    assert link.close() == 0
    assert link.state is LinkState.DISCONNECTED
    assert owner.states == ["connecting", "connected", "closing", "disconnected"]
    assert owner.losses == []


def test_what_was_sent_before_it_opened_goes_out_first(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(echo))
    link = owner.link()
    link.send("early")
    link.start()
    link.start()
    wait_until(lambda: len(owner.messages) == 2)
    assert owner.messages[1] == (TEXT, b"early")
    assert owner.opens == 1


def test_a_refusal_is_final_if_the_owner_says_so(scripted: Scripted, owner_of: OwnerOf) -> None:
    server = scripted([read(), reply(403)])
    owner = owner_of(server)
    link = owner.started()
    wait_until(lambda: owner.states[-1:] == ["disconnected"])
    assert link.state is LinkState.DISCONNECTED
    assert [type(error) for error in owner.refusals] == [PermissionDeniedError]
    assert owner.states == ["connecting", "disconnected"]
    assert link.close() == 0


def test_after_its_own_end_it_may_start_again(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted([read(), reply(500)], echo))
    link = owner.started()
    wait_until(lambda: link.state is LinkState.DISCONNECTED)
    link.start()
    wait_until(lambda: owner.opens == 1)
    link.close()
    link.close()


def test_an_address_that_fails_is_a_failed_attempt(scripted: Scripted, owner_of: OwnerOf) -> None:
    server = scripted(echo)
    answers: List[Any] = [SelfDBError("the store cannot be read"), address_of(server)]

    def address() -> Address:
        answer = answers.pop(0)
        if isinstance(answer, SelfDBError):
            raise answer
        return answer  # type: ignore[no-any-return]

    owner = owner_of(address, After.AT_ONCE)
    owner.started()
    wait_until(lambda: owner.opens == 1)
    assert [str(error) for error in owner.refusals] == ["the store cannot be read"]


def test_an_owner_without_an_address_ends_it(
    scripted: Scripted, owner_of: OwnerOf, caplog: pytest.LogCaptureFixture
) -> None:
    def address() -> Address:
        raise KeyError("a mistake")

    owner = owner_of(address)
    link = owner.started()
    wait_until(lambda: link.state is LinkState.DISCONNECTED)
    assert "the connection's thread failed" in caplog.text


def test_over_tls(scripted: Scripted, owner_of: OwnerOf, tls: Tls) -> None:
    server = scripted(echo, tls=tls.server)
    owner = owner_of(address_of(server, context=ssl.create_default_context(cafile=tls.ca)))
    link = owner.open()
    big = os.urandom(700_000)
    link.send(big)
    wait_until(lambda: len(owner.messages) == 2)
    assert owner.messages[1] == (BINARY, big)
    began = time.monotonic()
    assert link.close() == 0
    assert time.monotonic() - began < SLACK


# Messages


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 3_000_000])
def test_messages_of_every_size(scripted: Scripted, owner_of: OwnerOf, size: int) -> None:
    owner = owner_of(scripted(echo))
    link = owner.open()
    link.send(b"x" * size)
    wait_until(lambda: len(owner.messages) == 2)
    assert owner.messages[1] == (BINARY, b"x" * size)


def test_fragments_and_pings_in_between(scripted: Scripted, owner_of: OwnerOf) -> None:
    pongs: List[List[bytes]] = []

    def handler(peer: Peer) -> None:
        ws = accept(peer)
        ws.raw(frame(TEXT, b"a", final=False) + frame(PING, b"one") + frame(CONTINUATION, b"b") + frame(PING, b""))
        ws.raw(frame(0xA, b"nobody asked"))
        ws.send(TEXT, b"behind them")
        assert ws.receive() == (TEXT, b"end")
        pongs.append(ws.pongs)
        ws.wait_for_end()

    owner = owner_of(scripted(handler))
    link = owner.open()
    wait_until(lambda: len(owner.messages) == 2)
    assert owner.messages == [(TEXT, b"ab"), (TEXT, b"behind them")]
    link.send("end")
    wait_until(lambda: bool(pongs))
    assert pongs == [[b"one", b""]]


def test_a_message_beyond_the_limit_costs_the_connection(scripted: Scripted, owner_of: OwnerOf) -> None:
    codes: List[Any] = []

    def handler(peer: Peer) -> None:
        ws = accept(peer)
        ws.send(TEXT, b"x" * 1001)
        codes.append(ws.wait_for_end())

    owner = owner_of(scripted(handler, echo))
    owner.open(max_message=1000)
    wait_until(lambda: owner.opens == 2 and bool(codes))
    assert "larger" in str(owner.losses[0])
    assert codes == [1009]


@pytest.mark.parametrize("wire", [frame(TEXT, b"x", masked=True), frame(0x5, b"x"), frame(TEXT, b"x", reserved=0x40)])
def test_a_server_that_breaks_the_rules(scripted: Scripted, owner_of: OwnerOf, wire: bytes) -> None:
    owner = owner_of(scripted(says(wire), echo))
    owner.open()
    wait_until(lambda: owner.opens == 2)
    assert type(owner.losses[0]) is RealtimeError
    assert owner.losses[0].close_code == 1002
    assert "broke the WebSocket protocol" in str(owner.losses[0])


# Losses


@pytest.mark.parametrize("end", [close(), reset(), half_close()], ids=["FIN", "RST", "half closed"])
def test_r04_a_lost_connection_is_noticed_at_once(scripted: Scripted, owner_of: OwnerOf, end: Any) -> None:
    go = threading.Event()
    owner = owner_of(scripted(opened(lambda ws: ws.peer.stall(go), lambda ws: end(ws.peer)), echo))
    owner.open(steps=[0.3])
    began = time.monotonic()
    go.set()
    wait_until(lambda: "reconnecting" in owner.states)
    assert time.monotonic() - began < 1.0 * SLACK
    wait_until(lambda: owner.opens == 2)
    assert len(owner.losses) == 1
    assert isinstance(owner.losses[0], APIConnectionError)
    assert owner.states == ["connecting", "connected", "reconnecting", "connected"]


def test_a_reason_that_echoes_a_secret_is_shown_without_it(
    scripted: Scripted, owner_of: OwnerOf, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    owner = owner_of(scripted(opened(lambda ws: ws.say_close(1008, "no such key: secret-of-the-url")), echo))
    owner.open()
    wait_until(lambda: owner.opens == 2)
    assert str(owner.losses[0]) == "the server closed the connection with code 1008: no such key: ***"
    assert "secret-of-the-url" not in repr(owner.losses[0]) + caplog.text


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1012, None])
def test_c113_a_close_of_the_server_is_answered_and_reopened(scripted: Scripted, owner_of: OwnerOf, code: Any) -> None:
    answered: List[Any] = []

    def handler(peer: Peer) -> None:
        ws = accept(peer)
        if code is None:
            ws.send(CLOSE)
        else:
            ws.say_close(code, "a reason")
        answered.append(ws.wait_for_end())

    owner = owner_of(scripted(handler, echo))
    owner.open()
    wait_until(lambda: owner.opens == 2 and bool(answered))
    error = owner.losses[0]
    assert isinstance(error, RealtimeError)
    assert error.close_code == (code or 1005)
    assert ("a reason" in str(error)) is (code is not None)
    assert answered == [1000]


def test_drop_opens_another_one(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(echo, echo))
    link = owner.open()
    link.drop("no heartbeat was answered")
    wait_until(lambda: owner.opens == 2)
    assert [str(error) for error in owner.losses] == ["no heartbeat was answered"]


def test_c112_the_steps_of_reconnecting(scripted: Scripted, owner_of: OwnerOf) -> None:
    refusing = [read(), reply(503)]
    server = scripted(opened(lambda ws: ws.peer.close()), *[refusing] * 12, echo)
    owner = owner_of(server, After.LATER)
    clock = Naps()
    began: List[int] = []
    owner.address = lambda: (began.append(len(clock.naps)), address_of(server))[1]  # type: ignore[method-assign]
    owner.started(clock=clock, random=lambda: 0.5)
    wait_until(lambda: owner.opens == 2)
    waits = [round(sum(clock.naps[start:end]), 3) for start, end in zip(began, began[1:])]
    # Each attempt resets nothing; only an open connection does.
    expected = [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0]
    assert waits == pytest.approx(expected)


def test_c112_the_steps_begin_anew_after_each_opening_that_brought_something(
    scripted: Scripted, owner_of: OwnerOf
) -> None:
    server = scripted(*[opened(lambda ws: ws.send(TEXT, b"hello"), lambda ws: ws.peer.close())] * 5, echo)
    owner = owner_of(server)
    clock = Naps()
    owner.started(clock=clock)
    wait_until(lambda: owner.opens == 6)
    assert clock.naps == pytest.approx([0.01] * 5)  # the next step would be 0.05


@pytest.mark.parametrize("value, factor", [(0.0, 0.8), (0.5, 1.0), (0.999, 1.1996)])
def test_long_waits_are_spread(scripted: Scripted, owner_of: OwnerOf, value: float, factor: float) -> None:
    server = scripted(opened(lambda ws: ws.peer.close()), echo)
    owner = owner_of(server)
    clock = Naps()
    owner.started(clock=clock, random=lambda: value, steps=[2.0])
    wait_until(lambda: owner.opens == 2)
    assert sum(clock.naps) == pytest.approx(2.0 * factor)


def test_without_a_thread_the_link_is_as_it_was(
    scripted: Scripted, owner_of: OwnerOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    owner = owner_of(scripted(echo))
    link = owner.link()
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="new thread"):
        patch.setattr(threading.Thread, "start", refuse)
        link.start()
    assert owner.states == ["connecting", "disconnected"]
    link.start()
    wait_until(lambda: owner.opens == 1)


@pytest.mark.parametrize("value, factor", [(0.0, 0.5), (1.0, 1.5)])
def test_by_how_much_is_the_owners_to_say(scripted: Scripted, owner_of: OwnerOf, value: float, factor: float) -> None:
    server = scripted(opened(lambda ws: ws.peer.close()), echo)
    owner = owner_of(server)
    clock = Naps()
    owner.started(clock=clock, random=lambda: value, steps=[2.0], jitter=0.5)
    wait_until(lambda: owner.opens == 2)
    assert sum(clock.naps) == pytest.approx(2.0 * factor)


@pytest.mark.parametrize("trusting", [False, True])
def test_a_connection_that_brought_nothing_counts_or_not(scripted: Scripted, owner_of: OwnerOf, trusting: bool) -> None:
    server = scripted(*[opened(lambda ws: ws.peer.close())] * 3, echo)
    owner = owner_of(server)
    clock = Naps()
    owner.started(clock=clock, steps=[0.1, 0.2, 0.3], trusting=trusting)
    wait_until(lambda: owner.opens == 4)
    assert clock.naps == pytest.approx([0.1] * 3 if trusting else [0.1, 0.2, 0.3])


def test_a_ping_is_answered_and_ends_a_silence(scripted: Scripted, owner_of: OwnerOf) -> None:
    pinged = threading.Event()

    def handler(peer: Peer) -> None:
        ws = accept(peer)
        while True:
            opcode, data = ws.receive()
            assert (opcode, data) == (PING, b"")
            pinged.set()
            ws.send(PONG)

    owner = owner_of(scripted(handler))
    link = owner.open()
    since = link.silence
    wait_until(lambda: link.silence > since + 0.02)
    assert link.last_message_at is None
    silent = link.silence
    link.ping()
    assert pinged.wait(60)
    wait_until(lambda: link.last_message_at is not None)
    assert link.silence < silent + 15
    assert owner.messages == []


def test_the_steps_are_those_of_the_official_client() -> None:
    assert RECONNECT_STEPS == (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
    assert Link(Owner(None))._random is random.random


def test_the_owner_is_asked_for_its_times_while_waiting(scripted: Scripted, owner_of: OwnerOf) -> None:
    server = scripted(opened(lambda ws: ws.peer.close()), echo)
    owner = owner_of(server)
    owner.due = 0.25
    clock = Naps()
    owner.started(clock=clock, steps=[0.6])
    wait_until(lambda: owner.opens == 2)
    assert [round(nap, 3) for nap in clock.naps] == [0.25, 0.25, 0.1]


def test_what_was_not_sent_goes_over_the_next_connection(scripted: Scripted, owner_of: OwnerOf) -> None:
    """A frame that was half on its way is sent anew, from its beginning."""
    release = threading.Event()
    got: List[bytes] = []

    def deaf(peer: Peer) -> None:
        accept(peer)
        peer.stall(release)
        peer.reset()

    def keen(peer: Peer) -> None:
        ws = accept(peer)
        while True:
            got.append(ws.receive()[1])

    owner = owner_of(scripted(deaf, keen))
    link = owner.open(max_unsent=100_000_000)
    big = b"x" * 20_000_000  # more than the system takes
    link.send(big)
    wait_until(lambda: link._begun > 0)
    link.send("next")
    release.set()
    wait_until(lambda: len(got) == 2)
    assert got == [big, b"next"]


def test_an_owner_that_forgets_what_was_not_sent(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(opened(lambda ws: ws.peer.stall())))
    link = owner.open(max_unsent=100_000_000)
    link.send(b"x" * 20_000_000)
    wait_until(lambda: link._begun > 0)
    link.send("one")
    link.send("two")
    assert link.discard_unsent() == 2  # the one that is half on its way has to go on
    assert link.discard_unsent() == 0
    assert link.close() == 1


# An owner that fails


@pytest.mark.parametrize("where", ["on_opened", "on_received", "on_tick"])
def test_r14_a_mistake_of_the_owner_costs_the_connection_only(
    scripted: Scripted, owner_of: OwnerOf, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    owner = owner_of(scripted(default=echo))

    def fail(*arguments: Any) -> None:
        setattr(owner, where, lambda *arguments: None)
        raise ZeroDivisionError("a mistake")

    setattr(owner, where, fail)
    owner.started()
    wait_until(lambda: len(owner.losses) == 1 and len(owner.messages) > (where == "on_received"))
    assert isinstance(owner.losses[0], RealtimeError)
    assert "ZeroDivisionError" in str(owner.losses[0])
    assert [record.levelno for record in caplog.records if record.name == "selfdb.websocket"] == [logging.ERROR]


def test_a_mistake_that_is_made_each_time_is_not_made_faster_and_faster(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(default=echo))
    clock = Naps()

    def fail() -> None:
        raise ZeroDivisionError

    owner.on_opened = fail
    owner.started(clock=clock, random=lambda: 0.5)
    wait_until(lambda: len(owner.losses) == 8)
    assert [round(nap, 3) for nap in clock.naps[:7]] == [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5]


# Reading and sending have bounds


def test_reading_pauses_while_the_owner_has_no_room(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(echo))
    owner.reading = False
    link = owner.open()
    ticks = owner.ticks
    wait_until(lambda: owner.ticks > ticks + 3)
    link.send("heartbeats go on")
    assert owner.messages == []
    owner.reading = True
    link.wake()
    wait_until(lambda: len(owner.messages) == 2)


def test_reading_that_went_on_pauses_too(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(echo))

    def enough(data: bytes) -> None:
        owner.reading = False

    owner.on_received = enough
    link = owner.open()
    wait_until(lambda: len(owner.messages) == 1)
    link.send("more")
    ticks = owner.ticks
    wait_until(lambda: owner.ticks > ticks + 3)
    assert len(owner.messages) == 1
    owner.reading = True
    link.wake()
    wait_until(lambda: len(owner.messages) == 2)


@pytest.mark.parametrize("error", [BlockingIOError(), ssl.SSLWantReadError(), ssl.SSLWantWriteError()])
def test_a_socket_that_has_nothing_after_all_is_read_later(error: OSError) -> None:
    class Empty:
        def recv(self, size: int) -> bytes:
            raise error

    link = Link(Owner(None))
    run: Any = None
    assert link._read(run, Empty(), FrameDecoder(10)) is False
    assert link.last_message_at is None


def test_all_that_came_at_once_is_handed_over_at_once(scripted: Scripted, owner_of: OwnerOf) -> None:
    wire = frame(TEXT, b"1") + frame(PING, b"?") + frame(BINARY, b"2") + frame(PONG) + frame(TEXT, b"3")
    goodbye = frame(CLOSE, (1001).to_bytes(2, "big")) + frame(TEXT, b"never")
    owner = owner_of(scripted(says(wire + goodbye), default=echo))
    owner.open()
    wait_until(lambda: len(owner.losses) == 1)
    assert owner.batches[0] == [(TEXT, b"1"), (BINARY, b"2"), (TEXT, b"3")]
    assert "code 1001" in str(owner.losses[0])
    assert (TEXT, b"never") not in owner.messages


def test_what_is_no_message_is_not_handed_over(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(says(frame(PONG) + frame(CLOSE))))
    owner.started(steps=[60])
    wait_until(lambda: len(owner.losses) == 1)
    assert owner.batches == []


@pytest.mark.parametrize("changed, asked", [(True, 51), (False, 1)])
def test_between_messages_the_owner_is_asked_only_if_it_says_so(
    scripted: Scripted, owner_of: OwnerOf, monkeypatch: pytest.MonkeyPatch, changed: bool, asked: int
) -> None:
    monkeypatch.setattr(websocket, "LONGEST_WAIT", 60.0)
    heard = threading.Event()

    def one_by_one(ws: WebSocket) -> None:
        for number in range(50):
            heard.clear()
            ws.send(TEXT, str(number).encode())
            assert heard.wait(30)

    owner = owner_of(scripted(opened(one_by_one)))
    owner.changed = changed
    owner.on_received = lambda data: heard.set()
    owner.open()
    wait_until(lambda: len(owner.messages) == 50)
    wait_until(lambda: owner.ticks >= asked)
    assert owner.ticks in (asked, asked + 1)  # the last look around is perhaps not over yet


def test_the_owner_is_asked_when_it_is_due_though_messages_come(scripted: Scripted, owner_of: OwnerOf) -> None:
    def keeps_talking(ws: WebSocket) -> None:
        while True:
            ws.send(TEXT, b"x")

    owner = owner_of(scripted(opened(keeps_talking)))
    owner.due = 0.01
    owner.open()
    wait_until(lambda: owner.ticks > 5)


def test_a_peer_that_does_not_read_fills_the_queue_up_to_its_bound(scripted: Scripted, owner_of: OwnerOf) -> None:
    owner = owner_of(scripted(opened(lambda ws: ws.peer.stall())))
    link = owner.open(max_unsent=20_100_000)
    link.send(b"x" * 20_000_000)  # more than the system takes
    wait_until(lambda: link._begun > 0)
    for _ in range(9):
        link.send(b"x" * 10_000)
    with pytest.raises(RealtimeError, match="send queue is full"):
        link.send(b"x" * 10_000)
    began = time.monotonic()
    assert link.close() == 10
    assert time.monotonic() - began < 2.0 * SLACK


def test_pongs_to_a_peer_that_does_not_read_are_bounded_too(scripted: Scripted, owner_of: OwnerOf) -> None:
    def pinging(peer: Peer) -> None:
        ws = accept(peer)
        for _ in range(200_000):
            ws.raw(frame(PING, b"x" * 125) * 50)
            if peer.server.stopping.is_set() or full.is_set():
                break
        peer.stall()

    full = threading.Event()
    owner = owner_of(scripted(pinging))
    link = owner.open(max_unsent=2000)
    wait_until(lambda: link._unsent_bytes > 2000 - 131)
    assert link._unsent_bytes <= 2000
    full.set()
    assert link.close() == 0  # pongs are no messages
