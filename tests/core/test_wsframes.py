"""Frames of a server: any split of any legal stream gives the same messages, and nothing illegal gets through."""

from __future__ import annotations

import tracemalloc
from typing import Any, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdb.core.wsframes import BINARY, BROKEN, CLOSE, PING, PONG, TEXT, TOO_BIG, FrameDecoder, FrameError
from tests.servers.websockets import CONTINUATION, frame

LIMIT = 70_000


def decoded(*chunks: bytes, limit: int = LIMIT) -> List[Tuple[int, bytes]]:
    decoder = FrameDecoder(limit)
    return [tuple(message) for chunk in chunks for message in decoder.feed(chunk)]


def test_the_numbers_are_those_of_the_protocol() -> None:
    assert (TEXT, BINARY, CLOSE, PING, PONG) == (1, 2, 8, 9, 10)
    assert (BROKEN, TOO_BIG) == (1002, 1009)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
def test_every_form_of_the_length(opcode: int, size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    wire = frame(opcode, payload)
    assert decoded(wire) == [(opcode, payload)]
    assert decoded(*(wire[at : at + 1] for at in range(min(len(wire), 16))), wire[16:]) == [(opcode, payload)]


def test_several_messages_in_one_piece_and_one_in_many() -> None:
    wire = frame(TEXT, b"a") + frame(BINARY, b"b") + frame(TEXT, b"c" * 300)
    expected = [(TEXT, b"a"), (BINARY, b"b"), (TEXT, b"c" * 300)]
    assert decoded(wire) == expected
    assert decoded(*(bytes([byte]) for byte in wire)) == expected


def test_fragments_are_joined_around_control_frames() -> None:
    wire = (
        frame(TEXT, b"one ", final=False)
        + frame(PING, b"alive?")
        + frame(CONTINUATION, b"two ", final=False)
        + frame(PONG)
        + frame(CONTINUATION, b"three")
        + frame(BINARY, b"", final=False)
        + frame(CONTINUATION, b"")
        + frame(CLOSE, b"\x03\xe8")
    )
    assert decoded(wire) == [
        (PING, b"alive?"),
        (PONG, b""),
        (TEXT, b"one two three"),
        (BINARY, b""),
        (CLOSE, b"\x03\xe8"),
    ]


@pytest.mark.parametrize(
    "wire, words",
    [
        (frame(TEXT, b"", masked=True), "^a server must not mask"),
        (frame(TEXT, b"x", masked=True), "^a server must not mask"),
        (frame(TEXT, b"x" * 126, masked=True), "^a server must not mask"),
        (frame(TEXT, b"x", reserved=0x40), "^a reserved bit"),
        (frame(BINARY, b"x", reserved=0x10), "^a reserved bit"),
        (frame(0x3, b"x"), "0x3"),
        (frame(0xB, b"x"), "0xb"),
        (frame(PING, b"x", final=False), "^a control frame"),
        (frame(PING, b"x" * 126), "^a control frame"),
        (frame(CLOSE, b"x" * 126), "^a control frame"),
        (frame(CLOSE, b"", final=False), "^a control frame"),
        (frame(CONTINUATION, b"x"), "^fragments of a message are out of order"),
        (frame(TEXT, b"x", final=False) + frame(TEXT, b"y"), "^fragments of a message are out of order"),
        (frame(TEXT, b"x", final=False) + frame(BINARY, b"y", final=False), "^fragments of a message are out of order"),
        (frame(TEXT, b"x" * (LIMIT + 1)), f"^a frame of {LIMIT + 1} bytes is larger than the {LIMIT} allowed$"),
        (b"\x81\x7f" + b"\xff" * 8, f"^a frame of {2**64 - 1} bytes is larger than the {LIMIT} allowed$"),
        (
            frame(TEXT, b"x" * LIMIT, final=False) + frame(CONTINUATION, b"y"),
            f"^a message is larger than the {LIMIT} bytes allowed$",
        ),
    ],
)
def test_what_breaks_the_rules_ends_the_stream(wire: bytes, words: str) -> None:
    with pytest.raises(FrameError, match=words) as caught:
        decoded(wire)
    assert caught.value.code == (TOO_BIG if "larger" in words else BROKEN)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_the_longest_control_frame_may_stand_within_a_message(opcode: int) -> None:
    wire = frame(TEXT, b"a", final=False) + frame(opcode, b"x" * 125) + frame(CONTINUATION, b"b")
    assert decoded(wire) == [(opcode, b"x" * 125), (TEXT, b"ab")]


def test_the_limit_is_for_one_message() -> None:
    wire = frame(TEXT, b"x" * LIMIT)
    assert decoded(wire, wire, wire) == [(TEXT, b"x" * LIMIT)] * 3
    halves = frame(TEXT, b"x" * (LIMIT - 1), final=False) + frame(CONTINUATION, b"y")
    assert [len(data) for _, data in decoded(halves, halves)] == [LIMIT, LIMIT]


def test_a_length_beyond_the_limit_is_refused_before_its_payload_comes() -> None:
    with pytest.raises(FrameError):
        decoded(frame(TEXT, b"x" * (LIMIT + 1))[:10])


def test_a_length_of_which_a_part_came_is_not_judged_yet() -> None:
    decoder = FrameDecoder(LIMIT)
    assert decoder.feed(b"\x82\x7f" + b"\xff" * 4) == []
    with pytest.raises(FrameError, match=rf"^a frame of {2**64 - 1} bytes is larger"):
        decoder.feed(b"\xff" * 4)


def test_the_beginning_of_a_frame_is_not_copied_for_each_piece_that_comes() -> None:
    decoder = FrameDecoder(1 << 24)
    wire = frame(TEXT, b"x" * (4 << 20))
    assert decoder.feed(wire[: 2 << 20]) == []
    rest = decoder._buffer
    for at in range(2 << 20, len(wire) - 1, 1 << 19):
        assert decoder.feed(wire[at : min(at + (1 << 19), len(wire) - 1)]) == []
        assert decoder._wanted == len(wire)
        assert decoder._buffer is rest
    assert decoder.feed(wire[-1:] + frame(PING)) == [(TEXT, b"x" * (4 << 20)), (PING, b"")]
    assert (decoder._wanted, decoder._buffer) == (0, b"")


@pytest.mark.parametrize("before", [b"", frame(TEXT, b"before")])
@pytest.mark.parametrize("size", [5, 200, 66_000])
def test_what_is_wanted_is_the_rest_of_the_frame(before: bytes, size: int) -> None:
    wire = frame(BINARY, b"y" * size)
    decoder = FrameDecoder(LIMIT)
    assert len(decoder.feed(before + wire[:1])) == bool(before)
    assert (decoder._wanted, decoder._buffer) == (0, wire[:1])  # its length has not come
    assert decoder.feed(wire[1:-1]) == []
    assert (decoder._wanted, decoder._buffer) == (len(wire), wire[:-1])
    assert decoder.feed(wire[-1:] + wire[:-1]) == [(BINARY, b"y" * size)]
    assert decoder._wanted == len(wire)


@pytest.mark.parametrize("size", [126, 0x0102, 0x7F80, 0xFFFF])
def test_a_length_of_two_bytes_is_read_in_their_order(size: int) -> None:
    assert [len(data) for _, data in decoded(frame(TEXT, b"z" * size))] == [size]


@pytest.mark.parametrize("size, header", [(1001, 4), (LIMIT, 10)])
def test_what_is_too_long_is_known_by_its_length_alone(size: int, header: int) -> None:
    with pytest.raises(FrameError, match="larger"):
        FrameDecoder(1000).feed(frame(TEXT, b"x" * size)[:header])


def test_fragments_take_the_room_of_their_bytes() -> None:
    decoder = FrameDecoder(1 << 20)
    decoder.feed(frame(TEXT, b"ab", final=False))
    wire = frame(CONTINUATION, b"ab", final=False) * 1000
    tracemalloc.start()
    try:
        for _ in range(100):
            assert decoder.feed(wire) == []
        assert tracemalloc.get_traced_memory()[0] < 2 * 200_000 + 100_000
    finally:
        tracemalloc.stop()
    assert decoder.feed(frame(CONTINUATION)) == [(TEXT, b"ab" * 100_001)]


def test_empty_fragments_take_no_room() -> None:
    decoder = FrameDecoder(LIMIT)
    decoder.feed(frame(TEXT, b"a", final=False))
    for _ in range(1000):
        assert decoder.feed(frame(CONTINUATION, b"", final=False)) == []
    assert len(decoder._fragments) == 1
    assert decoder.feed(frame(CONTINUATION, b"b")) == [(TEXT, b"ab")]


controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))


