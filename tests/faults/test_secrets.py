"""No secret is shown by anything that goes wrong, or right: every call, every kind of failure, both faces."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List

import pytest
import trustme

from selfdb import SelfDB, SelfDBError
from selfdb.aio import SelfDB as AsyncSelfDB
from tests.client.seed_calls import SEED_CALLS
from tests.client.seed_run import MADE_UP
from tests.faults import canaries
from tests.faults.canaries import ACCESS, HEADER, KEY, PASSWORD, REFRESH, VALUE, WITH_VALUES, Log, inspect
from tests.servers.process import free_port
from tests.servers.replies import Reply, ReplyServer, Request
from tests.servers.scripted import ScriptedServer
from tests.soak import figure

THINGS = SimpleNamespace(**{**vars(MADE_UP), "password": PASSWORD, "refresh_token": REFRESH})

CALLS: Dict[str, Callable[[Any], Any]] = {
    case.id: (lambda db, case=case: case.call(db, THINGS)) for case in SEED_CALLS if not case.realtime
}
CALLS.update(
    {
        "a new password": lambda db: db.auth.users.update("u", {"password": PASSWORD}),
        "a new user": lambda db: db.auth.users.create(
            {"email": "a@example.com", "password": PASSWORD, "firstName": "A", "lastName": "B"}
        ),
        "a search for a value": lambda db: db.tables.list(search=VALUE),
        "an upload": lambda db: db.storage.files.upload("b", "f", VALUE.encode()),
        "a row": lambda db: db.tables.data.insert("t", {"a": VALUE}),
        "the status": lambda db: db.status(),
        "a token of one's own": lambda db: db.auth.refresh(REFRESH),
    }
)


def _echo(request: Request) -> str:
    return f"{request.line} {request.headers} {request.body.decode('utf-8', 'replace')}"


def _no_bodies(request: Request) -> str:
    return f"{request.method} {request.path} {request.headers}"


ANSWERS: Dict[str, Callable[[Request], Reply]] = {
    "401": lambda request: (401, {}, {"detail": f"not with {_no_bodies(request)}"}),
    "403": lambda request: (403, {"X-Request-ID": KEY}, {"detail": "no", "headers": dict(request.headers)}),
    "404": lambda request: (404, {}, f"<h1>{_no_bodies(request)}</h1>"),
    "409": lambda request: (409, {"X-Request-ID": f"id-{ACCESS}"}, {"error": {"message": json.dumps(request.headers)}}),
    "422 with the input": lambda request: (
        422,
        {},
        {"detail": [{"loc": ["body", "a"], "msg": "no", "type": "t", "input": _echo(request), "ctx": {"x": PASSWORD}}]},
    ),
    "429": lambda request: (429, {"Retry-After": "9999"}, {"message": f"{KEY[:9]}... calls too often"}),
    "500 in base64": lambda request: (500, {}, base64.b64encode(_no_bodies(request).encode())),
    "500 in hex": lambda request: (500, {}, {"detail": _no_bodies(request).encode().hex()}),
    "500 escaped": lambda request: (
        500,
        {},
        b'{"detail": "%s"}' % "".join(f"\\u{ord(c):04x}" for c in f"{KEY} {ACCESS} {HEADER}").encode(),
    ),
    "500 cut off": lambda request: (500, {}, f"so much was said by {KEY[:-4]}"),
    "503 of a proxy": lambda request: (503, {}, b"<pre>" + _no_bodies(request).encode("latin-1") + b"</pre>"),
    "not JSON": lambda request: (200, {}, f"{_no_bodies(request)} {{"),
    "another JSON": lambda request: (200, {}, {"access_token": 5, "seen": _no_bodies(request)}),
    "nonsense": lambda request: (200, {}, [ACCESS, REFRESH, KEY]),
    "led to another host": lambda request: (307, {"Location": f"http://u:{KEY}@other.example/{ACCESS}?k={KEY}"}, b""),
    "led to a host of that name": lambda request: (302, {"Location": f"http://{KEY.split('/')[0]}.example/"}, b""),
    "led round and round": lambda request: (308, {"Location": f"{request.path}?again={ACCESS}"}, b""),
    "a strange status": lambda request: (418, {}, _no_bodies(request)),
    "compressed": lambda request: (200, {"Content-Encoding": "gzip"}, _no_bodies(request)),
    "cut short": lambda request: (200, {"Content-Length": "9999", "Connection": "close"}, _no_bodies(request)),
    "too large": lambda request: (200, {"Content-Length": str(1 << 40), "Connection": "close"}, _no_bodies(request)),
}

BYTES: Dict[str, bytes] = {
    "no HTTP": f"SSH-2.0 {KEY} {ACCESS} {VALUE}\r\n".encode(),
    "a broken head": f"HTTP/1.1 200 OK\r\n{KEY}: {ACCESS}\r\nno colon {HEADER}\r\n : x\r\n\r\n{{}}".encode(),
    "half a head": f"HTTP/1.1 200 OK\r\nX-Seen: {ACCESS} {KEY}".encode(),
    "a broken chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n{ACCESS}\r\n".encode(),
    "nothing": b"",
}


@pytest.fixture(autouse=True)
def _log() -> Iterator[Log]:
    with Log() as log:
        yield log
    log.check()


def client(url: str, **options: Any) -> SelfDB:
    db = SelfDB(url, KEY, max_retries=1, headers={"X-Secret-Thing": HEADER}, **{"timeout": 10, **options})
    db._transport.lifeline.sleep = lambda seconds: None  # type: ignore[method-assign]
    return db


def go_wrong(db: SelfDB, where: str, *, values: bool, every: int = 1) -> int:
    """Make every call, or some; return how many raised. ``values``: whether the server repeats no value of a call."""
    raised = 0
    for name, call in list(CALLS.items())[::every]:
        db.access_token = ACCESS
        db.refresh_token = REFRESH
        names = set(WITH_VALUES if values else canaries.CANARIES)
        try:
            call(db)
        except SelfDBError as error:
            raised += 1
            inspect(error, f"{name}, {where}", names - {"a value"})
            inspect(error, f"{name}, {where}", names, frames=False)
    return raised


@pytest.mark.parametrize("kind", ANSWERS)
def test_g14_no_answer_makes_an_error_tell_a_secret(kind: str) -> None:
    with ReplyServer(ANSWERS[kind]) as server, contextlib.closing(client(server.url)) as db:
        raised = go_wrong(db, kind, values="headers" not in kind)
    assert raised >= len(CALLS) // 2


@pytest.mark.parametrize("kind", BYTES)
def test_g14_no_bytes_make_an_error_tell_a_secret(kind: str, scripted: Callable[..., ScriptedServer]) -> None:
    def answer(peer: Any) -> None:
        peer.read_request()
        peer.send(BYTES[kind])

    with contextlib.closing(client(scripted(default=answer).url)) as db:
        assert go_wrong(db, kind, values=False) >= len(CALLS) - 12


def test_g14_no_broken_connection_makes_an_error_tell_a_secret(
    scripted: Callable[..., ScriptedServer], tls: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(peer: Any) -> None:
        peer.read_request()
        peer.reset()

    closed = f"http://127.0.0.1:{free_port()}"
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(other)
    plain = scripted(default=lambda peer: None)
    count = 0
    with ReplyServer(lambda request: (200, {}, {}), tls=other) as unknown:
        for kind, url in {
            "refused": closed,
            "reset": scripted(default=reset).url,
            "an unknown certificate": unknown.url,
            "no TLS": plain.url.replace("http", "https"),
            "below a path": f"{closed}/below",
        }.items():
            with contextlib.closing(client(url)) as db:
                failed = go_wrong(db, kind, values=True)
                assert failed == len(CALLS)
                count += failed
    for proxy in (f"http://me:{canaries.PROXY}@127.0.0.1:{free_port()}", f"http://me:{canaries.PROXY}@[::1/"):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "")
        with contextlib.closing(client("http://some.example")) as db:
            assert go_wrong(db, "a proxy", values=True) == len(CALLS)
    figure("G14", f"{len(CALLS)} calls x {len(ANSWERS) + len(BYTES) + 7} kinds of failure: no secret shown")


def test_g14_a_proxy_that_refuses_and_repeats_what_it_was_told(
    replies: Callable[..., ReplyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = replies(lambda request: (407, {}, {"detail": f"no: {request.headers}"}))
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{canaries.PROXY}@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "")
    with contextlib.closing(client("http://some.example")) as db:
        assert go_wrong(db, "407", values=True) == len(CALLS)
    assert any("Proxy-Authorization" in dict(request.headers) for request in proxy.requests)


def test_g14_time_outs_and_calls_that_were_given_up(scripted: Callable[..., ScriptedServer]) -> None:
    def stall(peer: Any) -> None:
        peer.read_request()
        peer.stall()

    server = scripted(default=stall)
    some = [name for name in CALLS if name in ("auth.login", "data.insert", "files.upload", "users.create", "auth.me")]
    assert len(some) == 5
    for name in some:
        with contextlib.closing(client(server.url, timeout=0.05)) as db:
            db.access_token, db.refresh_token = ACCESS, REFRESH
            with pytest.raises(SelfDBError) as caught:
                CALLS[name](db)
            inspect(caught.value, name)

    async def give_up() -> List[BaseException]:
        db = AsyncSelfDB(server.url, KEY, headers={"X-Secret-Thing": HEADER})
        db.access_token, db.refresh_token = ACCESS, REFRESH
        tasks = [asyncio.ensure_future(CALLS[name](db)) for name in some]
        shown = [repr(db), repr(db.auth), repr(db.tables.data), *map(repr, tasks)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await db.close()
        for text in shown:
            canaries.look_for(text, "the repr of something awaitable")
        return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]

    for outcome in asyncio.run(give_up()):
        inspect(outcome, "given up", frames=False)


def test_g14_the_awaitable_face_shows_no_more() -> None:
    async def run(url: str) -> int:
        raised = 0
        async with AsyncSelfDB(url, KEY, max_retries=0, headers={"X-Secret-Thing": HEADER}) as db:
            for name, call in CALLS.items():
                db.access_token, db.refresh_token = ACCESS, REFRESH
                try:
                    await call(db)
                except SelfDBError as error:
                    raised += 1
                    inspect(error, f"await {name}", frames=False)
        return raised

    with ReplyServer(ANSWERS["500 in hex"]) as server:
        assert asyncio.run(run(server.url)) == len(CALLS)
