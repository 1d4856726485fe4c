"""From what went wrong to the words for it: answers of every shape, and failures as each HTTP stack nests them."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import Any, Optional

import pytest
import requests
import urllib3

from selfdb.core.messages import connection_error, error_for_answer, hint_for, redact
from selfdb.core.retry import Failure
from selfdb.exceptions import (
    APIConnectionError,
    APITimeoutError,
    ConflictError,
    InvalidRequestError,
    RateLimitError,
    SelfDBError,
    UnprocessableEntityError,
    error_class_for_status,
)

ORIGIN = "http://h:8000"


def said(body: Any, status: int = 400, secrets: Any = ()) -> SelfDBError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_for_answer(status, content, None, secrets, keep_body=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"detail": "no such table"}, "no such table"),
        ({"detail": [{"loc": ["body", "email"], "msg": "not valid"}]}, "body.email: not valid"),
        (
            {"detail": [{"loc": ["body", 0], "msg": "one"}, {"msg": "two"}, {"loc": []}, {}, "three", 4]},
            "body.0: one; two; ; ; three; 4",
        ),
        ({"detail": [{"loc": "body", "msg": "odd"}]}, "odd"),
        ({"detail": {"message": "nested"}}, "nested"),
        ({"detail": {"code": 5}}, "HTTP 400"),
        ({"detail": {}, "message": "outside"}, "outside"),
        ({"error": {"code": "X", "message": "gateway"}}, "gateway"),
        ({"error": "plain"}, "plain"),
        ({"error": {"code": "X"}, "message": "next"}, "next"),
        ({"message": "last"}, "last"),
        ({"detail": "", "error": "", "message": "only"}, "only"),
        ({"detail": None, "message": 5}, "HTTP 400"),
        ({}, "HTTP 400"),
        ([], "HTTP 400"),
        ([{"detail": "in a list"}], "HTTP 400"),
        (5, "HTTP 400"),
        (None, "HTTP 400"),
        ("json text", "json text"),
        (b"", "HTTP 400"),
        (b"   ", "HTTP 400"),
        (b"<html><h1>Bad gateway</h1></html>", "<html><h1>Bad gateway</h1></html>"),
        (b"{ cut off", "{ cut off"),
        (b"\xff\xfe not UTF-8", "\ufffd\ufffd not UTF-8"),
        (b"x" * 5000, "x" * 500),
        (json.dumps({"detail": "y" * 5000}).encode(), "y" * 2048),
        (b'\xef\xbb\xbf{"detail": "with a mark"}', "with a mark"),
    ],
)
def test_c095_the_message_is_found_wherever_it_stands(body: Any, message: str) -> None:
    error = said(body)
    assert error.message == message
    assert str(error).startswith("[400]")


def test_c095_a_message_may_be_absurdly_nested() -> None:
    assert said(b"[" * 100_000).message == "[" * 500


def test_c095_the_body_is_kept_in_part() -> None:
    assert said({"detail": "x", "more": [1]}).response_body == {"detail": "x", "more": [1]}
    assert said(b"z" * 5000).response_body == "z" * 2048
    assert said(b"").response_body is None
    assert error_for_answer(400, b'{"detail": "x"}', None, (), keep_body=False).response_body is None


def test_what_was_sent_does_not_come_back_in_validation_errors() -> None:
    finding = {"loc": ["body", "password"], "msg": "too short", "type": "t", "input": "canary", "ctx": {"a": "canary"}}
    error = said({"detail": [finding, "odd"]}, 422)
    assert isinstance(error, UnprocessableEntityError)
    assert error.errors == [{"loc": ["body", "password"], "msg": "too short", "type": "t"}]
    assert "canary" not in str(error.response_body)
    assert said({"detail": {"input": "kept"}}).response_body == {"detail": {"input": "kept"}}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 409, 422, 429, 500, 502, 503, 504, 418, 405, 413, 599])
def test_c094_the_class_is_that_of_the_status(status: int) -> None:
    error = said({"detail": "x"}, status)
    assert type(error) is error_class_for_status(status)
    assert error.status_code == status


@pytest.mark.parametrize("retry_after", [None, 0.0, 7.5])
def test_what_a_busy_server_asks_for_is_kept(retry_after: Optional[float]) -> None:
    error = error_for_answer(429, b"", retry_after, (), keep_body=True)
    assert isinstance(error, RateLimitError)
    assert error.retry_after == retry_after
    assert not hasattr(error_for_answer(409, b"", retry_after, (), keep_body=True), "retry_after")


@pytest.mark.parametrize(
    "secret", ["plain-secret", 'quote"d-secret', "back\\slash", "new\nline-secret", "Üml-secret", "日本日本日本"]
)
def test_secrets_are_taken_out_however_json_writes_them(secret: str) -> None:
    for text in (secret, json.dumps({"x": secret}), json.dumps({"x": secret}, ensure_ascii=False)):
        shown = redact(f"before {text} after {text}", [secret])
        assert "***" in shown
        assert secret not in shown
        assert json.dumps(secret)[1:-1] not in shown
    error = said({"detail": f"you sent {secret}"}, secrets=[secret])
    assert error.message == "you sent ***"
    assert error.response_body == {"detail": "you sent ***"}


def test_what_is_too_short_to_be_a_secret_garbles_nothing() -> None:
    assert redact("a better message", ["a", "", "bett"]) == "a better message"


@pytest.mark.parametrize(
    ("status", "body", "bearer", "held", "hint"),
    [
        (404, b" <html>", True, True, "is base_url the address of the API itself?"),
        (405, b"<html>", True, True, "is base_url the address of the API itself?"),
        (401, b'{"detail": "Invalid API key"}', True, True, "check api_key"),
        (401, b'{"detail": "no"}', True, True, "the session has ended, so log in again"),
        (401, b'{"detail": "no"}', True, False, "log in first"),
        (401, b'{"detail": "wrong password"}', False, False, ""),
        (429, b"", True, True, "try again in 12 s"),
        (404, b'{"detail": "none, or you may not see it"}', True, True, ""),
        (404, b'{"detail": "none"}', True, True, "it is not there, or you may not see it"),
        (403, b"", True, True, "sign in as somebody who may do that"),
        (503, b"", True, True, "look into the server's log"),
        (409, b"", True, True, ""),
    ],
)
def test_what_to_do_about_an_answer(status: int, body: bytes, bearer: bool, held: bool, hint: str) -> None:
    error = error_for_answer(status, body, 12.0, (), keep_body=True)
    assert hint_for(error, body, bearer=bearer, held=held) == hint
    assert hint_for(error_for_answer(429, b"", None, (), keep_body=True), b"", bearer=True, held=True) == ""
    large = error_for_answer(500, b'{"detail": "' + b"x" * 2**20 + b'"}', None, (), keep_body=True)
    assert large.response_body.startswith('{"detail": "xxx')


# Failures of the stack


def caused(error: Exception, cause: Optional[BaseException] = None, context: Optional[BaseException] = None) -> Any:
    error.__cause__, error.__context__ = cause, context
    return error


def ssl_error(reason: str, kind: Any = ssl.SSLError) -> ssl.SSLError:
    error = kind(1, f"[SSL: {reason}]")
    error.reason = reason
    return error  # type: ignore[no-any-return]


POOL: Any = None


def not_made() -> Exception:
    return urllib3.exceptions.NewConnectionError(POOL, "refused")


MAX = urllib3.exceptions.MaxRetryError

CASES = [
    # What the stack raises; sent, as far as known; the failure; the class; what the message says.
    (requests.ConnectTimeout("x"), None, Failure.NOT_SENT, APITimeoutError, "connecting to"),
    (requests.ReadTimeout("x"), None, Failure.AMBIGUOUS, APITimeoutError, "did not answer in time"),
    (requests.Timeout("x"), True, Failure.AMBIGUOUS, APITimeoutError, "did not answer in time"),
    (TimeoutError(), False, Failure.NOT_SENT, APITimeoutError, "connecting to"),
    (socket.timeout(), True, Failure.AMBIGUOUS, APITimeoutError, "did not answer"),
    (requests.ConnectionError(MAX(POOL, "/", not_made())), None, Failure.NOT_SENT, APIConnectionError,
     "could not connect"),
    (
        requests.ConnectionError(MAX(POOL, "/", caused(not_made(), ConnectionRefusedError()))),
        None,
        Failure.NOT_SENT,
        APIConnectionError,
        "refused the connection",
    ),
    (caused(requests.ConnectionError("x"), socket.gaierror(-2, "x")), False, Failure.NOT_SENT, APIConnectionError,
     "could not be resolved"),
    (requests.exceptions.ProxyError("x"), True, Failure.AMBIGUOUS, APIConnectionError, "the proxy for"),
    (requests.ConnectionError("x"), None, Failure.AMBIGUOUS, APIConnectionError, "lost before the answer"),
    (requests.ConnectionError("x"), False, Failure.NOT_SENT, APIConnectionError, "could not connect"),
    (
        requests.ConnectionError(urllib3.exceptions.ClosedPoolError(POOL, "closed")),
        None,
        Failure.NOT_SENT,
        APIConnectionError,
        "could not connect",
    ),
    (requests.exceptions.ChunkedEncodingError("x"), True, Failure.AMBIGUOUS, APIConnectionError, "broke off"),
    (http.client.IncompleteRead(b"x"), None, Failure.AMBIGUOUS, APIConnectionError, "broke off"),
    (requests.exceptions.ContentDecodingError("x"), None, Failure.AMBIGUOUS, APIConnectionError, "compressed"),
    (urllib3.exceptions.DecodeError("x"), True, Failure.AMBIGUOUS, APIConnectionError, "compressed"),
    (http.client.BadStatusLine("x"), True, Failure.AMBIGUOUS, APIConnectionError, "not HTTP"),
    (http.client.RemoteDisconnected("x"), True, Failure.AMBIGUOUS, APIConnectionError, "lost before"),
    (requests.exceptions.InvalidHeader("x"), None, Failure.FINAL, InvalidRequestError, "not valid"),
    (
        requests.exceptions.InvalidHeader(urllib3.exceptions.InvalidHeader("two lengths")),
        None,
        Failure.AMBIGUOUS,
        APIConnectionError,
        "not HTTP",
    ),
    (requests.exceptions.InvalidURL("x"), None, Failure.FINAL, InvalidRequestError, "not valid"),
    (requests.exceptions.InvalidURL("x"), True, Failure.AMBIGUOUS, APIConnectionError, "lost before"),
    (requests.exceptions.InvalidProxyURL("x"), None, Failure.FINAL, InvalidRequestError, "check HTTP_PROXY"),
    (requests.exceptions.InvalidURL(InvalidRequestError("verify: ours")), None, Failure.FINAL, InvalidRequestError,
     "verify: ours"),
    (requests.exceptions.SSLError(ssl_error("WRONG_VERSION_NUMBER")), None, Failure.FINAL, APIConnectionError,
     "does not speak TLS"),
    (ssl_error("HTTP_REQUEST"), True, Failure.FINAL, APIConnectionError, "does not speak TLS"),
    (ssl_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), False, Failure.FINAL, APIConnectionError, "alert handshake failure"),
    (ssl_error(""), False, Failure.FINAL, APIConnectionError, "tls handshake failed"),
    (ssl_error("BAD_RECORD_MAC"), True, Failure.AMBIGUOUS, APIConnectionError, "bad record mac"),
    (ssl_error("BAD_RECORD_MAC"), None, Failure.AMBIGUOUS, APIConnectionError, "bad record mac"),
    (ssl_error("UNEXPECTED_EOF_WHILE_READING"), True, Failure.AMBIGUOUS, APIConnectionError, "lost before"),
    (ssl_error("UNEXPECTED_EOF_WHILE_READING"), False, Failure.NOT_SENT, APIConnectionError, "could not connect"),
    (ssl.SSLEOFError(8, "x"), True, Failure.AMBIGUOUS, APIConnectionError, "lost before"),
    (ssl.SSLZeroReturnError(6, "x"), False, Failure.NOT_SENT, APIConnectionError, "could not connect"),
    (KeyError("of a hook"), None, Failure.AMBIGUOUS, APIConnectionError, "lost before"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{type(case[0]).__name__}-{case[1]}-{case[4]}")
def test_c096_what_a_failure_means(case: Any) -> None:
    raised, sent, failure, kind, message = case
    found, error = connection_error(raised, ORIGIN, sent)
    assert found is failure
    assert type(error) is kind
    assert message in str(error)


def test_the_causes_lose_their_request() -> None:
    request = requests.Request("GET", "http://h")
    inner = requests.ConnectionError("inner", request=request, response=requests.Response())
    outer = caused(requests.ConnectionError(inner, request=request))
    connection_error(outer, ORIGIN, True)
    assert (inner.request, inner.response, outer.request) == (None, None, None)


def test_a_circle_of_causes_is_walked_once() -> None:
    one, other = requests.ConnectionError("one"), OSError("other")
    one.__cause__, other.__context__, other.args = other, one, (one,)
    assert isinstance(connection_error(one, ORIGIN, True)[1], APIConnectionError)


def test_classes_nest_as_the_exceptions_say() -> None:
    assert not issubclass(ConflictError, APIConnectionError)
    assert issubclass(APITimeoutError, TimeoutError)
