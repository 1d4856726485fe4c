"""Any sequence of writes, overlays, commits and failures: every reader sees what a plain model says, each row once, and
what fails leaves everything as it was."""

from __future__ import annotations

import contextvars
import itertools
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, List, Optional

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from selfdb.indexie.database import Indexie
from selfdb.indexie.errors import BulkError, ConstraintError, HookError, WriteConflictError
from selfdb.indexie.file.lease import Lease
from selfdb.indexie.live.live import use_live_query
from selfdb.indexie.timing import Timing
from tests import soak
from tests.indexie import memory
from tests.indexie.kit import wait_until

STORES = {"rows": "id, &email, age, *tags"}
KEYS = st.integers(1, 4)
DOCUMENTS = st.fixed_dictionaries(
    {"age": st.integers(0, 3)},
    optional={"email": st.sampled_from("ab"), "tags": st.lists(st.sampled_from("xyz"), max_size=2)},
)
Rows = Dict[int, Optional[Dict[str, Any]]]


class Conflict(Exception):
    """The model's word for what a call raises."""


def clashes(rows: Rows) -> bool:
    emails = [row["email"] for row in rows.values() if row is not None and "email" in row]
    return len(emails) != len(set(emails))


def takes(row: Dict[str, Any], others: Rows) -> bool:
    """Whether a row has the e-mail of another one."""
    return "email" in row and any(
        other is not None and key != row["id"] and other.get("email") == row["email"] for key, other in others.items()
    )


class Model:
    """One overlay as it should be."""

    def __init__(self, optimistic: bool, conflict: str) -> None:
        self.optimistic = optimistic
        self.conflict = conflict
        self.rows: Rows = {}
        self.touched: Dict[int, int] = {}


