"""Following a query: first the rows, then each change once, and after a gap exactly the difference."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfdb import SelfDB
from selfdb.exceptions import APIConnectionError, InvalidRequestError, NotFoundError, RealtimeError
from selfdb.models import RealtimePayload
from selfdb.realtime import follow
from selfdb.realtime.events import EventStream
from selfdb.realtime.follow import Follower
from selfdb.realtime.payloads import resync_mark

Row = Dict[str, Any]
MARK = resync_mark("table:orders")


class Page:
    def __init__(self, rows: List[Row], total: int) -> None:
        self.data = rows
        self.total = total


class Table:
    """Rows by id, and the query for all of them; ``between`` is called between two pages."""

    whole = True

    def __init__(self, rows: int = 0, size: int = 2) -> None:
        self.rows: Dict[Any, Row] = {}
        self.size = size
        self.moment = 0
        self.reads = 0
        self.between: Callable[[int], Any] = lambda number: None
        self.failures: List[Exception] = []
        self.stream = EventStream(0.0, 1000, marks=True, forget=lambda stream: None, forbidden_here=lambda: False)
        for number in range(rows):
            self.put(number, tell=False)

    def put(self, key: Any, *, tell: bool = True) -> Row:
        self.moment += 1
        old = self.rows.get(key)
        new = self.rows[key] = {"id": key, "n": self.moment, "updated_at": f"{self.moment:08}"}
        if tell:
            self.say("INSERT" if old is None else "UPDATE", new, old)
        return new

    def delete(self, key: Any, *, tell: bool = True) -> None:
        self.moment += 1
        old = self.rows.pop(key, None)
        if old is not None and tell:
            self.say("DELETE", None, old)

    def say(self, name: str, new: Optional[Row], old: Optional[Row]) -> None:
        raw = {"event": name, "table": "orders", "new": new, "old": old}
        self.stream.put(RealtimePayload(name, "orders", new, old, raw), MARK)

    def gap(self) -> None:
        self.stream.put(MARK, MARK)

    def pages(self) -> Iterator[Page]:
        self.reads += 1
        if self.failures:
            raise self.failures.pop(0)
        number = 0
        while True:
            rows = [dict(self.rows[key]) for key in sorted(self.rows)]
            part = rows[number * self.size : (number + 1) * self.size]
            yield Page(part, len(rows))
            number += 1
            self.between(number)
            if number * self.size >= len(rows):
                return

    def follow(self, **options: Any) -> Follower:
        return Follower(self.stream, self, options.get("key", "id"), "orders")


def given_by(follower: Iterator[RealtimePayload]) -> List[Any]:
    return [(event.event, (event.new or event.old or {}).get("id")) for event in follower]


def test_first_the_rows_then_the_changes() -> None:
    table = Table(3)
    follower = table.follow()
    first = [next(follower) for _ in range(3)]
    assert [(event.event, event.new["id"] if event.new else None, event.old) for event in first] == [
        ("INSERT", 0, None),
        ("INSERT", 1, None),
        ("INSERT", 2, None),
    ]
    table.put(3)
    table.put(0)
    table.delete(1)
    assert given_by(follower) == [("INSERT", 3), ("UPDATE", 0), ("DELETE", 1)]


def test_what_was_read_already_is_not_given_again() -> None:
    table = Table()
    table.put(1)
    table.put(1)
    table.put(2)
    table.delete(3)
    assert given_by(table.follow()) == [("INSERT", 1), ("INSERT", 2)]


def test_after_a_gap_the_difference() -> None:
    table = Table(3)
    follower = table.follow()
    for _ in range(3):
        next(follower)
    table.put(0, tell=False)
    table.delete(1, tell=False)
    table.put(9, tell=False)
    table.gap()
    table.put(2)
    found = list(follower)
    assert sorted((event.event, (event.new or event.old or {})["id"]) for event in found) == [
        ("DELETE", 1),
        ("INSERT", 9),
        ("UPDATE", 0),
        ("UPDATE", 2),
    ]
    deleted = next(event for event in found if event.event == "DELETE")
    assert deleted.raw == {"event": "DELETE", "table": "orders", "new": None, "old": deleted.old}


def test_a_row_that_changes_its_key_is_another_row() -> None:
    table = Table(1)
    follower = table.follow()
    next(follower)
    table.say("UPDATE", {"id": 5, "updated_at": "99999999"}, {"id": 0})
    table.say("UPDATE", {"id": 7, "updated_at": "99999999"}, {"id": 6})
    assert given_by(follower) == [("DELETE", 0), ("INSERT", 5), ("INSERT", 7)]


def test_events_that_say_nothing_are_passed_over() -> None:
    table = Table()
    follower = table.follow()
    table.say("DELETE", None, None)
    table.say("DELETE", None, {"id": 77})
    table.say("SHOUT", None, None)
    assert list(follower) == []


def test_an_older_row_does_not_come_back() -> None:
    table = Table(1)
    follower = table.follow()
    next(follower)
    new = table.put(0)
    table.say("UPDATE", {**new, "n": -1, "updated_at": "00000000"}, None)
    assert given_by(follower) == [("UPDATE", 0)]


def test_keys_of_any_kind_and_models_as_rows() -> None:
    class Model:
        def model_dump(self, mode: str) -> Row:
            return {"id": ["a", 1]}

    table = Table()
    table.pages = lambda: iter([Page([Model()], 1)])  # type: ignore[method-assign,list-item]
    follower = table.follow()
    assert next(follower).new == {"id": ["a", 1]}
    table.say("DELETE", None, {"id": ["a", 1]})
    assert next(follower).old == {"id": ["a", 1]}


def test_rows_without_the_key_are_a_mistake() -> None:
    table = Table(1)
    with pytest.raises(InvalidRequestError, match="other"):
        next(table.follow(key="other"))
    assert table.stream.ended


def test_changes_between_two_pages_are_noticed() -> None:
    table = Table(6)

    def delete_first(number: int) -> None:
        if table.reads == 1 and number == 1:
            table.delete(0)

    table.between = delete_first
    found = given_by(table.follow())
    assert table.reads == 2
    rows = set()
    for name, key in found:
        rows.discard(key) if name == "DELETE" else rows.add(key)
    assert rows == {1, 2, 3, 4, 5}


def test_a_table_that_never_stands_still_comes_right_by_its_events() -> None:
    table = Table(6)
    table.between = lambda number: table.put(number % 6)
    follower = table.follow()
    mirror = mirrored(follower)
    assert table.reads == follow.MAX_PASSES
    assert mirror == table.rows


def mirrored(follower: Iterator[RealtimePayload]) -> Dict[Any, Row]:
    """The rows as a program that applies each event would have them; each event has to fit."""
    mirror: Dict[Any, Row] = {}
    for event in follower:
        if event.event == "DELETE":
            assert event.old is not None
            assert mirror.pop(event.old["id"]) == event.old
        else:
            assert event.new is not None
            assert (event.event == "INSERT") is (event.new["id"] not in mirror)
            assert mirror.get(event.new["id"]) == event.old
            mirror[event.new["id"]] = event.new
    return mirror


steps = st.lists(
    st.tuples(st.sampled_from(["put", "put", "delete", "lost put", "lost delete", "gap"]), st.integers(0, 4)),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 5), steps, steps)
def test_r23_whatever_is_lost_repeated_or_late_it_converges(rows: int, before: Any, after: Any) -> None:
    table = Table(rows)

    def play(script: Any) -> None:
        for what, key in script:
            if what == "gap":
                table.gap()
            elif what.endswith("put"):
                table.put(key, tell=what == "put")
            else:
                table.delete(key, tell=what == "delete")

    play(before)
    follower = table.follow()
    play(after)
    table.gap()  # what was lost was lost with a connection, and that is marked
    assert mirrored(follower) == table.rows


def test_the_server_may_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PAUSES", (0.0,))
    table = Table(2)
    table.failures = [APIConnectionError("away"), APIConnectionError("still away")]
    assert given_by(table.follow()) == [("INSERT", 0), ("INSERT", 1)]


def test_a_loop_that_is_ended_while_the_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(2)
    follower = table.follow()
    next(follower), next(follower)
    table.gap()
    table.failures = [APIConnectionError("away")] * 100
    table.stream.end()
    assert given_by(follower) == []


def test_other_errors_are_raised() -> None:
    table = Table(2)
    table.failures = [NotFoundError("gone")]
    with pytest.raises(NotFoundError):
        next(table.follow())


def test_the_channel_that_is_closed_raises_in_the_loop() -> None:
    table = Table(1)
    follower = table.follow()
    next(follower)
    table.stream.end(RealtimeError("the server closed the channel"))
    with pytest.raises(RealtimeError):
        next(follower)
    assert list(follower) == []


def test_with_and_close() -> None:
    table = Table(1)
    with table.follow() as follower:
        assert iter(follower) is follower
        next(follower)
    follower.close()
    assert list(follower) == []
    assert table.stream.ended


def test_r27_a_query_with_search_or_page_is_refused_before_anything_is_sent() -> None:
    with SelfDB("http://127.0.0.1:9", "key") as db:
        query = db.tables.data.query("t")
        channel = db.realtime.channel("table:t")
        for narrowed in (query.search("x"), query.page(2)):
            with pytest.raises(InvalidRequestError, match="search and page"):
                channel.follow(narrowed)
            with pytest.raises(InvalidRequestError):
                Follower(Table().stream, narrowed, "id", "t")
        assert channel.state == "closed"
        assert channel._handlers.idle


def test_it_tells_when_all_that_was_there_was_given() -> None:
    table = Table(rows=3)
    with Follower(table.stream, table, "id", "orders") as follower:
        seen = [(next(follower).event, follower.caught_up) for _ in range(3)]
        assert seen == [("INSERT", False), ("INSERT", False), ("INSERT", True)]
        assert sorted(row["id"] for row in follower.rows) == [0, 1, 2]
        table.put(3)
        assert next(follower).new == table.rows[3]
        assert follower.caught_up
        for key in (0, 1):
            table.delete(key, tell=False)
        table.stream.put(MARK, MARK)
        assert [(next(follower).event, follower.caught_up) for _ in range(2)] == [("DELETE", False), ("DELETE", True)]
        assert sorted(row["id"] for row in follower.rows) == [2, 3]


def test_it_is_closed_from_another_thread_while_it_waits() -> None:
    table = Table(rows=1)
    table.stream.timeout = None
    follower = Follower(table.stream, table, "id", "orders")
    next(follower)
    over = threading.Event()

    def wait() -> None:
        assert list(follower) == []
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    follower.close()
    assert over.wait(60)
