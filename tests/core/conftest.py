"""Fixtures for exchanges of the kernel: transports to fake servers, closed at the end of the test."""

from __future__ import annotations

from typing import Any, Callable, Iterator, List

import pytest

from selfdb.core.transport import Transport
from selfdb.core.websocket import After
from tests.core.calls import SkippingClock, transport_to
from tests.core.links import Owner, address_of
from tests.servers.scripted import ScriptedServer


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no CA bundle but what a test sets itself."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def skipping() -> SkippingClock:
    """Real time, but for the client's own waits, which pass at once and are recorded in ``naps``."""
    return SkippingClock()


@pytest.fixture
def connect(skipping: SkippingClock) -> Iterator[Callable[..., Transport]]:
    """``connect(server or url, **options)``: see `transport_to`; waits between attempts take no time."""
    made: List[Transport] = []

    def make(server: Any, **options: Any) -> Transport:
        options.setdefault("clock", skipping)
        made.append(transport_to(server, **options))
        return made[-1]

    yield make
    for transport in made:
        transport.pool.close()


@pytest.fixture
def owner_of() -> Iterator[Callable[..., Owner]]:
    """``owner_of(server or address, after=)``: an `Owner` whose links are closed after the test."""
    made: List[Owner] = []

    def make(where: Any, after: After = After.STOP) -> Owner:
        made.append(Owner(address_of(where) if isinstance(where, ScriptedServer) else where, after))
        return made[-1]

    yield make
    for owner in made:
        owner.end()
