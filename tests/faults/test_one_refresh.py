"""One refresh for all who need it, and nobody signed out who was not: threads, processes, what may happen meanwhile."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from selfdb import AuthenticationError, FileStore, SelfDB, SelfDBError
from selfdb.server import sessions
from selfdb.server.errors import ApiError
from tests import soak
from tests.core.kit import in_threads, wait_until
from tests.faults.programs import Program, program, told
from tests.servers.clock import FakeClock
from tests.servers.tcpproxy import TcpProxy
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD

ROUNDS = soak.amount("SELFDB_REFRESH_ROUNDS", here=2, long=20)
LIFE = 60  # seconds that an access token lives, by the server's clock


class Refreshes:
    """What the refreshes of a server came to; ``before`` is called with each and may refuse it."""

    def __init__(self) -> None:
        self.statuses: List[int] = []
        self._by_clock: List[Tuple[Any, int]] = []
        self.before: Callable[[], Any] = lambda: None

    def add(self, status: int, clock: Any) -> None:
        self.statuses.append(status)
        self._by_clock.append((clock, status))

    def of(self, clock: Any) -> List[int]:
        """Those of the server that has this clock, taken or not."""
        return [status for of, status in self._by_clock if of is clock]

    def take(self) -> List[int]:
        statuses, self.statuses = self.statuses, []
        return statuses


@pytest.fixture
def refreshes(monkeypatch: pytest.MonkeyPatch) -> Refreshes:
    made, original = Refreshes(), sessions.rotate

    def rotate(services: Any, token: str) -> Any:
        try:
            made.before()
            pair = original(services, token)
        except ApiError as error:
            made.add(error.status, services.clock)
            raise
        made.add(200, services.clock)
        return pair

    monkeypatch.setattr(sessions, "rotate", rotate)
    return made


@pytest.fixture
def short(make_server: Callable[..., Any], clock: FakeClock) -> Any:
    """A server whose access tokens live for a minute of ``clock``; only the successor of a token is ever good."""
    return make_server(clock=clock, access_token_seconds=LIFE)


@contextlib.contextmanager
def signed_in(url: str, api_key: str, **options: Any) -> Iterator[SelfDB]:
    with SelfDB(url, api_key, **options) as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        yield db


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_g05_fifty_threads_at_expiry_make_one_refresh(short: Any, clock: FakeClock, refreshes: Refreshes) -> None:
    with signed_in(short.url, short.api_key) as db:
        for _ in range(ROUNDS):
            clock.advance(LIFE + 1)
            outcomes = in_threads(50, lambda: db.auth.me().email)
            assert outcomes == [ADMIN_EMAIL] * 50
            assert refreshes.take() == [200]
    soak.figure("G05", f"50 threads at expiry, {ROUNDS} times: 1 refresh each, 0 signed out")


CALLER = """
import sys
from selfdb import FileStore, SelfDB

with SelfDB(session_store=FileStore(sys.argv[1])) as db:
    db.auth.me()
    print("ready", flush=True)
    for line in sys.stdin:
        print(db.auth.me().email, flush=True)
