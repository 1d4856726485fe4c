"""G15: where a server may send us, and that no secret goes along to where it may not."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
import requests

from selfdb import SelfDB
from selfdb.exceptions import APIConnectionError, RedirectError, SelfDBError
from tests import soak
from tests.core.calls import ACCESS, API_KEY, PASSWORD, REFRESH, reveals_nothing
from tests.servers.replies import Reply, ReplyServer, Request

STATUSES = (301, 302, 303, 307, 308)
USER = {"id": "1", "email": "a@example.com"}
PAIR = {"access_token": ACCESS, "refresh_token": REFRESH}
FILE = {"success": True, "bucket": "b", "path": "/f", "size": 3, "file_id": "1"}
ANSWERS: Dict[str, Any] = {"/users/me": USER, "/users/token": PAIR, "/users/token/refresh": PAIR}

CALLS: Dict[str, Callable[[SelfDB], Any]] = {
    "get": lambda db: db.auth.me(),
    "download": lambda db: db.storage.files.download("b", "f"),
    "insert": lambda db: db.tables.data.insert("t", {"text": PASSWORD}),
    "update": lambda db: db.auth.users.update("1", {"password": PASSWORD}),
    "delete": lambda db: db.tables.delete("t"),
    "upload": lambda db: db.storage.files.upload("b", "f", b"abc"),
    "login": lambda db: db.auth.login("a@example.com", PASSWORD),
    "refresh": lambda db: db.auth.refresh(),
}
READS = ("get", "download")


class World:
    """The server that redirects, another one that must hear nothing, and a client of the first."""

    def __init__(self, session: Optional[requests.Session]) -> None:
        self.status = 302
        self.location: Optional[str] = None
        self.hops = 1
        self.home = ReplyServer(self._answer)
        self.elsewhere = ReplyServer(lambda request: (200, {}, {}))
        self.db = SelfDB(self.home.url, API_KEY, max_retries=0, timeout=10, session=session)

    def _answer(self, request: Request) -> Reply:
        if len(self.home.requests) <= self.hops:
            return self.status, {} if self.location is None else {"Location": self.location}, b"moved" * 9
        if request.target.startswith("/there"):
            return 200, {"Set-Cookie": "session=canary"}, {**USER, **PAIR, **FILE, "data": {}}
        return 200, {}, USER

    def call(self, what: str) -> Any:
        self.db.access_token = ACCESS
        self.db.refresh_token = REFRESH
        return CALLS[what](self.db)


@pytest.fixture
def world(theirs: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with requests.Session() as session:
        session.auth = ("somebody", "canary-of-their-own")
        session.cookies.set("theirs", "canary-cookie")
        made = World(session if theirs else None)
        with made.home, made.elsewhere, contextlib.closing(made.db):
            yield made


SAME: Dict[str, str] = {
    "absolute": "{home}/there",
    "relative to the root": "/there?a=b#fragment",
    "capitals": "HTTP://127.0.0.1:{port}/there",
    "without a scheme": "//127.0.0.1:{port}/there",
    "a host of nothing": "http:///there",
    "beyond ASCII": "/there/\xc3\xa9",
    "dots": "/a/../there",
    "backslashes in its path": "/there\\..\\x",
}

OTHER: Dict[str, str] = {
    "other port": "{elsewhere}/there",
    "other host": "http://127.0.0.2:{port}/there",
    "other name": "http://localhost:{port}/there",
    "other scheme": "https://127.0.0.1:{port}/there",
    "without a scheme": "//{other}/there",
    "a user": "http://somebody@127.0.0.1:{port}/there",
    "user and password": "http://a:b@{other}/there",
    "a key in a user": "http://127.0.0.1:{port}@{other}/there",
    "backslash and user": "http://{other}\\@127.0.0.1:{port}/there",
    "backslash for a slash": "http://{other}\\127.0.0.1:{port}/there",
    "a dot behind": "http://127.0.0.1.:{port}/there",
    "a short address": "http://127.1:{port}/there",
    "a number": "http://2130706433:{port}/there",
    "escaped": "http://127.0.0.1%2e:{port}/there",
    "wide digits": "http://127.0.0.\uff11:{port}/there",
    "IPv6": "http://[::1]:{port}/there",
    "IPv4 within IPv6": "http://[::ffff:127.0.0.1]:{port}/there",
    "port 0": "http://127.0.0.1:0/there",
    "port 65536": "http://127.0.0.1:65536/there",
    "no port": "http://127.0.0.1/there",
    "a port of letters": "http://127.0.0.1:x/there",
    "file": "file:///etc/passwd",
    "ftp": "ftp://{other}/there",
    "javascript": "javascript:alert(1)",
    "data": "data:application/json,{{}}",
    "a bracket": "http://[",
    "escapes of a terminal": "http://evil\x1b[2J.example/",
    "a tab": "ht\ttp://{other}/there",
}


def _located(world: World, template: str) -> str:
    text = template.format(
        home=world.home.url,
        port=world.home.port,
        elsewhere=world.elsewhere.url,
        other=f"127.0.0.1:{world.elsewhere.port}",
    )
    return text.encode("utf-8").decode("latin-1") if not text.isascii() and "\xc3" not in text else text


@pytest.mark.parametrize("where", list(SAME))
@pytest.mark.parametrize("status", STATUSES)
def test_g15_within_the_origin(status: int, where: str, world: World) -> None:
    for what in CALLS if where == "absolute" or soak.LONG else ("get", "insert"):
        before = len(world.home.requests)
        world.status, world.location = status, _located(world, SAME[where])
        world.hops = before + 1
        follows = status in (307, 308) or what in READS
        if follows:
            world.call(what)
        else:
            with pytest.raises(RedirectError, match="check base_url"):
                world.call(what)
        seen = world.home.requests[before:]
        assert len(seen) == (2 if follows else 1)
        for request in seen:
            assert request.header("X-API-Key") == API_KEY
            assert request.header("Cookie") is None
            assert request.header("Authorization") == (None if what in ("login", "refresh") else f"Bearer {ACCESS}")
        assert {(request.method, request.body) for request in seen} == {(seen[0].method, seen[0].body)}
        if follows:
            assert "there" in seen[1].target
            assert "fragment" not in seen[1].target
    assert world.elsewhere.connections == 0


@pytest.mark.parametrize("where", list(OTHER))
def test_g15_to_anywhere_else(where: str, world: World) -> None:
    for status in STATUSES:
        for what in CALLS if where == "other port" or soak.LONG else ("get", "insert", "login"):
            before = len(world.home.requests)
            world.status, world.location, world.hops = status, _located(world, OTHER[where]), before + 1
            with pytest.raises(RedirectError) as caught:
                world.call(what)
            reveals_nothing(caught.value, "/there", "canary")
            assert "\x1b" not in str(caught.value)
            assert len(world.home.requests) == before + 1
    assert world.elsewhere.connections == 0, "not even a connection"


def test_g15_says_where_to_go_instead(world: World) -> None:
    world.location = f"{world.elsewhere.url}/there?one-time=secret"
    with pytest.raises(RedirectError, match=f"set base_url to {world.elsewhere.url}$|set base_url to ") as caught:
        world.call("get")
    assert world.elsewhere.url in str(caught.value)
    assert "one-time" not in str(caught.value)


@pytest.mark.parametrize("status", STATUSES)
def test_g15_without_a_target(status: int, world: World) -> None:
    world.status = status
    for what in CALLS:
        world.hops = len(world.home.requests) + 1
        with pytest.raises(SelfDBError, match=f"answered {status}, which is no answer"):
            world.call(what)


@pytest.mark.parametrize("status", STATUSES)
def test_g15_twenty_hops(status: int, world: World) -> None:
    world.status, world.location, world.hops = status, "/there", 20
    for what in ("get", "insert") if status in (307, 308) else ("get",):
        before = len(world.home.requests)
        world.hops = before + 20
        with pytest.raises(RedirectError, match="more than 5 times"):
            world.call(what)
        assert len(world.home.requests) == before + 6


def test_g15_a_session_is_not_renewed_elsewhere(world: World) -> None:
    """The refresh token is the most precious of all: it goes to the server that gave it, or nowhere."""
    expired: List[str] = []

    def answer(request: Request) -> Reply:
        expired.append(request.target)
        if request.target == "/users/token/refresh":
            return 307, {"Location": f"{world.elsewhere.url}/users/token/refresh"}, b""
        return 401, {}, {"detail": "expired"}

    world.home._function = answer
    with pytest.raises(RedirectError) as caught:
        world.call("get")
    reveals_nothing(caught.value)
    assert expired == ["/users/me", "/users/token/refresh"]
    assert world.elsewhere.connections == 0
    assert world.db.refresh_token == REFRESH, "it is still good"


def test_g15_a_body_that_cannot_be_sent_again(world: World) -> None:
    world.db.storage.files._route.legacy = False
    for status in (307, 308):
        world.status, world.location, world.hops = status, "/there", len(world.home.requests) + 1
        world.db.access_token = ACCESS
        with pytest.raises(RedirectError, match="cannot be sent again"):
            world.db.storage.files.upload("b", "f", iter([b"a", b"b"]))


def test_g15_websockets_follow_none(world: World) -> None:
    for status in STATUSES:
        world.status, world.location = status, f"{world.elsewhere.url}/there"
        world.hops = len(world.home.requests) + 1
        with pytest.raises(APIConnectionError) as caught:
            world.db.with_options(timeout=5).realtime.connect()
        reveals_nothing(caught.value, "/there")
    assert world.elsewhere.connections == 0
    world.db.realtime.disconnect()


@pytest.mark.parametrize("signed_in", [True, False])
def test_g15_a_hostile_netrc_replaces_nothing(
    signed_in: bool, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login evil password evil\ndefault login evil password evil\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    world.location, world.status = "/there", 307
    world.db.access_token = ACCESS if signed_in else None
    world.hops = 1
    world.db.auth.me()
    assert [request.header("Authorization") for request in world.home.requests] == [
        f"Bearer {ACCESS}" if signed_in else None
    ] * 2


def test_g15_from_tls_to_plain(tls: Any, world: World) -> None:
    secure = ReplyServer(lambda request: (302, {"Location": f"{world.elsewhere.url}/there"}, b""), tls=tls.server)
    with secure, SelfDB(secure.url, API_KEY, verify=tls.ca, max_retries=0) as db:
        db.access_token = ACCESS
        for what in ("get", "insert"):
            with pytest.raises(RedirectError):
                CALLS[what](db)
    assert world.elsewhere.connections == 0
    soak.figure("G15", f"{len(STATUSES)} statuses x {len(SAME) + len(OTHER)} targets, 2 sessions: no secret crossed")
