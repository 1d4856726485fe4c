"""Every call that the specification of Indexie shows, as a case of its own: a table for both faces."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from selfdb.indexie import IndexedDBError, Indexie, Strategy, WriteConflictError

NAME = "MyAppDatabase"

STORES_1 = {"users": "++id, &email, name, age", "todos": "++id, title, done", "oldStore": "++id"}
STORES_2 = {"users": "++id, &email, name, age", "logs": "++id, action"}

SUBSTITUTIONS: Dict[str, str] = {
    "from metafor.storage import ...": "the names come from selfdb.indexie, or selfdb.aio.indexie with await",
    "on_mount, create_effect, PTML": "the framework's own; here open() is awaited by whoever begins",
    'version 2: "users": "++id, &email, name"': "age stays, for later lines of the same page query it",
    "version 1 without oldStore": "it is declared, for the upgrade of version 2 drops it",
    "logs, undeclared": "version 2 declares it: a transaction lists only what there is",
    "fetch(...), api.post(...)": "a function of the test, which notes what it was given",
    "sync_electric(...)": "a source of rows from elsewhere is later work",
    "console.error(...)": "whatever a program does with the error",
    '.where("a").equals(1).or_("b").equals(2)': "age and name, which are indexes of the store",
}
"""What the specification writes, and what stands for it here, and why."""

ALICE = {"name": "Alice", "email": "alice@example.com", "age": 30}
ROWS: List[Dict[str, Any]] = [
    {"id": 1, **ALICE},
    {"id": 2, "name": "Bob", "email": "bob@example.com", "age": 17},
    {"id": 3, "name": "Ann", "email": "ann@example.com", "age": 41},
]
"""What is there before a call."""

MANY = [{"id": number, "name": f"n{number:02}", "email": f"e{number}", "age": number} for number in range(1, 26)]

Call = Callable[[Any, Any], Any]


class SeedCall(NamedTuple):
    """One call.

    :ivar call: makes it; gives its result, or on the awaitable face what is to be awaited for it. The second argument
        has what else is at hand: ``tx``, ``notes`` of hooks, ``fn``.
    :ivar check: whether the result is right, given the result, all users then, and what else is at hand.
    :ivar scene: where it stands: ``alone``, in an ``upgrade`` hook, in the function of a ``transaction``, in the block
        of an ``optimistic`` or a ``standard`` one; ``declaring`` before the database is opened, ``live`` within the
        function of a live query, ``block`` at the head of a block that writes and is left without a commit, ``hooked``
        beside hooks for everything, ``local_first`` and ``network_first`` beside one for new rows.
    :ivar before: calls of the scene that come first.
    :ivar rows: users that there are.
    :ivar awaited: whether the specification writes an ``await``.
    """

    id: str
    call: Call
    check: Callable[[Any, List[Dict[str, Any]], Any], bool]
    scene: str = "alone"
    before: Tuple[Call, ...] = ()
    rows: List[Dict[str, Any]] = ROWS
    awaited: bool = True


def gives(expected: Any) -> Callable[[Any, List[Dict[str, Any]], Any], bool]:
    """The result is ``expected``, and nothing was changed."""
    return lambda result, users, given: bool(result == expected) and users == ROWS


def changed(result: Any, *rows: Dict[str, Any]) -> Callable[[Any, List[Dict[str, Any]], Any], bool]:
    """The result, and all rows after the call."""
    return lambda given, users, _: bool(given == result) and users == list(rows)


def fails(given: Any, users: List[Dict[str, Any]], _: Any) -> bool:
    """An error that the specification's handler takes, and no row."""
    return isinstance(given, IndexedDBError) and users == ROWS


NEW = {"name": "Eve", "email": "eve@example.com", "age": 5}

