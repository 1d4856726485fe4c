"""How often a login may fail, over raw HTTP and below it."""

from __future__ import annotations

import threading
from typing import Any, Callable, List

import pytest

from selfdb.server.errors import ApiError
from selfdb.server.throttle import LoginThrottle
from tests.servers.clock import FakeClock
from tests.support import Http


class Wrong(Exception):
    """Stands for a wrong password."""


def fail(throttle: LoginThrottle, email: str = "a@example.com", address: str = "127.0.0.1") -> None:
    with pytest.raises(Wrong), throttle.attempt(email, address):
        raise Wrong


def test_the_eleventh_login_after_ten_failures_waits(make_server: Callable[..., Any], clock: FakeClock) -> None:
    http = Http(make_server(clock=clock))
    user, _ = http.new_user()
    wrong = {"email": user["email"].upper(), "password": "wrong-password"}
    right = {"email": user["email"], "password": "password123"}
    for _ in range(10):
        assert http.post("/users/token", json=wrong).status_code == 401
        clock.advance(1)
        assert http.post("/users/token", json=right).status_code == (200 if _ < 9 else 429)
    refused = http.post("/users/token", json=right)
    assert refused.status_code == 429
    assert refused.json() == {"detail": "Too many failed logins; try again later"}
    assert refused.headers["Retry-After"] == "50"
    assert http.login().access, "another e-mail is not concerned"
    clock.advance(49)
    assert http.post("/users/token", json=right).headers["Retry-After"] == "1"
    clock.advance(1)
    assert http.post("/users/token", json=right).status_code == 200


def test_failures_are_counted_for_each_address(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock, failures=2, window_seconds=60)
    for _ in range(2):
        fail(throttle)
    with pytest.raises(ApiError) as refused, throttle.attempt("A@example.com", "127.0.0.1"):
        pass
    assert refused.value.headers == {"Retry-After": "60"}
    with throttle.attempt("a@example.com", "127.0.0.2"):
        pass


def test_successes_are_not_counted(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock, failures=2, window_seconds=60)
    for _ in range(50):
        with throttle.attempt("a@example.com", "127.0.0.1"):
            pass
    fail(throttle)
    with throttle.attempt("a@example.com", "127.0.0.1"):
        pass


def test_parallel_guesses_get_no_more_tries(clock: FakeClock) -> None:
    throttle = LoginThrottle(clock, failures=5, window_seconds=60)
    outcomes: List[str] = []
    start = threading.Barrier(40)

    def guess() -> None:
        start.wait()
        try:
            with throttle.attempt("a@example.com", "127.0.0.1"):
                outcomes.append("tried")
                raise Wrong
        except Wrong:
            pass
        except ApiError:
            outcomes.append("refused")

    threads = [threading.Thread(target=guess) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes.count("tried"), outcomes.count("refused")) == (5, 35)


def test_parallel_logins_with_the_right_password_all_succeed(make_server: Callable[..., Any]) -> None:
    http = Http(make_server(login_failures=3))
    tokens: List[str] = []
    threads = [threading.Thread(target=lambda: tokens.append(http.login().access)) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(tokens)) == 30


def test_an_attacker_with_many_emails_does_not_fill_the_memory(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfdb.server.throttle._MOST_KEYS", 100)
    throttle = LoginThrottle(clock, failures=2, window_seconds=60)
    for number in range(1000):
        fail(throttle, f"{number}@example.com")
    assert len(throttle) <= 101
