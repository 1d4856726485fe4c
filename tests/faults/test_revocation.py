"""A session that was ended is out everywhere within a second: connections, sockets, transfers, other servers."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple
from urllib.parse import urlsplit

import pytest
import requests

from tests import soak
from tests.realtime.raw import Raw
from tests.servers.process import ServeProcess
from tests.support import Http, Pair, unique

#: What is promised is one second; machines that are busy get five times that.
SLACK = 5.0
MIB = 1024 * 1024


def logout(http: Http, user: Dict[str, Any], pair: Pair) -> Any:
    return http.post("/users/logout", json={"refresh_token": pair.refresh})


def logout_everywhere(http: Http, user: Dict[str, Any], pair: Pair) -> Any:
    return http.post("/users/logout/all", bearer=http.login(user["email"], "password123").access)


def new_password(http: Http, user: Dict[str, Any], pair: Pair) -> Any:
    return http.patch(f"/users/{user['id']}", json={"password": "password456"}, bearer=http.admin)


def deactivation(http: Http, user: Dict[str, Any], pair: Pair) -> Any:
    return http.patch(f"/users/{user['id']}", json={"isActive": False}, bearer=http.admin)


def deletion(http: Http, user: Dict[str, Any], pair: Pair) -> Any:
    return http.delete(f"/users/{user['id']}", bearer=http.admin)


def reuse(http: Http, user: Dict[str, Any], pair: Pair) -> Any:
    """A refresh token that was rotated, shown again when its successor was used and the grace (none here) is over."""
    renewed = http.post("/users/token/refresh", json={"refresh_token": pair.refresh}).json()
    assert http.get("/users/me", bearer=renewed["access_token"]).status_code == 200
    answer = http.post("/users/token/refresh", json={"refresh_token": pair.refresh})
    assert answer.status_code == 401
    return http.get("/system/status")


ENDS = [logout, logout_everywhere, new_password, deactivation, deletion, reuse]


@pytest.fixture
def servers(backend: str, make_server: Callable[..., Any], tmp_path: Path) -> Iterator[List[Any]]:
    """One server on SQLite; on PostgreSQL a second one in a process of its own."""
    here = make_server(backend=backend, rotation_grace_seconds=0)
    if backend == "sqlite":
        yield [here]
        return
    database = here._running().services.settings.database
    with ServeProcess(tmp_path / "other", api_key=here.api_key, database=database) as other:
        yield [here, other]
    here.stop()


class Kept:
    """One connection that stays open, with a bearer."""

    def __init__(self, http: Http, bearer: str) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.url = http.url + "/users/me"
        self.headers = {"X-API-Key": http.api_key, "Authorization": f"Bearer {bearer}"}

    def status(self) -> int:
        return self.session.get(self.url, headers=self.headers, timeout=30).status_code


def test_g19_r16_an_ended_session_is_out_everywhere(servers: List[Any]) -> None:
    http, slowest = Http(servers[0]), 0.0
    for end in ENDS:
        user, _ = http.new_user()
        pair = http.login(user["email"], "password123")
        kept = [Kept(Http(server), pair.access) for server in servers for _ in range(3)]
        with contextlib.ExitStack() as stack:
            for each in kept:
                stack.callback(each.session.close)
                assert each.status() == 200
            raws = [Raw(server, pair.access) for server in servers]
            for raw in raws:
                stack.callback(raw.stop)
                raw.beat()
            assert end(http, user, pair).status_code in (200, 204), end.__name__
            began = time.monotonic()
            # The answer to what ended it is the last moment at which it could still be used.
            assert {each.status() for each in kept} <= {400, 401}, end.__name__
            for raw in raws:
                assert raw.ended() == (1008, "token expired"), end.__name__
            slowest = max(slowest, time.monotonic() - began)
        for server in servers:
            assert Http(server).post("/users/token/refresh", json={"refresh_token": pair.refresh}).status_code == 401
    assert slowest < SLACK
    soak.figure("G19", f"R16: {len(ENDS)} ends of a session on {len(servers)} server(s): out after {slowest:.3f} s")


def open_request(server: Any, method: str, path: str, headers: Dict[str, str]) -> http.client.HTTPConnection:
    """A connection on which the head of a request was sent."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    connection.putrequest(method, path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection


def test_g19_r16_what_is_under_way_when_the_session_ends_is_not_done(servers: List[Any]) -> None:
    """Bodies that are half sent are not acted on, and a download that is half received says that it is a part."""
    here, there = Http(servers[0]), servers[-1]
    user, bearer = here.new_user()
    pair = here.login(user["email"], "password123")
    bucket = here.post("/storage/buckets/", json={"name": unique("b")}, bearer=bearer).json()
    name = unique("t")
    body = {"name": name, "table_schema": {"a": {"type": "text"}}}
    table = here.post("/tables/", json=body, bearer=bearer).json()
    size = 64 * MIB
    path, query = f"/storage/buckets/{bucket['id']}/files", {"filename": "big"}
    assert here.post(path, params=query, data=bytes(size), bearer=bearer).status_code == 201
    headers = {"X-API-Key": here.api_key, "Authorization": f"Bearer {pair.access}"}

    row = json.dumps({"a": "x" * 1000}).encode()
    writes: List[Tuple[str, str, bytes]] = [
        ("POST", f"/tables/{table['id']}/data", row),
        ("PATCH", f"/users/{user['id']}", b'{"firstName": "Mallory"}'),
        ("PATCH", f"/tables/{table['id']}", b'{"public": true}'),
        ("POST", f"/storage/buckets/{bucket['id']}/files?filename=late", b"late" * 1000),
    ]
    where = servers[0] if there is servers[0] else there
    if where is not servers[0]:
        writes.pop()  # contents of files are not shared between folders
    halves = []
    for method, path, content in writes:
        length = {"Content-Length": str(len(content)), "Content-Type": "application/json"}
        connection = open_request(where, method, path, {**headers, **length})
        connection.send(content[: len(content) // 2])
        halves.append(connection)
    download = open_request(servers[0], "GET", f"/storage/files/download/{bucket['name']}/big", headers)
    assert download.sock is not None
    answer = download.getresponse()
    assert answer.status == 200
    received = len(answer.read(MIB))
    # A request on another line comes after: the heads of those above were read before it is answered.
    assert Http(where).get("/users/me", bearer=pair.access).status_code == 200

    assert logout(here, user, pair).status_code == 200
    began = time.monotonic()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)) as cut:
        while received < size:
            chunk = answer.read(MIB)
            received += len(chunk)
            if not chunk:
                raise http.client.IncompleteRead(b"", size - received)
            time.sleep(0.2)
    assert time.monotonic() - began < 2 * SLACK, cut
    answer.close()
    download.close()
    for connection, (method, path, content) in zip(halves, writes):
        connection.send(content[len(content) // 2 :])
        with contextlib.closing(connection), connection.getresponse() as refused:
            assert refused.status == 401, (method, path)
    assert here.get("/users/me", bearer=bearer).json()["firstName"] == "Ada"
    shown = here.get(f"/tables/{table['id']}", bearer=bearer).json()
    assert (shown["row_count"], shown["public"]) == (0, False)
    assert here.get(f"/storage/buckets/{bucket['id']}", bearer=bearer).json()["file_count"] == 1


def test_g19_r16_who_lost_his_role_or_account_while_his_request_was_under_way(make_server: Callable[..., Any]) -> None:
    server = make_server()
    web = Http(server)
    for change, status in (({"role": "USER"}, 403), ({"isActive": False}, 400)):
        admin, bearer = web.new_user(role="ADMIN")
        victim, _ = web.new_user()
        content = b'{"role": "ADMIN"}'
        headers = {
            "X-API-Key": web.api_key,
            "Authorization": f"Bearer {bearer}",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
        }
        connection = open_request(server, "PATCH", f"/users/{victim['id']}", headers)
        connection.send(content[:5])
        # A request on another line comes after: the head of the first was read before it is answered.
        assert web.get("/users/me", bearer=bearer).status_code == 200
        assert web.patch(f"/users/{admin['id']}", json=change, bearer=web.admin).status_code == 200
        connection.send(content[5:])
        with contextlib.closing(connection), connection.getresponse() as refused:
            assert refused.status == status
        assert web.get(f"/users/{victim['id']}", bearer=web.admin).json()["role"] == "USER"
