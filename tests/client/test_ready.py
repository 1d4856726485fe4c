"""``status`` and ``wait_ready``: for programs that may start before their server."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, List

import pytest

from selfdb import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ClientClosedError,
    InvalidRequestError,
    SelfDB,
)
from tests.client.conftest import Recorded
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer

Connect = Callable[..., SelfDB]


def test_status_of_a_server(fresh_server: Any, connect: Connect) -> None:
    db = connect(fresh_server)
    assert not db.status().initialized
    db.auth.login("admin@example.com", "password")
    status = db.status()
    assert status.initialized
    assert status.version


def test_status_needs_the_key_only(recorded: Recorded) -> None:
    recorded.will({"initialized": True, "version": "1"})
    recorded.db.status()
    assert recorded.lines == ["GET /system/status"]
    assert recorded.last.header("Authorization") is None
    assert recorded.last.header("X-API-Key") == "replies-key"


def test_a_server_that_is_ready(anonymous: SelfDB) -> None:
    assert anonymous.wait_ready(timeout=5).version


def test_a_server_that_gets_ready(replies: Callable[..., Any], connect: Connect) -> None:
    server = replies([(503, {}, b""), (502, {}, b"<html>"), (429, {}, b""), (200, {}, {"initialized": True})])
    assert connect(server).wait_ready(timeout=20).initialized
    assert server.lines == ["GET /system/status"] * 4


def test_a_server_that_comes_up_later() -> None:
    from selfdb.server import LocalServer

    port = free_port()
    server = LocalServer(api_key="the-key", port=port)
    tried = threading.Event()

    class Noticing(SelfDB):
        def status(self) -> Any:
            tried.set()
            return super().status()

    with Noticing(f"http://127.0.0.1:{port}", "the-key") as db:
        statuses: List[Any] = []
        thread = threading.Thread(target=lambda: statuses.append(db.wait_ready(timeout=60)))
        thread.start()
        assert tried.wait(60)
        with server:
            thread.join(60)
            assert len(statuses) == 1


@pytest.mark.parametrize("status, error", [(401, AuthenticationError), (406, AuthenticationError)])
def test_a_key_that_is_refused_raises_at_once(recorded: Recorded, status: int, error: Any) -> None:
    recorded.will((status, {}, {"detail": "Invalid API key"}))
    with pytest.raises(error):
        recorded.db.wait_ready(timeout=60)
    assert len(recorded.lines) == 1


def test_nobody_comes() -> None:
    with SelfDB(f"http://127.0.0.1:{free_port()}", "key") as db:
        begun = time.monotonic()
        with pytest.raises(APITimeoutError, match=r"not ready within 1\.5 s") as caught:
            db.wait_ready(timeout=1.5)
        assert time.monotonic() - begun < 1.5 * 5
    assert isinstance(caught.value.__cause__, APIConnectionError)
    assert "refused the connection" in str(caught.value.__cause__)


def test_a_server_that_says_nothing(scripted: Callable[..., Any], connect: Connect) -> None:
    from tests.servers import scripted as steps

    server = scripted(default=[steps.read(), steps.stall()])
    with pytest.raises(APITimeoutError, match=r"not ready within 0\.3 s"):
        connect(server).wait_ready(timeout=0.3)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), True, "5"])
def test_a_timeout_that_is_none(recorded: Recorded, timeout: Any) -> None:
    with pytest.raises(InvalidRequestError, match="timeout"):
        recorded.db.wait_ready(timeout=timeout)
    assert recorded.lines == []


def test_closing_ends_the_wait() -> None:
    with ReplyServer(lambda request: (503, {}, b"")) as server:
        db = SelfDB(server.url, "key")
        outcome: List[BaseException] = []

        def wait() -> None:
            try:
                db.wait_ready(timeout=60)
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        end = time.monotonic() + 10
        while not server.lines and time.monotonic() < end:
            time.sleep(0.005)
        db.close()
        thread.join(60)
        assert [type(error) for error in outcome] == [ClientClosedError]
