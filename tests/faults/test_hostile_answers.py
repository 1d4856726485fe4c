"""G17: whatever a server answers, each call gives what it promises or raises an error of ours, soon.

No secret is shown, and the client goes on afterwards.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfdb import SelfDB
from selfdb.exceptions import SelfDBError
from tests import soak
from tests.client.seed_calls import SEED_CALLS
from tests.client.seed_case import SeedCall
from tests.client.seed_run import MADE_UP
from tests.core.calls import ACCESS, API_KEY, REFRESH, reveals_nothing
from tests.faults import hostile
from tests.servers.scripted import Peer, ScriptedServer

pytestmark = pytest.mark.usefixtures("lane")

CALLS = [case for case in SEED_CALLS if not case.realtime]
LONGEST = 10.0
"""Seconds that no answer may hold a call; they take milliseconds."""

MORE: Dict[str, Callable[[SelfDB], Any]] = {
    "status": lambda db: db.status(),
    "wait_ready": lambda db: db.wait_ready(0.2),
    "users.iter": lambda db: _some(db.auth.users.iter(page_size=1)),
    "tables.iter": lambda db: _some(db.tables.iter(page_size=1)),
    "files.iter": lambda db: _some(db.storage.files.iter(page_size=1)),
    "rows": lambda db: _some(db.tables.data.query("t")),
    "pages": lambda db: _some(db.tables.data.query("t").pages()),
    "first": lambda db: db.tables.data.query("t").first(),
    "count of a query": lambda db: db.tables.data.query("t").count(),
    "stream": lambda db: _some(db.storage.files.stream("b", "f")),
}


def _some(items: Any) -> List[Any]:
    return [item for _, item in zip(range(100), items)]


class Hostile:
    """A server that gives one answer to all, and a client of it that holds tokens."""

    def __init__(self) -> None:
        self.answer = b""
        self.server = ScriptedServer(default=self._serve)
        self.db = SelfDB(self.server.url, API_KEY, max_retries=0, timeout=LONGEST)

    def _serve(self, peer: Peer) -> None:
        while True:
            peer.read_request()
            answer = self.answer
            peer.send(answer)
            if not answer.startswith(b"HTTP/1.1 200 Scripted\r\n"):
                return

    def hold(self) -> None:
        self.db.access_token = ACCESS
        self.db.refresh_token = REFRESH

    def meet(self, answer: bytes, call: Callable[[SelfDB], Any]) -> str:
        """Make ``call``; what came of it."""
        self.answer = answer
        self.hold()
        begun = time.monotonic()
        outcome, shown = "a value", 0
        try:
            call(self.db)
        except SelfDBError as error:
            outcome = type(error).__name__
            reveals_nothing(error)
            shown = len(str(error))
        assert shown < 6000, "nobody reads that much"
        assert time.monotonic() - begun < LONGEST
        return outcome


@pytest.fixture
def hostile_server() -> Iterator[Hostile]:
    made = Hostile()
    with made.server, contextlib.closing(made.db):
        yield made


def _call(case: SeedCall) -> Callable[[SelfDB], Any]:
    return lambda db: case.call(db, MADE_UP)


def _raw(case: SeedCall) -> Callable[[SelfDB], Any]:
    def call(db: SelfDB) -> Any:
        answer = case.call(db.with_raw_response, MADE_UP)
        assert str(answer).startswith("<RawResponse")
        with contextlib.suppress(SelfDBError):
            answer.json()
        return answer.parse()

    return call


def _all_calls() -> List[Tuple[str, Callable[[SelfDB], Any]]]:
    plain = [(case.id, _call(case)) for case in CALLS]
    raw = [(f"raw {case.id}", _raw(case)) for case in CALLS if not case.id.startswith(("query", "builder"))]
    return plain + [(name, call) for name, call in raw if _has_raw(call)] + list(MORE.items())


def _has_raw(call: Callable[[SelfDB], Any]) -> bool:
    db = SelfDB("http://127.0.0.1:9", "key", max_retries=0)
    try:
        db.access_token = ACCESS
        call(db)
    except AttributeError:
        return False
    except SelfDBError:
        pass
    finally:
        db.close()
    return True


EVERY_CALL = _all_calls()


def test_g17_the_table_of_calls_is_whole() -> None:
    assert len(CALLS) + sum(case.realtime for case in SEED_CALLS) == 56
    assert len(EVERY_CALL) > len(CALLS) + len(MORE) + 20


@pytest.mark.parametrize("what", list(hostile.HEADS))
def test_g17_heads_and_framings(what: str, hostile_server: Hostile) -> None:
    logging.disable(logging.CRITICAL)  # urllib3 tells what it could not read, which is none of ours
    try:
        for _, call in EVERY_CALL[:: 1 if soak.LONG else 9]:
            outcome = hostile_server.meet(hostile.HEADS[what], call)
            assert outcome != "a value" or what in ("a reason of NUL"), what
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("status", [200, 422, 500])
@pytest.mark.parametrize("what", list(hostile.BODIES))
def test_g17_bodies(what: str, status: int, hostile_server: Hostile) -> None:
    kinds = ["application/json", "text/html; charset=utf-7", "application/json; charset=utf-16", "x", ""]
    step = 1 if soak.LONG else 7 if status == 200 and not what.startswith("deep") else 25
    first = list(hostile.BODIES).index(what) % step  # so that each call meets every seventh of them
    for number, (_, call) in enumerate(EVERY_CALL[first::step]):
        hostile_server.meet(hostile.whole(hostile.BODIES[what], kinds[number % len(kinds)], status), call)


@pytest.mark.parametrize("case", CALLS, ids=[case.id for case in CALLS])
def test_g17_json_that_is_wrong_for_the_call(case: SeedCall, hostile_server: Hostile) -> None:
    reply = case.reply(MADE_UP)[1]
    if isinstance(reply, bytes):
        reply = {"message": "deleted", "deleted_id": "1"}
    count = soak.amount("SELFDB_ANSWERS", here=20, long=40)
    bodies = hostile.mutations(reply, count, soak.chance(f"answers to {case.id}"))
    raised = 0
    for body in bodies:
        raised += hostile_server.meet(hostile.whole(body), _call(case)) != "a value"
    sound = case.reply(MADE_UP)
    hostile_server.hold()
    body = sound[1] if isinstance(sound[1], bytes) else json.dumps(sound[1]).encode()
    hostile_server.answer = hostile.whole(body) if body else b"HTTP/1.1 204 No Content\r\n\r\n"
    assert case.expect(case.call(hostile_server.db, MADE_UP), MADE_UP), "the client goes on as if nothing had been"
    soak.figure("G17", f"{case.id}: {len(bodies)} answers that are wrong for it, {raised} refused, none slipped out")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["id", "9999-01-01", "\ud800"]),
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "data", "total", "name", "email", "message", "detail", "schema", "columns", "status", "type"]
            )
            | st.text(max_size=3),
            below,
            max_size=5,
        )
    ),
    max_leaves=12,
)


def test_g17_any_json_and_any_bytes(hostile_server: Hostile) -> None:
    @settings(
        max_examples=soak.amount("SELFDB_ANSWERS", here=20, long=40) * 5,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=60)), st.integers(0, 10**6))
    def run(body: bytes, which: int) -> None:
        _, call = EVERY_CALL[which % len(EVERY_CALL)]
        hostile_server.meet(hostile.whole(body, status=200), call)

    run()


def test_g17_any_bytes_for_a_head(hostile_server: Hostile) -> None:
    line = st.binary(max_size=20) | st.sampled_from(
        [
            b"Content-Length: 2",
            b"Content-Length:2,2",
            b"Transfer-Encoding: chunked",
            b"Content-Encoding: gzip",
            b"Location: http://[",
            b" folded",
            b"Connection: close",
            b"Retry-After: nan",
        ]
    )

    @settings(
        max_examples=soak.amount("SELFDB_ANSWERS", here=20, long=40) * 5,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.sampled_from([200, 201, 204, 301, 401, 404, 429, 503]), st.lists(line, max_size=4), st.binary(max_size=20)
    )
    def run(status: int, lines: List[bytes], body: bytes) -> None:
        head = b"\r\n".join([b"HTTP/1.1 %d X" % status, *lines, b"", b""])
        hostile_server.meet(head + body, EVERY_CALL[(status + len(lines)) % len(EVERY_CALL)][1])

    logging.disable(logging.CRITICAL)
    try:
        run()
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("what", ["users.iter", "tables.iter", "files.iter", "rows", "pages"])
def test_g17_pages_that_never_end(what: str, hostile_server: Hostile) -> None:
    one: Dict[str, Any] = {"id": "1", "name": "n", "email": "e", "path": "/n", "table_schema": {}}
    listed = what in ("users.iter", "tables.iter")
    reply = [one] * 3 if listed else {"data": [one] * 3, "total": 10**18, "page": 1, "page_size": 3}
    hostile_server.answer = hostile.whole(json.dumps(reply).encode())
    hostile_server.hold()
    db = hostile_server.db
    loops: Dict[str, Callable[[], Any]] = {
        "users.iter": db.auth.users.iter,
        "tables.iter": db.tables.iter,
        "files.iter": db.storage.files.iter,
        "rows": lambda: db.tables.data.query("t").page_size(3),
        "pages": lambda: db.tables.data.query("t").page_size(3).pages(),
    }
    with pytest.raises(SelfDBError, match="the same page again and again"):
        for _ in loops[what]():
            pass
    assert len(hostile_server.server.requests) < 20
