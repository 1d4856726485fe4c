"""Hostile messages: whatever a server writes into a frame of a channel, only our exceptions come of it, within bounds
of time and memory, and the next good event is heard."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from typing import Any, Iterator, List

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from selfdb import SelfDB
from selfdb.core.wsframes import FrameDecoder, FrameError
from selfdb.exceptions import SelfDBError
from selfdb.realtime.frames import Frame, decode, decode_push
from tests import soak
from tests.faults.realtime_kit import TOPIC, Fed, our_log, until
from tests.servers.websockets import frame

EXAMPLES = soak.amount("SELFDB_HOSTILE_MESSAGES", here=60, long=600)
SECRET = "canary-of-the-api-key"
TOKEN = "canary.of-the.token"

fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=False
)

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -(10**4299), 2**63, float("nan"), float("inf"), -0.0]),
)
texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "ok", "error", "\ud800", "\udfff\ud800", "\x00", "*", "resync", "RESYNC", "INSERT", SECRET, TOKEN]
    ),
    st.sampled_from(["unauthorized", "unmatched topic", "phx_reply", "phx_close", "access_token", TOPIC, "x" * 10_000]),
)
names = st.one_of(
    st.sampled_from(["status", "response", "reason", "accepts", "event", "table", "new", "old", "action", "new_data"]),
    st.sampled_from(
        ["old_data", "record", "payload", "metas", "phx_ref", "joins", "leaves", "type", "topic", "channel"]
    ),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(names, texts), inner, max_size=5)),
    max_leaves=12,
)
metas = st.dictionaries(texts, st.fixed_dictionaries({"metas": st.lists(st.fixed_dictionaries({"phx_ref": values}))}))
payloads = st.one_of(
    values,
    st.fixed_dictionaries({"status": st.one_of(values, st.sampled_from(["ok", "error"])), "response": values}),
    st.fixed_dictionaries({"status": st.just("error"), "response": st.fixed_dictionaries({"reason": values})}),
    st.fixed_dictionaries({"status": st.just("ok"), "response": st.fixed_dictionaries({"accepts": values})}),
    st.fixed_dictionaries({"event": values, "table": values, "new": values, "old": values}),
    st.fixed_dictionaries({"payload": st.one_of(values, values.map(json.dumps))}),
    st.fixed_dictionaries({"joins": metas, "leaves": metas}),
    metas,
)
refs = st.one_of(st.sampled_from(["JOIN", "JOIN", None, "1", "2", "3", 1, True, 1.0]), values)
events = st.one_of(
    st.sampled_from(["phx_reply", "phx_close", "phx_error", "phx_join", "phx_leave", "phx_", "heartbeat"]),
    st.sampled_from(["presence_state", "presence_diff", "INSERT", "insert", "change", "broadcast", "BROADCAST"]),
    values,
)
topics = st.one_of(st.sampled_from([TOPIC, TOPIC, TOPIC, "phoenix", "table:others"]), values)
arrays = st.tuples(refs, refs, topics, events, payloads).map(list)
objects = st.fixed_dictionaries(
    {}, optional={"join_ref": refs, "ref": refs, "topic": topics, "event": events, "payload": payloads,
                  "channel": topics, "type": values}
)  # fmt: skip


def deep(depth: int, inner: str = "") -> str:
    return "[" * depth + inner + "]" * depth


def wire(frame: Any) -> bytes:
    return json.dumps(frame).encode()


def spoilt(data: bytes, at: int, byte: int) -> bytes:
    place = at % (len(data) + 1)
    return data[:place] + bytes([byte]) + data[place + 1 :]


messages = st.one_of(
    st.one_of(arrays, objects, values).map(wire),
    st.builds(spoilt, arrays.map(wire), st.integers(0, 200), st.integers(0, 255)),
    st.builds(lambda data, at: data[: at % (len(data) + 1)], arrays.map(wire), st.integers(0, 200)),
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"[" * 100_000,
            deep(100_000).encode(),
            f'[null,null,"{TOPIC}","INSERT",{deep(900)}]'.encode(),
            f'[null,null,"{TOPIC}","INSERT",{{"new":{{"id":{"9" * 100_000}}}}}]'.encode(),
            f'[null,null,"{TOPIC}","broadcast",{{"payload":"{deep(50_000)}"}}]'.encode(),
            f'[null,null,"{TOPIC}","INSERT",{{"new":{{"a":1}},"new":null,"new":{{"b":1e999999}}}}]'.encode(),
            b"\xef\xbb\xbf[]",
            b'["\xff\xfe"]',
            b"",
        ]
    ),
)


@pytest.fixture
def fed() -> Iterator[Fed]:
    with SelfDB("http://127.0.0.1:9", SECRET) as db:
        db.access_token = TOKEN
        yield Fed(db.realtime)


def for_this_join(message: bytes, ref: str) -> bytes:
    """``message`` with the ref of the join that stands, where it asks for that."""
    return message.replace(b'"JOIN"', json.dumps(ref).encode())


@fuzzed
@given(
    rounds=st.lists(st.tuples(st.booleans(), st.booleans(), messages), min_size=1, max_size=8),
    number=st.integers(0, 1 << 60),
)
@example(
    rounds=[(True, False, f'[null,null,"{TOPIC}","presence_state",{{"a":{{"metas":[{{"phx_ref":[]}}]}}}}]'.encode())],
    number=1,
)
@example(
    rounds=[
        (
            True,
            False,
            f'["JOIN","JOIN","{TOPIC}","phx_reply",{{"status":"error","response":{{"reason":{deep(d)}}}}}]'.encode(),
        )
        for d in (960, 970, 980, 985, 990)
    ],
    number=2,
)
def test_g17_no_message_of_a_server_reaches_further_than_it_may(rounds: Any, number: int) -> None:
    with SelfDB("http://127.0.0.1:9", SECRET) as db, our_log() as log:
        db.access_token = TOKEN
        fed = Fed(db.realtime)
        fed.realtime.channel(TOPIC).on("*", lambda payload: None)
        ref = fed.join()
        for while_joining, binary, message in rounds:
            if while_joining and fed.realtime.channel(TOPIC).state == "joined":
                fed.realtime._perform(fed.realtime._machine.channel(TOPIC)._send_join(time.monotonic(), 10.0))
            ref = str(fed.realtime._machine.channel(TOPIC).join_ref or ref)
            began = time.perf_counter()
            fed.realtime.received([(2 if binary else 1, for_this_join(message, ref))])
            assert time.perf_counter() - began < 2.0, "one small message took seconds"
            fed.realtime.channel(TOPIC).presence
        fed.still_works(number)
        assert all(isinstance(error, SelfDBError) for error in fed.errors), fed.errors
        assert log.faults == []
        shown = [repr(error) + str(error) + repr(error.__dict__) for error in fed.errors]
        assert not any(secret in text for secret in (SECRET, TOKEN) for text in [*shown, log.text])
        assert all(len(str(error)) < 1000 + len(TOPIC) for error in fed.errors)


@fuzzed
@given(st.one_of(messages, st.binary(max_size=300)), st.booleans())
@example(b"\x01\xff\xff\xff\xff", True)
def test_g17_any_bytes_are_a_frame_or_the_one_error(data: bytes, binary: bool) -> None:
    for read in (decode, decode_push):
        try:
            assert isinstance(read(data, binary=binary), Frame)
        except ValueError:
            pass  # which is all that is promised, and all that callers catch


pieces = st.builds(
    lambda opcode, payload, final, reserved, masked: frame(
        opcode, payload, final=final, reserved=reserved << 4, masked=masked
    ),
    st.integers(0, 15),
    st.one_of(st.binary(max_size=30), st.sampled_from([b"x" * 125, b"x" * 126, b"x" * 5000, b"x" * 70_000])),
    st.booleans(),
    st.sampled_from([0, 0, 0, 0, 1, 2, 4, 7]),
    st.sampled_from([False, False, False, True]),
)


@fuzzed
@given(
    stream=st.lists(st.one_of(pieces, st.binary(max_size=20)), max_size=12).map(b"".join),
    cuts=st.lists(st.integers(0, 80_000), max_size=6),
)
def test_g17_any_stream_is_messages_or_the_one_error(stream: bytes, cuts: List[int]) -> None:
    limit = 6000
    codes: List[int] = []
    decoder = FrameDecoder(limit)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    try:
        for start, end in zip(places, places[1:]):
            for opcode, data in decoder.feed(stream[start:end]):
                assert isinstance(opcode, int)
                assert isinstance(data, bytes)
                assert len(data) <= limit
    except FrameError as error:
        codes.append(error.code)
    assert set(codes) <= {1002, 1009}
    assert len(decoder._buffer) <= 14 + max(limit, max((b - a for a, b in zip(places, places[1:])), default=0)) + limit


def test_g17_what_is_no_frame_is_no_sign_of_life(fed: Fed) -> None:
    machine, now = fed.realtime._machine, time.monotonic()
    machine._beat_due, machine._beat_last = now + 1, now + 30
    fed.realtime.received([(1, b"noise"), (2, b"\xff")])
    assert machine._beat_due == now + 1
    fed.feed([None, None, "table:nobody", "INSERT", {}])
    assert machine._beat_due > now + 1


def test_g17_what_one_message_may_cost(fed: Fed) -> None:
    """16 MiB, the most that a message may have, of what is worst: the work stays in proportion."""
    fed.join()
    fed.realtime.channel(TOPIC).on("*", lambda payload: None)
    half = 2 * 1024 * 1024
    for body in (
        b'"' + b"\\" * half + b'"',
        b"[" + b"0," * half + b"0]",
        b'{"a":' * 100_000,
        b"9" * half,
        b'"' + b"\xff" * half,
    ):
        began = time.process_time()
        fed.realtime.received([(1, f'[null,null,"{TOPIC}","INSERT",'.encode() + body + b"]")])
        assert time.process_time() - began < 5.0, body[:10]
    fed.still_works(1)
    assert fed.errors == []


@pytest.mark.parametrize("event", ["INSERT", "presence_diff", "phx_error", "nonsense", "phx_reply"])
def test_g17_a_flood_behind_a_callback_that_stands_takes_a_bounded_room(fed: Fed, event: str) -> None:
    """100 000 frames while a callback does not return: what is kept is bounded, and what went is told."""
    go, stands = threading.Event(), threading.Event()

    def stand(payload: Any) -> None:
        stands.set()
        assert go.wait(60)

    fed.realtime._dispatcher.full = fed.realtime._dispatcher.full._replace(max_items=200)
    fed.realtime.channel(TOPIC).on("FIRST", stand).on("INSERT", lambda payload: None)
    ref = fed.join()
    fed.feed([None, None, TOPIC, "FIRST", {"event": "FIRST"}])
    until(stands.is_set)
    body = {"new": {"id": 1}, "joins": {"guest": {"metas": [{"phx_ref": "x"}]}}, "status": "error"}
    flood = json.dumps([None, "77", TOPIC, event, body]).encode()
    count = soak.amount("SELFDB_FLOOD_FRAMES", here=4000, long=40000)
    tracemalloc.start()
    try:
        for _ in range(count):
            fed.realtime.received([(1, flood)])
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 2 * 1024 * 1024, grown
    go.set()
    fed.still_works(1)
    assert all(isinstance(error, SelfDBError) for error in fed.errors)
    if event == "INSERT":
        assert any("dropped" in str(error) for error in fed.errors)
    assert ref
    soak.figure("G17", f"{count} frames {event} behind a callback that stands: {grown >> 10} KiB kept")
