"""Making a client: arguments, environment, secrets, copies; and its end."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any, Callable, Dict

import pytest
import requests

from selfdb import ClientClosedError, InvalidRequestError, SelfDB
from tests.client.conftest import ACCESS, Recorded
from tests.servers import scripted as steps

Connect = Callable[..., SelfDB]
URL = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SELFDB_URL", "SELFDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "ftp://api.example.com",
        "http://",
        "http:///path",
        "https://user:secret-word@api.example.com",
        "https://user@api.example.com",
        "https://api.example.com?key=secret-word",
        "https://api.example.com#part",
        "https://api.example.com\r\nX: y",
        " https://api.example.com",
        "https://api example.com",
        "https://api.example.com:port",
        "https://api.example.com:99999",
        5,
        b"https://api.example.com",
    ],
)
def test_addresses_that_are_none(url: Any) -> None:
    with pytest.raises(InvalidRequestError, match="base_url") as caught:
        SelfDB(url, "key")
    assert isinstance(caught.value, ValueError)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["", "key\nb", "key\r\nX: y", "key\0b", " keyword", "keyword\t", "key\u0100", 5, b"key"]
)
def test_keys_that_are_none(key: Any) -> None:
    with pytest.raises(InvalidRequestError, match="api_key") as caught:
        SelfDB(URL, key)
    assert "keyword" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "5"},
        {"timeout": True},
        {"timeout": (1, 2, 3)},
        {"timeout": (1, 0)},
        {"timeout": float("nan")},
        {"deadline": 0},
        {"deadline": float("inf")},
        {"deadline": "60"},
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_retries": True},
        {"headers": {"X-API-Key": "other"}},
        {"headers": {"authorization": "Bearer x"}},
        {"headers": {"Cookie": "a=b"}},
        {"headers": {"Idempotency-Key": "k"}},
        {"headers": {"X-Own": "a\r\nb"}},
        {"headers": {"X Own": "a"}},
        {"headers": {"X-Own": 5}},
        {"idempotent_writes": 1},
    ],
)
def test_options_that_are_none(options: Dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        SelfDB(URL, "key", **options)
    with SelfDB(URL, "key") as db, pytest.raises(InvalidRequestError):
        db.with_options(**options)


@pytest.mark.parametrize(
    "given, kept",
    [
        ("http://api.example.com/", "http://api.example.com"),
        ("http://api.example.com///", "http://api.example.com"),
        ("https://api.example.com/selfdb/", "https://api.example.com/selfdb"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_address_is_kept_without_trailing_slashes(given: str, kept: str) -> None:
    with SelfDB(given, "key") as db:
        assert db.base_url == kept
        assert db.api_key == "key"


def test_a_path_prefix_is_kept(replies: Callable[..., Any]) -> None:
    server = replies([(200, {}, {"count": 1})])
    with SelfDB(server.url + "/selfdb/api/", "key") as db:
        db.tables.count()
    assert server.lines == ["GET /selfdb/api/tables/count"]


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SELFDB_URL", "SELFDB_API_KEY"):
        with pytest.raises(ValueError, match=name):
            SelfDB(**({"api_key": "key"} if name == "SELFDB_URL" else {"base_url": URL}))
    monkeypatch.setenv("SELFDB_URL", URL + "/")
    monkeypatch.setenv("SELFDB_API_KEY", "key-of-the-environment")
    with SelfDB() as db:
        assert (db.base_url, db.api_key) == (URL, "key-of-the-environment")
    with SelfDB("http://127.0.0.1:10", api_key="given") as db:
        assert (db.base_url, db.api_key) == ("http://127.0.0.1:10", "given")


def test_an_empty_argument_is_not_made_up_for_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """``SelfDB(url, settings.key)`` with a key that was forgotten must not become another application's client."""
    monkeypatch.setenv("SELFDB_API_KEY", "key-of-the-environment")
    with pytest.raises(InvalidRequestError, match="api_key is missing"):
        SelfDB(URL, "")


