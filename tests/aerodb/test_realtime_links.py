"""The connection for events: how it is lost and comes back, who asks, and how it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any, List
from urllib.parse import parse_qsl, quote

import pytest

from selfdb.aerodb import AeroDBClient, RealtimePayload
from selfdb.aerodb.realtime import client as realtime_client
from selfdb.core.clock import Clock
from tests.aerodb.realtime_kit import Heard, Make, eventually, joined
from tests.aerodb.services import EMAIL, KEY, PASSWORD, data, jwt, with_clock
from tests.core.kit import in_forked_child
from tests.servers.aerodb.realtime import AeroRealtime
from tests.servers.aerodb.server import AeroServer
from tests.servers.process import free_port

# Losing the connection


def test_c077_a_lost_connection_comes_back_and_tells_of_the_gap(
    events: AeroRealtime, live: AeroDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    pause = realtime_client.Link._pause

    def pause_when_it_was_seen(self: Any, run: Any, seconds: float) -> None:
        assert looked.wait(15)
        pause(self, run, seconds)

    monkeypatch.setattr(realtime_client.Link, "_pause", pause_when_it_was_seen)
    heard, all_of_it = Heard(), Heard()
    channel = joined(live.channel("posts").on("resync", heard).on("INSERT", heard).on("*", all_of_it))
    joined(live.channel("others"))
    lost_at = time.monotonic()
    events.drop()
    eventually(lambda: channel.state == "reconnecting")
    assert channel.last_error is not None
    assert channel.last_error.code == "NETWORK_ERROR"
    assert live.realtime.connection_state == "reconnecting"
    looked.set()
    assert events.subscribed(4) == ["posts", "others", "posts", "others"]
    assert 0.4 < events.opened_at[1] - lost_at < 7.5
    events.event("posts", new={"id": 1})
    assert [payload.type for payload in heard.wait(2)] == ["resync", "INSERT"]
    assert all_of_it.types == ["INSERT"]
    assert (channel.state, channel.last_error) == ("joined", None)
    channel.unsubscribe()
    events.wait(events.unsubscribed, "all frames before it")
    assert events.subscribed() == ["posts", "others", "posts", "others"]
    assert len(events.requests) == 2


@pytest.mark.parametrize("close_code", [1000, 1001, 1011])
def test_c077_so_does_one_that_the_server_ends(
    events: AeroRealtime, live: AeroDBClient, quick_steps: None, close_code: int
) -> None:
    errors: List[Any] = []
    heard = Heard()
    channel = joined(live.channel("posts").on("INSERT", heard))
    channel.on("resync", lambda payload: errors.append(channel.last_error))
    note = channel._note
    channel._note = lambda error: (note(error), errors.append(channel.last_error))  # type: ignore[method-assign]
    events.live.say_close(close_code)
    assert events.subscribed(2) == ["posts", "posts"]
    events.event("posts", new={"id": 1})
    heard.wait()
    assert (errors[0].code, errors[0].status, errors[-1]) == ("NETWORK_ERROR", None, None)
    assert str(close_code) in errors[0].message
    assert channel.state == "joined"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> List[float]:
    """The seconds before each attempt, which are not waited."""
    asked: List[float] = []
    original = realtime_client.Link._pause

    def pause(self: Any, run: Any, seconds: float) -> None:
        asked.append(seconds)
        original(self, run, 0.0)

    monkeypatch.setattr(realtime_client.Link, "_pause", pause)
    return asked


STEPS = [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_c077_delays_grow_while_nobody_is_there(client_for: Make, pauses: List[float]) -> None:
    channel = client_for(f"http://127.0.0.1:{free_port()}").channel("posts").subscribe()
    eventually(lambda: len(pauses) > len(STEPS))
    for seconds, step in zip(pauses, STEPS):
        assert 0.5 * step <= seconds <= 1.5 * step
    assert channel.state == "connecting"
    assert channel.last_error is not None
    assert channel.last_error.code == "NETWORK_ERROR"


def test_c077_delays_grow_while_it_refuses_and_begin_anew_after_an_open(
    events: AeroRealtime, live: AeroDBClient, pauses: List[float]
) -> None:
    events.refuse = [503, 500, 404, 429, 503, 503, 503]
    live.channel("posts").subscribe()
    events.subscribed()
    for seconds, step in zip(pauses, STEPS):
        assert 0.5 * step <= seconds <= 1.5 * step
    assert len(pauses) == 7
    events.drop()
    events.subscribed(2)
    assert 0.5 <= pauses[7] <= 1.5
    assert len(pauses) == 8


def test_c077_a_server_that_is_silent_begins_anew_too(
    events: AeroRealtime, live: AeroDBClient, quick_steps: None
) -> None:
    events.acknowledges = False
    heard = Heard()
    live.channel("posts").on("resync", heard).subscribe()
    for count in range(1, 4):
        events.subscribed(count)
        events.drop()
    events.subscribed(4)
    heard.wait()  # nobody has said that it stands again: it is taken to


def test_c077_a_resync_comes_before_the_next_event_of_a_silent_server(
    events: AeroRealtime, live: AeroDBClient, quick_steps: None
) -> None:
    events.acknowledges = False
    heard = Heard()
    live.channel("posts").on("resync", heard).on("*", heard).subscribe()
    events.subscribed()
    events.drop()
    events.subscribed(2)
    events.event("posts")
    heard.wait(2)
    assert heard.types == ["resync", "INSERT"]


class Ahead(Clock):
    """Goes as ever, and is moved ahead by hand."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def test_c077_a_connection_that_is_silent_for_too_long_is_given_up(
    events: AeroRealtime, live: AeroDBClient, quick_steps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime_client, "PING_SECONDS", 0.01)
    monkeypatch.setattr(realtime_client, "SILENT_SECONDS", 20.0)
    clock = Ahead()
    live = with_clock(live, clock)
    joined(live.channel("posts"))
    assert live.realtime._connection is not None
    link = live.realtime._connection.link
    while events.pings < 45:  # which are answered for much longer than the silence that is allowed
        eventually(lambda: link.silence < 5)
        clock.ahead += 10
    eventually(lambda: link.silence < 5)
    assert len(events.sockets) == 1
    assert clock.ahead > 40
    events.deaf = True

    def given_up() -> bool:
        if link.silence < 20:  # it was deaf, but an answer was still under way
            clock.ahead += 30
        return len(events.sockets) >= 2

    events.wait(given_up, "another connection")
    events.subscribed(2)
    assert len(events.sockets) >= 2


