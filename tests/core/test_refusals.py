"""A backend that says no in a way of its own, and what becomes of a session that cannot be renewed."""

from __future__ import annotations

import base64
from typing import Any, Callable, List

import pytest

from selfdb.core.refusals import ORDINARY, Refusal, Refusals
from selfdb.core.tokens import TokenKeeper, Tokens
from selfdb.core.transport import Transport
from selfdb.core.upload import Upload
from selfdb.exceptions import AuthenticationError, ClientClosedError, InternalServerError, SelfDBError
from tests.core.calls import ACCESS, API_KEY, GET, POST, REFRESH
from tests.servers.replies import ReplyServer

pytestmark = pytest.mark.usefixtures("lane")

NO = (401, {"X-Why": "no"}, {"detail": "no"})
YES = (200, {}, {"ok": True})


class Mine(SelfDBError):
    """What these tests' backend is understood as."""


class Own(Refusals):
    """Says what it was asked about."""

    def __init__(self, *, hides: bool = False, once: bool = False, about_session: bool = True) -> None:
        self.hides_failed_renewal = hides
        self.one_more_attempt = once
        self._about_session = about_session
        self.seen: List[Refusal] = []

    def error(self, refusal: Refusal) -> SelfDBError:
        self.seen.append(refusal)
        return Mine("mine", refusal.status_code)

    def of_the_session(self, error: SelfDBError) -> bool:
        assert isinstance(error, Mine)
        return self._about_session


def use(transport: Transport, refusals: Refusals) -> Transport:
    assert transport.refusals is ORDINARY
    transport.refusals = refusals
    return transport


def failing(error: SelfDBError) -> Callable[..., Tokens]:
    def renewer(*_: Any) -> Tokens:
        raise error

    return renewer


def test_the_backend_reads_its_own_refusals(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    own = Own()
    server = replies([(418, {"X-Why": "tea", "X-Request-ID": "7", "Retry-After": "3"}, {"detail": "no"})])
    with pytest.raises(Mine) as caught:
        use(connect(server), own).exchange(POST)
    error = caught.value
    assert (error.message, error.method, error.path, error.request_id, error.attempts) == (
        "mine",
        "POST",
        "/things",
        "7",
        1,
    )
    (refusal,) = own.seen
    assert (refusal.status_code, refusal.headers.get("x-why"), refusal.content) == (418, "tea", b'{"detail": "no"}')
    assert (refusal.retry_after, refusal.request, refusal.held) == (3.0, POST, True)
    assert {API_KEY, ACCESS, REFRESH} <= set(refusal.secrets)


def test_a_401_that_is_not_about_the_session_renews_nothing(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    transport = connect(replies([NO]), renewer=failing(AssertionError("asked")))  # type: ignore[arg-type]
    with pytest.raises(Mine):
        use(transport, Own(about_session=False)).exchange(GET)


@pytest.mark.parametrize("hides", [False, True])
def test_a_failed_renewal_is_raised_or_hidden(
    hides: bool, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    transport = connect(replies([NO]), renewer=failing(InternalServerError("later", 503)))
    with pytest.raises(SelfDBError) as caught:
        use(transport, Own(hides=hides)).exchange(GET)
    assert type(caught.value) is (Mine if hides else InternalServerError)
    assert transport.keeper.current() == Tokens(ACCESS, REFRESH)


def test_the_end_of_the_client_is_never_hidden(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    transport = connect(replies([NO]), renewer=failing(ClientClosedError("closed")))
    with pytest.raises(ClientClosedError):
        use(transport, Own(hides=True)).exchange(GET)


@pytest.mark.parametrize("hides", [False, True])
def test_one_that_fails_before_a_body_which_cannot_be_sent_twice_too(
    hides: bool, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    """By a clock that was set forward its token has ended; the server knows better."""
    claims = base64.urlsafe_b64encode(b'{"exp": 1000}').decode().rstrip("=")
    held = Tokens(f"head.{claims}.signature", REFRESH)
    server = replies([YES])
    transport = use(connect(server, renewer=failing(InternalServerError("later", 503))), Own(hides=hides))
    transport.keeper.set(held)
    request = POST._replace(body=Upload(iter([b"x"])), content_type="application/octet-stream")
    if hides:
        assert transport.exchange(request).status_code == 200
        assert server.requests[0].header("Authorization") == f"Bearer {held.access}"
    else:
        with pytest.raises(InternalServerError, match="later"):
            transport.exchange(request)
        assert server.requests == []
    assert transport.keeper.current() == held


@pytest.mark.parametrize("once", [False, True])
def test_after_a_token_that_somebody_fetched_another_is_fetched_or_not(
    once: bool, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    def script(request: Any) -> Any:
        if request.header("Authorization") == f"Bearer {ACCESS}":
            transport.keeper.set(Tokens("found-elsewhere", "its-refresh"))
            return NO
        return NO if request.header("Authorization") == "Bearer found-elsewhere" else YES

    server = replies(script)
    transport = use(connect(server, renewer=lambda *_: Tokens("fetched", "next")), Own(once=once))
    if once:
        with pytest.raises(Mine):
            transport.exchange(GET)
    else:
        assert transport.exchange(GET).json() == {"ok": True}
    assert len(server.requests) == (2 if once else 3)


@pytest.mark.parametrize("status", [400, 401, 403, 422])
def test_the_statuses_that_end_a_session_are_the_keepers(status: int) -> None:
    keeper = TokenKeeper(refusals=frozenset({400, 401, 403}))
    keeper.set(Tokens(ACCESS, REFRESH))
    error = AuthenticationError("no", status)

    def refuse(*_: Any) -> Tokens:
        raise error

    from selfdb.core.clock import Deadline

    if status == 422:
        with pytest.raises(AuthenticationError):
            keeper.renew(ACCESS, refuse, Deadline(None))
        assert keeper.current() == Tokens(ACCESS, REFRESH)
    else:
        assert keeper.renew(ACCESS, refuse, Deadline(None)) is None
        assert keeper.current() is None
