"""The client and the embedded server together, on both databases: what a program sees of the changes of its tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from selfdb import SelfDB
from selfdb.exceptions import (
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    RealtimeError,
)
from selfdb.models import BucketCreate, RealtimePayload, TableCreate, TableUpdate, UserCreate
from tests.realtime.delivery import RESYNC, SLACK, Listener, Writer, numbers
from tests.realtime.raw import Table, until
from tests.servers.process import free_port
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD, Http

ROOT = Path(__file__).parents[2]

SignedIn = Callable[..., SelfDB]


@pytest.fixture
def db(server: Any, http: Http, signed_in: SignedIn) -> SelfDB:
    """A client of the shared server with the administrator's session, not connected yet."""
    return signed_in(server.url, http)


@pytest.fixture
def table(http: Http) -> Table:
    return Table(http, http.admin)


class Log:
    """What a channel was told, in order."""

    def __init__(self, db: SelfDB, topic: str, *events: str) -> None:
        self.entries: List[Any] = []
        self.errors: List[BaseException] = []
        db.realtime.on_error(self.errors.append)
        self.channel = db.realtime.channel(topic)
        for event in events or ("*", RESYNC):
            self.channel.on(event, self._take)

    def _take(self, payload: RealtimePayload) -> None:
        self.entries.append([payload.event, payload.table, payload.new, payload.old])

    def wait(self, count: int) -> List[Any]:
        until(lambda: len(self.entries) >= count)
        return self.entries


def test_c102_a_refused_handshake_is_the_error_of_the_call(server: Any, http: Http, signed_in: SignedIn) -> None:
    for key, token, error in (
        (server.api_key, None, AuthenticationError),
        (server.api_key, "nonsense", AuthenticationError),
        ("wrong-key", http.admin, AuthenticationError),
    ):
        with SelfDB(server.url, key) as db:
            if token is not None:
                db.access_token = token
            with pytest.raises(error) as caught:
                db.realtime.connect()
            assert caught.value.status_code == 401
            assert db.realtime.state == "disconnected"
            assert str(key) not in str(caught.value)


def test_c104_each_change_of_a_row_comes_once_with_new_and_old(db: SelfDB, table: Table) -> None:
    log = Log(db, table.topic)
    db.realtime.connect()
    assert log.channel.subscribe() is log.channel
    row = db.tables.data.insert(table.id, {"n": 1, "a": 'ü "\u2028'})
    changed = db.tables.data.update_row(table.id, row["id"], {"n": 2})
    db.tables.data.delete_row(table.id, row["id"])
    expected = [
        ["INSERT", table.name, row, None],
        ["UPDATE", table.name, changed, row],
        ["DELETE", table.name, None, changed],
    ]
    assert log.wait(3) == expected
    # Whatever else might have come for them would have come before this.
    last = table.insert(3)
    assert log.wait(4) == [*expected, ["INSERT", table.name, last, None]]


def test_c105_events_flow_from_the_moment_that_realtime_is_enabled(db: SelfDB, http: Http) -> None:
    table = Table(http, http.admin, realtime=False)
    log = Log(db, table.topic)
    db.realtime.connect()
    log.channel.subscribe()
    table.insert(1)
    db.tables.update(table.id, TableUpdate(realtime_enabled=True))
    row = table.insert(2)
    assert log.wait(1) == [["INSERT", table.name, row, None]]
    db.tables.update(table.id, TableUpdate(realtime_enabled=False))
    table.insert(3)
    db.tables.update(table.id, TableUpdate(realtime_enabled=True))
    row = table.insert(4)
    assert log.wait(2)[1:] == [["INSERT", table.name, row, None]]


def test_c109_joins_that_the_server_refuses(http: Http, server: Any) -> None:
    private = Table(http, http.admin, public=False)
    _, token = http.new_user()
    with SelfDB(server.url, server.api_key) as stranger:
        stranger.access_token = token
        stranger.realtime.connect()
        for topic, error in (
            (private.topic, PermissionDeniedError),
            ("table:absent", NotFoundError),
            ("room:lobby", NotFoundError),
        ):
            with pytest.raises(error):
                stranger.realtime.channel(topic).subscribe()
            assert stranger.realtime.channel(topic).state == "closed"
        with pytest.raises(RealtimeError):
            stranger.realtime.channel(private.topic).push("hello", {})
        private.change(public=True)
        stranger.realtime.channel(private.topic).subscribe()
        with pytest.raises(RealtimeError, match="unknown event"):
            stranger.realtime.channel(private.topic).push("INSERT", {"new": {"n": 666}})