# Leaving


def test_c078_unsubscribing_is_told_and_forgets_everything(events: AeroRealtime, live: AeroDBClient) -> None:
    heard, other = Heard(), Heard()
    channel = joined(live.channel("posts").on("*", heard))
    joined(live.channel("others").on("*", other))
    assert live.channel("posts") is channel
    channel.unsubscribe()
    assert (channel.state, channel.subscribed, channel.acknowledged) == ("closed", False, False)
    events.wait(lambda: events.texts[-1] == '{"type":"unsubscribe","channel":"posts"}', "the frame")
    events.event("posts")
    events.event("others")
    other.wait()
    assert heard.types == []
    assert live.channel("posts") is not channel
    assert live.realtime.connection_state == "connected"
    live.channel("others").unsubscribe()
    assert live.realtime.connection_state == "disconnected"
    eventually(lambda: events.sockets[0].closed_with == 1000)
    assert events.unsubscribed() == ["posts", "others"]


def test_c078_a_channel_that_was_left_may_be_joined_again(events: AeroRealtime, live: AeroDBClient) -> None:
    channel = joined(live.channel("posts"))
    channel.unsubscribe()
    heard = Heard()
    joined(live.channel("posts").on("*", heard))
    assert channel.subscribe(timeout=5).state == "errored"  # another object stands for it now
    events.event("posts")
    heard.wait()
    assert events.subscribed(2) == ["posts", "posts"]


def test_c078_an_old_object_without_a_successor_goes_on(events: AeroRealtime, live: AeroDBClient) -> None:
    channel = joined(live.channel("posts"))
    channel.unsubscribe()
    channel.unsubscribe()
    assert joined(channel) is live.channel("posts")


def test_c078_callbacks_may_subscribe_and_unsubscribe(events: AeroRealtime, live: AeroDBClient) -> None:
    heard, done = Heard(), threading.Event()

    def handler(payload: RealtimePayload) -> None:
        joined(live.channel("others").on("*", heard))
        live.channel("posts").unsubscribe()
        done.set()

    joined(live.channel("posts").on("INSERT", handler))
    events.event("posts")
    assert done.wait(15)
    events.event("others")
    heard.wait()


