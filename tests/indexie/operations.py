"""Reads and writes as plain data, so that another thread or process can make them too, and chance can choose them."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from hypothesis import strategies as st

Document = Dict[str, Any]
Operation = Tuple[Any, ...]


def apply(db: Any, operation: Operation) -> None:
    """Make one write; one that is refused is as good as none."""
    from selfdb.indexie import IndexedDBError

    name, *given = operation
    try:
        if name == "together":
            db.transaction("rw", ["users"], lambda: [apply(db, each) for each in given[0]])
        elif name == "undone":
            _undone(db, given[0])
        elif name == "modify":
            db.users.where("age").above(given[0]).modify(given[1])
        elif name == "drop":
            db.users.where("name").equals(given[0]).delete()
        elif name == "update":
            db.users.update(given[0], given[1], missing="ignore")
        else:
            getattr(db.users, name)(*given)
    except IndexedDBError as error:
        if "constraint" not in type(error).__name__.lower() and "Bulk" not in type(error).__name__:
            raise


def _undone(db: Any, operations: List[Operation]) -> None:
    def fail() -> None:
        for each in operations:
            apply(db, each)
        raise LookupError

    try:
        db.transaction("rw", ["users"], fail)
    except LookupError:
        return


ids = st.integers(1, 6)
ages = st.one_of(st.integers(0, 9), st.sampled_from([4.5, "old", None, True]))
texts = st.sampled_from(["a", "ab", "b", "\U0010ffff", ""])
fields: Dict[str, st.SearchStrategy[Any]] = {
    "age": ages,
    "name": texts,
    "tags": st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
    "last": texts,
    "first": texts,
    "note": st.integers(0, 3),
}
documents = st.fixed_dictionaries({}, optional=fields)
rows = st.builds(lambda key, document: {"id": key, **document}, ids, documents)
single: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("put"), rows),
    st.tuples(st.just("put"), rows),
    st.tuples(st.just("add"), rows),
    st.tuples(st.just("update"), ids, documents),
    st.tuples(st.just("update"), ids, documents),
    st.tuples(st.just("delete"), ids),
    st.tuples(st.just("bulk_put"), st.lists(rows, max_size=3, unique_by=lambda row: row["id"])),
    st.tuples(st.just("bulk_delete"), st.lists(ids, max_size=3)),
    st.tuples(st.just("modify"), st.integers(0, 9), documents),
    st.tuples(st.just("drop"), texts),
)
operations: st.SearchStrategy[Operation] = st.one_of(
    single,
    single,
    st.tuples(st.just("together"), st.lists(single, min_size=1, max_size=4)),
    st.tuples(st.just("undone"), st.lists(single, min_size=1, max_size=3)),
)


class Read(NamedTuple):
    """A query, and what of a row decides whether it is concerned by it.

    :ivar of: which rows lie in what it reads.
    """

    what: str
    read: Callable[[Any], Any]
    of: Callable[[Document], bool]


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _over(value: Any, bound: Any) -> bool:
    """By key order: numbers, booleans, strings."""
    if isinstance(value, (bool, str)):
        return True
    return _number(value) and value > bound


reads: st.SearchStrategy[Read] = st.one_of(
    ids.map(lambda key: Read(f"get({key})", lambda db: db.users.get(key), lambda row: row["id"] == key)),
    st.just(Read("all", lambda db: db.users.to_array(), lambda row: True)),
    st.just(Read("count", lambda db: db.users.count(), lambda row: True)),
    st.lists(ids, max_size=3).map(
        lambda keys: Read(f"bulk_get({keys})", lambda db: db.users.bulk_get(keys), lambda row: row["id"] in keys)
    ),
    st.integers(0, 9).map(
        lambda age: Read(
            f"age > {age}",
            lambda db: db.users.where("age").above(age).to_array(),
            lambda row: _over(row.get("age"), age),
        )
    ),
    st.tuples(st.integers(0, 9), st.integers(0, 4)).map(
        lambda ends: Read(
            f"{ends[0]} <= age < +{ends[1]}",
            lambda db: db.users.where("age").between(ends[0], ends[0] + ends[1]).reverse().limit(2).to_array(),
            lambda row: _number(row.get("age")) and ends[0] <= row["age"] < ends[0] + ends[1],
        )
    ),
    texts.map(
        lambda text: Read(
            f"name = {text!r}",
            lambda db: db.users.where("name").equals(text).primary_keys(),
            lambda row: row.get("name") == text,
        )
    ),
    texts.map(
        lambda text: Read(
            f"name starts with {text!r}",
            lambda db: db.users.where("name").starts_with(text),
            lambda row: "name" in row and row["name"].startswith(text),
        )
    ),
    st.lists(st.sampled_from(["x", "y", "z"]), max_size=2).map(
        lambda tags: Read(
            f"tags {tags}",
            lambda db: db.users.where("tags").any_of(tags).distinct().count(),
            lambda row: bool(set(tags) & set(row.get("tags", ()))),
        )
    ),
    texts.map(
        lambda text: Read(
            f"last = {text!r}",
            lambda db: db.users.where("last").equals(text).to_array(),
            lambda row: row.get("last") == text and "first" in row,
        )
    ),
    st.tuples(texts, st.integers(0, 9)).map(
        lambda both: Read(
            f"name = {both[0]!r} or age < {both[1]}",
            lambda db: db.users.where("name").equals(both[0]).or_("age").below(both[1]).to_array(),
            lambda row: row.get("name") == both[0] or (_number(row.get("age")) and row["age"] < both[1]),
        )
    ),
    st.integers(0, 9).map(
        lambda age: Read(
            f"one that is over {age} and its namesakes",
            lambda db: _namesakes(db, age),
            lambda row: True,  # what it reads depends on what it has read
        )
    ),
)


def _namesakes(db: Any, age: int) -> Any:
    first = db.users.where("age").above(age).first()
    return first and db.users.where("name").equals(first.get("name", "")).to_array()
