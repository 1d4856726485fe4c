"""Users who mock `requests`: with `responses` and with `requests_mock` the client does what it does with a server.

What such a mock cannot stand for, for it has no socket: realtime, how bytes arrive, and whether a request that failed
had left. A failure that does not say so is taken for one that may have been applied.
"""

from __future__ import annotations

import io
from typing import Any, Callable, Iterator

import pytest
import requests
import requests_mock as mocker_module
import responses as responses_module
from responses import matchers, registries

from selfdb import SelfDB
from selfdb.exceptions import APIConnectionError, APITimeoutError, NotFoundError, RateLimitError, SelfDBError
from tests.client.seed_calls import SEED_CALLS
from tests.client.seed_case import FILE_BYTES, pair_reply, user_json
from tests.client.seed_run import MADE_UP, check_exchange
from tests.faults.mocks import DOORS, URL, mocked_client
from tests.servers.replies import ReplyServer
from tests.soak import figure

CALLS = [case for case in SEED_CALLS if not case.realtime]
ME = user_json(MADE_UP)
PERHAPS_SENT = requests.exceptions.ConnectionError("gone")
NOW = {"Retry-After": "0"}

each_door = pytest.mark.parametrize("door", list(DOORS))


@each_door
def test_g24_every_call_of_the_specification_is_as_on_the_wire(door: str) -> None:
    for case in CALLS:
        with mocked_client(door) as (mocked, db):
            status, body = case.reply(MADE_UP)
            mocked.replies.append((status, {}, body))
            result = case.call(db, MADE_UP)
            assert case.expect(result, MADE_UP), (case.id, result)
            check_exchange(case, mocked)  # type: ignore[arg-type]
    figure("G24", f"{len(CALLS)} calls with {door}: each as on the wire")


@each_door
def test_g24_each_attempt_is_one_request_to_the_mock(door: str) -> None:
    with mocked_client(door, max_retries=2) as (mocked, db):
        mocked.replies += [(503, NOW, {"detail": "later"}), (429, NOW, b"slowly"), (200, {}, ME)]
        assert db.auth.me().email == MADE_UP.email
        assert mocked.lines == ["GET /users/me"] * 3
        mocked.requests.clear()
        mocked.replies += [(503, NOW, b"")] * 3
        with pytest.raises(SelfDBError) as caught:
            db.auth.me()
        assert (caught.value.status_code, caught.value.attempts, len(mocked.lines)) == (503, 3, 3)
        mocked.requests.clear()
        mocked.replies += [(503, NOW, b"")]
        with pytest.raises(SelfDBError):
            db.tables.data.insert("t", {"a": 1})
        assert mocked.lines == ["POST /tables/t/data"], "a write is not repeated"


@each_door
@pytest.mark.parametrize(
    ("error", "kind", "repeated", "doubtful"),
    [
        (requests.exceptions.ConnectTimeout("x"), APITimeoutError, True, False),
        (requests.exceptions.ReadTimeout("x"), APITimeoutError, False, True),
        (requests.exceptions.ConnectionError("x"), APIConnectionError, False, True),
        (requests.exceptions.ChunkedEncodingError("x"), APIConnectionError, False, True),
    ],
    ids=["never sent", "read time-out", "lost", "cut short"],
)
def test_g24_a_write_that_fails(door: str, error: Exception, kind: type, repeated: bool, doubtful: bool) -> None:
    with mocked_client(door, max_retries=1) as (mocked, db):
        mocked.replies += [(0, {}, error), (0, {}, error)]
        with pytest.raises(APIConnectionError) as caught:
            db.tables.data.insert("t", {"a": 1})
        assert type(caught.value) is kind
        assert caught.value.may_have_been_applied is doubtful
        assert len(mocked.lines) == 1 + repeated
        assert mocked.replies == [] or not repeated


@each_door
def test_g24_a_session_is_renewed_once(door: str) -> None:
    with mocked_client(door) as (mocked, db):
        mocked.replies += [(401, {}, {"detail": "expired"}), (*pair_reply(MADE_UP)[:1], {}, pair_reply(MADE_UP)[1])]
        mocked.replies += [(200, {}, ME)]
        assert db.auth.me().email == MADE_UP.email
        assert mocked.lines == ["GET /users/me", "POST /users/token/refresh", "GET /users/me"]
        assert mocked.requests[-1].header("Authorization") == "Bearer new-access-token"


@each_door
def test_g24_redirects_pages_files_and_refusals(door: str) -> None:
    with mocked_client(door) as (mocked, db):
        mocked.replies += [(307, {"Location": f"{URL}/moved/me"}, b""), (200, {"Set-Cookie": "a=b"}, ME)]
        assert db.auth.me().email == MADE_UP.email
        assert mocked.lines[-1] == "GET /moved/me"
        mocked.replies += [(200, {"ETag": '"1"'}, FILE_BYTES * 5000)] * 2
        with db.storage.files.stream("public", "a.pdf", chunk_size=1000) as blocks:
            assert b"".join(blocks) == FILE_BYTES * 5000
        target = io.BytesIO()
        assert db.storage.files.download_to("public", "a.pdf", target) == len(target.getvalue())
        assert mocked.requests[-1].header("Cookie") is None
        mocked.replies += [(404, {}, {"detail": "no such table"}), (429, {"Retry-After": "3600"}, b"")]
        with pytest.raises(NotFoundError, match="no such table"):
            db.tables.get("t")
        with pytest.raises(RateLimitError) as caught:
            db.tables.get("t")
        assert caught.value.retry_after == 3600