@st.composite
def legal(draw: st.DrawFn) -> Tuple[bytes, List[Tuple[int, bytes]]]:
    """A legal stream and its messages in order."""
    wire, messages = b"", []
    for _ in range(draw(st.integers(0, 6))):
        opcode = draw(st.sampled_from([TEXT, BINARY]))
        parts = draw(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            wire += frame(opcode if number == 0 else CONTINUATION, part, final=last)
            if not last:
                for kind, payload in draw(st.lists(controls, max_size=2)):
                    wire += frame(kind, payload)
                    messages.append((kind, payload))
        messages.append((opcode, b"".join(parts)))
    return wire, messages


def split(wire: bytes, cuts: List[int]) -> List[bytes]:
    marks = sorted({min(cut, len(wire)) for cut in cuts} | {0, len(wire)})
    return [wire[start:end] for start, end in zip(marks, marks[1:])]


@settings(max_examples=100, deadline=None)
@given(legal(), st.lists(st.integers(0, 3000), max_size=12))
def test_any_split_gives_the_same_messages(stream: Tuple[bytes, List[Tuple[int, bytes]]], cuts: List[int]) -> None:
    wire, messages = stream
    assert decoded(*split(wire, cuts)) == messages


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_noise_gives_messages_or_the_one_error(noise: bytes, cuts: List[int]) -> None:
    def outcome(*chunks: bytes) -> Any:
        decoder, seen = FrameDecoder(1000), []
        for chunk in chunks:
            try:
                seen += decoder.feed(chunk)
            except FrameError:
                return "error"
        return seen

    assert outcome(noise) == outcome(*split(noise, cuts))
