"""One pool for many threads: no waiting, no warning, no crossed answer, whatever interrupts a call."""

from __future__ import annotations

import http.client
import queue
import select
import signal
import threading
import warnings
from typing import Any, Callable, List

import pytest
import requests

from selfdb.core import http as http_module
from selfdb.core import lane as lane_module
from selfdb.core.clock import Deadline
from selfdb.core.http import CALL, POOL_SIZE, Bounds, ClientSession, bounded
from selfdb.core.pool import Pool
from selfdb.core.request import Request
from selfdb.core.transport import Transport
from selfdb.core.upload import Upload
from selfdb.exceptions import APIConnectionError, APITimeoutError, ClientClosedError
from tests.core.calls import GET, POST, HeldClock
from tests.core.kit import Background, in_threads
from tests.servers.replies import ReplyServer
from tests.servers.scripted import ScriptedServer, close, read, reply, stall

pytestmark = pytest.mark.usefixtures("lane")


def echoing(request: Any) -> Any:
    return 200, {}, {"asked": request.target, "body": request.body.decode()}


@pytest.mark.parametrize("threads", [64, 70])
def test_c099_threads_share_one_client(
    threads: int, replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    assert POOL_SIZE == 64
    together = threading.Barrier(threads)

    def meet(request: Any) -> Any:
        if "round=0" in request.target:
            together.wait(60)  # every thread holds a connection of its own at this moment
        return echoing(request)

    server = replies(meet)
    transport = connect(server)
    numbers = iter(range(threads))

    def work() -> List[bool]:
        me = next(numbers)
        own = []
        for number in range(4):
            body = b"%d-%d" % (me, number)
            answer = transport.exchange(Request("POST", "/t", f"?me={me}&round={number}", body)).json()
            own.append(answer == {"asked": f"/t?me={me}&round={number}", "body": body.decode()})
        return own

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcomes = in_threads(threads, work)
    assert outcomes == [[True] * 4] * threads
    assert [str(warning.message) for warning in caught] == []
    idle = idle_connections(transport)
    assert len([connection for connection in idle if connection is not None]) <= POOL_SIZE
    assert server.connections >= threads


def test_a_full_pool_says_nothing_in_the_log(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport], caplog: pytest.LogCaptureFixture
) -> None:
    together = threading.Barrier(POOL_SIZE + 6)

    def meet(request: Any) -> Any:
        together.wait(60)
        return echoing(request)

    transport = connect(replies(meet))
    in_threads(POOL_SIZE + 6, lambda: transport.exchange(GET).status_code)
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
    assert all(not record.name.startswith("urllib3") or "full" not in record.getMessage() for record in caplog.records)


def idle_connections(transport: Transport) -> List[Any]:
    adapter: Any = transport.pool._session().get_adapter(transport.base.text)
    pools = adapter.poolmanager.pools
    (pool,) = [pools[key] for key in list(pools.keys())]
    return list(pool.pool.queue)


def test_one_session_for_threads_that_make_it_at_once() -> None:
    pool = Pool()
    try:
        sessions = in_threads(8, pool._session)
        assert len(set(map(id, sessions))) == 1
    finally:
        pool.close()


def test_nothing_is_opened_before_the_first_call() -> None:
    pool = Pool()
    assert pool._ours is None
    pool.close()
    assert pool._ours is None
    with pytest.raises(ClientClosedError):
        pool.lifeline.check()


