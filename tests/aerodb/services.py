"""What tests against the fakes share: clients with a clock of the test's, and short ways to look."""

from __future__ import annotations

import base64
import json
from typing import Any, Callable, Iterator, List, Optional

import pytest

from selfdb.aerodb import AeroDBClient
from selfdb.core.clock import Clock
from selfdb.core.flags import Flag
from tests.servers.aerodb.server import AeroServer

KEY = "anon-key-of-the-tests"
EMAIL, PASSWORD = "ann@example.com", "correct horse"


class Quick(Clock):
    """Waits are over at once, and written down; the time goes on by them."""

    def __init__(self) -> None:
        self.waits: List[float] = []
        self._passed = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._passed

    def time(self) -> float:
        return super().time() + self._passed

    def wait(self, event: Flag, seconds: float) -> bool:
        self.waits.append(seconds)
        self._passed += seconds
        return event.is_set()


def with_clock(client: AeroDBClient, clock: Clock) -> AeroDBClient:
    """``client``, whose waits are those of ``clock`` from now on."""
    pool = client._calls.transport.pool
    pool.clock = pool.lifeline._clock = clock
    return client


def jwt(subject: str, end: Optional[int] = None) -> str:
    """A token that says whose it is, as servers make them."""
    claims = {"sub": subject, **({} if end is None else {"exp": end})}
    parts = [json.dumps({"alg": "HS256"}), json.dumps(claims), "signature"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


def code(response: Any) -> Any:
    """The code of an error, beside which there are no data."""
    assert response.data is None
    assert response.error is not None
    assert not response.ok
    return response.error.code


def data(response: Any) -> Any:
    """The data of a success."""
    assert response.error is None, response.error
    return response.data


@pytest.fixture
def aero() -> Iterator[AeroServer]:
    """The services with one user, `EMAIL` with `PASSWORD`."""
    server = AeroServer().start()
    server.auth.add(EMAIL, PASSWORD)
    yield server
    server.stop()


@pytest.fixture
def client_for() -> Iterator[Callable[..., AeroDBClient]]:
    """``client_for(server_or_url, **options)``: a client, closed behind the test."""
    clients: List[AeroDBClient] = []

    def make(server: Any, **options: Any) -> AeroDBClient:
        url = server if isinstance(server, str) else server.url
        clients.append(AeroDBClient(url, **{"key": KEY, **options}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(name="client")
def client_of_aero(aero: AeroServer, client_for: Callable[..., AeroDBClient]) -> AeroDBClient:
    """A client of `aero`."""
    return client_for(aero)


@pytest.fixture
def signed_in(aero: AeroServer, client: AeroDBClient) -> AeroDBClient:
    """The same, signed in; what has been sent so far is forgotten."""
    data(client.auth.sign_in(EMAIL, PASSWORD))
    aero.forget()
    return client
