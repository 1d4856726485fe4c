"""What answers that are none become: bodies of errors, answers that cannot be used, redirects."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest

from selfdb.aerodb import AeroDBClient, AeroDBError, AeroDBResponse
from tests.aerodb.services import code, data
from tests.servers.aerodb.server import AeroServer

Make = Callable[..., AeroDBClient]


def answered(aero: AeroServer, client: AeroDBClient, status: int, body: Any, headers: Any = None) -> AeroDBError:
    aero.instead.append((status, headers or {}, body))
    response = client.from_("items").execute()
    assert response.data is None
    assert response.error is not None
    assert response.status == response.error.status
    return response.error


@pytest.mark.parametrize("body", ["not json", "{", b"\xff\xfe", "[" * 100_000], ids=["text", "cut", "bytes", "deep"])
def test_c010_a_success_that_is_no_json_is_an_invalid_response(
    aero: AeroServer, client: AeroDBClient, body: Any
) -> None:
    error = answered(aero, client, 200, body)
    assert (error.code, error.status) == ("INVALID_RESPONSE", 200)


@pytest.mark.parametrize("size", [10, 5000])
def test_c011_a_page_of_html_is_the_message_cut_to_500_characters(
    aero: AeroServer, client: AeroDBClient, size: int
) -> None:
    page = "<html>" + "x" * size
    error = answered(aero, client, 500, page)
    assert error.message == page[:500]
    assert (error.status, error.code) == (500, None)


@pytest.mark.parametrize("body", ["", "  \n"])
def test_c011_an_empty_page_gives_the_words_of_the_status(aero: AeroServer, client: AeroDBClient, body: str) -> None:
    assert answered(aero, client, 503, body).message == "Service Unavailable"


@pytest.mark.parametrize("body", [{}, {"error": ""}, {"error": None, "message": 5}, [], "null", '"text"'], ids=str)
def test_c012_json_that_says_nothing_is_an_unknown_error(aero: AeroServer, client: AeroDBClient, body: Any) -> None:
    error = answered(aero, client, 404, body)
    assert (error.message, error.status) == ("Unknown error", 404)


@pytest.mark.parametrize(("given", "text"), [(409, "409"), ("23505", "23505"), (None, None), (0, "0")])
def test_c013_a_code_is_text(aero: AeroServer, client: AeroDBClient, given: Any, text: Optional[str]) -> None:
    error = answered(aero, client, 409, {"error": "x", "code": given})
    assert (error.message, error.code, error.status) == ("x", text, 409)


def test_c014_all_members_are_taken_over(aero: AeroServer, client: AeroDBClient) -> None:
    body = {"code": "23505", "message": "duplicate key", "details": "Key (id)=(1) exists.", "hint": None}
    assert answered(aero, client, 409, body) == AeroDBError("duplicate key", 409, "23505", "Key (id)=(1) exists.", None)


SAID: List[Tuple[Dict[str, Any], str]] = [
    ({"error": "a", "message": "b"}, "a"),
    ({"error": "", "message": "b", "msg": "c"}, "b"),
    ({"msg": "c", "error_description": "d"}, "c"),
    ({"error_description": "d", "detail": "e"}, "d"),
    ({"detail": "e"}, "e"),
]


@pytest.mark.parametrize(("body", "message"), SAID, ids=[message for _, message in SAID])
def test_c014_the_first_that_says_something_is_the_message(
    aero: AeroServer, client: AeroDBClient, body: Dict[str, Any], message: str
) -> None:
    assert answered(aero, client, 400, body).message == message


def test_c014_an_error_that_is_an_object_has_message_and_code(aero: AeroServer, client: AeroDBClient) -> None:
    error = answered(aero, client, 400, {"error": {"message": "inner", "code": 7}, "message": "outer"})
    assert (error.message, error.code) == ("inner", "7")


def test_c014_details_may_be_anything_and_a_hint_is_text(aero: AeroServer, client: AeroDBClient) -> None:
    error = answered(aero, client, 400, {"message": "m", "details": {"a": [1]}, "hint": {"b": 2}})
    assert (error.details, error.hint) == ({"a": [1]}, '{"b": 2}')


def test_a_server_that_is_not_set_up_says_so(aero: AeroServer, client: AeroDBClient) -> None:
    body = {"error": "SETUP_REQUIRED", "code": "AERO_SETUP_REQUIRED", "message": "m", "setup_url": "/setup"}
    error = answered(aero, client, 503, body)
    assert (error.message, error.code, error.status) == ("SETUP_REQUIRED", "AERO_SETUP_REQUIRED", 503)


@pytest.mark.parametrize("status", [300, 304])
def test_what_is_left_of_3xx_is_an_invalid_response(aero: AeroServer, client: AeroDBClient, status: int) -> None:
    error = answered(aero, client, status, b"")
    assert (error.code, error.status) == ("INVALID_RESPONSE", status)


def test_so_is_a_redirect_to_elsewhere_and_nothing_is_sent_there(aero: AeroServer, client: AeroDBClient) -> None:
    other = AeroServer().start()
    try:
        error = answered(aero, client, 307, b"", {"Location": other.url + "/rest/v1/items"})
        assert (error.code, error.status) == ("INVALID_RESPONSE", 307)
        assert "set url to" in error.message
        assert other.requests == []
    finally:
        other.stop()


@pytest.mark.parametrize("status", [200, 201, 202, 206, 299])
def test_any_2xx_is_a_success(aero: AeroServer, client: AeroDBClient, status: int) -> None:
    aero.instead.append((status, {}, [{"id": 1}]))
    response = client.from_("items").execute()
    assert data(response) == [{"id": 1}]
    assert response.status == status


EMPTY: List[Tuple[str, int, Any]] = [
    ("read", 200, []), ("read", 206, []), ("read", 204, None),
    ("insert", 201, []), ("insert", 204, []), ("update", 200, []), ("delete", 204, []),
]  # fmt: skip


@pytest.mark.parametrize(("call", "status", "given"), EMPTY)
def test_an_empty_answer_is_no_rows(aero: AeroServer, client: AeroDBClient, call: str, status: int, given: Any) -> None:
    aero.instead.append((status, {}, b""))
    rows = client.from_("items")
    response = {
        "read": lambda: rows.execute(),
        "insert": lambda: rows.insert({"id": 1}),
        "update": lambda: rows.eq("id", 1).update({"id": 2}),
        "delete": lambda: rows.eq("id", 1).delete(),
    }[call]()
    assert (response.data, response.error, response.status) == (given, None, status)


def test_an_answer_that_breaks_off_is_a_network_error(scripted: Callable[..., Any], client_for: Make) -> None:
    server = scripted(lambda peer: (peer.read_request(), peer.reply(200, b"[1", length=99), peer.close()))
    assert code(client_for(server.url).from_("items").execute()) == "NETWORK_ERROR"


def test_a_write_whose_answer_was_lost_says_that_it_may_have_been_done(
    scripted: Callable[..., Any], client_for: Make
) -> None:
    server = scripted(lambda peer: (peer.read_request(), peer.reset()))
    response = client_for(server.url).from_("items").insert({"id": 1})
    assert response.error is not None
    assert response.error.code == "NETWORK_ERROR"
    assert response.error.may_have_been_applied


def test_a_mistake_of_ours_is_an_error_too(client: AeroDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(client._calls.transport, "exchange", fail)
    response = client.from_("items").execute()
    assert response.error == AeroDBError("RuntimeError: broken", None, "CLIENT_ERROR")


@pytest.mark.parametrize(("more", "sent"), [(0, True), (1, False)])
def test_a_request_line_above_16_kib_is_not_sent(aero: AeroServer, client: AeroDBClient, more: int, sent: bool) -> None:
    line = "GET /rest/v1/items? HTTP/1.1\r\n"
    query = "a" * (16 * 1024 - len(line) + more)

    def work() -> AeroDBResponse[bytes]:
        return AeroDBResponse(client._calls.send("GET", "/rest/v1/items", query=query).content, None)

    response = client._calls.enveloped(work)
    assert response.ok is sent
    assert len(aero.requests) == sent
    if not sent:
        assert code(response) == "VALIDATION_ERROR"
        assert "rpc()" in response.error.message  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_passes_through(
    client: AeroDBClient, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(client._calls.transport, "exchange", fail)
    with pytest.raises(error):
        client.from_("items").execute()