"""


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_g05_four_processes_with_one_session_file_make_one_refresh(
    short: Any, clock: FakeClock, refreshes: Refreshes, tmp_path: Path
) -> None:
    path = tmp_path / "session"
    with signed_in(short.url, short.api_key, session_store=FileStore(path)), contextlib.ExitStack() as stack:
        callers: List[Program] = [stack.enter_context(program(CALLER, str(path), **told(short))) for _ in range(4)]
        for caller in callers:
            caller.expect("ready")
        refreshes.take()
        for number in range(ROUNDS):
            clock.advance(LIFE + 1)
            for caller in callers:
                caller.tell()
            for caller in callers:
                caller.expect(ADMIN_EMAIL)
            assert refreshes.take() == [200], number
        # One of them sleeps through a token of the others, which has ended as well when it wakes up.
        for _ in range(2):
            clock.advance(LIFE + 1)
            callers[0].tell()
            callers[0].expect(ADMIN_EMAIL)
        clock.advance(LIFE + 1)
        callers[1].tell()
        callers[1].expect(ADMIN_EMAIL)
        assert refreshes.take() == [200] * 3
    soak.figure("G05", f"4 processes with one session file at expiry, {ROUNDS} times: 1 refresh each, 0 signed out")


class Trouble:
    """What becomes of a refresh, of the answer above all."""

    def __init__(self, proxy: TcpProxy) -> None:
        self.proxy = proxy

    def refused(self, status: int) -> Callable[[], None]:
        def do() -> None:
            raise ApiError(status, "not now")

        return do

    def reset(self) -> None:
        """The server renews; half of its answer arrives."""
        self.proxy.plan("reply", self.proxy.cut_here)

    def silence(self) -> None:
        """The server renews; its answer does not arrive."""
        self.proxy.plan("reply", self.proxy.stall_here)


@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "silence"])
def test_g05_a_refresh_that_fails_signs_nobody_out_and_is_tried_again(
    short: Any, clock: FakeClock, refreshes: Refreshes, fault: str
) -> None:
    with TcpProxy(int(short.url.rsplit(":", 1)[1])) as proxy:
        trouble = Trouble(proxy)
        harms = {"reset": trouble.reset, "silence": trouble.silence}
        with signed_in(proxy.url, short.api_key, timeout=(5, 30), max_retries=0) as patient:
            # Only what is silent is waited out.
            db = patient.with_options(timeout=(5, 0.5)) if fault == "silence" else patient
            for _ in range(2):
                clock.advance(LIFE + 1)
                refreshes.before = harms.get(fault) or trouble.refused(int(fault))
                with pytest.raises(SelfDBError) as caught:
                    db.auth.me()
                assert not isinstance(caught.value, AuthenticationError)
                wait_until(lambda: bool(refreshes.statuses))  # the server may be slower than the time-out
                assert refreshes.take() == [200 if fault in harms else int(fault)]
                refreshes.before = lambda: None
                assert in_threads(8, lambda: patient.auth.me().email) == [ADMIN_EMAIL] * 8
                assert refreshes.take() == [200]


def test_g05_a_lost_answer_is_no_sign_out_even_long_afterwards(
    short: Any, clock: FakeClock, refreshes: Refreshes, tmp_path: Path
) -> None:
    """The process dies with the answer on its way; the next one has the old pair, and comes an hour later."""
    path = tmp_path / "session"
    with TcpProxy(int(short.url.rsplit(":", 1)[1])) as proxy:
        with signed_in(proxy.url, short.api_key, session_store=FileStore(path)) as db:
            clock.advance(LIFE + 1)
            refreshes.before = Trouble(proxy).reset
            with pytest.raises(SelfDBError):
                db.auth.me()
        refreshes.before = lambda: None
        clock.advance(3600)
        with SelfDB(proxy.url, short.api_key, session_store=FileStore(path)) as later:
            assert later.auth.me().email == ADMIN_EMAIL


def test_g05_an_interrupted_leader_leaves_the_others_signed_in(
    short: Any, clock: FakeClock, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with signed_in(short.url, short.api_key) as db:
        clock.advance(LIFE + 1)
        renewer, count = db._transport.renewer, [0]
        assert renewer is not None

        def interrupted(*arguments: Any) -> Any:
            count[0] += 1
            pair = renewer(*arguments)
            if count[0] == 1:
                raise KeyboardInterrupt  # when the old refresh token is used up already
            return pair

        monkeypatch.setattr(db._transport, "renewer", interrupted)
        outcomes = in_threads(20, lambda: db.auth.me().email)
        assert sorted(map(str, outcomes)) == ["", *[ADMIN_EMAIL] * 19]
        assert refreshes.take() == [200, 200]
        assert db.auth.me().email == ADMIN_EMAIL


HOLDER = """
import sys
from selfdb import FileStore, SelfDB
from selfdb.core.stores import FileStore

