"""Where live queries end: with who holds them, with the database, in a forked child, at the interpreter's exit."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import traceback
import weakref
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from selfdb.indexie import DatabaseClosedError, Timing, use_live_query
from tests.indexie.kit import SOON, Calls, Counted, feeding, wait_until


class TestHeld:
    def test_a_query_that_nobody_holds_closes_itself(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        watch = weakref.ref(query._watch)
        assert feeding()
        del query
        gc.collect()
        wait_until(lambda: not db._feed.listening and not feeding())
        wait_until(lambda: gc.collect() >= 0 and watch() is None)

    def test_one_with_subscribers_goes_on(self, db: Any) -> None:
        calls = Calls()
        use_live_query(lambda: db.users.count()).subscribe(calls)
        calls.wait(1)
        gc.collect()
        db.users.add({})
        assert calls.wait(2) == [0, 1]

    def test_until_the_last_of_them_leaves(self, db: Any) -> None:
        calls = [Calls(), Calls()]
        query = use_live_query(lambda: db.users.count())
        ends = [query.subscribe(each) for each in calls]
        del query
        for each in calls:
            each.wait(1)
        gc.collect()
        db.users.add({})
        for each in calls:
            each.wait(2)
        ends[0]()
        db.users.add({})
        calls[1].wait(3)
        ends[1]()
        ends[1]()
        wait_until(lambda: not db._feed.listening)
        assert len(calls[0].values) == 2

    def test_one_that_is_iterated_goes_on(self, db: Any) -> None:
        values = iter(use_live_query(lambda: db.users.count()))
        gc.collect()
        assert next(values) == 0
        db.users.add({})
        assert next(values) == 1

    def test_collected_in_the_middle_of_anything(self, db: Any) -> None:
        """Garbage is collected wherever something is allocated: in the feed too, with its lock held."""
        before = gc.get_threshold()
        gc.set_threshold(5)
        try:
            for _ in range(50):
                cycle: Dict[str, Any] = {"query": use_live_query(lambda: db.users.count())}
                cycle["self"] = cycle
                del cycle
                db.users.add({})
        finally:
            gc.set_threshold(*before)
        gc.collect()
        wait_until(lambda: not db._feed.listening)

    def test_a_database_that_nobody_holds_goes_too(self, path: Path) -> None:
        from selfdb.indexie import Indexie

        def used() -> Any:
            database = Indexie(path)
            database.version(1).stores({"notes": "++id"})
            assert use_live_query(lambda: database.notes.count()).value == 0
            return weakref.ref(database)

        there = used()
        wait_until(lambda: not feeding())
        wait_until(lambda: gc.collect() >= 0 and there() is None)  # a thread lets go of its own behind its end


class TestNobodyListens:
    def test_there_is_no_thread_and_no_poll(self, db: Any) -> None:
        assert not feeding()
        query = use_live_query(lambda: db.users.count())
        assert feeding()
        query.close()
        wait_until(lambda: not feeding())
        db.users.add({})
        assert not feeding()

    def test_a_later_query_begins_where_it_reads(self, db: Any) -> None:
        for count in range(3):
            function = Counted(lambda: db.users.count())
            with use_live_query(function) as query:
                assert query.value == count
                db.users.add({})
                assert query.wait_until(lambda value, count=count: value == count + 1, SOON)
                assert query.settle(SOON)
                assert function.runs == 2
            wait_until(lambda: not feeding())

    def test_queries_that_begin_together_miss_nothing(self, db: Any) -> None:
        """The first of them starts the feed from where it has read; others may have read before that."""
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                db.users.add({})

        writer = threading.Thread(target=write)
        writer.start()
        found = []

        def follow() -> None:
            found.append(use_live_query(lambda: db.users.count()))

        for _ in range(10):
            threads = [threading.Thread(target=follow) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if _ < 9:
                while found:
                    found.pop().close()
        stop.set()
        writer.join()
        for query in found:
            assert query.settle(SOON)
            assert query.value == db.users.count()
        assert len(found) == 4


class TestDatabase:
    def test_closing_it_closes_its_queries(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        calls = Calls()
        query.subscribe(calls)
        calls.wait(1)
        db.close()
        assert query.closed
        assert query.value == 0
        assert not feeding()
        with pytest.raises(DatabaseClosedError):
            query.wait_for_change(1)

    def test_in_the_middle_of_a_run(self, db: Any) -> None:
        entered, go_on = threading.Event(), threading.Event()
        slow = False

        def function() -> Any:
            if slow:
                db.users.get(1)
                entered.set()
                go_on.wait(SOON)
            return db.users.count()

        query = use_live_query(function)
        errors = Calls()
        query.subscribe(Calls(), on_error=errors)
        slow = True
        db.users.add({})
        assert entered.wait(SOON)
        threading.Timer(0.05, go_on.set).start()
        db.close()
        assert query.closed
        wait_until(lambda: not feeding())
        assert errors.values == []

    def test_in_the_middle_of_the_first_run(self, db: Any) -> None:
        def function() -> Any:
            rows = db.users.to_array()
            closer = threading.Thread(target=db.close)
            closer.start()
            closer.join(SOON)
            return rows

        with pytest.raises(DatabaseClosedError):
            use_live_query(function)
        assert not db._feed.listening
        assert not feeding()

    def test_in_the_middle_of_a_look_into_the_log(self, db: Any, monkeypatch: Any, caplog: Any) -> None:
        from selfdb.indexie.file.connection import Connection
        from selfdb.indexie.file.log import SINCE

        query = use_live_query(lambda: db.users.count())
        (feed,) = (thread for thread in threading.enumerate() if thread.name == "selfdb-indexie-live")
        rows_of, added = Connection.all, threading.Event()

        def closing(connection: Any, sql: str, *given: Any) -> Any:
            rows = rows_of(connection, sql, *given)
            if sql == SINCE and threading.current_thread() is feed:
                assert added.wait(SOON)  # a look that began before it would end it
                db.close()
            return rows

        monkeypatch.setattr(Connection, "all", closing)
        db.users.add({})
        added.set()
        feed.join(SOON)
        assert query.closed
        assert not feed.is_alive()
        assert [record for record in caplog.records if record.name.startswith("selfdb.indexie")] == []
        monkeypatch.undo()
        db.open()
        with use_live_query(lambda: db.users.count()) as another:
            db.users.add({})
            assert another.wait_until(lambda count: count == 2, SOON)

    def test_opened_again_it_has_live_queries_again(self, db: Any) -> None:
        for count in range(2):
            query = use_live_query(lambda: db.users.count())
            assert query.value == count
            db.users.add({})
            assert query.wait_until(lambda value, count=count: value > count, SOON)
            db.close()
            assert query.closed
            db.open()

    def test_a_callback_that_does_not_end_does_not_keep_it_open(self, make_db: Any) -> None:
        entered, go_on = threading.Event(), threading.Event()

        def callback(value: Any) -> None:
            entered.set()
            go_on.wait(60)

        database = make_db(timing=Timing(join=0.05)).open()
        query = use_live_query(lambda: database.users.count())
        query.subscribe(callback)
        assert entered.wait(SOON)
        database.close()
        assert not database.is_open
        assert feeding()
        database.open()
        again = use_live_query(lambda: database.users.count())
        database.users.add({})
        assert again.wait_until(lambda value: value == 1, SOON)
        again.close()
        go_on.set()
        wait_until(lambda: not feeding())

    def test_another_process_upgrades_the_file(self, db: Any, peer: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        peer().run(
            "from selfdb.indexie import Indexie\ndb = Indexie(path)\n"
            "db.version(1).stores({'users': '++id'})\ndb.version(2).stores({'users': '++id, name'})\n"
            "db.open()\ndb.close()"
        )
        wait_until(lambda: query.closed)
        assert not db.is_open
        wait_until(lambda: not feeding())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
class TestForked:
    def in_child(self, check: Callable[[], None]) -> None:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                check()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_the_childs_queries_are_closed_and_the_parents_go_on(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        calls = Calls()
        query.subscribe(calls)
        calls.wait(1)

        def check() -> None:
            assert query.closed
            assert query.value == 0
            with pytest.raises(DatabaseClosedError):
                query.wait_for_change(5)
            assert list(query) == []
            assert not db._feed.listening
            fresh = use_live_query(lambda: db.users.count())
            db.users.add({})
            assert fresh.wait_until(lambda value: value == 1, SOON) == 1
            fresh.close()
            assert calls.values == [0]

        self.in_child(check)
        assert query.wait_until(lambda value: value == 1, SOON) == 1
        assert not query.closed
        db.users.add({})
        assert calls.wait(3)[-1] == 2

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_though_another_thread_is_in_the_middle_of_something(self, db: Any) -> None:
        query = use_live_query(lambda: db.users.count())
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            with db._feed._lock, query._watch._lock:
                held.set()
                go_on.wait(SOON)

        def check() -> None:
            query.close()
            assert query.closed
            assert use_live_query(lambda: db.users.count()).settle(SOON)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(SOON)
        try:
            self.in_child(check)
        finally:
            go_on.set()
            holder.join()

    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_fork_inside_of_a_callback(self, db: Any) -> None:
        def check() -> None:
            assert query.closed
            assert not db._feed.runs_here()

        failed = Calls()
        query = use_live_query(lambda: db.users.count())
        calls = Calls(lambda value: self.in_child(check))
        query.subscribe(calls, on_error=failed)
        calls.wait(1)
        db.users.add({})
        calls.wait(2)
        assert failed.values == []


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("", id="with a query open"),
        pytest.param("import atexit; atexit.register(query.close)", id="closed at exit"),
        pytest.param("query.subscribe(lambda value: time.sleep(100)); time.sleep(0.2)", id="in a callback"),
        pytest.param("threading.Thread(target=lambda: list(query), daemon=True).start()", id="while iterated"),
    ],
)
def test_the_interpreter_can_go(path: Path, last: str) -> None:
    code = (
        "import pathlib, sys, threading, time\nfrom selfdb.indexie import Indexie, use_live_query\n"
        "db = Indexie(pathlib.Path(sys.argv[1]))\ndb.version(1).stores({'notes': '++id'})\n"
        "query = use_live_query(lambda: db.notes.count())\n"
        f"db.notes.add({{}})\n{last}\nprint('end')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=str(Path(__file__).parents[2]),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_the_poll_interval_is_kept(make_db: Any, monkeypatch: Any) -> None:
    """Nothing asks the file more often than it is told to, so that an idle program costs nothing."""
    from selfdb.indexie.live.feed import Feed

    looks = []
    look = Feed._look
    monkeypatch.setattr(Feed, "_look", lambda self: (looks.append(1), look(self))[1])
    database = make_db(timing=Timing(poll_interval=0.05)).open()
    query = use_live_query(lambda: database.users.count())
    assert query.settle(SOON)
    begun = time.monotonic()
    looks.clear()
    assert not query.wait_for_change(0.5)
    count, took = len(looks), time.monotonic() - begun
    assert count <= 2 + took / 0.05
    wait_until(lambda: looks)
