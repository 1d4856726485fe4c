"""Who guesses passwords has to wait, and who sends too much, too deep or too slowly is refused while others go on."""

from __future__ import annotations

import contextlib
import gzip
import json
import resource
import socket
import sys
import threading
import time
import tracemalloc
from typing import Any, Callable, Dict, List, Tuple
from urllib.parse import urlsplit

import pytest

from selfdb.server.errors import ApiError
from selfdb.server.passwords import Passwords
from selfdb.server.throttle import LoginThrottle
from tests import soak
from tests.realtime.raw import Raw
from tests.servers.clock import FakeClock
from tests.support import Http, unique

MIB = 1024 * 1024


def test_g19_r19_addresses_that_a_client_claims_are_not_believed(
    make_server: Callable[..., Any], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten failures, whatever is said about where they come from; each guess costs one comparison, known or not."""
    compared: List[str] = []
    matches = Passwords.matches

    def counted(self: Passwords, stored: str, password: str) -> bool:
        compared.append(password)
        return matches(self, stored, password)

    monkeypatch.setattr(Passwords, "matches", counted)
    http = Http(make_server(clock=clock))
    user, _ = http.new_user()
    for email in (user["email"], f"{unique()}@example.com"):
        wrong = {"email": email, "password": "wrong-password"}
        statuses = []
        for number in range(14):
            claims = {
                "X-Forwarded-For": f"10.0.0.{number}",
                "X-Real-IP": f"10.0.1.{number}",
                "Forwarded": f"for=10.0.2.{number}",
                "X-Client-IP": f"10.0.3.{number}",
            }
            compared.clear()
            answer = http.post("/users/token", json=wrong, headers=claims)
            statuses.append(answer.status_code)
            assert len(compared) == (1 if answer.status_code == 401 else 0)
        assert statuses == [401] * 10 + [429] * 4
        assert answer.headers["Retry-After"] == "60"
    assert http.login().access, "who guesses at one address stops nobody at another"
    clock.advance(60)
    assert http.login(user["email"], "password123").access


def test_g19_r19_a_hundred_thousand_addresses_take_little_memory(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock, failures=10, window_seconds=60)
    count = soak.amount("SELFDB_GUESSED", here=5_000, long=20000)
    tracemalloc.start()
    try:
        for number in range(count):
            with pytest.raises(ApiError), throttle.attempt(f"{number}@example.com", "127.0.0.1"):
                raise ApiError(401, "wrong")
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(throttle) <= 100_001
    assert held / len(throttle) < 2048
    soak.figure("G19", f"R19: {count} e-mails guessed at, {len(throttle)} remembered in {held / MIB:.0f} MiB")


def told(server: Any, head: str, *parts: bytes) -> Tuple[int, bytes]:
    """Send a request as it is and read what comes until the line ends; status 0 if nothing came."""
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as line:
        answer = b""
        with contextlib.suppress(ConnectionError):
            line.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n")
            for part in parts:
                line.sendall(part)
        with contextlib.suppress(ConnectionError):
            while chunk := line.recv(65536):
                answer += chunk
    return (int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0), answer


def bombs(http: Http, token: str, table: str) -> Dict[str, Tuple[str, str, bytes, Dict[str, str], Tuple[int, ...]]]:
    """What a plain user may send to do harm, and the statuses that are fit for it."""
    deep = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    many = {f"c{number}": {"type": "text"} for number in range(100_000)}
    rows, gz = f"/tables/{table}/data", {"Content-Encoding": "gzip"}
    multipart = b"".join(b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' for _ in range(20_000))
    return {
        "deep object": ("POST", rows, deep, {}, (422,)),
        "deep list": ("POST", rows, b"[" * 100_000 + b"]" * 100_000, {}, (422,)),
        "deep, open": ("POST", rows, b"[" * 5_000_000, {}, (422,)),
        "11 MiB": ("POST", rows, b'{"a": "' + b"x" * 11 * MIB + b'"}', {}, (413,)),
        "100 000 columns": ("POST", "/tables/", _json(name=unique(), table_schema=many), {}, (422,)),
        "100 000 keys": ("POST", rows, _json(**{f"k{n}": n for n in range(100_000)}), {}, (400,)),
        "a number of a million digits": ("POST", rows, b'{"n": ' + b"9" * 1_000_000 + b"}", {}, (400, 422)),
        "an exponent": ("POST", rows, b'{"n": 1e999999999}', {}, (400, 422)),
        "NaN": ("POST", rows, b'{"n": NaN}', {}, (422,)),
        "Infinity": ("POST", rows, b'{"n": -Infinity}', {}, (422,)),
        "half a character": ("POST", rows, b'{"a": "\\ud800"}', {}, (400, 422)),
        "no UTF-8": ("POST", rows, b'{"a": "\xff\xfe"}', {}, (422,)),
        "UTF-16": ("POST", rows, '{"a": "x"}'.encode("utf-16"), {}, (201, 422)),
        "gzip": ("POST", rows, gzip.compress(b'{"a": "' + b"x" * 50 * MIB + b'"}', 1), gz, (415, 422)),
        "multipart": ("POST", rows, multipart + b"--x--", {"Content-Type": "multipart/form-data; boundary=x"}, (422,)),
        "LIKE": ("GET", f"{rows}?search=" + "%25_" * 33, b"", {}, (200,)),
        "a long search": ("GET", f"{rows}?search=" + "a" * 5000, b"", {}, (422,)),
        "page": ("GET", f"{rows}?page=2147483647&page_size=1000", b"", {}, (200,)),
        "page beyond": ("GET", f"{rows}?page=99999999999999999999&page_size=1000", b"", {}, (422,)),
        "skip": ("GET", "/tables/?skip=2147483647&limit=1000", b"", {}, (200,)),
        "skip beyond": ("GET", "/tables/?skip=" + "9" * 5000, b"", {}, (422,)),
        "10 000 query keys": ("GET", "/tables/?" + "&".join(f"k{n}=1" for n in range(5000)), b"", {}, (400,)),
        "ranges": ("GET", "/system/status", b"", {"Range": "bytes=" + ",".join("0-0" for _ in range(5000))}, (200,)),
        "a long header": ("GET", "/system/status", b"", {"X-Long": "a" * 200_000}, (400, 431)),
        "many headers": ("GET", "/system/status", b"", {f"X-{n}": "a" * 50 for n in range(5000)}, (400, 431)),
        "a long bearer": ("GET", "/users/me", b"", {"Authorization": "Bearer " + "a." * 20_000}, (401,)),
        "a negative length": ("POST", rows, b"", {"Content-Length": "-1"}, (400,)),
        "two lengths": ("POST", rows, b"", {"Content-Length": "5, 6"}, (400,)),
        "a length and chunks": (
            "POST", rows, b"0\r\n\r\n", {"Content-Length": "5", "Transfer-Encoding": "chunked"}, (400, 422),
        ),
    }  # fmt: skip


def _json(**body: Any) -> bytes:
    return json.dumps(body).encode()


def test_g19_what_is_too_much_is_refused_and_others_go_on(backend: str, make_server: Callable[..., Any]) -> None:
    server = make_server(backend=backend)
    http = Http(server)
    _, token = http.new_user()
    schema = {"a": {"type": "text"}, "n": {"type": "integer"}}
    table = http.post("/tables/", json={"name": unique("t"), "table_schema": schema}, bearer=token).json()["id"]
    slowest, done = [0.0], threading.Event()
    _, other = http.new_user()

    def go_on() -> None:
        while not done.is_set():
            began = time.monotonic()
            assert http.get("/users/me", bearer=other).status_code == 200
            slowest[0] = max(slowest[0], time.monotonic() - began)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bystander = threading.Thread(target=go_on)
    bystander.start()
    try:
        for what, (method, path, body, headers, statuses) in bombs(http, token, table).items():
            lines = {
                "Host": "x",
                "Connection": "close",
                "X-API-Key": server.api_key,
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **headers,
            }
            head = f"{method} {path} HTTP/1.1\n" + "\n".join(f"{name}: {value}" for name, value in lines.items())
            status, answer = told(server, head, body)
            assert status in statuses, (what, status, answer[:300])
    finally:
        done.set()
        bystander.join(60)
    assert not bystander.is_alive()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 400 * MIB
    assert slowest[0] < 10
    assert http.get(f"/tables/{table}", bearer=token).json()["row_count"] <= 1
    soak.figure(
        "G19", f"{backend}: floods refused; the slowest answer to others {slowest[0]:.2f} s, {grown // MIB} MiB"
    )


def test_g19_slow_bodies_and_chatty_sockets_hold_nobody_up(make_server: Callable[..., Any]) -> None:
    """Two hundred requests that are never finished, and sockets that never stop talking."""
    server = make_server()
    http = Http(server)
    _, token = http.new_user()
    address = urlsplit(server.url)
    head = (
        f"POST /tables/ HTTP/1.1\r\nHost: x\r\nX-API-Key: {server.api_key}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    ).encode()
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            line = stack.enter_context(socket.create_connection((str(address.hostname), int(address.port or 0)), 30))
            line.sendall(head)
        chatty = [Raw(server, token) for _ in range(5)]
        for raw in chatty:
            stack.callback(raw.stop)
            for number in range(300):
                raw.send(None, str(number), "table:nothing", "phx_join")
        began = time.monotonic()
        for _ in range(20):
            assert http.get("/users/me", bearer=http.admin).status_code == 200
        assert time.monotonic() - began < 20
        for raw in chatty:
            for number in range(300):
                assert raw.receive()[1] == str(number)
