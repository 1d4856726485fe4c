"""Bodies on their way to the caller: whole or not at all, resumed at any byte, never mixed, never beyond a limit."""

from __future__ import annotations

import gzip
import os
import threading
import time
from pathlib import Path
from typing import Any, List, Optional, Tuple

import pytest

from selfdb.core import download as module
from selfdb.core.clock import Clock
from selfdb.core.download import MAX_RESTARTS, read_all, save
from selfdb.core.retry import RetryBudget
from selfdb.exceptions import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ResponseTooLargeError,
    SelfDBError,
)
from tests.core.downloading import ALL, CONTENT, FORWARD_ONLY, OTHER, REWINDABLE, Object, Scripted, fetch
from tests.core.kit import BOUND, Background, in_forked_child, transport_to
from tests.servers.scripted import Peer, Received, answer

# Undisturbed


@pytest.mark.parametrize("take", ALL)
@pytest.mark.parametrize("content", [CONTENT, b"", os.urandom(700_001)], ids=["short", "empty", "long"])
def test_an_undisturbed_download_is_byte_identical(
    take: Any, content: bytes, scripted: Scripted, tmp_path: Path
) -> None:
    server = scripted(default=Object(content))
    with transport_to(server.url) as transport:
        download = fetch(transport)
        assert download.total == len(content)
        assert (download.status_code, download.headers["etag"]) == (200, '"v1"')
        assert take(download, tmp_path) == content
    (request,) = server.requests
    assert request.line == "GET /object"
    assert request.header("Accept-Encoding") == "identity"
    assert request.header("Range") is None


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 12, 19])
def test_blocks_are_at_most_as_large_as_asked_and_lose_no_last_byte(size: int, scripted: Scripted) -> None:
    content = os.urandom(size)
    server = scripted(default=Object(content))
    with transport_to(server.url) as transport, fetch(transport, block_size=4) as download:
        blocks = list(download)
    assert b"".join(blocks) == content
    assert [len(block) for block in blocks] == [4] * (size // 4) + ([size % 4] if size % 4 else [])


@pytest.mark.parametrize("known", [True, False])
def test_progress(known: bool, scripted: Scripted) -> None:
    def chunked(peer: Peer) -> None:
        peer.read_request()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        peer.send(head + b"c\r\n" + CONTENT + b"\r\n0\r\n\r\n")

    server = scripted(Object() if known else chunked)
    steps: List[Tuple[int, Optional[int]]] = []
    with transport_to(server.url) as transport:
        download = fetch(transport, block_size=5, progress=lambda done, total: steps.append((done, total)))
        assert read_all(download) == CONTENT
    total = 12 if known else None
    assert steps == [(5, total), (10, total), (12, total)]


@pytest.mark.parametrize("length", ["\u00b2", "1" * 5000, "+5", "-1", "1_0"])
def test_a_length_that_is_none_is_refused(length: str, scripted: Scripted) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode("latin-1")
    server = scripted(default=lambda peer: (peer.read_request(), peer.send(head + CONTENT)))
    with transport_to(server.url) as transport, pytest.raises(APIConnectionError, match="not HTTP"):
        fetch(transport)


def test_an_answer_without_length_ends_with_its_connection(scripted: Scripted) -> None:
    server = scripted(lambda peer: (peer.read_request(), peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + CONTENT)))
    with transport_to(server.url) as transport:
        download = fetch(transport)
        assert download.total is None
        assert read_all(download) == CONTENT


