"""A server of many moods, for clients that lose patience: slow, dripping, busy, forgetful; it counts what was done."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from typing import Any, Dict, List
from urllib.parse import parse_qs, urlsplit

from tests.servers.scripted import Peer, PeerGone, Received, ScriptedServer

ROWS = 6
"""Rows of each table, two a page."""

FILE = 40_000
"""Bytes of each file; all of them are told by its number."""


def content(number: int) -> bytes:
    return (b"%08d" % number) * (FILE // 8)


class Moody:
    """Each number in a request decides what it is told; the answer repeats the number.

    :param seed: of all chance.
    :param forgetful: the part of the requests that finds its access token expired, which may be changed later.
    """

    def __init__(self, seed: int, forgetful: float = 0.0) -> None:
        self._random = random.Random(seed)
        self.forgetful = forgetful
        self._lock = threading.Lock()
        self._generation = 0
        self._expired = False
        self._met: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        """How often each write was applied."""
        self.renewals = 0
        self.reused: List[str] = []
        """Refresh tokens that came although they had been used."""
        self.server = ScriptedServer(default=self._serve)
        self.url = self.server.url

    @property
    def tokens(self) -> Dict[str, str]:
        return {"access_token": f"access-{self._generation}", "refresh_token": f"refresh-{self._generation}"}

    def _serve(self, peer: Peer) -> None:
        while True:
            request = peer.read_request()
            parts = urlsplit(request.target)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/users/token/refresh":
                self._renew(peer, request)
            elif not self._knows(request):
                self._json(peer, {"detail": "expired"}, 401)
            else:
                self._answer(peer, request, parts.path.strip("/").split("/"), query)

    def _knows(self, request: Received) -> bool:
        with self._lock:
            if self._random.random() < self.forgetful:
                self._expired = True
            return not self._expired and request.header("Authorization") == f"Bearer {self.tokens['access_token']}"

    def _renew(self, peer: Peer, request: Received) -> None:
        given = json.loads(request.body)["refresh_token"]
        self._pause(peer, 0.02)
        with self._lock:
            if given != self.tokens["refresh_token"]:
                self.reused.append(given)
                pair = None
            else:
                self._generation += 1
                self.renewals += 1
                self._expired = False
                pair = self.tokens
        self._pause(peer, 0.02)
        self._json(peer, pair or {"detail": "no such token"}, 200 if pair else 401)

    def _answer(self, peer: Peer, request: Received, path: List[str], query: Dict[str, str]) -> None:
        if path[:2] == ["users", "count"]:
            number, mood = query["search"].split(" ")
            self._in_a_mood(peer, int(number), mood)
        elif request.method == "POST" and path[0] == "tables":
            row = json.loads(request.body)
            self._pause(peer, 0.02)
            self._apply(f"row {row['n']}")
            self._json(peer, {"id": str(row["n"]), **row})
        elif path[0] == "tables":
            page = int(query.get("page", 1))
            self._pause(peer, 0.01)
            rows = [{"id": str(index), "n": int(path[1])} for index in range(page * 2 - 2, min(page * 2, ROWS))]
            self._json(peer, {"data": rows, "total": ROWS, "page": page, "page_size": 2})
        elif request.method == "POST":
            number = query["filename"]
            assert request.body == content(int(number))
            self._apply(f"file {number}")
            self._json(peer, {"success": True, "bucket": "b", "path": number, "size": FILE, "file_id": number})
        else:
            self._download(peer, request, int(path[-1]))

    def _download(self, peer: Peer, request: Received, number: int) -> None:
        whole, tag = content(number), f'"{number}"'
        start = 0
        span = request.header("Range")
        headers = {"ETag": tag, "Content-Type": "application/octet-stream"}
        if span is not None and request.header("If-Range") == tag:
            start = int(span[len("bytes=") :].rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{FILE - 1}/{FILE}"
        peer.reply(206 if "Content-Range" in headers else 200, b"", headers, length=FILE - start)
        for at in range(start, FILE, 8000):
            peer.send(whole[at : at + 8000])
            self._pause(peer, 0.005)

    def _in_a_mood(self, peer: Peer, number: int, mood: str) -> None:
        if mood == "slow":
            self._pause(peer, 0.1)
        elif mood == "busy":
            with self._lock:
                self._met[str(number)] += 1
                first = self._met[str(number)] == 1
            if first:
                self._json(peer, {"detail": "busy"}, 503, {"Retry-After": "1"})
                return
        elif mood == "drip":
            body = json.dumps(number).rjust(12).encode()
            peer.reply(200, b"", {"Content-Type": "application/json"}, length=len(body))
            peer.drip(body, 3, every=0.01)
            return
        elif mood == "silent":
            peer.wait_for_close()
            raise PeerGone("nobody waits any more")
        self._json(peer, number)

    def _apply(self, what: str) -> None:
        with self._lock:
            self.done[what] += 1

    def _pause(self, peer: Peer, at_most: float) -> None:
        with self._lock:
            seconds = self._random.random() * at_most
        if self.server.stopping.wait(seconds):
            raise PeerGone("the test is over")

    def _json(self, peer: Peer, body: Any, status: int = 200, headers: Any = None) -> None:
        peer.reply(status, json.dumps(body).encode(), headers)
