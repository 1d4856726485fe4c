"""What one call costs: ``python -m benchmarks calls``. CPU of the client, against the same done with its peers."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any, Callable, Dict, List
from urllib.parse import urlsplit

import requests
import urllib3

from selfdb import SelfDB
from selfdb.models import TableDataResponse, UserRead

from .measure import SDK, Figures, Results, elsewhere, in_turns, kept, parser_of, peer, save, show, timed
from .nginx import TABLE, Server, static_server

KEY = "bench-key-0123456789"
COLUMNS = (("cpu", "CPU us", 1e6, ".0f"), ("wall", "wall us", 1e6, ".0f"))
NEW_ROW = {"title": "a row of about two hundred bytes", "n": 7, "done": False, "note": "x" * 110}
DATA = f"/tables/{TABLE}/data"

Calls = Dict[str, Callable[[], object]]


class RawSocket:
    """The limit: bytes that were made before, one write, reads up to the length that the answer says."""

    def __init__(self, url: str, path: str) -> None:
        place = urlsplit(url)
        self._sock = socket.create_connection((place.hostname or "", place.port or 80))
        self._message = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nX-API-Key: {KEY}\r\n\r\n".encode()

    def get(self) -> Any:
        self._sock.sendall(self._message)
        data = self._sock.recv(65536)
        end = data.index(b"\r\n\r\n") + 4
        start = data.index(b"Content-Length: ") + 16
        length = int(data[start : data.index(b"\r\n", start)])
        while len(data) < end + length:
            data += self._sock.recv(65536)
        return json.loads(data[end:])

    def close(self) -> None:
        self._sock.close()


def small(server: Server, stack: contextlib.ExitStack) -> Calls:
    """A GET of 200 bytes to a typed value, over a kept connection."""
    db = stack.enter_context(SelfDB(server.url, KEY))
    db.access_token = "bench-token"
    session = stack.enter_context(requests.Session())
    headers = {"X-API-Key": KEY, "Authorization": "Bearer bench-token"}
    pool = stack.enter_context(urllib3.PoolManager(headers=headers))
    place = urlsplit(server.url)
    plain = stack.enter_context(contextlib.closing(http.client.HTTPConnection(place.hostname or "", place.port)))
    raw = stack.enter_context(contextlib.closing(RawSocket(server.url, "/users/me")))
    connection = pool.connection_from_url(server.url)
    url = server.url + "/users/me"

    def by_http_client() -> object:
        plain.request("GET", "/users/me", headers=headers)
        return json.loads(plain.getresponse().read())

    return {
        "selfdb": db.auth.me,
        "requests": lambda: session.get(url, headers=headers).json(),
        "urllib3 pool": lambda: connection.urlopen("GET", "/users/me", headers=headers).json(),
        "http.client": by_http_client,
        "raw socket": raw.get,
    }


def page(server: Server, stack: contextlib.ExitStack) -> Calls:
    """A page of 100 rows, 10 KB, to a `TableDataResponse`."""
    db = stack.enter_context(SelfDB(server.url, KEY))
    session = stack.enter_context(requests.Session())
    url = server.url + DATA
    model = TableDataResponse[Dict[str, Any]]
    return {
        "selfdb": lambda: db.tables.data.fetch(TABLE),
        "requests + model_validate": lambda: model.model_validate(session.get(url, headers={"X-API-Key": KEY}).json()),
    }


def models(server: Server, stack: contextlib.ExitStack) -> Calls:
    """A list of 100 users to a list of models."""
    db = stack.enter_context(SelfDB(server.url, KEY))
    session = stack.enter_context(requests.Session())
    url = server.url + "/users/"

    def by_requests() -> List[UserRead]:
        answer = session.get(url, headers={"X-API-Key": KEY}).json()
        return [UserRead.model_validate(item) for item in answer]

    return {"selfdb": db.auth.users.list, "requests + model_validate": by_requests}


def insert(server: Server, stack: contextlib.ExitStack) -> Calls:
    """A POST of 200 bytes with an answer of 200 bytes."""
    db = stack.enter_context(SelfDB(server.url, KEY))
    session = stack.enter_context(requests.Session())
    url = server.url + DATA
    return {
        "selfdb": lambda: db.tables.data.insert(TABLE, NEW_ROW),
        "requests": lambda: session.post(url, json=NEW_ROW, headers={"X-API-Key": KEY}).json(),
    }


def secure(server: Server, stack: contextlib.ExitStack) -> Calls:
    """A GET over a new HTTPS connection each time: the server keeps none."""
    db = stack.enter_context(SelfDB(server.secure, KEY, verify=server.ca))
    session = stack.enter_context(requests.Session())
    context = ssl.create_default_context(cafile=server.ca)
    pool = stack.enter_context(urllib3.PoolManager(ssl_context=context))
    url = server.secure + "/users/me"
    return {
        "selfdb": db.auth.me,
        # Said in the call: the environment's bundle beats the session's.
        "requests": lambda: session.get(url, headers={"X-API-Key": KEY}, verify=server.ca).json(),
        "urllib3, one SSLContext": lambda: pool.request("GET", url, headers={"X-API-Key": KEY}).json(),
    }


QUESTIONS: Dict[str, Any] = {
    "get": (small, 400),
    "page": (page, 150),
    "models": (models, 80),
    "insert": (insert, 400),
    "https": (secure, 30),
}
"""By name: the calls, and how many make a turn."""


def measure(rounds: int, environments: Path, names: List[str]) -> Results:
    """The rounds of each question."""
    results: Results = {}
    with static_server() as server, contextlib.ExitStack() as outer:
        published = outer.enter_context(peer(SDK, "sdk_calls.py", environments, server.url, TABLE))
        for name in names:
            make, times = QUESTIONS[name]
            if name == "https" and not server.secure:
                continue
            with contextlib.ExitStack() as stack:
                calls: Calls = make(server, stack)
                turns: Dict[str, Callable[[], Figures]] = {}
                for who, call in calls.items():
                    call()  # the first one opens the connection
                    turns[who] = lambda call=call, times=times: timed(call, times)  # type: ignore[misc]
                if name in ("get", "insert", "page"):
                    turns[SDK] = elsewhere(published, f"{name} {max(20, times // 4)}")
                results[name] = in_turns(turns, rounds)
            print(show(f"{name}: {make.__doc__}", results[name], COLUMNS), flush=True)
    return results


def main(arguments: List[str]) -> None:
    """Measure and print."""
    parser = parser_of("calls", __doc__, 11)
    parser.add_argument("questions", nargs="*", help=f"of {', '.join(QUESTIONS)}; all if there is none")
    options = parser.parse_args(arguments)
    with kept(options.environments) as environments:
        save(measure(options.rounds, environments, options.questions or list(QUESTIONS)), options.json)
