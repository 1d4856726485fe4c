"""What a client shares with all its clones: the session with its connections, the retry budget, open or closed."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Mapping
from typing import Any

import requests
from requests.auth import AuthBase
from requests.utils import select_proxy

from .clock import SYSTEM_CLOCK, Clock, Deadline
from .forks import renew_after_fork
from .http import CALL, ClientSession, Verify, call_bounds, make_context
from .lifeline import Lifeline
from .retry import RetryBudget
from .upload import UploadReader

__all__ = ["Pool"]


class _Bearer(AuthBase):
    """Sets our header or none. Being there at all keeps `requests` from looking into ``~/.netrc``."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Pool:
    """Sends one request and hands back the open answer. May be shared by threads and survives a fork.

    :param session: the user's own, whose adapters, proxies, certificates and hooks stay as they are and which
        is never closed here; ``None`` makes one on first use.
    :param verify: see :data:`~selfdb.core.http.Verify`; given, it beats the session and the environment.
    """

    def __init__(
        self, session: requests.Session | None = None, verify: Verify = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.clock = clock
        self.lifeline = Lifeline(clock)
        self.budget = RetryBudget()
        self.acknowledges_keys = False
        """Whether this server has echoed an idempotency key, and so is known to honour them."""
        self._verify = verify
        self._theirs = session
        self._ours: ClientSession | None = None
        self._lock = threading.Lock()
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        self._lock = threading.Lock()
        # Its locks may be held by threads that the child does not have; its sockets are closed by `http`.
        self._ours = None

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        bearer: str | None,
        body: bytes | UploadReader | None,
        length: int | None,
        timeouts: tuple[float | None, float | None],
        deadline: Deadline,
    ) -> requests.Response:
        """Send one request; the answer's body is still to be read, and the answer to be closed.

        :param body: what to send; a reader without ``length`` goes out chunked.
        :param length: bytes that ``body`` will give.
        :param timeouts: seconds to connect and for one read.
        :raises Exception: whatever the HTTP stack raises.
        """
        session = self._theirs or self._session()
        prepared = session.prepare_request(requests.Request(method, url, headers=dict(headers), auth=_Bearer(bearer)))
        # One session serves many users: a cookie that one of them was given is not sent for the others.
        prepared.headers.pop("Cookie", None)
        if body is not None:
            prepared.body = body  # type: ignore[assignment]
            prepared.headers.pop("Content-Length", None)
            if length is not None:
                prepared.headers["Content-Length"] = str(length)
        connect, read = deadline.limit(timeouts[0]), deadline.limit(timeouts[1])
        call_bounds(timeouts[0], timeouts[1], deadline)
        settings: dict[str, Any] = dict(session.merge_environment_settings(prepared.url or url, {}, True, None, None))
        if self._verify is not None:  # said by the user: beats the environment, which requests would prefer
            settings["verify"] = self._verify if isinstance(self._verify, bool) else os.fspath(self._verify)
        return session.send(prepared, timeout=(connect, read), allow_redirects=False, **settings)

    def websocket_route(self, url: str) -> tuple[str | None, ssl.SSLContext | None]:
        """The proxy and the TLS context for a WebSocket to the server of the http(s) ``url``: those of its calls."""
        session = self._theirs or self._session()
        settings = session.merge_environment_settings(url, {}, True, None, None)
        proxy = select_proxy(url, settings["proxies"])
        if not url.startswith("https:"):
            return proxy, None
        if self._theirs is None:
            return proxy, self._session().tls_context()
        verify = settings["verify"] if self._verify is None else self._verify
        return proxy, make_context(verify)

    @property
    def sent(self) -> bool | None:
        """Whether the last ``send`` of this thread may have sent something; ``None`` if only its error can tell."""
        return CALL.sent if self._theirs is None and CALL.tracked else None

    def _session(self) -> ClientSession:
        with self._lock:
            if self._ours is None:
                self._ours = ClientSession(self._verify)
            return self._ours

    def close(self) -> None:
        """Refuse new calls, end waits and close idle connections. Idempotent; from any thread."""
        self.lifeline.close()
        ours = self._ours
        if ours is not None:
            ours.close()
