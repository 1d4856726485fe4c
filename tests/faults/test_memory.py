"""G10: bodies of any size pass in constant memory; an answer beyond the limit is refused at the limit."""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from pathlib import Path
from typing import Callable, Dict

import pytest

from tests import soak
from tests.faults.appetite import MIB
from tests.faults.test_leaks import appetite
from tests.servers.process import ServeProcess
from tests.servers.scripted import Peer, ScriptedServer
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD

SIZE = soak.amount("SELFDB_TRANSFER_MIB", here=64, long=1024)
GROWTH = 32 * MIB
KEY = "key-of-the-memory-tests"

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from Linux's /proc"),
    pytest.mark.timeout(3600 if soak.LONG else 300),
]


def _peak(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_g10_up_and_down(tmp_path: Path) -> None:
    with ServeProcess(tmp_path / "data", api_key=KEY) as server:
        assert server.process is not None
        before = _peak(server.process.pid)
        who = {"url": server.url, "key": KEY, "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
        grown = appetite("bodies", **who, mib=SIZE, folder=str(tmp_path))
        served = _peak(server.process.pid) - before
    worst = max(grown, key=lambda name: grown[name])
    soak.figure(
        "G10",
        f"{SIZE} MiB 4 times up and 3 down: client +{grown[worst] / MIB:.1f} MiB ({worst}), server +{served / MIB:.1f}",
    )
    assert grown[worst] <= GROWTH, grown
    assert served <= GROWTH * 2, "the server has its own budget, with what it loads for the first login"


def test_g10_resumed_after_cuts() -> None:
    block = b"x" * MIB
    part = max(1, SIZE // 8)

    def serve(peer: Peer) -> None:
        while True:
            request = peer.read_request()
            if "download" not in request.target:
                peer.reply(404)
                continue
            begin = int((request.header("Range") or "bytes=0-")[6:-1])
            span = f"bytes {begin}-{SIZE * MIB - 1}/{SIZE * MIB}"
            status = f"206 Partial\r\nContent-Range: {span}" if begin else "200 OK"
            peer.send(f'HTTP/1.1 {status}\r\nETag: "e"\r\nContent-Length: {SIZE * MIB - begin}\r\n\r\n'.encode())
            left = min(part * MIB + 7, SIZE * MIB - begin)
            while left > 0:
                peer.send(block[:left])
                left -= MIB
            if begin + part * MIB + 7 < SIZE * MIB:
                peer.close()
                return

    with ScriptedServer(default=serve) as server:
        grown = appetite("resumed", url=server.url, mib=SIZE)
        assert len(server.requests) > 8
    soak.figure("G10", f"{SIZE} MiB down over 8 cuts: +{grown['download with cuts'] / MIB:.1f} MiB")
    assert grown["download with cuts"] <= GROWTH


# Answers without end

CHUNKED = "Transfer-Encoding: chunked\r\n"
ZEROS = b"0" * MIB


def _endless(head: str, block: Callable[[], bytes], end: str = "\r\n") -> Callable[[Peer], None]:
    def send(peer: Peer) -> None:
        peer.send(f"HTTP/1.1 {head}{end}".encode())
        while True:
            peer.send(block())

    return send


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _bomb(kind: int, layers: int = 1) -> Callable[[], bytes]:
    packer = [zlib.compressobj(9, zlib.DEFLATED, kind) for _ in range(layers)]

    def more() -> bytes:
        data = ZEROS
        for layer in packer:
            data = layer.compress(data) + layer.flush(zlib.Z_SYNC_FLUSH)
        return data

    return more


def _chunks_of(block: Callable[[], bytes]) -> Callable[[], bytes]:
    return lambda: _chunk(block())


ENDLESS: Dict[str, Callable[[Peer], None]] = {
    "a length": _endless("200 OK\r\nContent-Length: 10737418240\r\n", lambda: ZEROS),
    "chunks": _endless(f"200 OK\r\n{CHUNKED}", lambda: _chunk(ZEROS)),
    "small chunks": _endless(f"200 OK\r\n{CHUNKED}", lambda: b"8\r\n00000000\r\n" * 5000),
    "one chunk": _endless(f"200 OK\r\n{CHUNKED}\r\nfffffffffff", lambda: b"\r\n" + ZEROS),
    "to the end": _endless("200 OK\r\nConnection: close\r\n", lambda: ZEROS),
    "gzip": lambda peer: _endless("200 OK\r\nContent-Encoding: gzip\r\n", _bomb(31))(peer),
    "gzip in chunks": lambda peer: _endless(f"200 OK\r\n{CHUNKED}Content-Encoding: gzip\r\n", _chunks_of(_bomb(31)))(
        peer
    ),
    "deflate": lambda peer: _endless("200 OK\r\nContent-Encoding: deflate\r\n", _bomb(15))(peer),
    "raw deflate": lambda peer: _endless("200 OK\r\nContent-Encoding: deflate\r\n", _bomb(-15))(peer),
    "two layers": lambda peer: _endless("200 OK\r\nContent-Encoding: gzip, gzip\r\n", _bomb(31, 2))(peer),
    "ten layers": lambda peer: _endless(
        "200 OK\r\nContent-Encoding: " + ", ".join(["gzip"] * 10) + "\r\n", _bomb(31, 10)
    )(peer),
    "brotli": _endless("200 OK\r\nContent-Encoding: br\r\n", lambda: ZEROS),
    "a refusal": _endless("404 Not Found\r\nContent-Length: 10737418240\r\n", lambda: ZEROS),
    "a failure": lambda peer: _endless("500 Oops\r\nContent-Encoding: gzip\r\n", _bomb(31))(peer),
    "no session": _endless("401 Unauthorized\r\nConnection: close\r\n", lambda: ZEROS),
    "a redirect": _endless("302 Found\r\nLocation: http://127.0.0.1:9/\r\n", lambda: ZEROS),
    "a redirect of chunks": _endless(f"307 Found\r\nLocation: http://127.0.0.1:9/\r\n{CHUNKED}", lambda: _chunk(ZEROS)),
    "trailers": _endless(f"200 OK\r\n{CHUNKED}\r\n2\r\n{{}}\r\n0", lambda: b"X-A: " + b"a" * 9000 + b"\r\n"),
    "a trailer": _endless(f"200 OK\r\n{CHUNKED}\r\n0", lambda: ZEROS),
    "an extension": _endless(f"200 OK\r\n{CHUNKED}\r\n2;a=", lambda: ZEROS, ""),
    "headers": _endless("200 OK", lambda: b"X-A: " + b"a" * 9000 + b"\r\n"),
    "a header": _endless("200 OK\r\nX-A: ", lambda: ZEROS, ""),
}

LIMIT = MIB


def test_g10_answers_without_end() -> None:
    def serve(peer: Peer) -> None:
        request = peer.read_request()
        kind = request.target.rpartition("/")[2].replace("%20", " ")
        if kind == "warm":
            peer.reply(404)
            return
        ENDLESS[kind](peer)

    with ScriptedServer(default=serve) as server:
        told = appetite("bombs", url=server.url, kinds=list(ENDLESS), limit=LIMIT)
        assert server.connections == 2 + len(told), "none of their connections is used again"
    for kind, (outcome, grown, seconds) in told.items():
        name = kind.replace(", theirs", "")
        refused = {
            "brotli": "APIConnectionError",
            "two layers": "APIConnectionError",
            "ten layers": "APIConnectionError",
            "trailers": "APIConnectionError",
            "a trailer": "APIConnectionError",
            "an extension": "APIConnectionError",
            "headers": "APIConnectionError",
            "a header": "APIConnectionError",
            "one chunk": "ResponseTooLargeError",
            "a redirect": "RedirectError",
            "a redirect of chunks": "RedirectError",
        }.get(name, "ResponseTooLargeError")
        assert outcome == refused, kind
        assert grown < 2 * LIMIT + 16 * MIB, (kind, grown)
        assert seconds < 30, (kind, seconds)
    worst = max(told.values(), key=lambda one: one[1])
    soak.figure(
        "G10", f"{len(told)} answers without end refused at {LIMIT // MIB} MiB, at most +{worst[1] / MIB:.1f} MiB"
    )


def test_g10_a_bomb_at_the_limit_that_is_there() -> None:
    whole = gzip.compress(ZEROS * (1024 if soak.LONG else 160))

    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.reply(200, whole, {"Content-Encoding": "gzip"})

    with ScriptedServer(default=serve) as server:
        told = appetite("bombs", url=server.url, kinds=["bomb"], limit=100 * MIB)
    for outcome, grown, _ in told.values():
        assert outcome == "ResponseTooLargeError"
        assert grown < 100 * MIB + GROWTH
    soak.figure("G10", f"zeros in {len(whole) // 1024} KiB of gzip: refused, +{told['bomb'][1] / MIB:.1f} MiB")