@each_door
@pytest.mark.parametrize("length", [0, 10, 300_000])
def test_g24_an_upload_from_a_file_is_there_to_be_read(door: str, length: int) -> None:
    with mocked_client(door) as (mocked, db):
        answer = next(case for case in CALLS if case.id == "files.upload").reply(MADE_UP)
        mocked.replies.append((answer[0], {}, answer[1]))
        db.storage.files.upload(MADE_UP.bucket_id, "notes.pdf", io.BytesIO(b"x" * length))
        assert mocked.requests[-1].body == b"x" * length


# What only one of them has


@pytest.fixture
def db() -> Iterator[SelfDB]:
    with SelfDB(URL, "replies-key") as client:
        client.access_token = "access-token-of-the-tests"
        yield client


@responses_module.activate(registry=registries.OrderedRegistry, assert_all_requests_are_fired=True)
def test_g24_responses_in_order_with_matchers(db: SelfDB) -> None:
    once = responses_module.add(responses_module.GET, f"{URL}/users/me", status=503, headers=NOW)
    responses_module.add(responses_module.GET, f"{URL}/users/me", json=ME)
    responses_module.add(
        responses_module.GET,
        f"{URL}/users/",
        json=[ME],
        match=[
            matchers.query_param_matcher({"limit": "25"}),
            matchers.header_matcher({"X-API-Key": "replies-key", "Authorization": "Bearer access-token-of-the-tests"}),
        ],
    )
    responses_module.add(
        responses_module.PATCH,
        f"{URL}/users/1",
        json=ME,
        match=[matchers.json_params_matcher({"firstName": "Ada"}), matchers.request_kwargs_matcher({"stream": True})],
    )
    assert db.auth.me().email == ME["email"]
    assert once.call_count == 1
    assert [user.email for user in db.auth.users.list(limit=25)] == [ME["email"]]
    db.auth.users.update("1", {"firstName": "Ada"})
    assert [call.request.method for call in responses_module.calls] == ["GET", "GET", "GET", "PATCH"]


def test_g24_responses_tells_of_what_was_not_asked_for(db: SelfDB) -> None:
    with (
        pytest.raises(AssertionError, match="Not all requests"),
        responses_module.RequestsMock() as mock,
    ):
        mock.add("GET", f"{URL}/users/me", json=ME)
        mock.add("GET", f"{URL}/never", json={})
        db.auth.me()
    with responses_module.RequestsMock(), pytest.raises(APIConnectionError) as caught:
        db.with_options(max_retries=0).auth.me()
    assert isinstance(caught.value.__cause__, requests.ConnectionError), "an address that was not mocked"


@pytest.mark.parametrize("theirs", [False, True], ids=["our session", "their session"])
def test_g24_what_is_let_through_reaches_the_server(theirs: bool, replies: Callable[..., ReplyServer]) -> None:
    server = replies(lambda request: (200, {}, ME))
    with requests.Session() as session:
        for way in ("responses", "requests_mock", "some of it"):
            with SelfDB(server.url, "replies-key", session=session if theirs else None) as client:
                client.access_token = "access-token-of-the-tests"
                if way == "responses":
                    with responses_module.RequestsMock() as mock:
                        mock.add_passthru(server.url)
                        assert client.auth.me().email == ME["email"]
                elif way == "requests_mock":
                    with mocker_module.Mocker(real_http=True):
                        assert client.auth.me().email == ME["email"]
                else:
                    with mocker_module.Mocker() as mocker:
                        mocker.get(f"{server.url}/users/me", real_http=True)
                        mocker.get(f"{server.url}/users/count", json={"count": 7})
                        assert client.auth.me().email == ME["email"]
                        assert client.auth.count() == 7
    assert server.lines == ["GET /users/me"] * 3


def test_g24_requests_mock_says_what_was_asked(db: SelfDB, requests_mock: Any) -> None:
    requests_mock.get(f"{URL}/users/me", [{"exc": PERHAPS_SENT}, {"status_code": 502, "headers": NOW}, {"json": ME}])
    requests_mock.post(f"{URL}/tables/t/data", json={"id": "1", "a": 1}, status_code=201)
    assert db.auth.me().email == ME["email"]
    assert db.tables.data.insert("t", {"a": 1})["id"] == "1"
    assert requests_mock.call_count == 4
    assert requests_mock.last_request.json() == {"a": 1}
    assert requests_mock.last_request.headers["X-API-Key"] == "replies-key"
    assert requests_mock.last_request.timeout is not None


def test_g24_a_client_that_was_made_before_the_mock_is_mocked_and_works_after_it(
    replies: Callable[..., ReplyServer],
) -> None:
    server = replies(lambda request: (200, {}, {**ME, "email": "real@example.com"}))
    with SelfDB(server.url, "replies-key") as client:
        client.access_token = "access-token-of-the-tests"
        assert client.auth.me().email == "real@example.com"
        with responses_module.RequestsMock() as mock:
            mock.add("GET", f"{server.url}/users/me", json=ME)
            assert client.auth.me().email == ME["email"]
        with mocker_module.Mocker() as mocker:
            mocker.get(f"{server.url}/users/me", json=ME)
            assert client.auth.me().email == ME["email"]
        assert client.auth.me().email == "real@example.com"
    assert len(server.lines) == 2
    assert server.connections == 1, "the connection was kept meanwhile"
