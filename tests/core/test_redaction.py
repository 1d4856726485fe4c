"""What must not be shown is taken out however it is written, and nothing else is."""

from __future__ import annotations

import base64
import html
import json
import re
import sys
import traceback
from typing import Any, Callable, Dict, List
from urllib.parse import quote, quote_plus

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from selfdb.core.redaction import quiet, redact, redact_json, secret_headers, secret_in_url

SECRET = "s3cret/Key+of \"the\" 'test' & <more>=="

WRITTEN: Dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": json.dumps,
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "Python": repr,
    "HTML": html.escape,
    "an address": lambda text: quote(text, safe=""),
    "an address in lower case": lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text, safe="")),
    "a path": quote,
    "a form": quote_plus,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 of more": lambda text: base64.b64encode(f"user:{text}, and so on".encode()).decode(),
    "base64 of one byte more": lambda text: base64.b64encode(f"x{text}".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "hex of more": lambda text: f"you sent {text}".encode().hex(),
    "cut off with dots": lambda text: f"{text[:8]}...",
    "cut off with an ellipsis": lambda text: f"{text[:9]}\N{HORIZONTAL ELLIPSIS}",
    "starred out": lambda text: f"{text[:10]}******",
    "cut off at the end": lambda text: text[:12],
}


@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize(
    "secret", [SECRET, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "Grüße-日本-geheim", "pass-word-mine"]
)
def test_g14_however_it_is_written(way: str, secret: str) -> None:
    written = WRITTEN[way](secret)
    before = f"before, {written}"
    shown = redact(before if way == "cut off at the end" else f"{before} after", [secret])
    assert shown.startswith("before, ")
    assert "***" in shown
    for form in (secret, secret[:8], secret.encode().hex()[8:24], base64.b64encode(secret.encode()).decode()[4:12]):
        assert form not in shown
    assert redact(f"{before} after", ["something else entirely"]) == f"{before} after"


@given(st.text(min_size=6, max_size=40), st.sampled_from(sorted(WRITTEN)), st.text(max_size=10), st.text(max_size=10))
@example("\\u0000\\ud800", "plain", "", "")
@settings(max_examples=150, deadline=None)
def test_g14_any_text_may_be_secret(secret: str, way: str, before: str, after: str) -> None:
    try:
        written = WRITTEN[way](secret)
    except UnicodeEncodeError:
        written = secret
    shown = redact(f"{before}{written}{after}", [secret])
    if way not in ("cut off with dots", "cut off with an ellipsis", "starred out", "cut off at the end"):
        assert secret not in shown.replace("***", "") or secret in f"{before}{after}"


@pytest.mark.parametrize(
    "text",
    [
        "the password must be longer",  # the beginning of password123, and a word
        "wrong password.",
        "password",
        "passw...",
        "the password, and pass...",
    ],
)
def test_words_that_secrets_begin_with_stay(text: str) -> None:
    assert redact(text, ["password123", "pass-1234567"]) == text


def test_what_is_short_is_nowhere_hidden() -> None:
    assert redact("a better message", ["a", "", "bett", "e"]) == "a better message"
    assert redact("dGVzdA== 746573", ["test", "tes"]) == "dGVzdA== 746573"


def test_several_in_one_text() -> None:
    blob = base64.b64encode(b"key=first-secret&token=second-secret").decode()
    assert redact(f"{blob} first-secret second-secret {blob}", ["first-secret", "second-secret"]) == "*** *** *** ***"
    assert redact("first-se... first-secret first-se...", ["first-secret"]) == "***... *** ***..."


def test_in_json_by_value_and_name() -> None:
    told = json.loads('{"a\\u002dsecret": ["x", {"b": "\\u0061-secret"}, 1, null, true, 1.5]}')
    assert redact_json(told, ["a-secret"]) == {"***": ["x", {"b": "***"}, 1, None, True, 1.5]}
    deep: Any = "a-secret"
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        redact_json(deep, ["a-secret"])


def test_a_long_blob_takes_no_long_time() -> None:
    blob = "QUJD" * 250_000
    assert redact(f"{blob} {'61' * 500_000}", ["a-secret-that-is-not-in-it"]).startswith("QUJD")


def test_headers_that_are_secret_by_name() -> None:
    headers = {
        "X-Tenant": "acme",
        "Authorization": "Bearer abc",
        "x-secret-thing": b"s",
        "Cookie": "a=b",
        "Accept": "x",
    }
    assert list(secret_headers(headers)) == ["Bearer abc", "abc", "s", "s", "a=b", "a=b"]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://user:p%40ss@proxy:3128", ["p%40ss", "p@ss"]),
        ("user:word@proxy:3128", ["word", "word"]),
        ("http://user@proxy", []),
        ("proxy:3128", []),
        ("http://[::1", []),
    ],
)
def test_the_password_in_an_address(url: str, found: List[str]) -> None:
    assert list(secret_in_url(url)) == found


def test_an_error_of_the_stack_carries_no_more_than_its_words() -> None:
    def hook_of_the_user() -> None:
        requests.Request("GET", "http://").prepare()

    try:
        hook_of_the_user()
    except requests.RequestException as raised:
        error = raised
    error.args = ("at /things?search=word (http://user:pass@proxy) for a-secret", 5, b"bytes")
    vars(error)["partial"] = b"what was read"
    vars(error)["url"] = "/things?search=word"
    quiet(error, ["a-secret"])
    assert error.args == ("at /things?... (http://***@proxy) for ***", 5, b"")
    assert vars(error)["partial"] == b""
    assert vars(error)["url"] == "/things?..."
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames == ["test_an_error_of_the_stack_carries_no_more_than_its_words", "hook_of_the_user"]
    quiet(OSError(5, "no frames yet"), ())