@pytest.mark.parametrize("killed", [False, True])
def test_c113_a_server_that_ends_is_waited_for_and_disconnect_is_final(
    make_server: Callable[..., Any], signed_in: SignedIn, tmp_path: Path, backend: str, killed: bool
) -> None:
    server = make_server(backend=backend, path=tmp_path / "data", port=free_port())
    http = Http(server)
    table = Table(http, http.admin)
    db = signed_in(server.url, http)
    log = Log(db, table.topic)
    db.realtime.connect()
    log.channel.subscribe()
    table.insert(1)
    log.wait(1)
    if killed:
        hub = server._running().config.app.state.hub
        loop = hub.services.doorbell._loop
        loop.call_soon_threadsafe(lambda: [socket.close(1000, "") for socket in list(hub._sockets)])
    else:
        server.stop()
        until(lambda: db.realtime.state == "reconnecting")
        server.start()
    log.wait(2)
    assert log.channel.state == "joined"
    row = table.insert(2)
    assert log.wait(3)[1:] == [[RESYNC, table.name, None, None], ["INSERT", table.name, row, None]]
    db.realtime.disconnect()
    table.insert(3)
    assert (db.realtime.state, log.channel.state) == ("disconnected", "closed")
    assert len(log.entries) == 3


def test_c116_after_unsubscribe_there_are_no_events_and_joining_again_works(db: SelfDB, table: Table) -> None:
    log = Log(db, table.topic)
    elsewhere = Table(table.http, table.bearer)
    other = Log(db, elsewhere.topic)
    db.realtime.connect()
    log.channel.subscribe()
    other.channel.subscribe()
    table.insert(1)
    log.wait(1)
    log.channel.unsubscribe()
    table.insert(2)
    elsewhere.insert(1)  # the same connection would bring both, in order
    other.wait(1)
    log.channel.subscribe()
    row = table.insert(3)
    assert log.wait(2)[1:] == [["INSERT", table.name, row, None]]


def test_c116_nothing_that_still_waits_comes_after_unsubscribe(db: SelfDB, table: Table) -> None:
    slow, entered = threading.Event(), threading.Event()
    got: List[int] = []

    def callback(payload: RealtimePayload) -> None:
        entered.set()
        slow.wait(60)
        assert payload.new is not None
        got.append(payload.new["n"])

    channel = db.realtime.channel(table.topic).on("INSERT", callback)
    db.realtime.connect()
    channel.subscribe()
    table.insert(1)
    table.insert(2)
    assert entered.wait(60)
    before = db.realtime.last_message_at
    until(lambda: db.realtime.last_message_at is not None and channel._handlers.queued == 2)
    assert before is not None
    channel.unsubscribe()
    slow.set()
    channel.subscribe()
    table.insert(3)
    until(lambda: 3 in got)
    assert got == [1, 3]


def test_c119_everything_may_be_called_in_a_callback(db: SelfDB, table: Table, http: Http) -> None:
    other = Table(http, http.admin)
    done = threading.Event()
    seen: List[Any] = []

    def callback(payload: RealtimePayload) -> None:
        seen.append(db.tables.data.fetch(table.id).total)
        db.realtime.channel(other.topic).subscribe()
        seen.append(db.realtime.channel(other.topic).state)
        db.realtime.channel(table.topic).unsubscribe()
        seen.append(db.realtime.channel(table.topic).state)
        db.realtime.disconnect()
        seen.append(db.realtime.state)
        db.realtime.connect()
        seen.append(db.realtime.state)
        db.close()
        seen.append(db.realtime.state)
        done.set()

    db.realtime.channel(table.topic).on("INSERT", callback)
    db.realtime.connect()
    db.realtime.channel(table.topic).subscribe()
    table.insert(1)
    assert done.wait(30)
    assert seen == [1, "joined", "closed", "disconnected", "connected", "disconnected"]


