"""Functions on the server."""

from __future__ import annotations

import time
from typing import Any, Callable, List, Optional, Tuple

import pytest

from selfdb.aerodb import AeroDBClient
from tests.aerodb.services import code, data
from tests.servers.aerodb.server import AeroServer

Make = Callable[..., AeroDBClient]

BODIES: List[Tuple[Any, Optional[str], bytes]] = [
    ({"a": 1}, "application/json", b'{"a":1}'),
    ([1, 2], "application/json", b"[1,2]"),
    (5, "application/json", b"5"),
    (True, "application/json", b"true"),
    ("täxt", "text/plain", "täxt".encode()),
    (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
    (bytearray(b"x"), "application/octet-stream", b"x"),
    (None, None, b""),
]


@pytest.mark.parametrize(("body", "kind", "sent"), BODIES, ids=[repr(body) for body, _, _ in BODIES])
def test_c071_the_body_decides_how_it_is_sent(
    aero: AeroServer, client: AeroDBClient, body: Any, kind: Optional[str], sent: bytes
) -> None:
    aero.functions["hello"] = (200, {}, {"ok": True})
    assert data(client.functions.invoke("hello", body)) == {"ok": True}
    assert aero.lines == ["POST /functions/v1/hello"]
    assert aero.last.body == sent
    assert aero.last.header("Content-Type") == kind


ANSWERS: List[Tuple[str, Any, Any]] = [
    ("application/json", b'{"a":1}', {"a": 1}),
    ("application/json; charset=utf-8", b"5", 5),
    ("application/problem+json", b"[]", []),
    ("application/json", b"null", None),
    ("text/plain", "täxt".encode(), "täxt"),
    ("text/html; charset=latin-1", "täxt".encode("latin-1"), "täxt"),
    ("text/csv; charset=nonsense", b"a,b", "a,b"),
    ("application/pdf", b"\x00\xff", b"\x00\xff"),
    ("image/png", b"{}", b"{}"),
]


@pytest.mark.parametrize(("kind", "content", "result"), ANSWERS, ids=[kind for kind, _, _ in ANSWERS])
def test_c071_the_media_type_decides_what_comes(
    aero: AeroServer, client: AeroDBClient, kind: str, content: bytes, result: Any
) -> None:
    aero.functions["hello"] = (200, {"Content-Type": kind}, content)
    response = client.functions.invoke("hello")
    assert (response.data, response.error, response.status) == (result, None, 200)


def test_c071_without_a_media_type_it_is_text(scripted: Callable[..., Any], client_for: Make) -> None:
    server = scripted(
        lambda peer: (peer.read_request(), peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain"))
    )
    assert data(client_for(server.url).functions.invoke("hello")) == "plain"


@pytest.mark.parametrize(
    "reply",
    [
        (204, {}, b""),
        (200, {"Content-Type": "application/json"}, b""),
        (200, {"Content-Type": "text/plain"}, b""),
        (200, {"Content-Type": "image/png"}, b""),
    ],
    ids=["204", "json", "text", "bytes"],
)
def test_c071_an_empty_answer_is_none(aero: AeroServer, client: AeroDBClient, reply: Any) -> None:
    aero.functions["hello"] = reply
    response = client.functions.invoke("hello", {})
    assert (response.data, response.error, response.status) == (None, None, reply[0])


@pytest.mark.parametrize("status", [404, 500, 504])
@pytest.mark.parametrize(
    ("body", "message", "its_code"), [("it broke", "it broke", None), ({"error": "x", "code": "E"}, "x", "E")]
)
def test_c071_a_failure_is_an_error_with_its_status(
    aero: AeroServer, client: AeroDBClient, status: int, body: Any, message: str, its_code: Any
) -> None:
    aero.functions["hello"] = (status, {}, body)
    response = client.functions.invoke("hello")
    assert code(response) == its_code
    assert response.error is not None
    assert (response.error.message, response.error.status) == (message, status)


@pytest.mark.parametrize("method", ["GET", "HEAD", "get"])
def test_c071_what_reads_has_no_body(aero: AeroServer, client: AeroDBClient, method: str) -> None:
    aero.functions["hello"] = (200, {}, b"")
    client.functions.invoke("hello", {"a": 1}, method=method)
    assert aero.last.method == method.upper()
    assert (aero.last.body, aero.last.header("Content-Type")) == (b"", None)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_c071_other_methods_have_one(aero: AeroServer, client: AeroDBClient, method: str) -> None:
    aero.functions["hello"] = (200, {}, b"")
    client.functions.invoke("hello", {"a": 1}, method=method)
    assert (aero.last.method, aero.last.json) == (method, {"a": 1})


HEADERS = [
    ("Content-Type", "application/x-ndjson"),
    ("content-type", "text/csv"),
    ("apikey", "another"),
    ("APIKEY", "another"),
    ("Authorization", "Bearer another"),
    ("accept", "text/plain"),
    ("X-Mine", "1"),
]


@pytest.mark.parametrize(("name", "value"), HEADERS)
def test_c071_headers_of_the_caller_win(aero: AeroServer, signed_in: AeroDBClient, name: str, value: str) -> None:
    aero.functions["hello"] = (200, {}, b"")
    data(signed_in.functions.invoke("hello", {"a": 1}, headers={name: value}))
    assert aero.last.header(name) == value
    if name.lower() != "content-type":
        assert aero.last.header("Content-Type") == "application/json"


@pytest.mark.parametrize(
    ("name", "sent"), [("a b", "a%20b"), ("ü", "%C3%BC"), ("a.b-c_d~", "a.b-c_d~"), ("50%?#", "50%25%3F%23")]
)
def test_c071_a_name_is_one_part_of_the_address(aero: AeroServer, client: AeroDBClient, name: str, sent: str) -> None:
    client.functions.invoke(name)
    assert aero.lines == [f"POST /functions/v1/{sent}"]


WRONG: List[Tuple[Any, ...]] = [
    ("",), ("..",), ("a/b",), ("a\nb",), ("a\x7f",), (None,), ("f", {"a": object}), ("f", float("nan")),
    ("f", "\ud800"), ("f", None, {"X": "a\r\nb"}), ("f", None, {"Host": "x"}), ("f", None, 5),
    ("f", None, None, "FETCH"), ("f", None, None, None),
]  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG, ids=repr)
def test_c071_wrong_arguments_are_refused(aero: AeroServer, client: AeroDBClient, arguments: Any) -> None:
    assert code(client.functions.invoke(*arguments)) == "VALIDATION_ERROR"
    assert aero.requests == []


@pytest.mark.parametrize("timeout", [0, -1, "x"])
def test_c071_so_is_a_wrong_time(client: AeroDBClient, timeout: Any) -> None:
    assert code(client.functions.invoke("hello", timeout=timeout)) == "VALIDATION_ERROR"


def test_c071_a_call_may_have_a_time_of_its_own(scripted: Callable[..., Any], client_for: Make) -> None:
    server = scripted(default=lambda peer: (peer.read_request(), peer.stall()))
    begun = time.monotonic()
    assert code(client_for(server.url).functions.invoke("hello", timeout=0.2)) == "TIMEOUT"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("wrapped", [False, True])
def test_functions_are_listed(aero: AeroServer, client: AeroDBClient, wrapped: bool) -> None:
    listed = [{"name": "hello"}]
    aero.instead = [(200, {}, {"functions": listed} if wrapped else listed), (200, {}, {"functions": 5})]
    assert data(client.functions.list()) == listed
    assert aero.lines == ["GET /functions/v1"]
    assert code(client.functions.list()) == "INVALID_RESPONSE"
