"""Addresses: what a caller puts into a path or a query arrives as it was, or is refused before it is sent."""

from __future__ import annotations

import enum
import uuid
from typing import Any, Iterator, List, Tuple
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies

from selfdb.core.request import Request
from selfdb.core.transport import Transport
from selfdb.core.urls import BaseURL, Origin, key_of, object_path, origin_of, query_string, segment
from selfdb.exceptions import InvalidRequestError
from tests.core.calls import transport_to
from tests.servers.replies import ReplyServer

AWKWARD = [
    "a/b c?#", "%2e%2e", "%", "%25", "..;", "...", " ", "\x00", "\r\nX-Evil: 1", "ü", "日本", "🦉", "+", "&a=b", "~._-",
    "http://evil.example/", "//evil.example", "\\..\\", "a;b", "a:b@c", "[x]", "\x7f", "\u2028",
]  # fmt: skip


class Colour(str, enum.Enum):
    RED = "red"


@pytest.fixture
def recorder() -> Iterator[Tuple[ReplyServer, Transport]]:
    with ReplyServer(lambda request: (200, {}, {})) as server:
        transport = transport_to(server, prefix="/api")
        yield server, transport
        transport.pool.close()


# Any text at all, lone surrogates included.
ANY_TEXT = strategies.text(alphabet=strategies.characters(), max_size=40)


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _last(server: ReplyServer) -> Any:
    """The last request; the list is emptied so that thousands of them do not pile up."""
    with server._lock:
        requests, server._requests = server._requests, []
    return requests[-1]


def _examples(function: Any) -> Any:
    for value in AWKWARD:
        function = example(value)(function)
    return function


@_examples
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_TEXT)
def test_any_text_arrives_in_one_segment_or_is_refused(recorder: Tuple[ReplyServer, Transport], value: str) -> None:
    server, transport = recorder
    if value in ("", ".", "..") or not _is_text(value):
        with pytest.raises(InvalidRequestError, match="thing_id"):
            segment(value, "thing_id")
        return
    path = f"/things/{segment(value, 'thing_id')}/end"
    transport.exchange(Request("GET", path))
    request = _last(server)
    root, api, things, arrived, end = request.target.split("/")
    assert (root, api, things, end) == ("", "api", "things", "end")
    assert unquote(arrived, errors="strict") == value


@_examples
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_TEXT)
def test_any_text_arrives_as_one_query_value_or_is_refused(recorder: Tuple[ReplyServer, Transport], value: str) -> None:
    server, transport = recorder
    pairs = [("search", value), ("page", 2)]
    if not _is_text(value):
        with pytest.raises(InvalidRequestError, match="search"):
            query_string(pairs)
        return
    transport.exchange(Request("GET", "/things", query_string(pairs)))
    request = _last(server)
    assert request.path == "/api/things"
    assert request.query == [("search", value), ("page", "2")]


@_examples
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANY_TEXT)
def test_any_object_path_arrives_part_by_part_or_is_refused(
    recorder: Tuple[ReplyServer, Transport], value: str
) -> None:
    server, transport = recorder
    parts = value[value.startswith("/") :].split("/")
    forbidden = any(ord(character) < 32 or character in "\x7f\\" for character in value)
    if forbidden or not _is_text(value) or any(part in ("", ".", "..") for part in parts):
        with pytest.raises(InvalidRequestError):
            object_path(value)
        return
    transport.exchange(Request("GET", "/files/" + object_path(value)))
    arrived = _last(server).target.split("/")[3:]
    assert [unquote(part, errors="strict") for part in arrived] == parts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("t", "t"),
        (7, "7"),
        (-7, "-7"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("a/b c?#", "a%2Fb%20c%3F%23"),
        (Colour.RED, "red"),
    ],
)
def test_segments(value: Any, expected: str) -> None:
    assert segment(value, "id") == expected


@pytest.mark.parametrize("value", [None, True, False, 1.0, b"x", ["x"], object()])
def test_what_names_nothing_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"row_id must be a str, int or UUID, not {type(value).__name__}"):
        segment(value, "row_id")


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_segments_that_every_stack_resolves_away_are_refused(value: str) -> None:
    with pytest.raises(InvalidRequestError, match="table_id must not be"):
        segment(value, "table_id")


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_half_a_character_is_no_text(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="row_id holds a lone surrogate"):
        segment(text, "row_id")
    with pytest.raises(InvalidRequestError, match="search holds a lone surrogate"):
        query_string([("search", text)])
    with pytest.raises(InvalidRequestError, match="lone surrogate"):
        object_path(f"a/{text}")


def test_what_is_too_long_for_an_address_is_refused() -> None:
    assert len(segment("x" * 16384, "row_id")) == 16384
    for text in ("x" * 16385, "\N{EURO SIGN}" * 2000):
        with pytest.raises(InvalidRequestError, match=r"row_id is too long for an address: \d+ bytes"):
            segment(text, "row_id")
        with pytest.raises(InvalidRequestError, match="search is too long"):
            query_string([("search", text)])
        with pytest.raises(InvalidRequestError, match="path is too long"):
            object_path(f"a/{text}")
    with pytest.raises(InvalidRequestError, match="path is too long"):
        object_path("x/" * 9000 + "x")
    for digits in (10**5000, -(10**5000)):
        with pytest.raises(InvalidRequestError, match="row_id is a number of too many digits"):
            segment(digits, "row_id")
        with pytest.raises(InvalidRequestError, match="page is a number of too many digits"):
            query_string([("page", digits)])


