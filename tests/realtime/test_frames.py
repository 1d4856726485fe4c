"""Frames of both serializers and of the binary one, there and back, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfdb.realtime.frames import Frame, decode, decode_push, encode, encode_binary, encode_v1, refuses

texts = st.text(max_size=20)
refs = st.none() | st.text(min_size=1, max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(refs, refs, texts, texts, values.filter(lambda value: value is not None))
def test_c103_the_array_form_there_and_back(join_ref: Any, ref: Any, topic: str, event: str, payload: Any) -> None:
    frame = Frame(join_ref, ref, topic, event, payload)
    text = encode(frame)
    assert json.loads(text) == [join_ref, ref, topic, event, payload]
    for wire in (text, text.encode()):
        assert decode(wire) == frame == decode_push(wire)


@given(refs, texts, texts, values.filter(lambda value: value is not None))
def test_c106_the_object_form_there_and_back(ref: Any, topic: str, event: str, payload: Any) -> None:
    text = encode_v1(Frame("ignored", ref, topic, event, payload))
    assert json.loads(text) == {"topic": topic, "event": event, "payload": payload, "ref": ref}
    assert decode(text) == Frame(None, ref, topic, event, payload)


@pytest.mark.parametrize(
    "text, frame",
    [
        ('["1","2","t","e",{},"more"]', Frame("1", "2", "t", "e", {})),
        ('["1","2","t","e",{},"more",5]', Frame("1", "2", "t", "e", {})),
        ('[1,2,"t","e",null]', Frame("1", "2", "t", "e", {})),
        ('{"topic":"t","event":"e"}', Frame(None, None, "t", "e", {})),
        ('{"topic":"t","event":"e","join_ref":"7","ref":8,"payload":[]}', Frame("7", "8", "t", "e", [])),
        (
            '{"type":"broadcast","channel":"users_events","event":"change","payload":{"a":1}}',
            Frame(None, None, "users_events", "change", {"a": 1}),
        ),
        ('{"topic":"t","event":"e","channel":"c"}', Frame(None, None, "t", "e", {})),
    ],
)
def test_c106_forms_of_other_servers(text: str, frame: Frame) -> None:
    assert decode(text) == frame


@pytest.mark.parametrize(
    "wire",
    [
        "",
        "nonsense",
        "5",
        '"text"',
        "null",
        "[]",
        '["1","2","t","e"]',
        '["1","2",null,"e",{}]',
        '["1","2","t",5,{}]',
        '[true,"2","t","e",{}]',
        '[1.5,"2","t","e",{}]',
        "{}",
        '{"topic":"t"}',
        '{"type":"subscribed","channel":"t"}',
        '{"type":"broadcast","channel":"t"}',
        '{"type":"presence","channel":"t","event":"e"}',
        b"\xff\xfe[\x00]\x00",
        b'["1","2","t\xff","e",{}]',
        "[" * 100_000,
    ],
)
def test_c118_what_is_no_frame(wire: Any) -> None:
    with pytest.raises(ValueError):
        decode(wire)


PIECES = st.sampled_from(
    [
        r"[",
        r"]",
        r"{",
        r"}",
        r",",
        r":",
        r'"',
        r'"a"',
        r'"b":1',
        r"null",
        r"true",
        r"NaN",
        r"-NaN",
        r"Infinity",
        r"-Infinity",
        r"nan",
        r"+1",
        r"01",
        r"-0",
        r"1.",
        r".5",
        r"1e5",
        r"1E400",
        r"-1e-400",
        r"0.1",
        r"1_0",
        r"0x1",
        r"0.30000000000000004",
        r"2.2250738585072011e-308",
        r'"\ud83d"',
        r'"\ud83d\ude00"',
        r'"\ude00"',
        r'"\u0000"',
        r'"\x"',
        r'"\/"',
        r'"\u00e9"',
        r'"é"',
        r"'a'",
        r"/**/",
        r"//",
        r'{"a":1,"b":2,"a":3}',
    ]
)
BLANKS = st.sampled_from(" \t\x0b\x0c\xa0\ufeff\x00\x1f\x7f")


@given(st.lists(PIECES | BLANKS | values.map(json.dumps), max_size=6).map("".join))
@example("9" * 4301)
@example("[" * 300 + "]" * 300)
@example('"\\ud83d"')
@example("[NaN,-Infinity,1e400]")
def test_c118_what_is_json_is_for_the_standard_library_to_say(body: str) -> None:
    """The faster parser takes nothing else, nor anything else out of it; what it refuses is asked of the other."""
    for wire in (f'[null,null,"t","e",{body}]', f'[null,null,"t","e",{body}]'.encode()):
        try:
            expected = json.loads(wire)
        except ValueError:
            expected = None
        try:
            payload = decode(wire).payload
        except ValueError:
            assert expected is None or len(expected) < 5
        else:
            assert repr(payload) == repr({} if expected[4] is None else expected[4])


def test_no_value_of_an_event_is_kept_by_the_parser() -> None:
    wire = '[null,null,"t","e",{"key":"of somebody"}]'
    first, second = decode(wire).payload, decode(wire).payload
    assert first == second
    assert first["key"] is not second["key"]


BINARY = [
    (b"\x00\x01\x01\x03" + b"1" + b"t" + b"evt" + b"data", Frame("1", None, "t", "evt", b"data")),
    (b"\x00\x00\x01\x03" + b"t" + b"evt", Frame(None, None, "t", "evt", b"")),
    (
        b"\x01\x01\x02\x01\x02" + b"1" + b"23" + b"t" + b"ok" + b"\x00\xff",
        Frame("1", "23", "t", "phx_reply", {"status": "ok", "response": b"\x00\xff"}),
    ),
    (b"\x02\x01\x03" + b"t" + b"evt" + b"data", Frame(None, None, "t", "evt", b"data")),
    (b"\x02\x02\x00" + "é".encode(), Frame(None, None, "é", "", b"")),
    (b"\x02\x00\x00", Frame(None, None, "", "", b"")),
]


@pytest.mark.parametrize("wire, frame", BINARY)
def test_c118_binary_frames_of_a_server(wire: bytes, frame: Frame) -> None:
    assert decode(wire, binary=True) == frame
    assert decode(wire.decode("latin-1"), binary=True) == frame
    if frame.topic == "t" and (frame.event != "evt" or frame.payload == b"data"):
        assert encode_binary(frame, from_server=True) == wire


def test_c118_a_binary_push_of_a_client() -> None:
    frame = Frame("1", "2", "table:x", "shout", b"\x00")
    wire = encode_binary(frame)
    assert wire == b"\x00\x01\x01\x07\x05" + b"12table:xshout" + b"\x00"
    assert decode_push(wire, binary=True) == frame
    assert decode_push(wire.decode("latin-1"), binary=True) == frame
    bare = Frame(None, None, "t", "e", b"")
    assert decode_push(encode_binary(bare), binary=True) == bare


@pytest.mark.parametrize(
    "wire",
    [b"", b"\x03\x00", b"\x00", b"\x00\x01", b"\x00\x05\x01\x01abc", b"\x01\x00", b"\x02\x01\x01", b"\x02\x01\x00\xff"],
)
def test_c118_binary_frames_that_break_off(wire: bytes) -> None:
    with pytest.raises(ValueError):
        decode(wire, binary=True)


@given(st.binary(max_size=60))
def test_c118_noise_is_a_frame_or_a_value_error(noise: bytes) -> None:
    for read in (decode, decode_push):
        for binary in (False, True):
            try:
                assert isinstance(read(noise, binary=binary), Frame)
            except ValueError:
                pass


def test_a_part_has_at_most_255_bytes() -> None:
    encode_binary(Frame("1", "2", "x" * 255, "e", b""))
    for topic in ("é" * 128, "x" * 256):
        with pytest.raises(ValueError, match=r"^a part of a binary frame has at most 255 bytes$"):
            encode_binary(Frame("1", "2", topic, "e", b""))


def test_c118_a_binary_reply_that_belongs_to_no_join() -> None:
    frame = Frame(None, None, "t", "phx_reply", {"status": "ok", "response": b"x"})
    assert encode_binary(frame, from_server=True) == b"\x01\x00\x00\x01\x02" + b"tok" + b"x"


def test_both_forms_are_as_short_as_json_allows_and_keep_their_letters() -> None:
    frame = Frame("1", None, "t", "é", {"a": [1, 2]})
    assert encode(frame) == '["1",null,"t","é",{"a":[1,2]}]'
    assert encode_v1(frame) == '{"topic":"t","event":"é","payload":{"a":[1,2]},"ref":null}'


@pytest.mark.parametrize("form", [encode, encode_v1])
def test_numbers_that_json_does_not_know_are_refused(form: Any) -> None:
    with pytest.raises(ValueError):
        form(Frame(None, None, "t", "e", float("nan")))


@pytest.mark.parametrize(
    "event, payload, no",
    [
        ("phx_reply", {"status": "ok"}, False),
        ("phx_reply", {"status": "error"}, True),
        ("phx_reply", {"status": None}, True),
        ("phx_reply", {}, True),
        ("phx_reply", "ok", True),
        ("phx_reply", None, True),
        ("phx_error", {"status": "error"}, False),
        ("INSERT", {}, False),
    ],
)
def test_what_says_no(event: str, payload: Any, no: bool) -> None:
    assert refuses(Frame("1", "2", "t", event, payload)) is no


@pytest.mark.parametrize(
    "wire, words",
    [
        ("[1,2]", "a frame has five elements"),
        ("[" * 100_000, "nested too deeply"),
        ("5", "a frame is an array or an object"),
        ('{"type":"other","channel":"t","event":"e"}', "not a broadcast"),
        ('[null,null,5,"e",{}]', "topic and event are strings"),
        ('[true,null,"t","e",{}]', "a ref is a string or null"),
        (b"", "an empty binary frame"),
        (b"\x03\x01\x01\x01jte", "binary frames of kind 3 are not known"),
        (b"\x02", "a binary frame breaks off in its sizes"),
        (b"\x02\x01\x01t", "a binary frame breaks off in its strings"),
    ],
)
def test_why_something_is_no_frame(wire: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        decode(wire, binary=isinstance(wire, bytes))
    assert str(caught.value) == words