def test_c078_disconnecting_keeps_the_callbacks(events: AeroRealtime, live: AeroDBClient) -> None:
    heard = Heard()
    channel = joined(live.channel("posts").on("*", heard))
    live.realtime.disconnect()
    assert (channel.state, live.realtime.connection_state) == ("closed", "disconnected")
    assert live.channel("posts") is channel
    joined(channel)
    events.event("posts")
    heard.wait()
    assert heard.types == ["INSERT"]


# Who asks


def query_of(target: str) -> List[Any]:
    return parse_qsl(target.partition("?")[2])


def test_c079_a_new_session_goes_along_when_it_reconnects(
    aero: AeroServer, events: AeroRealtime, client_for: Make, quick_steps: None
) -> None:
    client = client_for(aero, realtime_url=events.url, key="key with / & ü"[:12].replace(" ", "+"))
    joined(client.channel("posts"))
    assert query_of(events.requests[0].target) == [("apikey", "key+with+/+&")]
    assert "token" not in events.requests[0].target
    token = data(client.auth.sign_in(EMAIL, PASSWORD)).session.access_token
    events.subscribed(2)  # somebody else is signed in: connected anew
    assert query_of(events.requests[1].target) == [("apikey", "key+with+/+&"), ("token", token)]
    fresh = data(client.auth.refresh_session()).access_token
    assert len(events.requests) == 2  # the same user
    events.drop()
    events.subscribed(3)
    assert query_of(events.requests[2].target)[1] == ("token", fresh)
    client.auth.sign_out()
    events.subscribed(4)
    assert query_of(events.requests[3].target) == [("apikey", "key+with+/+&")]


@pytest.mark.parametrize("key", ["a/b+c=d&e", "50%", "k#?"])
def test_c079_key_and_token_are_encoded(events: AeroRealtime, client_for: Make, key: str) -> None:
    client = client_for(events, key=key)
    data(client.auth.set_session("to/k+e=n&%", "refresh"))
    joined(client.channel("posts"))
    assert events.requests[0].target == f"/realtime?apikey={quote(key, safe='')}&token=to%2Fk%2Be%3Dn%26%25"


def test_c079_without_either_there_is_no_query(events: AeroRealtime, client_for: Make) -> None:
    joined(client_for(events, key=None, headers={"X-App": "tests"}).channel("posts"))
    assert events.requests[0].target == "/realtime"
    assert events.requests[0].header("X-App") == "tests"


@pytest.mark.parametrize("status", [401, 403])
def test_c079_a_token_that_is_refused_is_renewed_once(
    aero: AeroServer, events: AeroRealtime, client_for: Make, quick_steps: None, status: int
) -> None:
    client = client_for(aero, realtime_url=events.url)
    old = data(client.auth.sign_in(EMAIL, PASSWORD)).session.access_token
    events.refuse = [status, status, status]
    joined_or_errored = client.channel("posts").subscribe()
    events.subscribed()
    tokens = [dict(query_of(request.target))["token"] for request in events.requests]
    assert tokens == [old, *[client.auth.get_token()] * 3]
    assert aero.lines.count("POST /auth/refresh") == 1
    eventually(lambda: joined_or_errored.state == "joined")


def test_c079_one_that_cannot_be_renewed_is_tried_on(
    aero: AeroServer, events: AeroRealtime, client_for: Make, quick_steps: None
) -> None:
    client = client_for(aero, realtime_url=events.url)
    data(client.auth.sign_in(EMAIL, PASSWORD))
    aero.auth.instead["/auth/refresh"] = [(503, {}, {"error": "later"})]
    events.refuse = [401]
    client.channel("posts").subscribe()
    events.subscribed()


def test_c079_a_refused_handshake_shows(events: AeroRealtime, live: AeroDBClient) -> None:
    events.refuse = [404] * 50
    channel = live.channel("posts").subscribe(timeout=15)
    assert channel.state == "errored"
    assert channel.last_error is not None
    assert channel.last_error.status == 404


def test_c079_a_stranger_with_the_same_name_in_his_token_is_the_same(events: AeroRealtime, live: AeroDBClient) -> None:
    data(live.auth.set_session(jwt("ann", 1), "r"))
    joined(live.channel("posts"))
    data(live.auth.set_session(jwt("ann", 2), "r"))
    joined(live.channel("posts"))
    assert len(events.requests) == 1


