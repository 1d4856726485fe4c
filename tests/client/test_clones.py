"""``with_options`` and ``as_user``: what a clone shares, what it does not, and what closing it ends."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, List, Tuple

import pytest

from selfdb import (
    APITimeoutError,
    AuthenticationError,
    ClientClosedError,
    InternalServerError,
    RateLimitError,
    SelfDB,
)
from tests.client.conftest import ACCESS, Recorded, pair
from tests.servers import scripted as steps
from tests.support import Http

Connect = Callable[..., SelfDB]


# Options


def test_a_clone_shares_connections_and_session(recorded: Recorded) -> None:
    clone = recorded.db.with_options(timeout=9)
    recorded.will({"count": 1}, pair("new-access", "new-refresh"), {"count": 2}, {"message": "bye"})
    recorded.db.tables.count()
    clone.auth.login("a@b.c", "password123")
    assert recorded.db.access_token == "new-access"
    recorded.db.tables.count()
    assert recorded.last.header("Authorization") == "Bearer new-access"
    clone.auth.logout()
    assert recorded.db.access_token is None
    assert recorded.server.connections == 1


def test_headers_are_added(recorded: Recorded) -> None:
    recorded.will(*[{"count": 1}] * 3)
    one = recorded.db.with_options(headers={"X-One": "1"})
    both = one.with_options(headers={"X-Two": "2", "Accept-Language": "de"})
    for db in (both, one, recorded.db):
        db.tables.count()
    sent = [(request.header("X-One"), request.header("X-Two")) for request in recorded.server.requests]
    assert sent == [("1", "2"), ("1", None), (None, None)]


def test_a_read_timeout(scripted: Callable[..., Any], connect: Connect) -> None:
    server = scripted([steps.read(), steps.stall()])
    with pytest.raises(APITimeoutError):
        connect(server).with_options(timeout=(5, 0.1)).tables.count()


def test_a_deadline_for_the_whole_call(scripted: Callable[..., Any], connect: Connect) -> None:
    server = scripted([steps.read(), steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), steps.stall()])
    with pytest.raises(APITimeoutError, match="deadline"):
        connect(server).with_options(deadline=0.2).tables.count()


def test_retries(replies: Callable[..., Any], connect: Connect) -> None:
    server = replies([(503, {"Retry-After": "0"}, b"")] * 3 + [(200, {}, {"count": 5})])
    db = connect(server)
    with pytest.raises(InternalServerError):
        db.tables.count()
    assert db.with_options(max_retries=2).tables.count() == 5
    assert len(server.lines) == 4


def test_a_wait_that_does_not_fit_raises_at_once(replies: Callable[..., Any], connect: Connect) -> None:
    server = replies([(429, {"Retry-After": "30"}, {"detail": "slow down"})])
    begun = time.monotonic()
    with pytest.raises(RateLimitError):
        connect(server, max_retries=2).with_options(deadline=5).tables.count()
    assert time.monotonic() - begun < 5
    assert len(server.lines) == 1


STREAMS: Dict[str, Callable[[SelfDB], Any]] = {
    "download": lambda db: db.storage.files.download("b", "a"),
    "stream": lambda db: list(db.storage.files.stream("b", "a")),
}


@pytest.mark.parametrize("call", STREAMS)
def test_a_deadline_that_is_asked_for_holds_for_streams(
    scripted: Callable[..., Any], connect: Connect, call: str
) -> None:
    server = scripted([steps.read(), steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx"), steps.stall()])
    with pytest.raises(APITimeoutError):
        STREAMS[call](connect(server).with_options(deadline=0.2))


@pytest.mark.parametrize("call", STREAMS)
def test_streams_have_no_deadline_of_their_own(scripted: Callable[..., Any], connect: Connect, call: str) -> None:
    """The client's own deadline passes several times while bytes go on coming."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
    server = scripted([steps.read(), steps.send(head), steps.drip(b"0123456789" * 2, every=0.02)])
    got = STREAMS[call](connect(server, deadline=0.1))
    assert (got if isinstance(got, bytes) else b"".join(got)) == b"0123456789" * 2


def test_an_upload_has_the_deadline_that_is_asked_for(scripted: Callable[..., Any], connect: Connect) -> None:
    server = scripted([steps.read(), steps.stall()])
    with pytest.raises(APITimeoutError, match="deadline"):
        connect(server).with_options(deadline=0.2).storage.files.upload("b", "a", b"abc")