@pytest.mark.parametrize("value", ["a/b", "/", "7/columns/a", "a%2F/"])
def test_a_slash_in_the_key_of_a_thing_would_name_another_one(value: str) -> None:
    assert segment(value, "row_id")
    with pytest.raises(InvalidRequestError, match="table_id must not contain a slash"):
        key_of(value, "table_id")


def test_words_that_name_something_else_are_no_keys() -> None:
    assert key_of("me", "table_id", "count") == "me"
    assert key_of("%2F", "table_id") == "%252F"
    with pytest.raises(InvalidRequestError, match="user_id must not be 'me', which names something else"):
        key_of("me", "user_id", "count", "me")


def test_object_paths_keep_their_slashes() -> None:
    assert object_path("docs/a b/ü.txt") == "docs/a%20b/%C3%BC.txt"
    assert object_path("/docs/x") == "docs/x", "one leading slash is dropped"


@pytest.mark.parametrize("path", ["", "/", "//x", "a//b", "a/", "../x", "a/./b", "a/..", "a\\b", "a\x00", "\x7f", "\n"])
def test_object_paths_that_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(InvalidRequestError):
        object_path(path)


def test_an_object_path_is_a_str() -> None:
    with pytest.raises(InvalidRequestError, match="path must be a str, not bytes"):
        object_path(b"x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], ""),
        ([("search", None)], ""),
        ([("b", 1), ("a", "x y")], "?b=1&a=x%20y"),
        ([("public", True), ("deep", False), ("none", None), ("zero", 0), ("empty", "")],
         "?public=true&deep=false&zero=0&empty="),
        ([("order", Colour.RED), ("at", 1.5)], "?order=red&at=1.5"),
        ([("a&b", "=&+%")], "?a%26b=%3D%26%2B%25"),
    ],
)  # fmt: skip
def test_query_strings(pairs: List[Tuple[str, object]], expected: str) -> None:
    assert query_string(pairs) == expected


# The base URL


@pytest.mark.parametrize(
    ("url", "origin", "prefix", "text"),
    [
        ("http://h", "http://h", "", "http://h"),
        ("https://h/", "https://h", "", "https://h"),
        ("https://h:443", "https://h", "", "https://h:443"),
        ("HTTPS://H.example:8443/api/v1///", "https://h.example:8443", "/api/v1", "https://H.example:8443/api/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/x", "http://[::1]:8000", "/x", "http://[::1]:8000/x"),
        ("https://bücher.example", "https://bücher.example", "", "https://bücher.example"),
    ],
)
def test_base_urls(url: str, origin: str, prefix: str, text: str) -> None:
    base = BaseURL(url)
    assert (str(base.origin), base.prefix, base.text) == (origin, prefix, text)


@pytest.mark.parametrize(
    "url",
    [
        "", None, 5, b"http://h", "h", "h:8000", "//h", "/x", "ftp://h", "file:///etc/passwd", "http://", "http:///x",
        "http://h:port", "http://h:99999", "http://[::1", "http://h h", " http://h", "http://h\n", "http://h\x7f",
        "http://h?x=1", "http://h#top", "http://h\\evil", "http://" + "ä" * 70, "javascript:alert(1)",
    ],
)  # fmt: skip
def test_base_urls_that_are_none(url: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"^base_url"):
        BaseURL(url)
    with pytest.raises(InvalidRequestError, match=r"^address"):
        BaseURL(url, "address")


@pytest.mark.parametrize("url", ["http://ada@h", "http://ada:canary@h", "http://@h", "https://:canary@h:1/x"])
def test_a_base_url_with_a_user_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="user or password") as caught:
        BaseURL(url)
    assert "canary" not in str(caught.value)


def test_origins_are_compared_by_scheme_host_and_port() -> None:
    assert origin_of("http://H/x") == origin_of("http://h:80/y?z") == Origin("http", "h", 80)
    assert origin_of("https://h:80") != origin_of("http://h:80")
    assert str(Origin("gopher", "h", 70)) == "gopher://h:70"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b?x=1", "http://h:8000/b?x=1"),
        ("b", "http://h:8000/api/b"),
        ("?x", "http://h:8000/api/a?x"),
        ("//other/x", "http://other/x"),
        ("https://h:8000/x", "https://h:8000/x"),
    ],
)
def test_redirect_targets(location: str, target: str) -> None:
    origin, found = BaseURL("http://h:8000/api").redirect("http://h:8000/api/a", location)
    assert found == target
    assert origin == origin_of(target)


@pytest.mark.parametrize("location", ["mailto:x@y", "http://[", "http://h:x/", "data:text/plain,x"])
def test_redirect_targets_that_are_none(location: str) -> None:
    with pytest.raises(ValueError):
        BaseURL("http://h").redirect("http://h/a", location)