SEED_CALLS: List[SeedCall] = [
    # Opening
    SeedCall("open", lambda db, given: db.open(), lambda result, users, given: result.is_open and result.verno == 2),
    SeedCall(
        "open in init_db",
        lambda db, given: given.fn(lambda: db.open())(),
        lambda result, users, given: bool(result.is_open),
    ),
    # Operations
    SeedCall("add", lambda db, given: db.users.add(NEW), changed(4, *ROWS, {"id": 4, **NEW})),
    SeedCall(
        "put",
        lambda db, given: db.users.put({"id": 1, "name": "Alice Updated"}),
        changed(1, {"id": 1, "name": "Alice Updated"}, *ROWS[1:]),
    ),
    SeedCall("get", lambda db, given: db.users.get(1), gives(ROWS[0])),
    SeedCall("to_array", lambda db, given: db.users.to_array(), gives(ROWS)),
    SeedCall("delete", lambda db, given: db.users.delete(1), changed(True, *ROWS[1:])),
    SeedCall("clear", lambda db, given: db.users.clear(), changed(3)),
    # Querying
    SeedCall(
        "find user by email",
        lambda db, given: db.users.where("email").equals("alice@example.com").first(),
        gives(ROWS[0]),
    ),
    SeedCall(
        "find all users named Alice",
        lambda db, given: db.users.where("name").equals("Alice").to_array(),
        gives([ROWS[0]]),
    ),
    SeedCall(
        "find users with age above 18",
        lambda db, given: db.users.where("age").above(18).to_array(),
        gives([ROWS[0], ROWS[2]]),
    ),
    SeedCall(
        "find users whose name starts with A",
        lambda db, given: db.users.where("name").starts_with("A").to_array(),
        gives([ROWS[0], ROWS[2]]),
    ),
    SeedCall(
        "second page, sorted by name, reversed",
        lambda db, given: db.users.order_by("name").reverse().offset(10).limit(10).to_array(),
        lambda result, users, given: [row["id"] for row in result] == [*range(15, 5, -1)],
        rows=MANY,
    ),
    SeedCall(
        "named Alice or older than 20",
        lambda db, given: db.users.where("name").equals("Alice").or_("age").above(20).to_array(),
        gives([ROWS[0], ROWS[2]]),
    ),
    # Transactions
    SeedCall(
        "transaction: add to users",
        lambda db, given: db.users.add({"name": "New User"}),
        changed(4, *ROWS, {"id": 4, "name": "New User"}),
        scene="transaction",
    ),
    SeedCall(
        "transaction: add to logs",
        lambda db, given: db.logs.add({"action": "User Created"}),
        gives(1),
        scene="transaction",
    ),
    SeedCall(
        "transaction",
        lambda db, given: db.transaction(
            Indexie.Mode.READ_WRITE,
            ["users", "logs"],
            given.fn(
                lambda: db.users.add({"name": "New User"}),
                lambda: db.logs.add({"action": "User Created"}),
            ),
        ),
        changed(1, *ROWS, {"id": 4, "name": "New User"}),
    ),
    # Partial updates
    SeedCall(
        "update", lambda db, given: db.users.update(1, {"age": 31}), changed(True, {**ROWS[0], "age": 31}, *ROWS[1:])
    ),
    # Error handling
    SeedCall("an add that fails", lambda db, given: given.caught(lambda: db.users.add({...})), fails),
    # Functional updates
    SeedCall(
        "update by a function",
        lambda db, given: db.users.update(1, lambda user: user.update({"age": user["age"] + 1})),
        changed(True, {**ROWS[0], "age": 31}, *ROWS[1:]),
    ),
    # Optimistic transactions
    SeedCall(
        "optimistic: add",
        lambda db, given: db.users.add(NEW),
        changed(4, *ROWS, {"id": 4, **NEW}),
        scene="optimistic",
    ),
    SeedCall(
        "optimistic: commit",
        lambda db, given: given.tx.commit(),
        lambda result, users, given: users == [*ROWS, {"id": 4, **NEW}] and given.notes == [("add", 4, "Eve", True)],
        scene="optimistic",
        before=(lambda db, given: db.users.add(NEW),),
    ),
    # Standard transactions
    SeedCall(
        "standard: update of the sender",
        lambda db, given: db.users.update(1, {"balance": 100 - 100}),
        changed(True, {**ROWS[0], "balance": 0}, *ROWS[1:]),
        scene="standard",
    ),
    SeedCall(
        "standard: update of the receiver",
        lambda db, given: db.users.update(2, {"balance": 0 + 100}),
        changed(True, ROWS[0], {**ROWS[1], "balance": 100}, ROWS[2]),
        scene="standard",
    ),
    SeedCall(
        "standard: commit",
        lambda db, given: given.tx.commit(),
        changed(None, {**ROWS[0], "balance": 0}, {**ROWS[1], "balance": 100}, ROWS[2]),
        scene="standard",
        before=(
            lambda db, given: db.users.update(1, {"balance": 0}),
            lambda db, given: db.users.update(2, {"balance": 100}),
        ),
    ),
    SeedCall(
        "standard: rollback of a commit that failed",
        lambda db, given: given.tx.rollback(),
        lambda result, users, given: (
            isinstance(given.error, WriteConflictError)
            and users == [{**ROWS[0], "name": "changed elsewhere"}, *ROWS[1:]]
        ),
        scene="standard",
        before=(
            lambda db, given: db.users.update(1, {"balance": 0}),
            lambda db, given: given.elsewhere(lambda other: other.users.update(1, {"name": "changed elsewhere"})),
            lambda db, given: given.caught(lambda: given.tx.commit()),
        ),
    ),
]
"""Calls that the specification writes down with their ``await``; those of later work are left out."""

LATER = ("sync_electric", "sync_electric with headers", "sync_electric with a client")
"""Awaited calls that are left out."""

