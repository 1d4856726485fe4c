"""Any writes, nested as deep as you like and failing wherever they may, and any query: against plain Python."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from selfdb.indexie import DELETE_FIELD, BulkError, ConstraintError, Indexie, ModifyError
from tests import soak

from . import memory
from .model import Clash, Store, compare

SCHEMA = "++id, &email, name, age, *tags, [name+age], address.city"
PLACES = ("one", "two")
"""Stores that threads write at the same time, one each."""


class Failed(Exception):
    """What ends a block that has to be undone."""


# What is written

KEYS = st.sampled_from([1, 2, 3, 4, 7, 2.5, "a", "b", b"k", [1, "x"], True])
NAMES = st.sampled_from(["", "a", "ab", "b", "\u00e9", "\U0010ffff", 1, 2, 1.5, None, True, b"a", ["a"], {"no": "key"}])
AGES = st.sampled_from([0, 1, 2, 3, 18, 1.0, "old", None])
EMAILS = st.sampled_from(["a@x", "b@x", "c@x", None])
TAGS = st.lists(st.sampled_from(["x", "y", "z", 1, 2, None, {"no": "key"}]), max_size=4)
FIELDS = {"name": NAMES, "age": AGES, "email": EMAILS, "tags": TAGS, "address": st.fixed_dictionaries({"city": NAMES})}

documents = st.fixed_dictionaries({}, optional={**FIELDS, "id": KEYS})
changes = st.fixed_dictionaries({}, optional=FIELDS).flatmap(
    lambda sets: st.tuples(st.just(sets), st.lists(st.sampled_from(sorted(FIELDS)), max_size=2, unique=True))
)


def edit(document: Any, change: Any) -> None:
    """The change of a document: fields to set, and fields to take away."""
    sets, gone = change
    document.update(sets)
    for name in gone:
        document.pop(name, None)


def as_changes(change: Any, as_function: bool) -> Any:
    if as_function:
        return lambda row: edit(row, change)
    return {**change[0], **dict.fromkeys(change[1], DELETE_FIELD)}


# What is asked

PATHS = (":id", "id", "name", "age", "email", "tags", "address.city", "[name+age]")
POINTS = st.sampled_from([0, 1, 2, 3, 1.5, 18, "", "a", "ab", "b", "x", "y", "a@x", "\u00e9", True, b"a", b"k", ["a"]])
PAIRS = st.tuples(st.sampled_from(["a", "ab", "b", 1, 2, True]), st.sampled_from([0, 1, 2, 18, "old"])).map(list)


@st.composite
def branches(draw: Callable[..., Any]) -> Any:
    """A path, a clause with its arguments, and what the clause means for an index key."""
    path = draw(st.sampled_from(PATHS))
    points = PAIRS if path == "[name+age]" else POINTS
    clause = draw(
        st.sampled_from(
            [
                "equals",
                "not_equal",
                "above",
                "above_or_equal",
                "below",
                "below_or_equal",
                "between",
                "any_of",
                "none_of",
            ]
            + ([] if path == "[name+age]" else ["starts_with"])
        )
    )
    if clause in ("any_of", "none_of"):
        values = draw(st.lists(points, max_size=4))
        is_one = lambda key: any(compare(key, value) == 0 for value in values)  # noqa: E731
        return path, clause, (values,), is_one if clause == "any_of" else lambda key: not is_one(key)
    if clause == "between":
        low, high, with_low, with_high = draw(points), draw(points), draw(st.booleans()), draw(st.booleans())

        def inside(key: Any) -> bool:
            lower, upper = compare(key, low), compare(key, high)
            return (lower > 0 or (with_low and lower == 0)) and (upper < 0 or (with_high and upper == 0))

        return path, clause, (low, high, with_low, with_high), inside
    if clause == "starts_with":
        prefix = draw(st.sampled_from(["", "a", "ab", "\U0010ffff", "zz"]))
        return path, clause, (prefix,), lambda key: isinstance(key, str) and key.startswith(prefix)
    value = draw(points)
    means: Dict[str, Callable[[int], bool]] = {
        "equals": lambda order: order == 0,
        "not_equal": lambda order: order != 0,
        "above": lambda order: order > 0,
        "above_or_equal": lambda order: order >= 0,
        "below": lambda order: order < 0,
        "below_or_equal": lambda order: order <= 0,
    }
    return path, clause, (value,), lambda key: means[clause](compare(key, value))


FILTERS: Tuple[Callable[[Any], Any], ...] = (
    lambda row: "email" in row,
    lambda row: len(row) % 2,
    lambda row: row["id"] != 1,
)

queries = st.fixed_dictionaries(
    {
        "branches": st.lists(branches(), min_size=1, max_size=3),
        "filters": st.lists(st.sampled_from(FILTERS), max_size=2),
        "reverse": st.booleans(),
        "order": st.sampled_from([None, None, "name", "age", "address.city", "nothing"]),
        "distinct": st.booleans(),
        "limit": st.sampled_from([None, None, 0, 1, 2, 5]),
        "offset": st.sampled_from([0, 0, 0, 1, 3]),
    }
)


def collection(table: Any, query: Dict[str, Any]) -> Any:
    """The query in the store's own words."""
    found = None
    for path, clause, arguments, _ in query["branches"]:
        where = table.where(path) if found is None else found.or_(path)
        found = getattr(where, clause)(*arguments)
    # Cuts before what they are carried out after: the order of the words must not matter.
    if query["limit"] is not None:
        found = found.limit(query["limit"])
    found = found.offset(query["offset"])
    if query["reverse"]:
        found = found.reverse()
    for accept in query["filters"]:
        found = found.filter(accept)
    if query["order"] is not None:
        found = found.order_by(query["order"])
    return found.distinct() if query["distinct"] else found