SUBSCRIBED = """
import os, sys, time
from selfdb import SelfDB
from selfdb.realtime import Realtime

db = SelfDB(os.environ["URL"], os.environ["KEY"])
db.access_token = os.environ["TOKEN"]
db.realtime.connect()
channel = db.realtime.channel(os.environ["TOPIC"]).on("*", lambda payload: time.sleep(60))
channel.subscribe()
"""


def script(server: Any, http: Http, table: Table, text: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "URL": server.url, "KEY": server.api_key, "TOKEN": http.admin, "TOPIC": table.topic}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.Popen(
        [sys.executable, "-c", SUBSCRIBED + text],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("busy", [False, True])
def test_c119_a_subscription_does_not_hold_up_the_exit(server: Any, http: Http, table: Table, busy: bool) -> None:
    started = script(server, http, table, "print('ready', flush=True); sys.stdin.readline(); print('end', flush=True)")
    with started as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if busy:
            table.insert(1)  # a callback is in the middle of a minute's work
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "end\n"
        begun = time.monotonic()
        assert process.wait(60) == 0
        took = time.monotonic() - begun
        assert process.stdout.read() == ""
    assert took < 1.0 * SLACK
    print(f"ended within {took:.2f} s")


FORKED = """
got = []
channel.off("*").on("INSERT", lambda payload: got.append(payload.new["n"]))

def until(number):
    end = time.monotonic() + 15
    while number not in got:
        assert time.monotonic() < end, got
        time.sleep(0.01)

def say(text):
    os.write(1, (text + "\\n").encode())

say("ready")
until(1)
child = os.fork()
if child == 0:
    assert (db.realtime.state, channel.state) == ("disconnected", "closed")
    assert db.realtime.channel(channel.topic) is channel
    got.clear()
    db.realtime.connect()
    channel.subscribe()
    say("child")
    until(2)
    assert got == [2]
    db.close()
    say("child done")
    os._exit(0)
until(2)
assert os.waitpid(child, 0)[1] == 0
assert (db.realtime.state, channel.state) == ("connected", "joined")
say("parent")
until(3)
assert got == [1, 2, 3]
db.close()
say("parent done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_connects_anew_and_the_parent_goes_on(server: Any, http: Http, table: Table) -> None:
    with script(server, http, table, FORKED) as process:
        assert process.stdout is not None
        for number, word in enumerate(["ready", "child"], 1):
            line = process.stdout.readline()
            assert line == word + "\n", line + process.stdout.read()
            table.insert(number)
        line = process.stdout.readline()
        assert line == "child done\n", line + process.stdout.read()
        assert process.stdout.readline() == "parent\n"
        table.insert(3)
        rest = process.stdout.read()
        assert rest == "parent done\n", rest
        assert process.wait(60) == 0


def test_close_from_many_threads_at_once(server: Any, http: Http, table: Table) -> None:
    for _ in range(3):
        db = SelfDB(server.url, server.api_key)
        db.access_token = http.admin
        log = Log(db, table.topic)
        db.realtime.connect()
        log.channel.subscribe()
        took: List[float] = []
        go = threading.Barrier(8)

        def close(db: SelfDB = db, took: List[float] = took, go: threading.Barrier = go) -> None:
            go.wait()
            begun = time.monotonic()
            db.close()
            took.append(time.monotonic() - begun)

        threads = [threading.Thread(target=close) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(took) == 8
        assert max(took) < 2.0 * SLACK
        assert (db.realtime.state, log.channel.state) == ("disconnected", "closed")
        print(f"closed within {max(took):.3f} s")


def test_close_from_a_signal_handler(server: Any, http: Http, table: Table) -> None:
    """Whatever the main thread is at: the handler may interrupt it in any of its calls."""
    took: List[float] = []
    for attempt in range(10):
        db = SelfDB(server.url, server.api_key)
        db.access_token = http.admin
        channel = db.realtime.channel(table.topic).on("*", lambda payload: None)
        db.realtime.connect()

        def close(*_: Any, db: SelfDB = db) -> None:
            begun = time.monotonic()
            db.close()
            took.append(time.monotonic() - begun)

        before = signal.signal(signal.SIGALRM, close)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.002 + 0.003 * attempt)
            with pytest.raises((RealtimeError, RuntimeError)):
                while True:
                    channel.subscribe()
                    channel.unsubscribe()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            db.close()
        until(lambda db=db: db.realtime.state == "disconnected")  # type: ignore[misc]
    assert len(took) == 10
    assert max(took) < 2.0 * SLACK
    print(f"closed within {max(took):.3f} s")


def test_c120_events_go_on_when_the_token_ends(make_server: Callable[..., Any], backend: str) -> None:
    server = make_server(backend=backend, access_token_seconds=2)
    http = Http(server)
    with SelfDB(server.url, server.api_key) as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        table = Table.__new__(Table)  # made by the client, which renews its session if that ends meanwhile
        schema = {"n": {"type": "integer"}, "a": {"type": "text"}}
        made = db.tables.create(TableCreate(name="counted", table_schema=schema, public=True))
        db.tables.update(made.id, TableUpdate(realtime_enabled=True))
        table.http, table.name, table.id = http, made.name, made.id
        # Anyone may insert into a public table, so the writer needs no session that ends.
        table.bearer = None  # type: ignore[assignment]
        listener = Listener(db, table)
        tokens = {db.access_token}
        db.realtime.connect()
        listener.channel.subscribe()
        with Writer(table) as writer:
            end = time.monotonic() + 60
            while len(tokens) < 4:
                assert time.monotonic() < end
                listener.follows(writer, time.monotonic())
                tokens.add(db.access_token)
            listener.follows(writer, time.monotonic())
        listener.hears_the_last(writer)
        listener.check(numbers(table))
        until(lambda: listener.channel.state == "joined")  # it may be on its way to the next connection
        print(f"{listener.log.count(RESYNC)} gaps in {len(tokens)} tokens")


def test_c120_a_session_that_is_ended_is_final(server: Any, http: Http, table: Table) -> None:
    user, _ = http.new_user()
    with SelfDB(server.url, server.api_key) as db:
        db.auth.login(user["email"], "password123")
        log = Log(db, table.topic)
        states: List[str] = []
        db.realtime.on_state_change(states.append)
        db.realtime.connect()
        log.channel.subscribe()
        events = log.channel.events(timeout=15)
        assert db.access_token is not None
        begun = time.monotonic()
        # Elsewhere: this client's own tokens stay as they are.
        assert http.post("/users/logout/all", bearer=db.access_token).status_code == 200
        with pytest.raises(AuthenticationError):
            next(events)
        assert time.monotonic() - begun < 3.0 * SLACK
        until(lambda: db.realtime.state == "disconnected")
        assert log.channel.state == "closed"
        assert not log.channel.alive
        until(lambda: log.errors != [])
        assert [type(error) for error in log.errors] == [AuthenticationError]
        until(lambda: states[-1:] == ["disconnected"])
        with pytest.raises(AuthenticationError):
            db.realtime.connect()
        db.auth.login(user["email"], "password123")
        db.realtime.connect()
        log.channel.subscribe()
        row = table.insert(1)
        assert log.wait(1) == [["INSERT", table.name, row, None]]


def test_c121_who_may_read_no_longer_is_told_so(server: Any, http: Http, table: Table) -> None:
    _, token = http.new_user()
    with SelfDB(server.url, server.api_key) as stranger:
        stranger.access_token = token
        log = Log(stranger, table.topic)
        stranger.realtime.connect()
        log.channel.subscribe()
        # A write that fails is no event.
        assert http.post(f"/tables/{table.id}/data", json={"n": "x"}, bearer=http.admin).status_code == 400
        row = table.insert(1)
        assert log.wait(1) == [["INSERT", table.name, row, None]]
        table.change(public=False)
        until(lambda: log.channel.state == "closed")
        until(lambda: len(log.errors) == 1)
        assert isinstance(log.errors[0], RealtimeError)
        with pytest.raises(PermissionDeniedError):
            log.channel.subscribe()
        assert stranger.realtime.connected
        assert len(log.entries) == 1


@pytest.fixture
def clients(server: Any) -> Iterator[Callable[[], SelfDB]]:
    made: List[SelfDB] = []

    def new() -> SelfDB:
        made.append(SelfDB(server.url, server.api_key))
        return made[-1]

    yield new
    for db in made:
        db.close()


def test_c125_the_whole_of_it(clients: Callable[[], SelfDB], unique: Callable[..., str]) -> None:
    admin, user, nobody = clients(), clients(), clients()
    admin.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
    email = f"{unique('u')}@example.com"
    created = admin.auth.users.create(
        UserCreate(email=email, password="password123", firstName="Ada", lastName="Byron")
    )
    user.auth.login(email, "password123")
    assert user.auth.me().id == created.id

    # What is public: everyone adds, the owner changes.
    schema = {"title": {"type": "text", "nullable": False}}
    table = admin.tables.create(TableCreate(name=unique("t"), table_schema=schema, public=True))
    bucket = admin.storage.buckets.create(BucketCreate(name=unique("b"), public=True))
    row = user.tables.data.insert(table.id, {"title": "hers"})
    assert nobody.tables.data.fetch(table.id).data == [row]
    with pytest.raises(PermissionDeniedError):
        user.tables.data.update_row(table.id, row["id"], {"title": "new"})
    with pytest.raises(PermissionDeniedError):
        user.tables.data.delete_row(table.id, row["id"])
    with pytest.raises(PermissionDeniedError):
        user.tables.update(table.id, TableUpdate(public=False))
    uploaded = user.storage.files.upload(bucket.id, "note.txt", b"hello")
    assert uploaded.file_id is not None
    assert nobody.storage.files.download(bucket.name, "note.txt") == b"hello"

    # What is private: the owner alone.
    mine = user.tables.create(TableCreate(name=unique("t"), table_schema=schema, public=False))
    kept = user.tables.data.insert(mine.id, {"title": "one"})
    assert user.tables.data.update_row(mine.id, kept["id"], {"title": "two"})["title"] == "two"
    assert [found["title"] for found in user.tables.data.query(mine.id)] == ["two"]
    with pytest.raises(AuthenticationError):
        nobody.tables.data.fetch(mine.id)
    safe = user.storage.buckets.create(BucketCreate(name=unique("b")))
    user.storage.files.upload(safe.id, "secret.bin", b"\0\1\2")
    assert user.storage.files.download(safe.name, "secret.bin") == b"\0\1\2"
    with pytest.raises(AuthenticationError):
        nobody.storage.files.download(safe.name, "secret.bin")

    # Events of both.
    admin.tables.update(table.id, TableUpdate(realtime_enabled=True))
    user.tables.update(mine.id, TableUpdate(realtime_enabled=True))
    public, private = Log(user, f"table:{table.name}"), Log(user, f"table:{mine.name}")
    user.realtime.connect()
    public.channel.subscribe()
    private.channel.subscribe()
    added = admin.tables.data.insert(table.id, {"title": "his"})
    changed = admin.tables.data.update_row(table.id, added["id"], {"title": "his own"})
    admin.tables.data.delete_row(table.id, added["id"])
    user.tables.data.delete_row(mine.id, kept["id"])
    assert [entry[0] for entry in public.wait(3)] == ["INSERT", "UPDATE", "DELETE"]
    assert [entry[2:] for entry in public.entries] == [[added, None], [changed, added], [None, changed]]
    assert [entry[0] for entry in private.wait(1)] == ["DELETE"]
    public.channel.unsubscribe()
    private.channel.unsubscribe()
    user.realtime.disconnect()

    # And away with it.
    user.storage.files.delete(uploaded.file_id)
    for what in (safe, bucket):
        (admin if what is bucket else user).storage.buckets.delete(what.id)
    user.tables.delete(mine.id)
    admin.tables.delete(table.id)
    with pytest.raises(NotFoundError):
        admin.tables.get(table.id)
    user.auth.logout()
    with pytest.raises(AuthenticationError):
        user.auth.me()
    admin.auth.users.delete(created.id)
    with pytest.raises(NotFoundError):
        admin.auth.users.get(created.id)
