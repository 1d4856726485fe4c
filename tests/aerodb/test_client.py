"""The client itself: where it may connect, what it sends with every request, and how it ends."""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import threading
import time
import warnings
from typing import Any, Callable, Dict, List, Tuple

import pytest
import requests
from urllib3.exceptions import InsecureRequestWarning

import selfdb.aerodb
from selfdb.aerodb import AeroDBClient, AeroDBRequestError, AeroDBResponse, OfflineCache, RetryPolicy
from selfdb.exceptions import InvalidRequestError
from tests.aerodb.services import EMAIL, KEY, PASSWORD, code, data
from tests.servers.aerodb.server import AeroServer
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer

Make = Callable[..., AeroDBClient]

CALLS: Dict[str, Callable[[AeroDBClient], AeroDBResponse[Any]]] = {
    "rows": lambda client: client.from_("items").select().execute(),
    "insert": lambda client: client.from_("items").insert({"name": "x"}),
    "rpc": lambda client: client.rpc("add", {"a": 1}),
    "sign_up": lambda client: client.auth.sign_up("new@example.com", "long enough"),
    "sign_in": lambda client: client.auth.sign_in(EMAIL, PASSWORD),
    "upload": lambda client: client.storage.from_("photos").upload("a", b"x"),
    "download": lambda client: client.storage.from_("photos").download("a"),
    "buckets": lambda client: client.storage.list_buckets(),
    "invoke": lambda client: client.functions.invoke("hello"),
    "functions": lambda client: client.functions.list(),
    "health": lambda client: client.health.check(),
}
each_call = pytest.mark.parametrize("name", CALLS)


def test_every_name_of_the_package_is_there() -> None:
    for name in selfdb.aerodb.__all__:
        assert getattr(selfdb.aerodb, name) is not None
    assert set(selfdb.aerodb.__all__) <= set(dir(selfdb.aerodb))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        selfdb.aerodb.nothing


@pytest.mark.parametrize(
    "url", ["", "example.com", "//example.com", "ftp://example.com", "http://", "https:///x", None]
)
def test_c001_an_address_without_scheme_or_host_is_refused(url: Any) -> None:
    with pytest.raises(ValueError, match="url must be"):
        AeroDBClient(url)


@pytest.mark.parametrize("end", ["/", "//", "/base/", "/base"])
@each_call
def test_c002_no_address_has_a_double_slash(aero: AeroServer, client_for: Make, name: str, end: str) -> None:
    client = client_for(aero.url + end)
    CALLS[name](client)
    prefix = "/base" if "base" in end else ""
    assert len(aero.requests) == 1
    assert "//" not in aero.last.path
    assert aero.last.path.startswith(prefix + "/")


@pytest.mark.parametrize("end", ["/", "//", "/base/"])
@pytest.mark.parametrize("kind", ["public", "signed"])
def test_c002_nor_has_one_that_it_makes(aero: AeroServer, client_for: Make, kind: str, end: str) -> None:
    bucket = client_for(aero.url + end).storage.from_("photos")
    if kind == "signed":
        aero.instead = [(200, {}, {"signedURL": "/storage/v1/a?token=t"})]
    url = bucket.get_public_url("a") if kind == "public" else data(bucket.create_signed_url("a")).url
    assert url.startswith(aero.url + end.rstrip("/") + "/storage/v1/")
    assert "//" not in url.partition("://")[2]


def test_c003_plain_http_to_another_machine_is_refused_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AERODB_ENV", "production")
    with pytest.raises(ValueError, match="url must be https"):
        AeroDBClient("http://api.example.com")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "localhost", "api.localhost", "[::1]"])