class AnyOverlays(RuleBasedStateMachine):
    """The file and up to three overlays, beside a model of them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=memory.FOLDER)
        self.db = Indexie(Path(self.folder.name) / "x.indexie.db", timing=Timing(outbox_poll=0.01))
        self.db.version(1).stores(STORES)
        self.db.open()
        self.base: Rows = {}
        self.versions: Dict[int, int] = {}
        self.count = itertools.count(1)
        self.overlays: List[Any] = []
        self.fails = False
        for register in (self.db.rows.hook.on_add, self.db.rows.hook.on_update, self.db.rows.hook.on_delete):
            register(self.hook, name="hook")
        self.db.outbox.pause()
        self.expected = 0
        self.outbox = 0
        self.query = use_live_query(lambda: self.db.rows.where("age").between(1, 3).to_array())

    def hook(self, payload: Dict[str, Any]) -> None:
        if self.fails:
            raise OSError("no network")

    def teardown(self) -> None:
        assert self.db.integrity_check() == []
        self.query.close()
        self.db.close()
        self.folder.cleanup()

    # The model

    def stacked(self, own: Optional[Model] = None) -> Rows:
        rows = dict(self.base)
        for _, _, model in self.overlays:
            if model.optimistic and model is not own:
                rows.update(model.rows)
        if own is not None:
            rows.update(own.rows)
        return {key: rows[key] for key in sorted(rows) if rows[key] is not None}

    def under(self, model: Model) -> Rows:
        """What a write of an overlay stands on: the file and itself."""
        return {key: row for key, row in {**self.base, **model.rows}.items() if row is not None}

    def attempt(self, work: Callable[[], Any], expected: Optional[type]) -> None:
        if expected is None:
            work()
        else:
            with pytest.raises(expected):
                work()

    # Writes of the file

    @rule(key=KEYS, document=DOCUMENTS)
    def put(self, key: int, document: Dict[str, Any]) -> None:
        row = {"id": key, **document}
        after = {**self.base, key: row}
        if clashes(after):
            self.attempt(lambda: self.db.rows.put(row, silent=True), ConstraintError)
        else:
            self.db.rows.put(row, silent=True)
            self.store({key: row})

    @rule(key=KEYS)
    def delete(self, key: int) -> None:
        assert self.db.rows.delete(key, silent=True) is (self.base.get(key) is not None)
        self.store({key: None})

    def store(self, rows: Rows) -> None:
        for key, row in rows.items():
            if self.base.get(key) != row or list(self.base.get(key) or {}) != list(row or {}):
                self.versions[key] = next(self.count) if row is not None else 0
            self.base[key] = row

    # Overlays

    @precondition(lambda self: len(self.overlays) < 3)
    @rule(optimistic=st.booleans(), conflict=st.sampled_from(["error", "overwrite"]))
    def begin(self, optimistic: bool, conflict: str) -> None:
        tx = self.db.rows.start_transaction(optimistic=optimistic, conflict=conflict)
        context = contextvars.Context()
        context.run(tx.__enter__)
        self.overlays.append((tx, context, Model(optimistic, conflict)))

    def touch(self, model: Model, key: int, row: Optional[Dict[str, Any]]) -> None:
        model.touched.setdefault(key, self.versions.get(key, 0))
        model.rows[key] = row

    @precondition(lambda self: self.overlays)
    @rule(which=st.integers(0, 2), key=KEYS, document=DOCUMENTS)
    def put_over(self, which: int, key: int, document: Dict[str, Any]) -> None:
        _, context, model = self.overlays[which % len(self.overlays)]
        row = {"id": key, **document}
        under = self.under(model)
        if takes(row, under):
            self.attempt(lambda: context.run(self.db.rows.put, row), ConstraintError)
        else:
            context.run(self.db.rows.put, row)
            if under.get(key) != row or list(under[key] or {}) != list(row):
                self.touch(model, key, row)

    @precondition(lambda self: self.overlays)
    @rule(which=st.integers(0, 2), key=KEYS)
    def delete_over(self, which: int, key: int) -> None:
        _, context, model = self.overlays[which % len(self.overlays)]
        there = key in self.under(model)
        assert context.run(self.db.rows.delete, key) is there
        if there:
            self.touch(model, key, None)

    @precondition(lambda self: self.overlays)
    @rule(
        which=st.integers(0, 2), rows=st.lists(st.tuples(KEYS, DOCUMENTS), min_size=1, max_size=3), caught=st.booleans()
    )
    def bulk_over(self, which: int, rows: List[Any], caught: bool) -> None:
        """Good rows of a failing call stay, as within a transaction."""
        _, context, model = self.overlays[which % len(self.overlays)]
        good: Rows = {}
        failed = False
        for key, document in rows:
            row = {"id": key, **document}
            under = {key: row for key, row in {**self.under(model), **good}.items() if row is not None}
            if key in under or takes(row, under):
                failed = True
            else:
                good[key] = row
        items = [{"id": key, **document} for key, document in rows]
        self.attempt(lambda: context.run(self.db.rows.bulk_add, items), BulkError if failed else None)
        for key, good_row in good.items():
            self.touch(model, key, good_row)

    @precondition(lambda self: self.overlays)
    @rule(which=st.integers(0, 2), at=st.integers(0, 3))
    def raise_over(self, which: int, at: int) -> None:
        """A call that raises in its middle changes nothing."""
        _, context, model = self.overlays[which % len(self.overlays)]
        under = self.under(model)
        if clashes(under):
            return  # the file has changed under it so that each write of these rows is refused
        seen = itertools.count()

        def change(row: Dict[str, Any]) -> None:
            if next(seen) == at:
                raise ZeroDivisionError
            row["age"] = 3

        def work() -> None:
            context.run(self.db.rows.to_collection().modify, change)

        if len(under) > at:
            self.attempt(work, ZeroDivisionError)
        else:
            work()
            for key, row in under.items():
                assert row is not None
                if row["age"] != 3:
                    self.touch(model, key, {**row, "age": 3})

    @precondition(lambda self: self.overlays)
    @rule(which=st.integers(0, 2), fails=st.booleans())
    def commit(self, which: int, fails: bool) -> None:
        tx, context, model = self.overlays.pop(which % len(self.overlays))
        final = {**self.base, **model.rows}
        moved = [key for key in model.rows if self.versions.get(key, 0) != model.touched[key]]
        operations = len(tx.operations)
        expected: Optional[type] = None
        if moved and model.conflict == "error":
            expected = WriteConflictError
        elif clashes(final):
            expected = ConstraintError
        elif fails and model.optimistic and operations:
            expected = HookError
        self.fails = fails
        self.attempt(lambda: context.run(tx.commit), expected)
        self.fails = False
        if expected is None:
            self.store(model.rows)
            self.outbox += 0 if model.optimistic else operations
        else:
            context.run(tx.rollback)

    @precondition(lambda self: self.overlays)
    @rule(which=st.integers(0, 2))
    def roll_back(self, which: int) -> None:
        tx, context, _ = self.overlays.pop(which % len(self.overlays))
        context.run(tx.rollback)

    # What is seen

    @invariant()
    def everybody_sees_what_the_model_says(self) -> None:
        self.compare(contextvars.Context(), self.stacked())
        for _, context, model in self.overlays:
            self.compare(context, self.stacked(model))

    def compare(self, context: contextvars.Context, rows: Rows) -> None:
        table = self.db.rows
        expected = list(rows.values())
        assert context.run(table.to_array) == expected
        assert context.run(table.count) == len(expected)
        assert [context.run(table.get, key) for key in range(1, 5)] == [rows.get(key) for key in range(1, 5)]
        by_age = sorted(expected, key=lambda row: (row["age"], row["id"]))  # type: ignore[index]
        assert context.run(lambda: table.order_by("age").reverse().to_array()) == by_age[::-1]
        assert context.run(lambda: table.order_by("age").offset(1).limit(2).to_array()) == by_age[1:3]
        tags = [row for tag in "xy" for row in expected if tag in (row or {}).get("tags", ())]
        assert context.run(lambda: table.where("tags").any_of("x", "y").to_array()) == tags
        assert context.run(lambda: table.where("tags").any_of("x", "y").count()) == len(tags)

    @invariant()
    def live_queries_follow(self) -> None:
        assert self.query.settle(20)
        rows = [row for row in self.stacked().values() if row is not None and 1 <= row["age"] < 3]
        assert self.query.value == sorted(rows, key=lambda row: (row["age"], row["id"]))

    @invariant()
    def the_outbox_has_what_is_due(self) -> None:
        assert self.db.outbox.pending() == self.outbox


def test_i5_what_fails_leaves_everything_as_it_was() -> None:
    lives = soak.amount("SELFDB_IX_ANY_OVERLAYS", here=20, long=1500)
    run_state_machine_as_test(
        AnyOverlays,
        settings=settings(
            max_examples=lives,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    soak.figure("I5", f"{lives} lives of a file and three overlays: what failed left everything as it was")


# With threads: a reader in every moment of a commit


@pytest.fixture
def rows(make_db: Callable[..., Any]) -> Any:
    db = make_db({"rows": "id, age"}, timing=Timing(outbox_poll=0.01)).open()
    db.rows.bulk_add([{"id": number, "age": number} for number in range(6)])
    return db


READS: Dict[str, Callable[[Any], List[Any]]] = {
    "by key": lambda table: sorted(row["age"] for row in table.to_array()),
    "by index": lambda table: [row["age"] for row in table.order_by("age")],
    "by range": lambda table: [row["age"] for row in table.where("age").above(-1).to_array()],
    "one by one": lambda table: sorted(row["age"] for row in table.bulk_get(list(range(6)))),
    "keys": lambda table: sorted(table.to_collection().primary_keys()),
    "counted": lambda table: list(range(table.count())),
}


def turn(row: Dict[str, Any]) -> None:
    """Done to all rows at once, this leaves every age there once."""
    row["age"] = (row["age"] + 1) % 6


@pytest.mark.parametrize("read", sorted(READS))
def test_i3_readers_see_each_row_once_while_overlays_come_and_go(rows: Any, read: str) -> None:
    stop = threading.Event()
    wrong: List[Any] = []
    reads = [0]

    def look() -> None:
        try:
            while not stop.is_set():
                seen = READS[read](rows.rows)
                reads[0] += 1
                if seen != list(range(6)):
                    wrong.append(seen)
                    return
        except BaseException as error:
            wrong.append(error)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        wait_until(lambda: reads[0] or wrong)
        for number in range(soak.amount("SELFDB_IX_OVERLAYS", here=40, long=2000)):
            with rows.rows.start_transaction(optimistic=True) as tx:
                rows.rows.to_collection().modify(turn, silent=True)
                rows.rows.to_collection().modify(turn, silent=True)
                if number % 3:
                    tx.commit()
            if wrong:
                break
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert reads[0] > 0


@pytest.mark.parametrize("read", sorted(READS))
@pytest.mark.parametrize("moment", ["before the commit", "between commit and removal"])
def test_i3_a_read_that_begins_in_the_middle_of_a_commit(rows: Any, read: str, moment: str) -> None:
    """Stopped there, a commit lets no read see half of it."""
    seen: List[Any] = []
    publisher = rows._publisher
    reader = threading.Thread(target=lambda: seen.append(READS[read](rows.rows)))

    def begin() -> None:
        reader.start()
        reader.join(0.1)  # it waits for the commit, or it has seen all there is: either is right

    rows.rows.delete(5)
    with rows.rows.start_transaction(optimistic=True) as tx:
        rows.rows.add({"id": 5, "age": 5})
        rows.rows.to_collection().modify(turn)
        if moment == "before the commit":
            connection = rows._connections._writer
            commit = connection.commit

            def commit_after_reading() -> None:
                connection.commit = commit
                begin()
                commit()

            connection.commit = commit_after_reading
        else:
            remove = publisher.remove

            def remove_after_reading(layer: Any) -> Any:
                publisher.remove = remove
                begin()
                return remove(layer)

            publisher.remove = remove_after_reading
        tx.commit()
    reader.join(60)
    assert seen == [list(range(6))]


@pytest.mark.parametrize("read", sorted(READS))
def test_i3_a_commit_that_begins_in_the_middle_of_a_read(rows: Any, read: str) -> None:
    """A read that has its snapshot and not yet the overlays lets no commit pass."""
    seen: List[Any] = []
    begun, committed = threading.Event(), threading.Event()
    base = rows._base

    def slow_base(*given: Any) -> Any:
        snapshot = base(*given)
        if threading.current_thread() is reader and not begun.is_set():
            begun.set()
            committed.wait(0.2)  # it cannot be, before this read has all that it needs
        return snapshot

    reader = threading.Thread(target=lambda: seen.append(READS[read](rows.rows)))
    rows.rows.delete(5)
    with rows.rows.start_transaction(optimistic=True) as tx:
        rows.rows.add({"id": 5, "age": 5})
        rows.rows.to_collection().modify(turn)
        rows._base = slow_base
        reader.start()
        assert begun.wait(10)
        tx.commit()
        committed.set()
    reader.join(10)
    assert seen == [list(range(6))]


def test_i3_a_view_that_began_before_the_commit_keeps_what_it_saw(rows: Any) -> None:
    with rows.rows.start_transaction(optimistic=True) as tx:
        rows.rows.to_collection().modify(turn)
        before = contextvars.Context().run(rows._snapshot, Lease())
        store = rows._store("rows")
        tx.commit()
    with rows.rows.start_transaction(optimistic=True) as tx:
        rows.rows.to_collection().modify(turn)
        from selfdb.indexie.keys.ranges import EVERYTHING
        from selfdb.indexie.keys.values import load

        texts = [entry[2] for entry in before.scan(store, None, [EVERYTHING])]
        before.close()
    assert [load(text)["age"] for text in texts] == [1, 2, 3, 4, 5, 0]