def test_a_refusal_is_raised_before_anything_is_made(scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(lambda peer: (peer.read_request(), peer.reply(404, b'{"detail": "File not found"}')))
    with transport_to(server.url) as transport, pytest.raises(NotFoundError, match="File not found"):
        fetch(transport)


@pytest.mark.parametrize("option", ["block_size", "max_bytes"])
@pytest.mark.parametrize("value", [-1, True, "5", 2.0])
def test_a_wrong_option_is_refused_before_anything_is_sent(option: str, value: Any, scripted: Scripted) -> None:
    server = scripted()
    with transport_to(server.url) as transport, pytest.raises(InvalidRequestError):
        fetch(transport, **{option: value})
    assert server.connections == 0


# Resumed


@pytest.mark.parametrize("take", ALL)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_download_is_resumed_at_every_position(take: Any, reset: bool, scripted: Scripted, tmp_path: Path) -> None:
    for cut in range(len(CONTENT)):
        thing = Object(cuts=[cut])
        thing.reset = reset
        server = scripted(default=thing)
        with transport_to(server.url) as transport:
            download = fetch(transport, block_size=1)
            assert take(download, tmp_path) == CONTENT, f"cut at {cut}"
            assert download.done == len(CONTENT)
        first, second = server.requests
        begin = int((second.header("Range") or "")[len("bytes=") : -1])
        # A reset may take what came before it and was not read.
        assert begin <= cut if reset else begin == cut
        assert second.header("If-Range") == '"v1"'
        assert second.header("Accept-Encoding") == "identity"
        assert first.header("Range") is None


@pytest.mark.parametrize("block_size", [5, 100])
def test_blocks_that_broke_off_are_fetched_again(block_size: int, scripted: Scripted) -> None:
    for cut in range(len(CONTENT)):
        server = scripted(default=Object(cuts=[cut, 2]))
        steps: List[int] = []
        with transport_to(server.url) as transport:
            download = fetch(transport, block_size=block_size, progress=lambda done, total: steps.append(done))
            assert read_all(download) == CONTENT
        assert steps == sorted(set(steps)), "it never goes back"
        assert steps[-1] == len(CONTENT)


def test_an_answer_that_breaks_after_its_last_byte_is_whole(scripted: Scripted) -> None:
    thing = Object(cuts=[len(CONTENT)])
    thing.reset = False
    server = scripted(default=thing)
    with transport_to(server.url) as transport:
        assert read_all(fetch(transport)) == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("max_retries", [0, 1, 2])
def test_failures_in_a_row_are_bounded_by_max_retries(max_retries: int, scripted: Scripted) -> None:
    server = scripted(default=Object(cuts=[5] + [0] * 20))
    with transport_to(server.url, max_retries=max_retries) as transport:
        download = fetch(transport, block_size=5)
        assert next(download) == CONTENT[:5]
        with pytest.raises(APIConnectionError, match=r"broke off.*\(GET /object\)"):
            next(download)
    assert len(server.requests) == 1 + max_retries


def test_failures_with_progress_between_them_are_not_added_up(scripted: Scripted) -> None:
    server = scripted(default=Object(cuts=[1] * 11))
    with transport_to(server.url, max_retries=1) as transport:
        assert read_all(fetch(transport, block_size=1)) == CONTENT
    assert len(server.requests) == 12


def test_an_empty_budget_ends_it(scripted: Scripted) -> None:
    server = scripted(default=Object(cuts=[5]))
    with transport_to(server.url) as transport:
        download = fetch(transport, block_size=5)
        while transport.pool.budget.take(RetryBudget.COST):
            pass
        with pytest.raises(APIConnectionError):
            read_all(download)
    assert len(server.requests) == 1


@pytest.mark.parametrize("tag", [None, 'W/"v1"', "v1", ""])
@pytest.mark.parametrize("take", ALL)
def test_without_a_strong_tag_nothing_is_resumed(
    take: Any, tag: Optional[str], scripted: Scripted, tmp_path: Path
) -> None:
    server = scripted(default=Object(cuts=[5], tag=tag))
    with transport_to(server.url) as transport, pytest.raises(APIConnectionError, match="broke off"):
        take(fetch(transport), tmp_path)
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_answer_may_hold_less_than_the_rest(scripted: Scripted) -> None:
    thing = Object(cuts=[2])

    def three_bytes(request: Received) -> bytes:
        begin = int((request.header("Range") or "")[len("bytes=") : -1])
        span = f"bytes {begin}-{min(begin + 2, 11)}/12"
        return answer(206, CONTENT[begin : begin + 3], {"Content-Range": span, "Connection": "close"})

    thing.then = three_bytes
    server = scripted(default=thing)
    with transport_to(server.url, max_retries=1) as transport:
        assert read_all(fetch(transport, block_size=1)) == CONTENT
    assert [request.header("Range") for request in server.requests[1:]] == [
        "bytes=2-", "bytes=5-", "bytes=8-", "bytes=11-"
    ]  # fmt: skip


def test_answers_that_hold_nothing_of_the_rest_come_to_an_end(scripted: Scripted) -> None:
    thing = Object(cuts=[2])
    thing.then = lambda request: answer(206, b"", {"Content-Range": "bytes 2-11/12", "Connection": "close"})
    server = scripted(default=thing)
    with transport_to(server.url) as transport, pytest.raises(APIConnectionError, match="ended after 2 of 12 bytes"):
        read_all(fetch(transport, block_size=1))
    assert len(server.requests) == 3


def test_a_total_that_is_not_stated_is_no_change(scripted: Scripted) -> None:
    thing = Object(cuts=[2])
    thing.then = lambda request: answer(206, CONTENT[2:], {"Content-Range": "bytes 2-11/*", "Connection": "close"})
    server = scripted(default=thing)
    with transport_to(server.url) as transport:
        assert read_all(fetch(transport, block_size=1)) == CONTENT


def test_a_refusal_of_the_rest_is_raised_as_it_is(scripted: Scripted) -> None:
    thing = Object(cuts=[2])
    thing.then = lambda request: answer(403, b'{"detail": "not any more"}', {"Connection": "close"})
    server = scripted(default=thing)
    with transport_to(server.url) as transport, pytest.raises(PermissionDeniedError, match="not any more"):
        read_all(fetch(transport, block_size=1))


class MovedClock(Clock):
    """The real one, and what a test adds."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


def test_one_deadline_holds_for_the_whole_download(scripted: Scripted) -> None:
    clock = MovedClock()
    server = scripted(default=Object(cuts=[5, 2]))

    def pass_time(done: int, total: Optional[int]) -> None:
        clock.ahead += 10

    with transport_to(server.url, deadline=65, clock=clock) as transport:
        download = fetch(transport, block_size=1, progress=pass_time)
        with pytest.raises(APITimeoutError, match="the deadline of 65 s for the whole transfer"):
            read_all(download)
    assert download.done == 7, "it was resumed in time once and did not get its time anew"
    assert len(server.requests) == 2


def test_a_part_that_nobody_asked_for_is_no_whole(scripted: Scripted) -> None:
    def part(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer(206, CONTENT[:3], {"Content-Range": "bytes 0-2/12", "Connection": "close"}))

    server = scripted(default=part)
    with transport_to(server.url) as transport, pytest.raises(APIConnectionError, match="a part of the object"):
        read_all(fetch(transport))


def test_a_break_that_leaves_no_time_is_not_resumed(scripted: Scripted) -> None:
    clock = MovedClock()
    server = scripted(default=Object(cuts=[1]))

    def pass_time(done: int, total: Optional[int]) -> None:
        clock.ahead += 1000

    with transport_to(server.url, deadline=60, clock=clock) as transport, pytest.raises(APITimeoutError):
        read_all(fetch(transport, block_size=1, progress=pass_time))
    assert len(server.requests) == 1


# Changed meanwhile


@pytest.mark.parametrize("take", REWINDABLE)
def test_a_changed_object_is_begun_anew(take: Any, scripted: Scripted, tmp_path: Path) -> None:
    thing = Object(cuts=[7])
    server = scripted(default=thing)
    steps: List[Tuple[int, Optional[int]]] = []
    change = thing.becomes(OTHER, '"v2"')

    def progress(done: int, total: Optional[int]) -> None:
        change(done, total)
        steps.append((done, total))

    with transport_to(server.url) as transport:
        download = fetch(transport, block_size=7, progress=progress)
        assert take(download, tmp_path) == OTHER
        assert download.headers["ETag"] == '"v2"'
    assert steps == [(7, 12), (7, 16), (14, 16), (16, 16)]


def test_a_shorter_object_leaves_nothing_of_the_longer_one(scripted: Scripted, tmp_path: Path) -> None:
    for take in REWINDABLE:
        thing = Object(cuts=[7])
        server = scripted(default=thing)
        with transport_to(server.url) as transport:
            download = fetch(transport, block_size=7, progress=thing.becomes(b"ab", '"v2"'))
            assert take(download, tmp_path) == b"ab"


@pytest.mark.parametrize("take", FORWARD_ONLY)
def test_what_was_handed_out_cannot_be_taken_back(take: Any, scripted: Scripted, tmp_path: Path) -> None:
    thing = Object(cuts=[7])
    server = scripted(default=thing)
    progress = thing.becomes(OTHER, '"v2"')
    with transport_to(server.url) as transport, pytest.raises(APIConnectionError, match="object changed") as caught:
        take(fetch(transport, block_size=7, progress=progress), tmp_path)
    assert (caught.value.method, caught.value.path) == ("GET", "/object")


@pytest.mark.parametrize(
    "instead",
    [
        answer(206, OTHER, {"Content-Range": "bytes 0-15/16", "Connection": "close"}),
        answer(206, OTHER[2:], {"Content-Range": "bytes 2-15/16", "Connection": "close"}),
        answer(206, CONTENT[3:], {"Content-Range": "bytes 3-11/12", "Connection": "close"}),
        answer(206, CONTENT[2:], {"Connection": "close"}),
        answer(206, CONTENT[2:], {"Content-Range": "lines 2-11/12", "Connection": "close"}),
        answer(206, CONTENT[2:], {"Content-Range": f"bytes {'9' * 5000}-11/12", "Connection": "close"}),
        answer(200, CONTENT, {"Connection": "close"}),
        answer(200, CONTENT[2:], {"Content-Range": "bytes 2-11/12", "Connection": "close"}),
        answer(416, b"{}", {"Content-Range": "bytes */2", "Connection": "close"}),
        answer(404, b"{}", {"Connection": "close"}),
    ],
    ids=[
        "from the start", "other total", "gap", "no span", "other unit", "absurd", "whole", "200 with a span", "416",
        "404",
    ],
)  # fmt: skip
def test_an_answer_that_is_not_the_rest_of_it_is_never_mixed_in(instead: bytes, scripted: Scripted) -> None:
    thing = Object(cuts=[2])
    thing.then = lambda request: instead
    server = scripted(default=thing)
    with transport_to(server.url) as transport:
        assert read_all(fetch(transport, block_size=1)) == CONTENT
    assert [request.header("Range") for request in server.requests] == [None, "bytes=2-", None]

    thing = Object(cuts=[2])
    thing.then = lambda request: instead
    server = scripted(default=thing)
    with transport_to(server.url) as transport, fetch(transport, block_size=1) as download:
        assert [next(download), next(download)] == [b"0", b"1"]
        with pytest.raises(APIConnectionError, match="object changed"):
            next(download)


def test_an_object_that_was_deleted_meanwhile_is_not_found(scripted: Scripted, tmp_path: Path) -> None:
    gone = answer(404, b'{"detail": "File not found"}', {"Connection": "close"})
    server = scripted(Object(cuts=[2]), default=lambda peer: (peer.read_request(), peer.send(gone)))
    with transport_to(server.url) as transport, pytest.raises(NotFoundError):
        save(fetch(transport, block_size=1), tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_keeps_changing_ends_it(scripted: Scripted, tmp_path: Path) -> None:
    thing = Object(cuts=[7] * 100)
    versions = iter(range(2, 100))

    def change(done: int, total: Optional[int]) -> None:
        thing.tag = f'"v{next(versions)}"'

    server = scripted(default=thing)
    with transport_to(server.url) as transport, pytest.raises(APIConnectionError, match="object changed"):
        save(fetch(transport, block_size=7, progress=change), tmp_path / "target")
    # Each time: one from the start, and one for the rest that turns out to be of another object.
    assert len(server.requests) == 2 * (1 + MAX_RESTARTS)
    assert list(tmp_path.iterdir()) == []


# Limits


def test_more_than_max_bytes_is_refused_by_its_announced_length(scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(default=Object())
    with transport_to(server.url) as transport:
        with pytest.raises(ResponseTooLargeError, match=r"larger than the 11 bytes allowed for it \(GET /object\)"):
            fetch(transport, max_bytes=11)
        assert read_all(fetch(transport, max_bytes=12)) == CONTENT


@pytest.mark.parametrize("take", ALL)
def test_more_than_max_bytes_is_refused_where_no_length_was_announced(
    take: Any, scripted: Scripted, tmp_path: Path
) -> None:
    endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + CONTENT
    server = scripted(default=lambda peer: (peer.read_request(), peer.send(endless)))
    with transport_to(server.url) as transport:
        download = fetch(transport, max_bytes=11, block_size=4)
        with pytest.raises(ResponseTooLargeError):
            take(download, tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert take(fetch(transport, max_bytes=12, block_size=4), tmp_path) == CONTENT


def test_no_bytes_at_all_may_be_allowed(scripted: Scripted) -> None:
    server = scripted(Object(b""), Object(b"x"))
    with transport_to(server.url) as transport:
        assert read_all(fetch(transport, max_bytes=0)) == b""
        with pytest.raises(ResponseTooLargeError):
            fetch(transport, max_bytes=0)


def packed(content: bytes, **more: str) -> Object:
    thing = Object(gzip.compress(content))
    thing.more = {"Content-Encoding": "gzip", **more}
    return thing


def test_what_comes_compressed_although_it_was_not_asked_for_is_unpacked(scripted: Scripted) -> None:
    server = scripted(default=packed(CONTENT * 1000))
    steps: List[Tuple[int, Optional[int]]] = []
    with transport_to(server.url) as transport:
        download = fetch(transport, progress=lambda done, total: steps.append((done, total)))
        assert download.total is None, "the length is that of what was packed"
        assert read_all(download) == CONTENT * 1000
    assert steps[-1] == (12_000, None)


def test_what_comes_compressed_is_limited(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER", 11_999)
    server = scripted(default=packed(CONTENT * 1000))
    with transport_to(server.url) as transport:
        with pytest.raises(ResponseTooLargeError, match="11999"):
            read_all(fetch(transport))
        assert len(read_all(fetch(transport, max_bytes=12_000))) == 12_000, "who names a limit means it"
        with pytest.raises(ResponseTooLargeError, match="than the 100 bytes"):
            read_all(fetch(transport, max_bytes=100))


def test_what_comes_compressed_is_not_resumed(scripted: Scripted) -> None:
    thing = packed(os.urandom(1000))
    thing.cuts = [500]
    server = scripted(default=thing)
    with transport_to(server.url) as transport, pytest.raises(APIConnectionError):
        read_all(fetch(transport))
    assert len(server.requests) == 1


# Closing


def test_closing_in_the_middle_lets_go_of_the_connection(scripted: Scripted) -> None:
    gone = []

    def endless(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer(200, bytes(1000), {"ETag": '"v1"'}, length=10**9))
        peer.wait_for_close()
        gone.append(True)

    server = scripted(endless)
    with transport_to(server.url) as transport:
        with fetch(transport, block_size=10) as download:
            assert next(download) == bytes(10)
        download.close()
        assert list(download) == []
        server.stop()  # waits for the handler, which waits for our side to close
    assert gone == [True]


def test_an_ended_download_stays_ended(scripted: Scripted) -> None:
    server = scripted(default=Object())
    with transport_to(server.url) as transport:
        download = fetch(transport)
        assert b"".join(download) == CONTENT
        assert list(download) == []
        download.close()
    assert len(server.requests) == 1


def test_closing_the_client_ends_the_wait_for_the_rest(scripted: Scripted) -> None:
    server = scripted(default=Object(cuts=[1]))
    with transport_to(server.url) as transport:
        download = fetch(transport, block_size=1)
        next(download)
        transport.lifeline.close()
        with pytest.raises(SelfDBError, match="closed"):
            next(download)


# Interrupted steps


def test_an_interruption_behind_the_last_block_is_no_reason_to_ask_again(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> bytes:
        raise KeyboardInterrupt

    server = scripted(default=Object(CONTENT))
    with transport_to(server.url) as transport:
        download = fetch(transport)
        assert b"".join(next(download) for _ in range(-(-len(CONTENT) // download._block_size))) == CONTENT
        monkeypatch.setattr(download._stream, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(download)
        assert list(download) == []
    assert len(server.requests) == 1


def test_a_block_that_came_after_its_step_was_given_up_is_the_next(scripted: Scripted) -> None:
    server = scripted(default=Object(CONTENT))
    with transport_to(server.url) as transport:
        download = fetch(transport)
        download._fetch()  # by the step that was given up, on its way out
        download._fetch()  # by the one that waited for it
        assert b"".join(download) == CONTENT


def test_a_child_does_not_wait_for_the_step_of_a_thread_that_it_does_not_have(scripted: Scripted) -> None:
    server = scripted(Object())
    with transport_to(server.url) as transport, fetch(transport) as blocks:
        held, go = threading.Event(), threading.Event()

        def step() -> None:
            with blocks._turn:
                held.set()
                go.wait(BOUND)

        stepping = Background(step)
        assert held.wait(BOUND)
        try:
            assert in_forked_child(lambda: b"free" if blocks._turn.acquire(timeout=1) else b"held") == b"free"
        finally:
            go.set()
        assert stepping.result() is None
        assert b"".join(blocks) == CONTENT
