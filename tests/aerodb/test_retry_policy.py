"""When a client tries again, and how long it waits before."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any, Callable, List, Tuple

import pytest

from selfdb.aerodb import AeroDBClient, AeroDBError, OfflineCache, RetryPolicy
from tests.aerodb.services import EMAIL, PASSWORD, Quick, code, data, with_clock
from tests.servers.aerodb.server import AeroServer
from tests.servers.process import free_port

Make = Callable[..., AeroDBClient]

BUSY = (503, {}, {"message": "busy"})


class Attempts:
    """What `on_retry` was told."""

    def __init__(self) -> None:
        self.heard: List[Tuple[int, AeroDBError, float]] = []

    def __call__(self, attempt: int, error: AeroDBError, delay: float) -> None:
        self.heard.append((attempt, error, delay))


def policy(attempts: Attempts, **options: Any) -> RetryPolicy:
    return RetryPolicy(**{"jitter": 0.0, "on_retry": attempts, **options})


@pytest.fixture
def attempts() -> Attempts:
    return Attempts()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_c081_a_read_is_tried_again_after_growing_waits(
    aero: AeroServer, client_for: Make, attempts: Attempts, status: int
) -> None:
    clock = Quick()
    client = with_clock(client_for(aero, retry=policy(attempts)), clock)
    aero.instead = [(status, {}, {"message": "busy"})] * 2
    response = client.from_("items").execute()
    assert data(response) == aero.rows
    assert len(aero.requests) == 3
    assert clock.waits == [1.0, 2.0]
    assert attempts.heard == [(n, AeroDBError("busy", status), n) for n in (1, 2)]


def test_c081_the_last_error_is_returned(aero: AeroServer, client_for: Make, attempts: Attempts) -> None:
    client = with_clock(client_for(aero, retry=policy(attempts)), Quick())
    aero.instead = [BUSY, BUSY, (500, {}, {"message": "broken"})]
    response = client.from_("items").execute()
    assert response.error == AeroDBError("broken", 500)
    assert len(aero.requests) == 3


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("verb", ["insert", "update", "delete", "rpc"])
def test_c081_a_write_is_sent_once(
    aero: AeroServer, client_for: Make, attempts: Attempts, verb: str, status: int
) -> None:
    client = with_clock(client_for(aero, retry=policy(attempts)), Quick())
    aero.instead = [(status, {}, {"message": "busy"})]
    rows = client.from_("items").eq("id", 1)
    response = {
        "insert": lambda: client.from_("items").insert({"id": 1}),
        "update": lambda: rows.update({"id": 1}),
        "delete": lambda: rows.delete(),
        "rpc": lambda: client.rpc("add", {}),
    }[verb]()
    assert response.status == status
    assert len(aero.requests) == 1
    assert attempts.heard == []


def test_c081_unless_the_policy_names_its_method(aero: AeroServer, client_for: Make, attempts: Attempts) -> None:
    client = with_clock(client_for(aero, retry=policy(attempts, methods={"post"})), Quick())
    aero.instead = [BUSY]
    assert client.from_("items").insert({"id": 1}).ok
    assert len(aero.requests) == 2


@pytest.mark.parametrize("verb", ["insert", "select"])
def test_c081_what_could_not_connect_is_tried_again_whatever_it_is(
    client_for: Make, attempts: Attempts, verb: str
) -> None:
    clock = Quick()
    client = with_clock(client_for(f"http://127.0.0.1:{free_port()}", retry=policy(attempts)), clock)
    rows = client.from_("items")
    assert code(rows.insert({"id": 1}) if verb == "insert" else rows.execute()) == "NETWORK_ERROR"
    assert clock.waits == [1.0, 2.0]
    assert [(attempt, error.code) for attempt, error, _ in attempts.heard] == [
        (1, "NETWORK_ERROR"),
        (2, "NETWORK_ERROR"),
    ]


@pytest.mark.parametrize(("verb", "count"), [("insert", 1), ("select", 3)])
def test_c081_what_was_sent_and_lost_only_if_it_is_a_read(
    scripted: Callable[..., Any], client_for: Make, attempts: Attempts, verb: str, count: int
) -> None:
    server = scripted(default=lambda peer: (peer.read_request(), peer.reset()))
    client = with_clock(client_for(server.url, retry=policy(attempts)), Quick())
    rows = client.from_("items")
    assert code(rows.insert({"id": 1}) if verb == "insert" else rows.execute()) == "NETWORK_ERROR"
    assert len(server.requests) == count


@pytest.mark.parametrize("written", ["seconds", "date"])
def test_c081_a_wish_to_wait_is_followed(aero: AeroServer, client_for: Make, attempts: Attempts, written: str) -> None:
    clock = Quick()
    client = with_clock(client_for(aero, retry=policy(attempts)), clock)
    begun = time.time()
    asked = "7" if written == "seconds" else formatdate(begun + 8, usegmt=True)
    aero.instead = [(503, {"Retry-After": asked}, {})]
    assert client.from_("items").execute().ok
    (waited,) = clock.waits
    assert waited == 7.0 if written == "seconds" else 7.0 - (time.time() - begun) <= waited <= 8.0


@pytest.mark.parametrize(("asked", "waited"), [("0", 1.0), ("100", 3.0), ("nonsense", 1.0)])
def test_c081_but_no_longer_than_the_longest_wait_and_no_less_than_ours(
    aero: AeroServer, client_for: Make, attempts: Attempts, asked: str, waited: float
) -> None:
    clock = Quick()
    client = with_clock(client_for(aero, retry=policy(attempts, max_delay=3.0)), clock)
    aero.instead = [(503, {"Retry-After": asked}, {})]
    assert client.from_("items").execute().ok
    assert clock.waits == [waited]


def test_c081_waits_grow_up_to_the_longest_and_vary_by_the_jitter(aero: AeroServer, client_for: Make) -> None:
    clock = Quick()
    steps = RetryPolicy(max_attempts=6, initial_delay=0.5, max_delay=2.0, multiplier=3.0, jitter=0.5)
    client = with_clock(client_for(aero, retry=steps, timeout=100), clock)
    aero.instead = [BUSY] * 5
    assert client.from_("items").execute().ok
    for waited, middle in zip(clock.waits, [0.5, 1.5, 2.0, 2.0, 2.0]):
        assert 0.5 * middle <= waited <= 1.5 * middle


@pytest.mark.parametrize("jitter", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("lot", [0.0, 0.5, 1.0])
def test_c081_a_wait_is_drawn_from_both_sides_of_its_middle(jitter: float, lot: float) -> None:
    chosen = RetryPolicy(initial_delay=0.5, max_delay=5.0, multiplier=3.0, jitter=jitter)
    policy = chosen.for_kernel(lambda error: AeroDBError(str(error)))._replace(random=lambda: lot)
    factor = 1.0 - jitter + 2.0 * jitter * lot
    for number, middle in enumerate([0.5, 1.5, 4.5, 5.0, 5.0]):
        assert policy.delay(number) == pytest.approx(middle * factor)


def test_c081_waits_grow_as_is_said(aero: AeroServer, client_for: Make) -> None:
    clock = Quick()
    steps = RetryPolicy(
        max_attempts=6, initial_delay=0.5, max_delay=2.0, multiplier=3.0, jitter=0.0, statuses={418}, methods={"get"}
    )
    client = with_clock(client_for(aero, retry=steps, timeout=100), clock)
    aero.instead = [(418, {}, {})] * 5
    assert client.from_("items").execute().ok
    assert clock.waits == [0.5, 1.5, 2.0, 2.0, 2.0]
    aero.instead = [BUSY]
    assert client.from_("items").execute().status == 503
    assert len(clock.waits) == 5


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("POST", lambda rows: rows.insert({"id": 1})),
        ("PATCH", lambda rows: rows.eq("id", 1).update({"id": 1})),
        ("DELETE", lambda rows: rows.eq("id", 1).delete()),
        ("HEAD", lambda rows: rows.select(count="exact", head=True).execute()),
        ("GET", lambda rows: rows.execute()),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_c081_a_policy_names_methods(aero: AeroServer, client_for: Make, method: str, call: Any, named: bool) -> None:
    others = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - {method}
    client = with_clock(client_for(aero, retry=RetryPolicy(methods={method} if named else others)), Quick())
    aero.instead = [BUSY]
    assert call(client.from_("items")).ok is named
    assert len(aero.requests) == (2 if named else 1)


def test_c081_a_wait_that_does_not_fit_into_the_time_for_the_call_is_not_begun(
    aero: AeroServer, client_for: Make, attempts: Attempts
) -> None:
    clock = Quick()
    client = with_clock(
        client_for(aero, retry=policy(attempts, initial_delay=20.0, max_delay=100.0), timeout=40.0), clock
    )
    aero.instead = [BUSY, BUSY, BUSY]
    assert client.from_("items").execute().status == 503
    assert clock.waits == [20.0]


def test_c081_without_a_policy_nothing_is_tried_again(aero: AeroServer, client: AeroDBClient) -> None:
    aero.instead = [BUSY]
    assert client.from_("items").execute().status == 503
    assert len(aero.requests) == 1


def test_c081_a_refresh_is_no_attempt(aero: AeroServer, client_for: Make, attempts: Attempts) -> None:
    client = with_clock(client_for(aero, retry=policy(attempts)), Quick())
    session = data(client.auth.sign_in(EMAIL, PASSWORD)).session
    aero.guarded = True
    aero.auth.expire(session.access_token)
    busy = iter([BUSY, None, None, BUSY])

    def sometimes(request: Any) -> None:
        reply = next(busy, None)
        if reply is not None:
            aero.instead.append(reply)

    aero.before = sometimes
    assert client.from_("items").execute().ok
    assert [attempt for attempt, _, _ in attempts.heard] == [1, 3]


@pytest.mark.parametrize("call", ["sign_in", "refresh_session"])
def test_c081_too_many_logins_are_not_waited_out(
    aero: AeroServer, client_for: Make, attempts: Attempts, call: str
) -> None:
    client = with_clock(client_for(aero, retry=policy(attempts, methods={"POST"})), Quick())
    data(client.auth.sign_in(EMAIL, PASSWORD))
    aero.instead = [(429, {"Retry-After": "1"}, {"error": "slow down", "code": 429})]
    response = client.auth.sign_in(EMAIL, PASSWORD) if call == "sign_in" else client.auth.refresh_session()
    assert response.status == 429
    assert attempts.heard == []


def test_c081_a_callback_that_fails_stops_nothing(aero: AeroServer, client_for: Make, caplog: Any) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("mine")

    client = with_clock(client_for(aero, retry=RetryPolicy(on_retry=fail)), Quick())
    aero.instead = [BUSY]
    assert client.from_("items").execute().ok
    assert "mine" in caplog.text


def test_c081_close_ends_a_wait(aero: AeroServer, client_for: Make) -> None:
    def close(*_: Any) -> None:
        client.close()

    client = client_for(aero, retry=RetryPolicy(initial_delay=25, jitter=0, on_retry=close))
    aero.instead = [BUSY]
    begun = time.monotonic()
    assert code(client.from_("items").execute()) == "CLIENT_CLOSED"
    assert time.monotonic() - begun < 10


def test_the_cache_is_asked_after_the_last_attempt(aero: AeroServer, client_for: Make, attempts: Attempts) -> None:
    client = with_clock(client_for(aero, retry=policy(attempts), cache=OfflineCache()), Quick())
    kept = data(client.from_("items").execute())
    aero.stop()
    response = client.from_("items").execute()
    assert (response.data, response.from_cache) == (kept, True)
    assert len(attempts.heard) == 2