def test_c003_to_this_machine_it_is_allowed(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("AERODB_ENV", "production")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AeroDBClient(f"http://{host}:9", require_https=True).close()


@pytest.mark.parametrize(
    "urls",
    [("http://a.example", None), ("https://a.example", "ws://a.example"), ("http://a.example", "ws://b.example")],
)
def test_c003_elsewhere_it_warns_once(monkeypatch: pytest.MonkeyPatch, urls: Tuple[str, Any]) -> None:
    monkeypatch.delenv("AERODB_ENV", raising=False)
    with pytest.warns(UserWarning, match="plain http") as caught:
        AeroDBClient(urls[0], realtime_url=urls[1]).close()
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("url", ["ws://events.example.com", "http://events.example.com/realtime"])
def test_c003_the_rule_holds_for_events_too(url: str) -> None:
    with pytest.raises(ValueError, match="realtime_url must be https"):
        AeroDBClient("https://api.example.com", realtime_url=url, require_https=True)


def test_c003_what_is_said_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AERODB_ENV", "production")
    with pytest.warns(UserWarning, match="plain http"):
        AeroDBClient("http://api.example.com", require_https=False).close()


@each_call
def test_c004_the_key_goes_along_and_is_no_bearer_token(aero: AeroServer, client: AeroDBClient, name: str) -> None:
    CALLS[name](client)
    assert aero.last.header("apikey") == KEY
    assert aero.last.header("Authorization") is None


def test_c004_without_a_key_there_is_no_such_header(aero: AeroServer, client_for: Make) -> None:
    CALLS["rows"](client_for(aero, key=None))
    assert aero.last.header("apikey") is None


def test_c005_the_bearer_token_is_the_latest(aero: AeroServer, client: AeroDBClient) -> None:
    for _ in range(2):
        session = data(client.auth.sign_in(EMAIL, PASSWORD)).session
        CALLS["rows"](client)
        assert aero.last.header("Authorization") == f"Bearer {session.access_token}"
    fresh = data(client.auth.refresh_session())
    CALLS["rows"](client)
    assert aero.last.header("Authorization") == f"Bearer {fresh.access_token}"


SIGNED: Dict[str, Callable[[AeroDBClient], AeroDBResponse[Any]]] = {
    **{name: CALLS[name] for name in ("rows", "insert", "rpc", "upload", "download", "buckets", "invoke", "functions")},
    "get_user": lambda client: client.auth.get_user(),
    "remove": lambda client: client.storage.from_("photos").remove("a"),
    "list": lambda client: client.storage.from_("photos").list(),
    "sign": lambda client: client.storage.from_("photos").create_signed_url("a"),
    "count": lambda client: client.from_("items").select(count="exact", head=True).execute(),
    "update": lambda client: client.from_("items").eq("id", 1).update({"name": "x"}),
    "delete": lambda client: client.from_("items").eq("id", 1).delete(),
    "sign_out": lambda client: client.auth.sign_out(),
}


@pytest.mark.parametrize("name", SIGNED)
def test_c005_it_goes_along_with_every_call(aero: AeroServer, signed_in: AeroDBClient, name: str) -> None:
    token = data(signed_in.auth.refresh_session()).access_token
    SIGNED[name](signed_in)
    assert aero.last.header("Authorization") == f"Bearer {token}"
    assert aero.last.header("apikey") == KEY


@pytest.mark.parametrize("written", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_c006_headers_of_the_operation_win(aero: AeroServer, client_for: Make, written: str) -> None:
    client = client_for(aero, headers={written: "text/csv", "X-App": "tests"})
    CALLS["insert"](client)
    assert aero.last.header("Content-Type") == "application/json"
    assert aero.last.header("X-App") == "tests"


@pytest.mark.parametrize(("mine", "sent"), [("accept", "application/json"), ("APIKEY", KEY)])
def test_c006_so_do_those_of_the_client_itself(aero: AeroServer, client_for: Make, mine: str, sent: str) -> None:
    CALLS["rows"](client_for(aero, headers={mine: "mine"}))
    assert aero.last.header(mine) == sent


@pytest.mark.parametrize("odd", [{}, {"X-Odd": "grün"}], ids=["short way", "ordinary way"])
@pytest.mark.parametrize(
    ("mine", "call", "sent"),
    [
        ("prefer", lambda client: client.from_("items").insert({"id": 1}), "return=representation"),
        ("PREFER", lambda client: client.from_("items").select(count="exact").execute(), "count=exact"),
        ("accept", lambda client: client.from_("items").single().execute(), "application/vnd.pgrst.object+json"),
        ("accept-profile", lambda client: client.from_("items").execute(), "api2"),
        ("Content-profile", lambda client: client.from_("items").insert({"id": 1}), "api2"),
        ("X-UPSERT", lambda client: client.storage.from_("photos").upload("a", b"1", upsert=True), "true"),
        ("cache-control", lambda client: client.storage.from_("photos").upload("a", b"1", cache_control="x"), "x"),
    ],
    ids=["insert", "count", "single", "read", "write", "upload", "cache"],
)
def test_c006_so_does_every_header_of_an_operation(
    aero: AeroServer, client_for: Make, mine: str, call: Callable[[AeroDBClient], Any], sent: str, odd: Dict[str, str]
) -> None:
    call(client_for(aero, schema="api2", headers={mine: "mine", **odd}))
    assert aero.last.header(mine) == sent


def test_c006_a_bearer_of_the_users_own_gives_way_to_the_session(aero: AeroServer, client_for: Make) -> None:
    client = client_for(aero, headers={"authorization": "Bearer service-token"})
    CALLS["rows"](client)
    assert aero.last.header("Authorization") == "Bearer service-token"
    session = data(client.auth.sign_in(EMAIL, PASSWORD)).session
    CALLS["rows"](client)
    assert aero.last.header("Authorization") == f"Bearer {session.access_token}"


def test_c007_leaving_the_block_closes_and_lets_the_exception_through(aero: AeroServer) -> None:
    with pytest.raises(KeyError, match="mine"), AeroDBClient(aero.url) as client:
        raise KeyError("mine")
    client.close()
    client.close()
    assert code(CALLS["rows"](client)) == "CLIENT_CLOSED"


AFTER_CLOSE: Dict[str, Callable[[AeroDBClient], AeroDBResponse[Any]]] = {
    **CALLS,
    "sign_out": lambda client: client.auth.sign_out(),
    "get_user": lambda client: client.auth.get_user(),
    "refresh": lambda client: client.auth.refresh_session(),
    "set_session": lambda client: client.auth.set_session("access-token", "refresh-token"),
    "remove": lambda client: client.storage.from_("photos").remove("a"),
    "list": lambda client: client.storage.from_("photos").list(),
    "sign": lambda client: client.storage.from_("photos").create_signed_url("a"),
    "watch": lambda client: client.health.start(),
    "upsert": lambda client: client.from_("items").upsert({"id": 1}),
    "update": lambda client: client.from_("items").eq("id", 1).update({"id": 2}),
    "delete": lambda client: client.from_("items").eq("id", 1).delete(),
    "pages": lambda client: next(client.from_("items").pages()),
    "download_to": lambda client: client.storage.from_("photos").download_to("a", io.BytesIO()),
    "create_bucket": lambda client: client.storage.create_bucket("docs"),
    "an argument that is wrong besides in a query": lambda client: client.from_("items").limit(-1).execute(),
    "an argument that is wrong besides": lambda client: client.auth.sign_in("", ""),
}


@pytest.mark.parametrize("name", AFTER_CLOSE)
def test_c007_after_close_every_call_says_so(aero: AeroServer, client: AeroDBClient, name: str) -> None:
    client.close()
    response = AFTER_CLOSE[name](client)
    assert code(response) == "CLIENT_CLOSED"
    assert aero.requests == []


def test_c007_a_stream_raises_it(aero: AeroServer, client: AeroDBClient) -> None:
    stream = client.from_("items").stream(size=2)
    assert next(stream) == aero.rows[0]
    client.close()
    assert next(stream) == aero.rows[1]  # which was here already
    with pytest.raises(AeroDBRequestError):
        next(stream)
    assert stream.error is not None
    assert stream.error.code == "CLIENT_CLOSED"
    assert len(aero.requests) == 1


def test_c007_a_channel_says_so_too(client: AeroDBClient) -> None:
    client.close()
    channel = client.channel("posts").subscribe(timeout=5)
    assert channel.last_error is not None
    assert channel.last_error.code == "CLIENT_CLOSED"
    assert client.realtime.connection_state == "disconnected"


@each_call
def test_c008_a_port_that_refuses_is_a_network_error(client_for: Make, name: str) -> None:
    response = CALLS[name](client_for(f"http://127.0.0.1:{free_port()}"))
    assert code(response) == "NETWORK_ERROR"
    assert response.error is not None
    assert response.error.status is None
    assert response.status is None


@each_call
def test_c009_a_server_that_stalls_is_a_timeout_in_time(
    scripted: Callable[..., Any], client_for: Make, name: str
) -> None:
    server = scripted(default=lambda peer: (peer.read_request(), peer.stall()))
    begun = time.monotonic()
    assert code(CALLS[name](client_for(server.url, timeout=0.2))) == "TIMEOUT"
    assert time.monotonic() - begun < 5.2


def test_c009_one_that_drips_is_one_too(scripted: Callable[..., Any], client_for: Make) -> None:
    def drip(peer: Any) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        peer.drip(b" " * 1000, every=0.05)

    server = scripted(drip)
    begun = time.monotonic()
    assert code(CALLS["rows"](client_for(server.url, timeout=0.3))) == "TIMEOUT"
    assert time.monotonic() - begun < 5.3


def test_c065_one_client_serves_many_threads(aero: AeroServer, client: AeroDBClient) -> None:
    came: List[Any] = []
    threads = [threading.Thread(target=lambda: came.append(CALLS["rows"](client))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
    assert [response.data for response in came] == [aero.rows] * 20


# Secrets

SECRET = "k3y-that-nobody-may-see"


def test_c087_neither_key_nor_token_is_shown(
    aero: AeroServer, client_for: Make, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(logging.DEBUG)
    client = client_for(aero, key=SECRET)
    session = data(client.auth.sign_in(EMAIL, PASSWORD)).session
    secrets = (SECRET, session.access_token, session.refresh_token)
    shown = [repr(client), repr(session), repr(client.auth.get_session()), repr(client.auth._book), repr(client._calls)]
    shown += [repr(part) for part in (client.auth, client.storage, client.functions, client.health, client.realtime)]
    echo = " ".join(secrets)
    aero.instead += [
        (500, {}, {"message": echo, "details": {echo: [echo]}, "hint": echo, "code": echo}),
        (502, {}, echo),
    ]
    shown += [repr(client.from_("items").execute()) for _ in range(2)]
    aero.auth.instead["/auth/login"] = [(401, {}, {"error": f"{echo} {PASSWORD}", "code": 401})]
    shown.append(repr(client.auth.sign_in(EMAIL, PASSWORD)))
    assert PASSWORD not in shown[-1]
    shown.append(repr(client.auth.get_user()))
    client.close()
    shown.append(repr(client.from_("items").execute()))
    shown += [record.getMessage() for record in caplog.records] + [str(record.exc_info) for record in caplog.records]
    shown += [str(warning.message) for warning in recwarn]
    for text in shown:
        for secret in secrets:
            assert secret not in text


def test_c087_errors_of_the_network_show_none_either(client_for: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = client_for(f"http://127.0.0.1:{free_port()}", key=SECRET)
    client.auth.set_session("access-of-somebody", "refresh-of-somebody")
    response = client.from_("items").execute()
    channel = client.channel("posts").subscribe(timeout=0.2)
    client.close()
    for text in (repr(response), repr(channel.last_error), caplog.text):
        assert not [secret for secret in (SECRET, "access-of", "refresh-of") if secret in text]


def test_c087_a_client_cannot_be_pickled(client: AeroDBClient) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client)


# What the constructor refuses

WRONG: List[Tuple[Dict[str, Any], str]] = [
    ({"url": "https://user:pass@example.com"}, "user or password"),
    ({"url": "https://example.com?x=1"}, "query"),
    ({"realtime_url": "example.com"}, "realtime_url must be"),
    ({"key": ""}, "key must be"),
    ({"key": "a\nb"}, "key has control"),
    ({"key": 5}, "key must be"),
    ({"schema": ""}, "schema must be"),
    ({"schema": ".."}, "schema must be"),
    ({"schema": "a\r\nb"}, "schema has control"),
    ({"headers": {"X": "a\r\nb"}}, "control characters"),
    ({"headers": {"": "a"}}, "header name"),
    ({"headers": {"Host": "a"}}, "set by the client"),
    ({"timeout": 0}, "timeout must be above 0"),
    ({"timeout": None}, "timeout must be a number"),
    ({"timeout": (1, 2)}, "timeout must be a number"),
    ({"timeout": True}, "timeout must be a number"),
    ({"retry": 3}, "retry must be"),
    ({"cache": "file"}, "cache must be"),
    ({"auto_refresh": 1}, "auto_refresh must be"),
    ({"require_https": "yes"}, "require_https must be"),
    ({"verify": 5}, "verify must be"),
    ({"session": 5}, "session must be"),
    ({"session": requests.Session}, "session must be"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_a_wrong_argument_of_the_constructor_is_named(options: Dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        AeroDBClient(**{"url": "https://api.example.com", **options})


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0}, {"max_attempts": True}, {"initial_delay": -1}, {"max_delay": "x"}, {"multiplier": 0.5},
        {"jitter": 2}, {"jitter": float("nan")}, {"statuses": {200}}, {"methods": {"FETCH"}}, {"on_retry": 5},
        {"statuses": 503}, {"statuses": None}, {"methods": 5}, {"methods": "GET"},
    ],
    ids=str,
)  # fmt: skip
def test_a_retry_policy_out_of_range_is_refused(options: Dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(options))):
        RetryPolicy(**options)


@pytest.mark.parametrize(
    "options", [{"path": 5}, {"path": ""}, {"path": "/"}, {"ttl": 0}, {"ttl": "x"}, {"max_entries": 0}], ids=str
)
def test_a_cache_out_of_range_is_refused(options: Dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(options))):
        OfflineCache(**options)


# A session and certificates of the user's own


def test_a1_a_session_of_the_users_own_is_used_and_stays_open(aero: AeroServer, client_for: Make) -> None:
    class Noted(requests.adapters.HTTPAdapter):
        closed = False

        def close(self) -> None:
            Noted.closed = True
            super().close()

    with requests.Session() as session:
        session.headers["X-Session"] = "mine"
        session.mount("http://", Noted())
        client = client_for(aero, session=session)
        assert data(client.from_("items").execute()) == aero.rows
        assert aero.last.header("X-Session") == "mine"
        client.close()
        assert not Noted.closed
        assert session.get(aero.url + "/health", timeout=10).ok
    assert Noted.closed


@pytest.mark.parametrize(("verify", "trusted"), [(True, False), (False, True), ("bundle", True)])
def test_a1_certificates_are_verified_as_is_said(client_for: Make, tls: Any, verify: Any, trusted: bool) -> None:
    with ReplyServer([(200, {}, [])] if trusted else [], tls=tls.server) as server:
        with pytest.warns(InsecureRequestWarning) if verify is False else contextlib.nullcontext():
            client = client_for(server.url, verify=tls.ca if verify == "bundle" else verify)
            response = client.from_("items").execute()
        assert response.data == ([] if trusted else None)
        if not trusted:
            assert code(response) == "NETWORK_ERROR"
            assert "certificate" in response.error.message.lower()  # type: ignore[union-attr]