def test_representation_and_copies() -> None:
    with SelfDB(URL, "key-that-is-secret") as db:
        db.access_token = "token-that-is-secret"
        assert repr(db) == f"SelfDB(base_url='{URL}')"
        for make in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled") as caught:
                make(db)
            assert "secret" not in str(caught.value)


def test_subclasses_stay_what_they_are() -> None:
    class Mine(SelfDB):
        pass

    with Mine(URL, "key") as db:
        assert type(db.with_options(timeout=1)) is Mine
        assert type(db.as_user("token")) is Mine
        assert repr(db).startswith("Mine(")


def test_tokens_may_be_set(recorded: Recorded) -> None:
    db = recorded.db
    recorded.will({"count": 1}, {"count": 1})
    db.access_token = "mine"
    db.tables.count()
    assert recorded.last.header("Authorization") == "Bearer mine"
    db.access_token = None
    assert db.refresh_token is None
    db.tables.count()
    assert recorded.last.header("Authorization") is None


def test_an_access_token_that_is_set_leaves_no_refresh_token_of_another_behind(recorded: Recorded) -> None:
    db = recorded.db
    db.access_token, db.refresh_token = "mine", "mine-to-refresh"
    assert db.refresh_token == "mine-to-refresh"
    db.access_token = "another's"
    assert db.refresh_token is None


def test_a_refresh_token_alone_is_no_session(recorded: Recorded) -> None:
    recorded.db.access_token = None
    with pytest.raises(InvalidRequestError, match="access_token first"):
        recorded.db.refresh_token = "r"


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "ü", 5, b"token"])
def test_tokens_that_are_none(recorded: Recorded, token: Any) -> None:
    for name in ("access_token", "refresh_token"):
        with pytest.raises(InvalidRequestError, match="token"):
            setattr(recorded.db, name, token)
    with pytest.raises(InvalidRequestError, match="token"):
        recorded.db.as_user(token)
    assert recorded.db.access_token == ACCESS


def test_a_session_of_ones_own(replies: Callable[..., Any], connect: Connect) -> None:
    """Its hooks run, its headers go along, its cookies do not, and it stays open."""
    server = replies([(200, {"Set-Cookie": "a=b"}, {"count": 1}), (200, {}, {"count": 2}), (200, {}, b"mine")])
    seen = []
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-Mine"] = "yes"
        session.cookies.set("own", "cookie")
        session.hooks["response"].append(lambda answer, **options: seen.append(answer.status_code))
        db = connect(server, session=session)
        assert [db.tables.count(), db.tables.count()] == [1, 2]
        db.close()
        assert session.get(server.url + "/mine").content == b"mine"
    assert seen == [200, 200, 200]
    assert [request.header("X-Mine") for request in server.requests] == ["yes"] * 3
    assert [request.header("Cookie") for request in server.requests][:2] == [None, None]


# Closing


def test_close_from_another_thread_ends_a_wait(scripted: Callable[..., Any], connect: Connect) -> None:
    """Between two attempts a call sleeps as long as the server asks; ``close`` does not wait for that."""
    server = scripted([steps.read(), steps.reply(503, b"", {"Retry-After": "50"}), steps.stall()])
    db = connect(server, max_retries=2, deadline=100)
    outcome: Dict[str, BaseException] = {}

    def call() -> None:
        try:
            db.tables.count()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=call)
    thread.start()
    server.wait_for(requests=1)
    db.close()
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(outcome["error"], (ClientClosedError, RuntimeError))
    assert len(server.requests) == 1


def test_a_closed_client_makes_no_clones_that_work(recorded: Recorded) -> None:
    clones = [recorded.db.with_options(timeout=1), recorded.db.as_user("token")]
    recorded.db.close()
    for clone in (*clones, recorded.db.with_options(timeout=1)):
        with pytest.raises(ClientClosedError):
            clone.tables.count()
    with pytest.raises(ClientClosedError):
        recorded.db.with_raw_response.tables.count()
    with pytest.raises(ClientClosedError):
        recorded.db.storage.files.download("b", "a")
    assert recorded.lines == []


def test_a_client_that_was_never_used_opens_nothing() -> None:
    before = set(threading.enumerate())
    with SelfDB(URL, "key"):
        assert set(threading.enumerate()) <= before