OTHER_CALLS: List[SeedCall] = [
    SeedCall("constructor", lambda db, given: db, lambda result, users, given: result.name == NAME, awaited=False),
    SeedCall(
        "version and stores",
        lambda db, given: db.version(1).stores(STORES_1),
        lambda result, users, given: type(result).__name__ == "Version" and set(given.stores) == set(STORES_1),
        scene="declaring",
        awaited=False,
    ),
    SeedCall(
        "upgrade",
        lambda db, given: db.version(2).stores(STORES_2).upgrade(lambda txn: given.note((txn.mode, txn.active))),
        lambda result, users, given: (
            type(result).__name__ == "Version"
            and given.notes == [("rw", True)]
            and set(given.stores) == {*STORES_1, *STORES_2}
        ),
        scene="declaring",
        awaited=False,
    ),
    SeedCall(
        "drop",
        lambda db, given: db.oldStore.drop(),
        lambda result, users, given: "oldStore" not in given.stores and users == ROWS,
        scene="upgrade",
        awaited=False,
    ),
    SeedCall("below", lambda db, given: db.users.where("age").below(18).to_array(), gives([ROWS[1]])),
    SeedCall("count", lambda db, given: db.users.where("age").above(18).count(), gives(2)),
    SeedCall(
        "or_",
        lambda db, given: db.users.where("age").equals(17).or_("name").equals("Ann").to_array(),
        gives([ROWS[1], ROWS[2]]),
    ),
    SeedCall("limit", lambda db, given: db.users.limit(2).to_array(), gives(ROWS[:2])),
    SeedCall("offset", lambda db, given: db.users.offset(1).to_array(), gives(ROWS[1:])),
    SeedCall("reverse", lambda db, given: db.users.reverse().to_array(), gives(ROWS[::-1])),
    SeedCall("order_by", lambda db, given: db.users.order_by("age").to_array(), gives([ROWS[1], ROWS[0], ROWS[2]])),
    SeedCall(
        "each",
        lambda db, given: db.users.where("age").above(18).each(given.note),
        lambda result, users, given: result is None and given.notes == [ROWS[0], ROWS[2]],
    ),
    SeedCall(
        "use_live_query",
        lambda db, given: db.users.to_array(),
        lambda result, users, given: result == [*ROWS, {"id": 4, **NEW}],
        scene="live",
    ),
    SeedCall(
        "hook.on_add",
        lambda db, given: db.users.add(NEW),
        lambda result, users, given: given.notes == [("add", 4, "Eve", False)],
        scene="hooked",
    ),
    SeedCall(
        "hook.on_update",
        lambda db, given: db.users.update(1, {"name": "Al"}),
        lambda result, users, given: given.notes == [("update", 1, "Al", False)],
        scene="hooked",
    ),
    SeedCall(
        "hook.on_delete",
        lambda db, given: db.users.delete(1),
        lambda result, users, given: given.notes == [("delete", 1, None, False)],
        scene="hooked",
    ),
    SeedCall(
        "Strategy.LOCAL_FIRST",
        lambda db, given: given.strategy(db, Strategy.LOCAL_FIRST),
        lambda result, users, given: result is Strategy.LOCAL_FIRST,
        awaited=False,
    ),
    SeedCall(
        "Strategy.NETWORK_FIRST",
        lambda db, given: given.strategy(db, Strategy.NETWORK_FIRST),
        lambda result, users, given: result is Strategy.NETWORK_FIRST,
        awaited=False,
    ),
    SeedCall(
        "Strategy.LOCAL_FIRST: the row, then the hook",
        lambda db, given: db.users.add(NEW),
        lambda result, users, given: (
            result == 4 and given.notes == [("rows when the hook ran", 4)] and users == [*ROWS, {"id": 4, **NEW}]
        ),
        scene="local_first",
    ),
    SeedCall(
        "Strategy.NETWORK_FIRST: the hook, then the row",
        lambda db, given: db.users.add(NEW),
        lambda result, users, given: (
            result == 4 and given.notes == [("rows when the hook ran", 3)] and users == [*ROWS, {"id": 4, **NEW}]
        ),
        scene="network_first",
    ),
    SeedCall(
        "start_transaction(optimistic=True)",
        lambda db, given: db.users.start_transaction(optimistic=True),
        lambda result, users, given: (
            result is True and given.notes == [("shown before the commit", 4)] and users == ROWS
        ),
        scene="block",
        awaited=False,
    ),
    SeedCall(
        "start_transaction(optimistic=False)",
        lambda db, given: db.users.start_transaction(optimistic=False),
        lambda result, users, given: (
            result is False and given.notes == [("shown before the commit", 3)] and users == ROWS
        ),
        scene="block",
        awaited=False,
    ),
]
"""What it shows without one: declarations, and what its text lists."""


def note_of(payload: Dict[str, Any]) -> Tuple[str, Any, Any, bool]:
    """What a hook of these cases writes down."""
    item = payload["item"]
    return payload["op"], payload["key"], None if item is None else item["name"], payload["optimistic"]


def set_strategy(db: Any, strategy: Strategy) -> Strategy:
    """``db.users.strategy = ...``, and what it is then."""
    db.users.strategy = strategy
    found: Strategy = db.users.strategy
    return found


def at_hand() -> SimpleNamespace:
    """What calls find, but for what depends on the face."""
    notes: List[Any] = []
    return SimpleNamespace(notes=notes, note=notes.append, strategy=set_strategy, error=None, tx=None, stores=())