# The end


@pytest.mark.parametrize("state", ["connected", "reconnecting", "never connected"])
def test_c080_close_ends_the_threads_in_time(events: AeroRealtime, client_for: Make, state: str) -> None:
    url = f"http://127.0.0.1:{free_port()}" if state == "never connected" else events.url
    client = client_for(url)
    channel = client.channel("posts").subscribe(timeout=0.1 if state == "never connected" else 15)
    if state == "reconnecting":
        events.refuse = [503] * 1000
        events.drop()
        events.wait(lambda: len(events.requests) >= 2, "an attempt")
        eventually(lambda: client.realtime.connection_state == "reconnecting")
        assert channel.subscribed
    begun = time.monotonic()
    client.close()
    assert time.monotonic() - begun < 10
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "selfdb-link"])
    assert (channel.state, client.realtime.connection_state) == ("closed", "disconnected")


def test_c080_closing_the_pool_alone_ends_it_too(events: AeroRealtime, live: AeroDBClient) -> None:
    joined(live.channel("posts"))
    live._calls.transport.pool.close()
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "selfdb-link"])


def test_c080_it_exits_while_it_reconnects_too(events: AeroRealtime) -> None:
    program = (
        "import time\n"
        "from selfdb.aerodb import AeroDBClient\n"
        f"client = AeroDBClient({events.url!r})\n"
        "channel = client.channel('posts').subscribe(timeout=15)\n"
        "print(channel.state, flush=True)\n"
        "while client.realtime.connection_state != 'reconnecting': time.sleep(0.01)\n"
        "print(channel.subscribed)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"joined\n"
            events.refuse = [503] * 1000
            events.drop()
            out, err = child.communicate(timeout=60)
        finally:
            child.kill()
    assert (out, err, child.returncode) == (b"True\n", b"", 0)


@pytest.mark.parametrize("reachable", [True, False])
def test_c080_the_interpreter_exits_without_hanging(events: AeroRealtime, reachable: bool) -> None:
    url = events.url if reachable else f"http://127.0.0.1:{free_port()}"
    program = (
        "from selfdb.aerodb import AeroDBClient\n"
        f"client = AeroDBClient('http://127.0.0.1:9', {KEY!r}, realtime_url={url!r})\n"
        "client.health.start(1)\n"
        f"print(client.channel('posts').subscribe(timeout={15 if reachable else 0.2}).state)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ("joined" if reachable else "connecting")
    assert done.stderr == ""


def test_where_no_thread_can_be_started_it_shows(
    events: AeroRealtime, live: AeroDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        channel = live.channel("posts").subscribe(timeout=5)
    assert channel.state == "errored"
    assert channel.last_error is not None
    assert channel.last_error.code == "CLIENT_ERROR"
    joined(channel)


# What is dropped


def test_events_that_are_dropped_are_told(events: AeroRealtime, live: AeroDBClient, caplog: Any) -> None:
    live._dispatcher.full = live._dispatcher.full._replace(max_items=5)
    free, heard = threading.Event(), Heard()

    def slow(payload: RealtimePayload) -> None:
        heard(payload)
        assert free.wait(15)

    joined(live.channel("posts").on("INSERT", slow).on("resync", heard))
    events.event("posts")
    heard.wait()
    for number in range(50):
        events.event("posts", new={"id": number})
    eventually(lambda: live._dispatcher._droppable == 5)
    free.set()
    eventually(lambda: "resync" in heard.types)
    assert heard.types.count("resync") >= 1
    assert "were dropped" in caplog.text


def test_a_forked_child_starts_disconnected(events: AeroRealtime, live: AeroDBClient) -> None:
    channel = joined(live.channel("posts"))

    def look() -> bytes:
        before = (channel.state, channel.subscribed, live.realtime.connection_state)
        channel.subscribe(timeout=10)
        return f"{before} {channel.state}".encode()

    assert in_forked_child(look) == b"('closed', False, 'disconnected') joined"
    heard = Heard()
    channel.on("*", heard)
    events.sockets[0].send(0x1, b'{"type":"event","channel":"posts","payload":{"type":"INSERT"}}')
    heard.wait()