def test_closing_closes_idle_connections(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    gone = threading.Event()

    def serve(peer: Any) -> None:
        peer.read_request()
        peer.reply(200, b"{}")
        peer.wait_for_close()
        gone.set()

    transport = connect(scripted(serve))
    transport.exchange(GET)
    transport.pool.close()
    transport.pool.close()
    assert gone.wait(60)
    with pytest.raises(ClientClosedError):
        transport.exchange(GET)


def test_a_connection_that_comes_back_to_a_closed_pool_is_closed(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    server = scripted([read(), stall(), reply(200, b'"mine"')])
    transport = connect(server)
    call = Background(lambda: transport.exchange(GET).json())
    server.wait_for(requests=1)
    transport.pool.close()
    server.release.set()
    assert call.result() == "mine", "a call under way is not cut off"
    # _no_leaks sees to it that its connection is closed.


def test_putting_nothing_back_is_harmless() -> None:
    pool = http_module._QuietPool("127.0.0.1", 9, maxsize=1)
    pool._put_conn(None)  # one place, and what urllib3 puts there itself is in it
    pool.pool = None
    pool._put_conn(None)
    assert pool.pool is None
    full = http_module._QuietPool("127.0.0.1", 9, maxsize=1)
    with pytest.raises(queue.Full):
        full.pool.put(None, block=False)  # type: ignore[union-attr]
    full._put_conn(None)
    full.close()


# Interruptions


def test_a_call_interrupted_by_a_signal_leaves_no_answer_behind(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    """While it waits for the answer, as Ctrl-C finds most calls."""
    waiting = threading.main_thread().ident
    assert waiting == threading.get_ident()

    interrupted, over = threading.Event(), threading.Event()

    def interrupting(peer: Any) -> None:
        peer.read_request()
        while not interrupted.is_set():  # one that comes just before the waiting begins does not end it
            signal.pthread_kill(waiting, signal.SIGUSR1)
            interrupted.wait(0.05)
        over.set()
        peer.wait_for_close()

    def interrupt(*args: Any) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    server = scripted(interrupting, [read(), reply(200, b'"mine"')])
    transport = connect(server)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            transport.exchange(GET)
    finally:
        over.wait(60)  # none comes any more
        signal.signal(signal.SIGUSR1, before)
    assert transport.exchange(POST).json() == "mine"
    assert [request.connection for request in server.requests] == [0, 1]


def test_a_call_interrupted_in_the_body_leaves_no_answer_behind(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = http_module.set_timeout, threading.Event()
    CALL.last = CALL.now  # a test before this one has sent something

    def interrupted(sock: Any, *args: Any) -> None:
        if CALL.now.sent or CALL.last.sent:  # as seen within the sending, and after it
            assert begun.wait(60)
            if not select.select([sock], [], [], 0)[0]:  # the half has been read
                begun.clear()
                monkeypatch.undo()
                raise KeyboardInterrupt
        real(sock, *args)

    for module in (http_module, lane_module):
        monkeypatch.setattr(module, "set_timeout", interrupted)
    half = [read(), reply(200, b'"half', length=12), lambda peer: begun.set(), lambda peer: peer.wait_for_close()]
    server = scripted(half, [read(), reply(200, b'"mine"')])
    transport = connect(server)
    with pytest.raises(KeyboardInterrupt):
        transport.exchange(GET)
    assert transport.exchange(POST).json() == "mine"
    assert [request.connection for request in server.requests] == [0, 1]


def test_a_timed_out_call_leaves_no_answer_behind(
    scripted: Callable[..., ScriptedServer], connect: Callable[..., Transport]
) -> None:
    late = threading.Event()
    server = scripted([read(), stall(late), reply(200, b'"late"')], [read(), reply(200, b'"mine"')])
    hasty = connect(server, timeout=(5, 0.1), max_retries=0)
    with pytest.raises(APITimeoutError):
        hasty.exchange(GET)
    late.set()
    patient = Transport(hasty.pool, hasty.base, hasty.identity, hasty.keeper, hasty.options.changed(timeout=15))
    assert patient.exchange(POST).json() == "mine"


# A body whose source makes calls of its own


def test_calls_from_within_a_body_do_not_disturb_it(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    """Copying from one server to another: the bounds of the inner calls are not those of the outer one."""
    server = replies(echoing)
    clock = HeldClock()
    inner, outer = connect(server, deadline=20, clock=clock), connect(server, timeout=(5, 30))

    def source() -> Any:
        for number in range(3):
            yield inner.exchange(Request("GET", f"/part/{number}")).json()["asked"].encode()
        clock.advance(21)

    answer = outer.exchange(POST._replace(body=Upload(source())))
    assert answer.json()["body"] == "/part/0/part/1/part/2"


def test_what_was_sent_is_known_of_the_outer_call(
    scripted: Callable[..., ScriptedServer], replies: Callable[..., ReplyServer], connect: Callable[..., Transport]
) -> None:
    """The last thing that this thread did before the loss was a call that never connected."""
    server = scripted(default=[read(body=False), lambda peer: peer.read_exactly(1000), close()])
    unreachable = connect("http://127.0.0.1:9", max_retries=0)

    def progress(done: int, total: Any) -> None:
        with pytest.raises(APIConnectionError):
            unreachable.exchange(GET)

    with pytest.raises(APIConnectionError) as caught:
        connect(server).exchange(POST._replace(body=Upload(b"x" * 1000, progress)))
    assert caught.value.may_have_been_applied is True
    assert len(server.requests) == 1


def test_bounds_are_of_a_thread_and_nest() -> None:
    outer, inner = (Bounds(1, 2, Deadline(None)) for _ in range(2))
    nothing = CALL.now
    with bounded(outer):
        assert in_threads(1, lambda: CALL.now is nothing or CALL.now is not outer) == [True]
        with bounded(inner):
            assert CALL.now is inner
        assert CALL.now is outer
        assert CALL.last is inner
    assert CALL.now is nothing
    assert CALL.last is outer


# The session itself


def test_our_session_is_a_real_one() -> None:
    session = ClientSession(None)
    try:
        assert isinstance(session, requests.Session)
        assert session.headers["Accept-Encoding"] == "gzip, deflate"
        assert session.verify is True
        answer = requests.Response()
        answer.status_code, answer.headers["Location"] = 302, "http://elsewhere.example/"
        assert session.get_redirect_target(answer) is None
    finally:
        session.close()


def test_a_reader_is_one() -> None:
    assert http_module._BoundedReader.readable(None) is True  # type: ignore[arg-type]


def test_a_connection_that_must_not_open_itself_does_not() -> None:
    connection = http_module._BoundedHTTPConnection("127.0.0.1", 9)
    connection.auto_open = 0
    with pytest.raises(http.client.NotConnected):
        connection.send(b"x")


def test_a_socks_manager_keeps_its_own_connections() -> None:
    class SocksManager:
        pass

    assert http_module._own_unless_socks(SocksManager()) == {}


@pytest.mark.parametrize(("seconds", "connections"), [(60.0, 1), (-1.0, 2)])
def test_a_write_waits_for_no_connection_that_its_server_may_be_closing(
    seconds: float,
    connections: int,
    replies: Callable[..., ReplyServer],
    connect: Callable[..., Transport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_module, "FRESH_SECONDS", seconds)
    server = replies(echoing)
    transport = connect(server)
    for request in (GET, GET, POST, GET):
        transport.exchange(request)
    assert server.connections == connections


def test_a_client_that_is_made_after_a_late_patch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greenlets(threading.local):
        """As gevent puts in its place."""

    monkeypatch.setattr(threading, "local", Greenlets)
    with pytest.warns(RuntimeWarning, match=r"monkey.patch_all\(\) before selfdb is imported"):
        Pool().close()


def test_a_connection_that_comes_back_while_the_pool_is_closed_is_closed(
    replies: Callable[..., ReplyServer], connect: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = connect(replies([(200, {}, {})]))
    put = http_module._Idle.put

    def late(self: Any, connection: Any, block: bool = False) -> None:
        put(self, connection)
        if connection is not None:
            kept.append(connection)
            transport.pool.close()
            put(self, connection)  # as one that arrives when the closing is over

    kept: List[Any] = []
    monkeypatch.setattr(http_module._Idle, "put", late)
    assert transport.exchange(GET).status_code == 200
    assert [connection.sock for connection in kept] == [None]
