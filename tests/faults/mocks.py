"""The two libraries that people mock `requests` with, each behind one face that answers as a recording server does."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from urllib.parse import urlsplit

import requests
import requests_mock
import responses

from selfdb import SelfDB
from tests.client.conftest import ACCESS
from tests.servers.replies import Reply, Request

URL = "http://mocked.invalid"
"""A name that is in no DNS: whatever gets past a mock fails."""

ANY_METHOD = ("GET", "HEAD", "POST", "PATCH", "DELETE", "PUT")


class Mocked:
    """Replies in order, and the requests that asked for them, as a `ReplyServer` has them."""

    url = URL
    api_key = "replies-key"

    def __init__(self) -> None:
        self.replies: List[Reply] = []
        self.requests: List[Request] = []

    @property
    def lines(self) -> List[str]:
        return [request.line for request in self.requests]

    def answer(self, prepared: requests.PreparedRequest) -> Tuple[int, Dict[str, str], bytes]:
        """What both libraries ask a callback for."""
        parts = urlsplit(prepared.url or "")
        body: Any = prepared.body
        body = body.read() if hasattr(body, "read") else body or b""
        self.requests.append(
            Request(
                prepared.method or "",
                parts.path + (f"?{parts.query}" if parts.query else ""),
                [(str(name), str(value)) for name, value in prepared.headers.items()],
                body,
                0,
            )
        )
        status, headers, content = self.replies.pop(0)
        if isinstance(content, Exception):
            raise content
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        return status, dict(headers), content


@contextlib.contextmanager
def _responses(mocked: Mocked, session: Optional[requests.Session]) -> Iterator[None]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        for method in ANY_METHOD:
            mock.add_callback(method, re.compile(f"{URL}/.*"), callback=mocked.answer)
        yield


def _for_requests_mock(mocked: Mocked) -> Callable[[Any, Any], bytes]:
    def answer(request: Any, context: Any) -> bytes:
        context.status_code, headers, content = mocked.answer(request)
        context.headers.update(headers)
        return content

    return answer


@contextlib.contextmanager
def _mocker(mocked: Mocked, session: Optional[requests.Session]) -> Iterator[None]:
    with requests_mock.Mocker() as mock:
        mock.register_uri(requests_mock.ANY, requests_mock.ANY, content=_for_requests_mock(mocked))
        yield


@contextlib.contextmanager
def _mounted(mocked: Mocked, session: Optional[requests.Session]) -> Iterator[None]:
    assert session is not None
    adapter = requests_mock.Adapter()
    adapter.register_uri(requests_mock.ANY, requests_mock.ANY, content=_for_requests_mock(mocked))
    session.mount(URL, adapter)
    yield


DOORS = {
    "responses, our session": (_responses, False),
    "responses, their session": (_responses, True),
    "requests_mock, our session": (_mocker, False),
    "requests_mock, their session": (_mocker, True),
    "requests_mock mounted": (_mounted, True),
}


@contextlib.contextmanager
def mocked_client(door: str, **options: Any) -> Iterator[Tuple[Mocked, SelfDB]]:
    """A signed-in client of a server that is mocked in the way that ``door`` names."""
    way, theirs = DOORS[door]
    mocked = Mocked()
    with contextlib.ExitStack() as stack:
        session = stack.enter_context(requests.Session()) if theirs else None
        stack.enter_context(way(mocked, session))
        db = stack.enter_context(SelfDB(URL, mocked.api_key, session=session, **{"max_retries": 0, **options}))
        db.access_token = ACCESS
        db.refresh_token = "refresh-token-of-the-tests"
        yield mocked, db
