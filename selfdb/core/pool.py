"""What a client shares with all its clones: the session with its connections, the retry budget, open or closed."""

from __future__ import annotations

import os
import ssl
import threading
import warnings
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import requests
from requests.auth import AuthBase
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import InsecureRequestWarning

from ..exceptions import InvalidRequestError
from .call import away
from .clock import SYSTEM_CLOCK, Clock, Deadline
from .forks import renew_after_fork
from .http import CALL, Bounds, ClientSession, Verify, bounded, tls_context, warn_if_patched_late
from .lane import Lane
from .lifeline import Lifeline
from .redaction import secret_headers, secret_in_url
from .retry import SAFE_METHODS, RetryBudget
from .theirs import FirstLook
from .upload import SupportsRead
from .urls import BaseURL

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
    :raises InvalidRequestError: if ``verify`` is of another type or names nothing that exists.
    """

    def __init__(
        self, session: requests.Session | None = None, verify: Verify = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        if verify is not None and not isinstance(verify, bool):
            if not isinstance(verify, (str, os.PathLike)):
                raise InvalidRequestError(f"verify must be True, False or a path, not {type(verify).__name__}")
            if not Path(verify).exists():
                raise InvalidRequestError(f"verify: there is no CA bundle at {os.fspath(verify)}")
        warn_if_patched_late()
        self.clock = clock
        self.lifeline = Lifeline(clock)
        self.budget = RetryBudget()
        self.acknowledges_keys = False
        """Whether this server has echoed an idempotency key, and so is known to honour them."""
        if verify is False or (verify is None and session is not None and session.verify is False):
            warnings.warn(
                "with verify=False nobody knows who answers: whoever is in between can read the API key and all else; "
                'for a private authority pass verify="/path/to/ca.pem"',
                InsecureRequestWarning,
                stacklevel=3,
            )
        self._verify = verify
        self._theirs = session
        self._ours: ClientSession | None = None
        self._lane: Lane | None = None
        self._lock = threading.RLock()  # a signal handler may make a call where its own thread makes its first
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        self._lock = threading.RLock()
        # Its locks may be held by threads that the child does not have; its sockets are closed by `http`.
        self._ours = self._lane = None

    def lane(self, base: BaseURL) -> Lane | None:
        """The short way to the server at ``base``, which is the same in every call; ``None`` if it is not free."""
        lane = self._lane
        if lane is None:
            if self._theirs is not None:
                return None
            # Of several threads at the first call each may make one: they differ in nothing.
            lane = self._lane = Lane(self._session(), base)
        return lane if lane.free() else None

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        bearer: str | None,
        body: bytes | SupportsRead | None,
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
        bounds = Bounds(timeouts[0], timeouts[1], deadline, method not in SAFE_METHODS)
        with bounded(bounds):
            return self._send(method, url, headers, bearer, body, length, bounds)

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        bearer: str | None,
        body: bytes | SupportsRead | None,
        length: int | None,
        bounds: Bounds,
    ) -> requests.Response:
        session = self._session() if self._theirs is None else self._theirs
        prepared = session.prepare_request(requests.Request(method, url, headers=dict(headers), auth=_Bearer(bearer)))
        # One session serves many users: a cookie that one of them was given is not sent for the others.
        prepared.headers.pop("Cookie", None)
        if body is not None:
            prepared.body = body  # type: ignore[assignment]
            prepared.headers.pop("Content-Length", None)
            if length is not None:
                prepared.headers["Content-Length"] = str(length)
        settings: dict[str, Any] = dict(session.merge_environment_settings(prepared.url or url, {}, True, None, None))
        if self._verify is not None:  # said by the user: beats the environment, which requests would prefer
            settings["verify"] = self._verify if isinstance(self._verify, bool) else os.fspath(self._verify)
        connect, read = bounds.deadline.limit(bounds.connect), bounds.deadline.limit(bounds.read)
        if connect == 0 or read == 0:  # which urllib3 takes for a mistake
            raise requests.ConnectTimeout("the deadline has passed")
        try:
            if self._theirs is None:
                return session.send(prepared, timeout=(connect, read), allow_redirects=False, **settings)
            look = FirstLook(prepared)
            with away():  # for we do not see when it waits
                answer = session.send(prepared, timeout=(connect, read), allow_redirects=False, **settings)
            return look.restore(answer)
        except requests.HTTPError as error:
            if error.response is None:
                raise
            # A hook of theirs raises for its status; what it means is said by us. The traceback goes, for a frame of
            # who stands in between, such as an instrumentation, may hold the error, and both then the connection.
            return error.with_traceback(None).response

    def may_be_cut(self, answer: requests.Response) -> bool:
        """Whether ``answer`` may have broken off in its head if its body is empty.

        `http.client` takes the end of the stream for the end of the head. Our own connections do not; on a session of
        the user's it shows only in an answer that neither says where it ends nor that the connection ends with it.
        """
        original = getattr(answer.raw, "_original_response", None)
        return (
            self._theirs is not None
            and isinstance(original, HTTPResponse)
            and original.version == 11
            and original.length is None
            and not original.chunked
            and "close" not in original.headers.get("Connection", "").lower()
        )

    def websocket_route(self, url: str) -> tuple[str | None, ssl.SSLContext | None]:
        """The proxy and the TLS context for a WebSocket to the server of the http(s) ``url``: those of its calls."""
        session = self._theirs or self._session()
        settings = session.merge_environment_settings(url, {}, True, None, None)
        proxy = select_proxy(url, settings["proxies"])
        if not url.startswith("https:"):
            return proxy, None
        if self._theirs is None:
            return proxy, self._session().tls_context()
        return proxy, tls_context(settings["verify"] if self._verify is None else self._verify)

    def secrets(self, url: str) -> Iterator[str]:
        """What the environment, or a session of the user's, adds to requests to ``url`` and nobody may see."""
        session = self._theirs
        if session is not None:
            yield from secret_headers(session.headers)
            for part in session.auth if isinstance(session.auth, tuple) else ():
                yield str(part)
            for cookie in session.cookies:
                yield cookie.value or ""
        proxies = dict(get_environ_proxies(url)) if session is None or session.trust_env else {}
        proxies.update({} if session is None else session.proxies)
        for proxy in proxies.values():
            yield from secret_in_url(proxy)

    @property
    def sent(self) -> bool | None:
        """Whether the last ``send`` of this thread may have sent something; ``None`` if only its error can tell."""
        last = CALL.last
        return last.sent if self._theirs is None and last.tracked else None

    def _session(self) -> ClientSession:
        ours = self._ours
        if ours is None:
            made = ClientSession(self._verify)
            with self._lock:  # of several threads at the first call, all go on with the same one
                ours = self._ours = self._ours or made
        return ours

    def close(self) -> None:
        """Refuse new calls, end waits and close idle connections. Idempotent; from any thread."""
        self.lifeline.close()
        ours = self._ours
        if ours is not None:
            ours.close()