def modelled(query: Dict[str, Any]) -> Dict[str, Any]:
    return {**query, "branches": [(path, means) for path, _, _, means in query["branches"]]}


# Programs

writes = st.one_of(
    st.tuples(st.just("add"), documents),
    st.tuples(st.just("put"), documents),
    st.tuples(st.just("update"), KEYS, changes, st.booleans()),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("clear")),
    st.tuples(st.just("bulk_add"), st.lists(documents, max_size=5), st.booleans()),
    st.tuples(st.just("bulk_put"), st.lists(documents, max_size=5), st.booleans()),
    st.tuples(st.just("bulk_delete"), st.lists(KEYS, max_size=4)),
    st.tuples(st.just("modify"), queries, changes, st.booleans()),
    st.tuples(st.just("delete_found"), queries),
    st.tuples(st.just("find"), queries),
)
programs = st.recursive(
    writes,
    lambda inner: st.tuples(st.just("block"), st.lists(inner, max_size=4), st.booleans()),
    max_leaves=8,
)


def run(db: Any, table: Any, step: Any) -> Any:
    """Do one step in the store: what it returned, or the kind of its failure."""
    name, *arguments = step
    try:
        if name == "block":
            steps, fails = arguments

            def block() -> List[Any]:
                results = [run(db, table, each) for each in steps]
                if fails:
                    raise Failed
                return results

            return db.transaction("rw", table, block)
        if name == "update":
            key, change, as_function = arguments
            return table.update(key, as_changes(change, as_function), missing="ignore")
        if name in ("bulk_add", "bulk_put"):
            return getattr(table, name)(arguments[0], all_keys=True, partial=arguments[1])
        if name == "modify":
            return collection(table, arguments[0]).modify(as_changes(arguments[1], arguments[2]))
        if name == "delete_found":
            return collection(table, arguments[0]).delete()
        if name == "find":
            return look(collection(table, arguments[0]))
        return getattr(table, name)(*arguments)
    except ConstraintError as error:
        return "clash", error.index
    except BulkError as error:
        return "bulk", sorted(error.failures_by_pos), error.success_count
    except ModifyError as error:
        return "modify", len(error.failures), error.success_count
    except Failed:
        return "failed"


def look(found: Any) -> Any:
    """All that a collection can be asked."""
    rows = found.to_array()
    assert [row for _, row in found.items()] == rows == list(found)
    assert found.count() == len(rows)
    assert found.first() == (rows[0] if rows else None)
    assert found.last() == (rows[-1] if rows else None)
    return found.keys(), found.primary_keys(), rows


def run_modelled(store: Store, step: Any, explicit: bool = False) -> Any:
    """The same in the model."""
    name, *arguments = step
    before = store.copy()

    def back() -> None:
        store.rows, store.next = before.rows, before.next

    if name == "block":
        steps, fails = arguments
        results = [run_modelled(store, each, True) for each in steps]
        if fails:
            back()
            return "failed"
        return results
    if name == "find":
        found = store.find(modelled(arguments[0]))
        return [entry[0] for entry in found], [entry[1] for entry in found], [entry[2] for entry in found]
    if name in ("add", "put", "update"):
        try:
            if name == "update":
                key, change, _ = arguments
                return store.update(key, lambda row: edit(row, change))
            return getattr(store, name)(*arguments)
        except Clash as error:
            return "clash", error.args[0]
    if name == "delete":
        return store.delete(*arguments)
    if name == "clear":
        count, store.rows = len(store.rows), []
        return count
    if name == "bulk_delete":
        return sum(map(store.delete, arguments[0]))
    if name in ("bulk_add", "bulk_put"):
        return _bulk(store, name[5:], arguments[0], explicit or arguments[1], back)
    found = [key for _, key, _ in store.find({**modelled(arguments[0])})]
    keys = [key for at, key in enumerate(found) if not any(compare(key, other) == 0 for other in found[:at])]
    if name == "delete_found":
        return sum(map(store.delete, keys))
    failures = 0
    for key in keys:
        try:
            store.update(key, lambda row: edit(row, arguments[1]))
        except Clash:
            failures += 1
    if failures and not explicit:
        back()
    return ("modify", failures, len(keys) - failures) if failures else len(keys)