def test_idempotent_writes(recorded: Recorded) -> None:
    recorded.will(*[{"id": "t", "name": "n"}] * 4, {"count": 1})
    keyed = recorded.db.with_options(idempotent_writes=True)
    keyed.tables.update("t", {"public": True})
    keyed.tables.update("t", {"public": True})
    keyed.tables.update("t", {"public": True}, idempotency_key="mine")
    recorded.db.tables.update("t", {"public": True})
    keyed.tables.count()
    keys = [request.header("Idempotency-Key") for request in recorded.server.requests]
    assert keys[0]
    assert keys[1]
    assert keys[0] != keys[1]
    assert keys[2:] == ["mine", None, None]


def test_closing_a_clone_ends_it_alone(recorded: Recorded) -> None:
    recorded.will({"count": 1})
    clone = recorded.db.with_options(timeout=9)
    its_own = clone.with_options(timeout=8)
    other = recorded.db.as_user("token")
    clone.close()
    for ended in (clone, its_own):
        with pytest.raises(ClientClosedError):
            ended.tables.count()
    with other:
        pass
    assert recorded.db.tables.count() == 1


# Users


def test_a_user_of_ones_own_shares_connections_only(recorded: Recorded) -> None:
    recorded.will(*[{"count": 1}] * 3)
    guest = recorded.db.as_user("token-of-another")
    for db in (recorded.db, guest, recorded.db):
        db.tables.count()
    assert [request.header("Authorization") for request in recorded.server.requests] == [
        f"Bearer {ACCESS}",
        "Bearer token-of-another",
        f"Bearer {ACCESS}",
    ]
    assert recorded.server.connections == 1
    assert guest.refresh_token is None


def test_without_a_refresh_token_there_is_no_refresh(recorded: Recorded) -> None:
    recorded.will((401, {}, {"detail": "Could not validate credentials"}))
    with pytest.raises(AuthenticationError):
        recorded.db.as_user("token-of-another").auth.me()
    assert recorded.lines == ["GET /users/me"]
    assert recorded.db.access_token == ACCESS


def test_with_one_he_is_renewed_alone(recorded: Recorded) -> None:
    recorded.will(
        (401, {}, {"detail": "Could not validate credentials"}),
        pair("his-second", "his-second-refresh"),
        {"count": 4},
    )
    guest = recorded.db.as_user("his-first", "his-first-refresh")
    assert guest.tables.count() == 4
    assert recorded.server.requests[1].json == {"refresh_token": "his-first-refresh"}
    assert (guest.access_token, guest.refresh_token) == ("his-second", "his-second-refresh")
    assert recorded.db.access_token == ACCESS


def test_signing_out_one_leaves_the_other(user: SelfDB, someone: Callable[[], SelfDB]) -> None:
    stranger = someone()
    assert stranger.access_token is not None
    guest = user.as_user(stranger.access_token, stranger.refresh_token)
    his, mine = guest.auth.me().id, user.auth.me().id
    assert his != mine
    guest.auth.logout()
    assert guest.access_token is None
    with pytest.raises(AuthenticationError):
        guest.auth.me()
    assert user.auth.me().id == mine


def test_clones_of_a_user_stay_his(recorded: Recorded) -> None:
    recorded.will({"count": 1}, {"count": 1})
    clone = recorded.db.as_user("his").with_options(timeout=3)
    clone.tables.count()
    clone.with_raw_response.tables.count()
    assert {request.header("Authorization") for request in recorded.server.requests} == {"Bearer his"}


def test_options_go_with_a_user(recorded: Recorded) -> None:
    recorded.will({"count": 1})
    recorded.db.with_options(headers={"X-One": "1"}).as_user("his").tables.count()
    assert recorded.last.header("X-One") == "1"


def test_two_users_on_fifty_threads_never_meet(server: Any, http: Http, connect: Connect) -> None:
    """One client for the program, ``as_user`` for each request, as in a web application."""
    db = connect(server)
    people: List[Tuple[str, str]] = []
    for _ in range(2):
        user, access = http.new_user()
        people.append((user["id"], access))
    start = threading.Barrier(50)
    failures: List[Any] = []

    def request(number: int) -> None:
        try:
            start.wait(30)
            for step in range(4):
                user_id, access = people[(number + step) % 2]
                seen = db.as_user(access).auth.me().id
                if seen != user_id:
                    failures.append((number, step))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=request, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert db.access_token is None
