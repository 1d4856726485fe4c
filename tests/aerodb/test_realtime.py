"""Events: what is sent and understood, and who is called."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Callable, List

import pytest

from selfdb.aerodb import AeroDBClient, RealtimePayload
from tests.aerodb.realtime_kit import Heard, Make, eventually, joined
from tests.aerodb.services import data
from tests.servers.aerodb.realtime import AeroRealtime


def test_c072_the_frame_of_a_subscription_is_exact_and_sent_once(events: AeroRealtime, live: AeroDBClient) -> None:
    channel = live.channel("posts")
    assert (channel.name, channel.state, channel.subscribed) == ("posts", "closed", False)
    assert live.realtime.connection_state == "disconnected"
    joined(channel)
    assert channel.subscribe() is channel
    joined(channel)
    joined(live.channel("others"))
    assert events.texts == ['{"type":"subscribe","channel":"posts"}', '{"type":"subscribe","channel":"others"}']
    assert live.realtime.connection_state == "connected"
    assert len(events.requests) == 1


def test_c072_without_a_time_it_returns_at_once(events: AeroRealtime, live: AeroDBClient) -> None:
    events.refuse = [503] * 3
    channel = live.channel("posts").subscribe()
    assert channel.subscribed
    assert channel.state in ("connecting", "errored")


def test_c072_a_server_that_acknowledges_nothing_serves_too(events: AeroRealtime, live: AeroDBClient) -> None:
    events.acknowledges = False
    heard = Heard()
    channel = live.channel("posts").on("INSERT", heard).subscribe()
    events.subscribed()
    eventually(lambda: channel.state == "joined")
    assert (channel.acknowledged, channel.last_error) == (False, None)
    events.event("posts", new={"id": 1})
    assert heard.wait()[0].new == {"id": 1}
    channel.subscribe(timeout=0.05)  # subscribed already: only the wait is done
    assert channel.last_error is not None
    assert channel.last_error.code == "TIMEOUT"


def test_c072_a_refusal_shows_in_error_and_state(events: AeroRealtime, live: AeroDBClient) -> None:
    events.errors["secret"] = {"error": "not yours", "code": 403}
    channel = live.channel("secret").subscribe(timeout=15)
    assert channel.state == "errored"
    assert channel.last_error is not None
    assert (channel.last_error.message, channel.last_error.code) == ("not yours", "403")
    del events.errors["secret"]
    joined(channel)


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "\x00", "x" * 1025, "\ud800", None, 5], ids=repr)
def test_c072_a_name_that_is_none_is_never_sent(events: AeroRealtime, live: AeroDBClient, name: Any) -> None:
    channel = live.channel(name).subscribe(timeout=15)
    assert channel.state == "errored"
    assert channel.last_error is not None
    assert channel.last_error.code == "VALIDATION_ERROR"
    assert events.requests == []


@pytest.mark.parametrize(
    ("end", "path"),
    [
        ("", "/realtime"),
        ("/", "/realtime"),
        ("/base", "/base/realtime"),
        ("/realtime", "/realtime"),
        ("/x/websocket", "/x/websocket"),
        ("/ws", "/ws"),
        ("/ws/", "/ws"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_c072_where_it_connects(events: AeroRealtime, client_for: Make, scheme: str, end: str, path: str) -> None:
    url = events.url.replace("http", scheme) + end
    joined(client_for("http://127.0.0.1:9", realtime_url=url).channel("posts"))
    assert events.requests[0].target.partition("?")[0] == path


@pytest.mark.parametrize("end", ["/realtime", "/x/websocket", "/ws"])
def test_c072_only_an_address_of_events_is_taken_as_it_is(events: AeroRealtime, client_for: Make, end: str) -> None:
    joined(client_for(events.url + end).channel("posts"))
    assert events.requests[0].target.partition("?")[0] == f"{end}/realtime"


def test_c073_handlers_for_the_event_come_before_those_for_all(events: AeroRealtime, live: AeroDBClient) -> None:
    order: List[str] = []
    all_of_it, update = Heard(), Heard()
    channel = live.channel("posts").on("*", lambda payload: order.append("*")).on("*", all_of_it)
    channel.on("insert", lambda payload: order.append("first")).on("INSERT", lambda payload: order.append("second"))
    joined(channel.on("UPDATE", update))
    events.event("foreign", new={"id": 0})
    row = {
        "type": "INSERT",
        "table": "posts",
        "schema": "public",
        "commit_timestamp": "2026",
        "new": {"id": 1},
        "old": None,
    }
    events.say({"type": "event", "channel": "posts", "payload": row})
    assert all_of_it.wait() == [RealtimePayload("INSERT", "posts", "public", "2026", {"id": 1}, None)]
    assert order == ["first", "second", "*"]
    assert update.payloads == []
    assert set(all_of_it.threads) == {"selfdb-aerodb-dispatch"}


@pytest.mark.parametrize("kind", ["INSERT", "UPDATE", "DELETE", "TRUNCATE"])
def test_c073_events_of_every_kind_are_told(events: AeroRealtime, live: AeroDBClient, kind: str) -> None:
    heard = Heard()
    joined(live.channel("posts").on(kind.lower(), heard))
    events.event("posts", kind)
    assert heard.wait() == [RealtimePayload(kind)]


def test_c073_what_is_taken_away_is_called_no_more(events: AeroRealtime, live: AeroDBClient) -> None:
    gone, stays, all_of_it = Heard(), Heard(), Heard()
    channel = live.channel("posts").on("INSERT", gone).on("INSERT", stays).on("INSERT", stays).on("*", all_of_it)
    assert channel.off("INSERT", gone) is channel
    channel.off("INSERT", Heard()).off("UPDATE").off("nothing", gone)
    joined(channel)
    events.event("posts")
    all_of_it.wait()
    assert (gone.types, stays.types) == ([], ["INSERT"])
    channel.off("insert")
    events.event("posts")
    all_of_it.wait(2)
    assert stays.types == ["INSERT"]


@pytest.mark.parametrize(("event", "callback"), [("", print), (5, print), ("INSERT", None), ("INSERT", 5)], ids=str)
def test_c073_a_wrong_handler_is_noted(live: AeroDBClient, event: Any, callback: Any) -> None:
    channel = live.channel("posts").on(event, callback)
    assert channel.last_error is not None
    assert channel.last_error.code == "VALIDATION_ERROR"


def test_c073_so_is_a_wrong_event_to_take_away_or_a_wrong_time(live: AeroDBClient) -> None:
    for channel in (
        live.channel("a").off(""),
        live.channel("b").subscribe(timeout="x"),
        live.channel("c").subscribe(-1),
    ):  # type: ignore[arg-type]
        assert channel.last_error is not None
        assert channel.last_error.code == "VALIDATION_ERROR"
    assert not live.channel("b").subscribed


def test_c074_a_handler_that_fails_stops_nothing(events: AeroRealtime, live: AeroDBClient, caplog: Any) -> None:
    heard = Heard()

    def fail(payload: RealtimePayload) -> None:
        raise RuntimeError("mine")

    def leave(payload: RealtimePayload) -> None:
        sys.exit("theirs")

    joined(
        live.channel("posts").on("INSERT", fail).on("INSERT", leave).on("INSERT", heard).on("*", fail).on("*", heard)
    )
    events.event("posts")
    events.event("posts", "DELETE")
    assert [payload.type for payload in heard.wait(3)] == ["INSERT", "INSERT", "DELETE"]
    assert "mine" in caplog.text


def test_c074_an_awaitable_is_run_to_its_end(events: AeroRealtime, live: AeroDBClient) -> None:
    heard = Heard()

    async def handler(payload: RealtimePayload) -> None:
        heard(payload)

    joined(live.channel("posts").on("INSERT", handler))
    events.event("posts")
    heard.wait()


JUNK: List[Any] = [
    "not json", "{", "", "[" * 50_000, "5", "null", "[]", {"type": "x"}, {}, {"type": 5}, {"type": "event"},
    {"type": "event", "channel": "posts"}, {"type": "event", "channel": "posts", "payload": None},
    {"type": "event", "channel": "posts", "payload": [1]}, {"type": "event", "channel": 5, "payload": {}},
    {"type": "subscribed"}, {"type": "subscribed", "channel": "foreign"}, {"type": "connected"}, {"type": "system"},
    {"type": "pong"}, {"type": "heartbeat"}, {"type": "unsubscribed", "channel": "posts"},
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK, ids=[str(junk)[:40] for junk in JUNK])
def test_c075_what_is_no_frame_is_ignored(events: AeroRealtime, live: AeroDBClient, junk: Any) -> None:
    heard = Heard()
    channel = joined(live.channel("posts").on("*", heard))
    events.say(junk)
    events.event("posts", new={"id": 1})
    assert heard.wait() == [RealtimePayload("INSERT", new={"id": 1})]
    assert channel.last_error is None
    assert len(events.requests) == 1


def test_c075_so_are_members_of_wrong_types(events: AeroRealtime, live: AeroDBClient) -> None:
    heard = Heard()
    joined(live.channel("posts").on("*", heard))
    events.say(
        {"type": "event", "channel": "posts", "payload": {"type": 5, "table": None, "new": [1], "old": "x", "odd": 1}}
    )
    assert heard.wait() == [RealtimePayload("")]


def test_c075_an_error_of_no_channel_is_of_those_that_wait(events: AeroRealtime, live: AeroDBClient) -> None:
    stands = joined(live.channel("posts"))
    events.acknowledges = False
    waits = live.channel("others").subscribe()
    events.subscribed(2)
    events.say({"type": "error", "message": "no", "code": "E1"})
    eventually(lambda: waits.state == "errored")
    assert waits.last_error is not None
    assert (waits.last_error.message, waits.last_error.code) == ("no", "E1")
    assert (stands.state, stands.last_error) == ("joined", None)


def test_c075_an_error_of_a_foreign_channel_is_of_nobody(events: AeroRealtime, live: AeroDBClient) -> None:
    events.acknowledges = False
    heard = Heard()
    waits = live.channel("others").on("*", heard).subscribe()
    events.subscribed()
    events.say({"type": "error", "channel": "left", "error": "no"})
    events.event("others")
    heard.wait()
    assert (waits.state, waits.last_error) == ("joined", None)


@pytest.mark.parametrize("where", ["frame", "handshake"])
def test_c087_an_error_that_repeats_a_secret_is_shown_without(
    events: AeroRealtime, scripted: Callable[..., Any], client_for: Make, caplog: Any, where: str
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ("key-that-nobody-sees", "access-that-nobody-sees", "refresh-that-nobody-sees")
    echo = {"error": " ".join(secrets), "code": " ".join(secrets)}
    events.errors["posts"] = echo
    server = scripted(default=lambda peer: (peer.read_request(), peer.reply(404, json.dumps(echo).encode())))
    client = client_for(events if where == "frame" else server, key=secrets[0])
    data(client.auth.set_session(*secrets[1:]))
    channel = client.channel("posts").subscribe(timeout=15)
    assert channel.state == "errored"
    assert channel.last_error is not None
    assert channel.last_error.message
    shown = [repr(channel), repr(channel.last_error), repr(client.realtime), caplog.text]
    assert not [secret for secret in secrets for text in shown if secret in text]


def test_c076_the_other_form_of_events_is_not_understood(events: AeroRealtime, live: AeroDBClient) -> None:
    heard = Heard()
    joined(live.channel("posts").on("*", heard))
    events.say({"type": "event", "channel": "posts", "event": {"event_type": "INSERT", "new_data": {"id": 1}}})
    events.event("posts", "DELETE")
    assert heard.wait() == [RealtimePayload("DELETE")]
