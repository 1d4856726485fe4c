"""What tests of exchanges share: a transport, two requests with secrets in them, and a look for these secrets."""

from __future__ import annotations

import pickle
import time
import traceback
from typing import Any, Callable, Dict, List, Mapping, Optional

import requests

from selfdb.core.clock import Clock
from selfdb.core.flags import Flag
from selfdb.core.options import CallOptions
from selfdb.core.pool import Pool
from selfdb.core.request import Request
from selfdb.core.retry import RetryPolicy
from selfdb.core.tokens import TokenKeeper, Tokens
from selfdb.core.transport import Transport
from selfdb.core.urls import BaseURL
from selfdb.exceptions import SelfDBError

API_KEY = "canary-of-the-api-key"
ACCESS = "canary-of-the-access-token"
REFRESH = "canary-of-the-refresh-token"
PASSWORD = "canary-of-the-password"
SECRETS = (API_KEY, ACCESS, REFRESH, PASSWORD)

GET = Request("GET", "/things", "?search=canary-of-the-query")
POST = Request("POST", "/things", body=b'{"password":"%s"}' % PASSWORD.encode(), secrets=(PASSWORD,))


class SkippingClock(Clock):
    """Real time, but waits pass at once; ``naps`` has their lengths."""

    def __init__(self) -> None:
        self.naps: List[float] = []
        self._skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def time(self) -> float:
        return time.time() + self._skipped

    def wait(self, event: Flag, seconds: float) -> bool:
        self.naps.append(seconds)
        self._skipped += seconds
        return event.is_set()


class HeldClock(SkippingClock):
    """Time that moves by ``advance`` and by waits only."""

    now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now + self._skipped

    def time(self) -> float:
        return 1_800_000_000.0 + self.now + self._skipped

    def advance(self, seconds: float) -> None:
        self._skipped += seconds


def transport_to(
    server: Any,
    *,
    clock: Optional[Clock] = None,
    session: Optional[requests.Session] = None,
    verify: Any = None,
    tokens: Optional[Tokens] = Tokens(ACCESS, REFRESH),
    renewer: Optional[Callable[..., Tokens]] = None,
    random: Callable[[], float] = lambda: 1.0,
    prefix: str = "",
    **options: Any,
) -> Transport:
    """A transport to a fake server, or to a URL; ``options`` are those of `CallOptions.changed`."""
    url = server if isinstance(server, str) else server.url
    clock = clock or Clock()
    keeper = TokenKeeper(clock=clock)
    keeper.set(tokens)
    chosen = CallOptions(retry=RetryPolicy(random=random)).changed(**options)
    identity = {"X-API-Key": API_KEY}
    return Transport(Pool(session, verify, clock), BaseURL(url + prefix), identity, keeper, chosen, renewer)


def reveals_nothing(error: BaseException, *more: str) -> None:
    """No secret in the text, the repr, the traceback or the pickle of ``error``, nor in what caused it."""
    shown = [str(error), repr(error), "".join(traceback.format_exception(type(error), error, error.__traceback__))]
    if isinstance(error, SelfDBError):
        shown += [repr(pickle.dumps(error)), repr(vars(error))]
    cause: Optional[BaseException] = error
    seen: Dict[int, BaseException] = {}
    while cause is not None and id(cause) not in seen:
        seen[id(cause)] = cause
        shown += [repr(cause), repr(vars(cause)), repr(cause.args)]
        cause = cause.__cause__ or cause.__context__
    for secret in (*SECRETS, *more):
        for text in shown:
            assert secret not in text, f"{secret} is shown in {text}"


def sent_headers(headers: Any) -> Mapping[str, str]:
    """The recorded headers by name in lower case; without the one of a trace, which differs from attempt to attempt."""
    return {name.lower(): value for name, value in headers if name.lower() != "traceparent"}
