"""Frames that no client would send: the embedded server's sockets live through all of them."""

from __future__ import annotations

import json
import logging
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.realtime.raw import Raw, Table
from tests.support import Http

TOPICS = st.sampled_from(["phoenix", "table:orders_of_nobody", "table:", "room:1", "TOPIC"]) | st.text(max_size=20)
EVENTS = st.sampled_from(["phx_join", "phx_leave", "heartbeat", "access_token", "INSERT", "phx_close"]) | st.text(
    max_size=9
)
REFS = st.none() | st.sampled_from(["1", "2"]) | st.text(max_size=5) | st.integers()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FRAMES = (
    st.tuples(REFS, REFS, TOPICS, EVENTS, JSON).map(lambda parts: json.dumps(list(parts)))
    | st.fixed_dictionaries({"topic": TOPICS, "event": EVENTS, "payload": JSON, "ref": REFS}).map(json.dumps)
    | JSON.map(json.dumps)
    | st.text(max_size=40).filter(lambda text: text.isprintable())
    | st.binary(max_size=40)
    | st.tuples(
        st.sampled_from([0, 1, 2, 3]), st.lists(st.integers(0, 9), min_size=4, max_size=4), st.binary(max_size=30)
    ).map(lambda parts: bytes([parts[0], *parts[1]]) + parts[2])
)


@pytest.fixture
def raw(server: Any, http: Http, connect: Callable[..., Raw]) -> Raw:
    socket: Raw = connect(server, http.admin, path="/realtime/socket")
    return socket


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(frames=st.lists(FRAMES, min_size=1, max_size=12))
def test_no_frame_ends_the_socket_or_stops_the_others(raw: Raw, table: Table, frames: Any) -> None:
    for frame in frames:
        if "TOPIC" in str(frame) and isinstance(frame, str):
            frame = frame.replace("TOPIC", table.topic)
        if isinstance(frame, bytes):
            raw.binary(frame)
        else:
            raw.text(frame)
    raw.send(None, "the-end", "phoenix", "heartbeat")
    while True:
        answer = raw.receive()
        if isinstance(answer, list) and answer[1] == "the-end":
            assert answer == [None, "the-end", "phoenix", "phx_reply", {"status": "ok", "response": {}}]
            return
        event = answer[3] if isinstance(answer, list) else answer["event"]
        assert event in ("phx_reply", "phx_close")


@pytest.fixture
def table(http: Http, caplog: pytest.LogCaptureFixture) -> Any:
    with caplog.at_level(logging.WARNING):
        yield Table(http, http.admin)
    assert [record.getMessage() for record in caplog.records if record.name.startswith(("selfdb", "uvicorn"))] == []
