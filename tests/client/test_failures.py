"""What goes wrong, and the error that says so: statuses, messages, broken connections, unusable answers."""

from __future__ import annotations

import copy
import json
import pickle
import socket
import threading
from typing import Any, Callable, Dict, List, Type

import pytest

from selfdb import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConflictError,
    InternalServerError,
    MissingAPIKeyError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    SelfDB,
    SelfDBError,
    UnprocessableEntityError,
)
from tests.client.conftest import Recorded
from tests.servers import scripted as steps

Connect = Callable[..., SelfDB]

CLASSES: Dict[int, Type[SelfDBError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: SelfDBError,
    406: MissingAPIKeyError,
    408: SelfDBError,
    409: ConflictError,
    413: SelfDBError,
    415: SelfDBError,
    416: SelfDBError,
    418: SelfDBError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    500: InternalServerError,
    501: InternalServerError,
    502: InternalServerError,
    503: InternalServerError,
    504: InternalServerError,
    599: InternalServerError,
}


@pytest.mark.parametrize("status", CLASSES)
def test_c094_each_status_has_its_class(recorded: Recorded, status: int) -> None:
    recorded.db.refresh_token = None
    recorded.will((status, {"X-Request-ID": "r-1"}, {"detail": "no"}))
    with pytest.raises(SelfDBError) as caught:
        recorded.db.tables.get("t")
    error = caught.value
    assert type(error) is CLASSES[status]
    assert (error.status_code, error.message, error.response_body) == (status, "no", {"detail": "no"})
    assert str(error).startswith(f"[{status}] no")
    assert (error.method, error.path, error.request_id, error.attempts) == ("GET", "/tables/t", "r-1", 1)


def test_c094_a_wish_to_wait(recorded: Recorded) -> None:
    recorded.will((429, {"Retry-After": "7"}, {"detail": "slow down"}), (429, {}, b""))
    for wish in (7.0, None):
        with pytest.raises(RateLimitError) as caught:
            recorded.db.tables.count()
        assert caught.value.retry_after == wish


def test_c094_findings_of_a_validation(recorded: Recorded) -> None:
    findings = [
        {"loc": ["body", "email"], "msg": "not an address", "type": "value_error", "input": "my-secret-input"},
        {"loc": ["body", "n", 0], "msg": "too small", "type": "x", "ctx": {"error": "my-secret-input"}},
    ]
    recorded.will((422, {}, {"detail": findings}))
    with pytest.raises(UnprocessableEntityError) as caught:
        recorded.db.auth.users.update("u", {"email": "x"})
    assert caught.value.message == "body.email: not an address; body.n.0: too small"
    assert [finding["loc"] for finding in caught.value.errors] == [["body", "email"], ["body", "n", 0]]
    assert "my-secret-input" not in repr(vars(caught.value))


MESSAGES: Dict[str, Any] = {
    "text": ({"detail": "the reason"}, "the reason"),
    "findings": ({"detail": [{"loc": ["query", "page"], "msg": "too small"}]}, "query.page: too small"),
    "finding without place": ({"detail": [{"msg": "too small"}]}, "too small"),
    "findings of text": ({"detail": ["one", "two"]}, "one; two"),
    "object": ({"detail": {"message": "the reason", "code": 5}}, "the reason"),
    "gateway": ({"error": {"code": "INVALID", "message": "the reason", "request_id": "x"}}, "the reason"),
    "error": ({"error": "the reason"}, "the reason"),
    "message": ({"message": "the reason"}, "the reason"),
    "html": (b"<html><body>Bad Gateway</body></html>", "<html><body>Bad Gateway</body></html>"),
    "empty": (b"", "HTTP 500"),
    "blank": (b"  \n ", "HTTP 500"),
    "no object": ([1, 2], "HTTP 500"),
    "nothing said": ({"detail": None}, "HTTP 500"),
    "number": ({"detail": 5}, "HTTP 500"),
    "not UTF-8": (b"\xff\xfe no", "no"),
    "broken JSON": (b'{"detail": ', '{"detail":'),
}


@pytest.mark.parametrize("shape", MESSAGES)
def test_c095_whatever_the_server_says(recorded: Recorded, shape: str) -> None:
    body, message = MESSAGES[shape]
    recorded.will((500, {}, body))
    with pytest.raises(InternalServerError) as caught:
        recorded.db.tables.count()
    assert message in caught.value.message
    if isinstance(body, (dict, list)):
        assert caught.value.response_body == body
    elif body.strip():
        assert caught.value.response_body


def test_c095_a_long_page_is_cut(recorded: Recorded) -> None:
    recorded.will((502, {"Content-Type": "text/html"}, "<p>" + "x" * 100_000))
    with pytest.raises(InternalServerError) as caught:
        recorded.db.tables.count()
    assert len(caught.value.message) <= 500
    assert len(caught.value.response_body) <= 2048


# No answer


def _caused(error: SelfDBError) -> bool:
    assert isinstance(error, (APIConnectionError, ConnectionError))
    assert error.__cause__ is not None
    return True


def test_c096_connection_refused(connect: Connect) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can have this port
        port = taken.getsockname()[1]
        db = SelfDB(f"http://127.0.0.1:{port}", "key", max_retries=0)
        with db, pytest.raises(APIConnectionError, match="is the server running") as caught:
            db.tables.create({"name": "t", "table_schema": {"a": {"type": "text"}}})
    assert _caused(caught.value)
    assert not caught.value.may_have_been_applied


def test_c096_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    db = SelfDB("http://no-such-host.invalid", "key", max_retries=0)
    with db, pytest.raises(APIConnectionError, match="could not be resolved") as caught:
        db.status()
    assert _caused(caught.value)
    assert not caught.value.may_have_been_applied


@pytest.mark.parametrize("writes", [False, True])
def test_c096_no_answer_in_time(scripted: Callable[..., Any], connect: Connect, writes: bool) -> None:
    server = scripted([steps.read(), steps.stall()])
    db = connect(server, timeout=(5, 0.1))
    with pytest.raises(APITimeoutError, match="did not answer in time") as caught:
        if writes:
            db.tables.data.insert("t", {"a": 1})
        else:
            db.tables.count()
    assert _caused(caught.value)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.may_have_been_applied is writes


@pytest.mark.parametrize("writes", [False, True])
def test_c096_an_answer_that_is_cut_short(scripted: Callable[..., Any], connect: Connect, writes: bool) -> None:
    server = scripted([steps.read(), steps.reply(200, b'{"id"', length=40), steps.close()])
    db = connect(server)
    with pytest.raises(APIConnectionError, match="broke off") as caught:
        if writes:
            db.tables.data.insert("t", {"a": 1})
        else:
            db.tables.count()
    assert _caused(caught.value)
    assert caught.value.may_have_been_applied is writes


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_c096_what_is_not_http(scripted: Callable[..., Any], connect: Connect, answer: bytes) -> None:
    server = scripted([steps.read(), steps.send(answer), steps.close()])
    with pytest.raises(APIConnectionError) as caught:
        connect(server).tables.count()
    assert _caused(caught.value)


def test_c096_a_certificate_that_is_not_trusted(replies: Callable[..., Any], tls: Any, connect: Connect) -> None:
    server = replies((), tls=tls.server)
    with pytest.raises(APIConnectionError, match="certificate") as caught:
        connect(server, max_retries=2).tables.count()
    assert _caused(caught.value)
    assert caught.value.attempts == 1
    assert 'verify="/path/to/ca.pem"' in caught.value.message


def test_c096_plain_http_where_tls_is_meant(replies: Callable[..., Any], connect: Connect) -> None:
    server = replies(())
    db = SelfDB(server.url.replace("http:", "https:"), "key", max_retries=0)
    with db, pytest.raises(APIConnectionError, match="does not speak TLS"):
        db.tables.count()


def test_c096_a_certificate_that_is(replies: Callable[..., Any], tls: Any, connect: Connect) -> None:
    server = replies([(200, {}, {"count": 3})], tls=tls.server)
    assert connect(server, verify=tls.ca).tables.count() == 3


def test_c096_reads_are_repeated_and_writes_are_not(scripted: Callable[..., Any], connect: Connect) -> None:
    server = scripted(
        [steps.read(), steps.reset()],
        [steps.read(), steps.reply(200, b'{"count": 3}', {"Connection": "close"}), steps.close()],
        [steps.read(), steps.reset()],
    )
    db = connect(server, max_retries=2)
    assert db.tables.count() == 3
    with pytest.raises(APIConnectionError, match="look before you send it again") as caught:
        db.tables.data.insert("t", {"a": 1})
    assert caught.value.attempts == 1
    assert server.connections == 3


# Answers that cannot be used

PROMISES: Dict[str, Callable[[SelfDB], Any]] = {
    "one": lambda db: db.tables.get("t"),
    "list": lambda db: db.tables.list(),
    "count": lambda db: db.tables.count(),
    "page": lambda db: db.tables.data.fetch("t"),
    "row": lambda db: db.tables.data.insert("t", {"a": 1}),
    "pair": lambda db: db.auth.login("a@b.c", "password"),
    "column": lambda db: db.tables.columns.remove("t", "a"),
    "deletion": lambda db: db.tables.delete("t"),
}


@pytest.mark.parametrize("call", PROMISES)
@pytest.mark.parametrize("body", [b"<html>welcome</html>", b'{"id": ', b"\xff\xfe\x00"])
def test_c097_what_is_no_json(recorded: Recorded, call: str, body: bytes) -> None:
    recorded.will((200, {}, body))
    with pytest.raises(SelfDBError, match="is base_url the address of the API") as caught:
        PROMISES[call](recorded.db)
    assert type(caught.value) is SelfDBError
    assert caught.value.status_code == 200
    assert recorded.db.access_token == "access-token-of-the-tests"


@pytest.mark.parametrize("call", [name for name in PROMISES if name not in ("column", "deletion", "row")])
@pytest.mark.parametrize("body", [{}, "text", 1.5, None, [1], {"unexpected": []}])
def test_c097_json_of_another_shape(recorded: Recorded, call: str, body: Any) -> None:
    recorded.will((200, {}, json.dumps(body).encode()))
    with pytest.raises(SelfDBError) as caught:
        PROMISES[call](recorded.db)
    assert type(caught.value) is SelfDBError


# The life of a client


def test_c099_a_client_closes_with_its_block(recorded: Recorded) -> None:
    recorded.will({"count": 1})
    with recorded.db as db:
        assert db is recorded.db
        db.tables.count()
    with pytest.raises(ClientClosedError):
        db.tables.count()
    db.close()
    db.close()
    assert len(recorded.lines) == 1


def test_c099_what_is_raised_in_the_block_comes_out(recorded: Recorded) -> None:
    with pytest.raises(KeyError, match="mine"), recorded.db:
        raise KeyError("mine")


def test_c099_a_closed_client_holds_no_connection_whoever_holds_its_errors(
    replies: Callable[..., Any], connect: Connect
) -> None:
    server = replies([(404, {}, {"detail": "no"})])
    db = connect(server)
    with pytest.raises(NotFoundError) as caught:
        db.tables.get("t")
    db.close()
    assert caught.value.__traceback__ is not None
    # The guard of every test counts sockets while the error is still held here.


def test_c099_thirty_threads_share_a_client(server: Any, http: Any, connect: Connect, new_table: Any) -> None:
    db = connect(server)
    db.access_token = http.admin
    table = new_table(db)
    failures: List[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(3):
                row = db.tables.data.insert(table.id, {"title": f"{number}.{step}", "amount": number})
                assert row["title"] == f"{number}.{step}"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    rows = list(db.tables.data.query(table.id).page_size(25))
    assert sorted(row["title"] for row in rows) == sorted(f"{n}.{s}" for n in range(30) for s in range(3))


def test_c124_fifty_inserts_at_a_time(server: Any, http: Any, connect: Connect, new_table: Any) -> None:
    """Each from a client of its own, as from fifty programs."""
    owner = connect(server)
    owner.access_token = http.admin
    table = new_table(owner, public=True)
    start = threading.Barrier(50)
    failures: List[BaseException] = []

    def work(number: int) -> None:
        try:
            with SelfDB(server.url, server.api_key, max_retries=0) as db:
                start.wait(30)
                db.tables.data.insert(table.id, {"title": str(number), "amount": number})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert owner.tables.get(table.id).row_count == 50
    assert {row["amount"] for row in owner.tables.data.query(table.id)} == set(range(50))


def test_c100_every_call_blocks_and_needs_no_loop(recorded: Recorded) -> None:
    """The awaitable twin is proven with ``selfdb.aio``; here: a plain call gives a plain value, loop or no loop."""
    import asyncio

    async def inside_a_loop() -> int:
        return recorded.db.tables.count()

    recorded.will({"count": 3}, {"count": 3})
    assert asyncio.run(inside_a_loop()) == recorded.db.tables.count() == 3


# Errors as values


def test_errors_cross_process_boundaries_whole(recorded: Recorded) -> None:
    recorded.will((429, {"Retry-After": "7", "X-Request-ID": "r-1"}, {"detail": "slow down"}))
    with pytest.raises(RateLimitError) as caught:
        recorded.db.tables.count()
    for twin in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value)):
        assert type(twin) is RateLimitError
        assert str(twin) == str(caught.value)
        assert (twin.status_code, twin.retry_after, twin.request_id, twin.response_body) == (
            429,
            7.0,
            "r-1",
            {"detail": "slow down"},
        )


def test_every_error_of_the_specification_can_be_imported_from_the_top() -> None:
    import selfdb.exceptions

    for name in selfdb.exceptions.__all__:
        if name != "error_class_for_status":
            assert getattr(selfdb, name) is getattr(selfdb.exceptions, name)