with SelfDB(session_store=FileStore(sys.argv[1])) as db:
    if sys.argv[2] == "fork":
        import os, threading
        def child():
            if os.fork() == 0:
                print("child", flush=True)
                sys.stdin.read()
                os._exit(0)
        renewer = db._transport.renewer
        def forking(*arguments):
            threading.Thread(target=child).start()
            return renewer(*arguments)
        db._transport.renewer = forking
    db.auth.me()
"""


def failures(db: SelfDB) -> Iterator[SelfDBError]:
    """Of calls with little time, and with more where that ended before they came to what they are for."""
    for deadline in (0.2, 2, 20):
        with pytest.raises(SelfDBError) as caught:
            db.with_options(deadline=deadline).auth.me()
        yield caught.value


@pytest.mark.parametrize("forks", ["alone", "fork"])
def test_g05_the_lock_of_a_process_that_is_killed_in_a_refresh_is_free(
    short: Any, clock: FakeClock, refreshes: Refreshes, tmp_path: Path, forks: str
) -> None:
    path = tmp_path / "session"
    with signed_in(short.url, short.api_key, session_store=FileStore(path)) as db:
        clock.advance(LIFE + 1)
        arrived, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            refreshes.before = lambda: None
            arrived.set()
            assert go_on.wait(100)

        refreshes.before = hold
        try:
            with program(HOLDER, str(path), forks, flags=("-W", "ignore"), **told(short)) as holder:
                if forks == "fork":
                    holder.expect("child")
                assert arrived.wait(30)
                assert any("holds the session lock" in str(error) for error in failures(db))
                holder.process.kill()
                holder.process.wait(30)
                # Its forked child lives on, and must not keep what the parent held.
                assert db.with_options(deadline=20).auth.me().email == ADMIN_EMAIL
        finally:
            go_on.set()
        wait_until(lambda: len(refreshes.statuses) == 2)
        assert db.auth.me().email == ADMIN_EMAIL


def spoilt(path: Path) -> List[Tuple[str, Callable[[], Any]]]:
    def cut() -> None:
        path.write_bytes(path.read_bytes()[:100])

    return [
        ("truncated", cut),
        ("empty", lambda: path.write_bytes(b"")),
        ("garbage", lambda: path.write_bytes(b"\xff\x00garbage" * 50)),
        ("another program's", lambda: path.write_text(json.dumps({"version": 1}))),
    ]


def test_g05_a_spoilt_session_file_signs_no_running_process_out(
    short: Any, clock: FakeClock, refreshes: Refreshes, tmp_path: Path
) -> None:
    path = tmp_path / "session"
    with signed_in(short.url, short.api_key, session_store=FileStore(path)) as db:
        for what, spoil in spoilt(path):
            spoil()
            clock.advance(LIFE + 1)
            assert db.auth.me().email == ADMIN_EMAIL, what
            assert refreshes.take() == [200], what
            with SelfDB(short.url, short.api_key, session_store=FileStore(path)) as other:
                assert other.auth.me().email == ADMIN_EMAIL, f"{what}: what is spoilt is replaced"


def test_g05_a_file_that_is_gone_is_a_sign_out(short: Any, clock: FakeClock, tmp_path: Path) -> None:
    path = tmp_path / "session"
    with signed_in(short.url, short.api_key, session_store=FileStore(path)) as db:
        with SelfDB(short.url, short.api_key, session_store=FileStore(path)) as other:
            other.auth.logout()
        clock.advance(LIFE + 1)
        with pytest.raises(AuthenticationError):
            db.auth.me()
        assert db.access_token is None
        assert not path.exists()


class FullDisk(FileStore):
    """A session file on a disk that may be full."""

    full = False

    def _replace(self, value: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super()._replace(value)


def test_g05_a_full_disk_costs_a_call_but_not_the_session(
    short: Any, clock: FakeClock, refreshes: Refreshes, tmp_path: Path
) -> None:
    store = FullDisk(tmp_path / "session")
    with signed_in(short.url, short.api_key, session_store=store) as db:
        clock.advance(LIFE + 1)
        store.full = True
        with pytest.raises(SelfDBError, match="No space left on device"):
            db.auth.me()
        for _ in range(3):
            assert db.auth.me().email == ADMIN_EMAIL
        store.full = False
        for _ in range(3):
            clock.advance(LIFE + 1)
            assert db.auth.me().email == ADMIN_EMAIL
        assert refreshes.take() == [200] * 4
        with SelfDB(short.url, short.api_key, session_store=FileStore(tmp_path / "session")) as other:
            assert other.auth.me().email == ADMIN_EMAIL


def test_g05_clocks_that_differ_neither_sign_out_nor_refresh_without_end(
    make_server: Callable[..., Any], refreshes: Refreshes
) -> None:
    skews = [-7200, -LIFE, LIFE - 2, 7200]
    """Seconds by which a client is ahead of its server; they all go on at the same time."""
    with contextlib.ExitStack() as stack:
        clocks = {skew: FakeClock() for skew in skews}
        clients: Dict[int, SelfDB] = {}
        for skew, clock in clocks.items():
            clock.jump(-skew)
            server = make_server(clock=clock, access_token_seconds=LIFE)
            clients[skew] = stack.enter_context(signed_in(server.url, server.api_key))
            clients[skew].realtime.connect()
        wait_until(lambda: all(refreshes.of(clocks[skew]) for skew in skews if skew >= LIFE))
        # What would be renewed without end is so each time that the link looks around, once a second.
        for db in clients.values():
            db.realtime._link.wake()
        threading.Event().wait(2.5)
        for skew, db in clients.items():
            assert refreshes.of(clocks[skew]).count(200) <= 1, skew
            assert db.realtime.connected, skew
            clocks[skew].advance(LIFE + 1)
            assert db.auth.me().email == ADMIN_EMAIL, skew


def test_g05_a_forked_copy_of_a_session_does_not_end_it(short: Any, clock: FakeClock, refreshes: Refreshes) -> None:
    """As a pre-forking server does whose workers come to their next call minutes apart."""
    with program(FORKING, flags=("-W", "ignore"), **told(short)) as parent:
        parent.expect("ready")
        for number in (1, 2, 0, 2, 1, 0):
            clock.advance(LIFE + 45)  # later than the server puts up with a token that was used up
            parent.tell(str(number))
            parent.expect(f"{number} {ADMIN_EMAIL}")
        assert refreshes.take() == [200] * 6
        # One of them signs out: he does so for all, by the server's word, and is told so.
        parent.tell("end")
        assert parent.wait() == 0, parent.errors


FORKING = f"""
import os, sys
from selfdb import SelfDB

db = SelfDB()
db.auth.login({ADMIN_EMAIL!r}, {ADMIN_PASSWORD!r})
pipes = [(os.pipe(), os.pipe()) for _ in range(2)]
for number, ((asked, _), (_, answers)) in enumerate(pipes, 1):
    if os.fork() == 0:
        while os.read(asked, 1) == b"?":
            os.write(answers, (str(number) + " " + db.auth.me().email + "\\n").encode())
        os._exit(0)
print("ready", flush=True)
for line in sys.stdin:
    word = line.strip()
    if word == "end":
        break
    if word == "0":
        print(0, db.auth.me().email, flush=True)
        continue
    (_, ask), (answers, _) = pipes[int(word) - 1]
    os.write(ask, b"?")
    print(os.read(answers, 500).decode(), end="", flush=True)
for (_, ask), _ in pipes:
    os.write(ask, b".")
for _ in pipes:
    os.wait()
db.close()
"""