def _bulk(store: Store, write: str, rows: Any, partial: bool, back: Callable[[], None]) -> Any:
    keys, failures = [], []
    for position, document in enumerate(rows):
        try:
            keys.append(getattr(store, write)(document))
        except Clash:
            failures.append(position)
    if not failures:
        return keys
    if not partial:
        back()
    return "bulk", failures, len(keys)


class AnyWritesAndQueries(RuleBasedStateMachine):
    """Each place has a model of its own, so that what threads do at the same time has one outcome only."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(dir=memory.FOLDER)
        self.db: Any = Indexie(Path(self.folder) / "any.db")
        self.db.version(1).stores({**dict.fromkeys(PLACES, SCHEMA), "batches": "[batch+n], batch"})
        self.db.open()
        self.stores = {place: Store() for place in PLACES}
        self.batches: List[int] = []

    def teardown(self) -> None:
        try:
            assert self.db.integrity_check() == []
        finally:
            self.db.close()
            shutil.rmtree(self.folder)

    @rule(step=programs)
    def one_after_the_other(self, step: Any) -> None:
        place = PLACES[0]
        assert run(self.db, self.db[place], step) == run_modelled(self.stores[place], step)

    @rule(query=queries)
    def ask(self, query: Any) -> None:
        for place in PLACES:
            assert run(self.db, self.db[place], ("find", query)) == run_modelled(self.stores[place], ("find", query))

    @rule(steps=st.tuples(*(st.lists(programs, min_size=1, max_size=3) for _ in PLACES)), fails=st.booleans())
    def at_the_same_time(self, steps: Any, fails: bool) -> None:
        """Each thread writes its place, then a batch into the store of all, which others see whole or not at all."""
        results: Dict[str, Any] = {}
        first = len(self.batches)
        over = threading.Event()

        def write(place: str, number: int) -> None:
            results[place] = [run(self.db, self.db[place], step) for step in steps[number]]
            batch = first + number
            rows = [{"batch": batch, "n": n} for n in range(4)]
            if fails and number:
                # It fails at its end: by a row that exists, or by what the block raises.
                results["batch"] = run(self.db, self.db.batches, ("bulk_add", [*rows, rows[0]], False))
                block = ("block", [("bulk_put", rows, False)], True)
                results["block"] = run(self.db, self.db.batches, block)
            else:
                self.db.batches.bulk_add(rows)

        def read() -> None:
            torn = []
            while not over.is_set():
                found = [row["batch"] for row in self.db.batches.to_array()]
                torn += [batch for batch in set(found) if found.count(batch) != 4]
            results["torn"] = torn

        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=write, args=(place, at)) for at, place in enumerate(PLACES)]
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        over.set()
        reader.join()
        assert results["torn"] == []
        if fails:
            assert results["batch"] == ("bulk", [4], 4)
            assert results["block"] == "failed"
        self.batches += [first] if fails else [first, first + 1]
        for at, place in enumerate(PLACES):
            assert results[place] == [run_modelled(self.stores[place], step) for step in steps[at]]
        stored = [row["batch"] for row in self.db.batches.to_array()]
        if fails:
            self.db.batches.bulk_add([{"batch": first + 1, "n": n} for n in range(4)])
            self.batches.append(first + 1)
        assert stored == sorted(4 * [batch for batch in self.batches if not (fails and batch == first + 1)])

    @invariant()
    def all_rows_are_there(self) -> None:
        for place, store in self.stores.items():
            rows = sorted(store.rows, key=lambda row: _key(row[0]))
            assert self.db[place].to_collection().items() == [(key, document) for key, document in rows]


def _key(value: Any) -> Any:
    from .model import KEY

    return KEY(value)


EXAMPLES = soak.amount("SELFDB_IX_ANY_PROGRAMS", here=25, long=1500)


class TestAnyWritesAndQueries(AnyWritesAndQueries.TestCase):  # type: ignore[misc]
    @classmethod
    def tearDownClass(cls) -> None:
        soak.figure(
            "I1", f"{EXAMPLES} lives of stores under any writes, nested and failing, and any queries: as the model"
        )


TestAnyWritesAndQueries.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=12,
    deadline=None,
    # Each attempt makes a file: a shorter example would take longer than anybody waits.
    phases=[phase for phase in Phase if phase is not Phase.shrink and phase is not Phase.explain],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
