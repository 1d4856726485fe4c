"""The outbox in SQL: its tables, and each step of an entry's life as a function on a connection in a transaction.

`_ix_outbox` has one row for each operation that hooks are to be told of. `_ix_duty` has one row for each hook that an
entry still requires; an entry whose last duty is gone is done, and is deleted with it. A dead entry has no duties, so
that it holds up nothing; the hooks that it lacked stand in it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Tuple

from ..file import log
from ..schema.specs import EncodedKey

if TYPE_CHECKING:
    from ..file.connection import Connection

__all__ = [
    "TABLES",
    "New",
    "Post",
    "Stored",
    "announce",
    "append",
    "bury",
    "catalogue",
    "claim",
    "concerns",
    "delay",
    "drop",
    "due",
    "entries",
    "fetch",
    "finish",
    "forget",
    "leased",
    "number",
    "pending",
    "renew",
    "report",
    "retire",
    "revive",
    "unreported",
]

Post = Tuple[str, str, str]
"""Where a hook stands: store, operation, its name."""

TABLES: Tuple[str, ...] = (
    "CREATE TABLE _ix_outbox ("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, operation TEXT NOT NULL, store TEXT NOT NULL, op TEXT NOT NULL, k, "
    "item TEXT, old TEXT, cleared INTEGER NOT NULL, optimistic INTEGER NOT NULL, created REAL NOT NULL, "
    "attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL, state TEXT NOT NULL DEFAULT 'ready', last_error TEXT, "
    "token TEXT, leased REAL NOT NULL DEFAULT 0, lacking TEXT, reported INTEGER NOT NULL DEFAULT 0)",
    "CREATE INDEX _ix_outbox_due ON _ix_outbox (state, next_at, id)",
    "CREATE INDEX _ix_outbox_store ON _ix_outbox (store)",
    "CREATE INDEX _ix_outbox_leased ON _ix_outbox (leased) WHERE leased > 0",
    "CREATE TABLE _ix_duty (entry INTEGER NOT NULL, hook TEXT NOT NULL, store TEXT NOT NULL, op TEXT NOT NULL, k, "
    "cleared INTEGER NOT NULL, PRIMARY KEY (entry, hook)) WITHOUT ROWID",
    "CREATE INDEX _ix_duty_line ON _ix_duty (store, k, entry)",
    "CREATE INDEX _ix_duty_barrier ON _ix_duty (store, entry) WHERE cleared",
)
"""What a new file gets. ``k`` is a key as the stores hold it, ``NULL`` where a whole store was cleared."""

_COLUMNS = (
    "id, operation, store, op, k, item, old, cleared, optimistic, created, attempts, next_at, state, last_error, "
    "token, leased, lacking"
)


class Stored(NamedTuple):
    """One row of ``_ix_outbox``, as it stands there."""

    id: int
    operation: str
    store: str
    op: str
    key: Optional[EncodedKey]
    item: Optional[str]
    old: Optional[str]
    cleared: int
    optimistic: int
    created: float
    attempts: int
    next_at: float
    state: str
    last_error: Optional[str]
    token: Optional[str]
    leased: float
    lacking: Optional[str]


class New(NamedTuple):
    """An entry to be made, and the hooks that it requires."""

    operation: str
    store: str
    op: str
    key: Optional[EncodedKey]
    item: Optional[str]
    old: Optional[str]
    cleared: bool
    optimistic: bool
    created: float
    hooks: Tuple[str, ...]


# The catalogue of hooks


def number(connection: Connection) -> int:
    """How often the catalogue has changed."""
    return int(connection.execute(log.NEWEST).fetchone()[3])


def _changed(connection: Connection) -> None:
    connection.execute(log.HOOKS_CHANGED)


def catalogue(connection: Connection) -> List[Post]:
    """All (store, operation, name) that entries are made for."""
    rows = connection.execute("SELECT store, op, name FROM _ix_hook ORDER BY store, op, name").fetchall()
    return [(row[0], row[1], row[2]) for row in rows]


def announce(connection: Connection, posts: Iterable[Post]) -> None:
    """Have entries made for these from now on, by every process."""
    missing = set(posts).difference(catalogue(connection))
    if missing:
        connection.executemany("INSERT INTO _ix_hook (store, op, name) VALUES (?, ?, ?)", sorted(missing))
        _changed(connection)


def forget(connection: Connection, store: str) -> None:
    """The store is deleted: nobody is to be told of it, nor of what happened in it."""
    connection.execute("DELETE FROM _ix_hook WHERE store = ?", (store,))
    connection.execute("DELETE FROM _ix_duty WHERE store = ?", (store,))
    connection.execute("DELETE FROM _ix_outbox WHERE store = ?", (store,))
    _changed(connection)


def retire(connection: Connection, store: str, name: Optional[str]) -> int:
    """Require this hook (all hooks of the store) no more, nor of new entries; how many entries ended by it."""
    values: Tuple[Any, ...] = (store,) if name is None else (store, name)
    named, hooked = ("", "") if name is None else (" AND name = ?", " AND hook = ?")
    if connection.execute(f"DELETE FROM _ix_hook WHERE store = ?{named}", values).rowcount:
        _changed(connection)
    connection.execute(f"DELETE FROM _ix_duty WHERE store = ?{hooked}", values)
    return connection.execute(
        "DELETE FROM _ix_outbox WHERE store = ? AND state = 'ready' "
        "AND NOT EXISTS (SELECT 1 FROM _ix_duty WHERE entry = _ix_outbox.id)",
        (store,),
    ).rowcount


# Making entries, and looking at them


def append(connection: Connection, news: Sequence[New]) -> None:
    """Make entries, in their order."""
    # Numbers only ever grow, whatever was deleted: they are the order of the lines.
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = '_ix_outbox'").fetchone()
    rows: List[Tuple[Any, ...]] = []
    duties: List[Tuple[Any, ...]] = []
    for place, new in enumerate(news, 1 + (int(row[0]) if row else 0)):
        rows.append((place, *new[:9], new.created))
        duties.extend((place, hook, new.store, new.op, new.key, new.cleared) for hook in new.hooks)
    connection.executemany(
        "INSERT INTO _ix_outbox (id, operation, store, op, k, item, old, cleared, optimistic, created, next_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    connection.executemany(
        "INSERT INTO _ix_duty (entry, hook, store, op, k, cleared) VALUES (?, ?, ?, ?, ?, ?)", duties
    )


def pending(connection: Connection, store: Optional[str] = None) -> int:
    """How many entries are neither done nor dead."""
    if store is None:
        row = connection.execute("SELECT count(*) FROM _ix_outbox WHERE state = 'ready'").fetchone()
    else:
        row = connection.execute(
            "SELECT count(*) FROM _ix_outbox WHERE state = 'ready' AND store = ?", (store,)
        ).fetchone()
    return int(row[0])


def entries(connection: Connection, state: Optional[str] = None) -> List[Tuple[Stored, Tuple[str, ...]]]:
    """All of them, or those in one state, in their order, and the hooks that each still requires."""
    where = "" if state is None else " WHERE state = ?"
    values = () if state is None else (state,)
    rows = connection.execute(f"SELECT {_COLUMNS} FROM _ix_outbox{where} ORDER BY id", values).fetchall()
    return [(stored, hooks(connection, stored)) for stored in map(Stored._make, rows)]


def fetch(connection: Connection, entry: int) -> Optional[Stored]:
    """The entry of that number."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM _ix_outbox WHERE id = ?", (entry,)).fetchone()
    return None if row is None else Stored._make(row)


def hooks(connection: Connection, stored: Stored) -> Tuple[str, ...]:
    """The names of the hooks that it still requires, or lacked when it died."""
    if stored.lacking is not None:
        return tuple(json.loads(stored.lacking))
    rows = connection.execute("SELECT hook FROM _ix_duty WHERE entry = ? ORDER BY hook", (stored.id,)).fetchall()
    return tuple(row[0] for row in rows)


# Delivering them


def _mine(posts: Collection[Post]) -> str:
    """Whether the duty ``d`` is one of a hook that this process has."""
    if not posts:
        return "0"
    return f"(d.store, d.op, d.hook) IN (VALUES {', '.join(['(?, ?, ?)'] * len(posts))})"


def _deliverable(posts: Collection[Post]) -> Tuple[str, List[str]]:
    """Which entries ``e`` have something to do for these hooks, and stand first in their line.

    The line of a key is its entries in their order; an entry that cleared a store is in every line of it. Only duties
    that fall to these hooks hold up a line: those of a process that is gone would do so for ever.
    """
    mine = _mine(posts)
    earlier = f"SELECT 1 FROM _ix_duty AS d WHERE d.store = e.store AND d.entry < e.id AND {mine}"
    condition = (
        f"e.state = 'ready' AND EXISTS (SELECT 1 FROM _ix_duty AS d WHERE d.entry = e.id AND {mine}) "
        f"AND NOT EXISTS ({earlier} AND d.k = e.k) AND NOT EXISTS ({earlier} AND d.cleared) "
        f"AND (NOT e.cleared OR NOT EXISTS ({earlier}))"
    )
    return condition, [part for post in posts for part in post] * 4


def claim(
    connection: Connection, posts: Collection[Post], token: str, now: float, until: float
) -> Optional[Tuple[Stored, Tuple[str, ...]]]:
    """Take the entry that is due first, as ``token``'s until then; with the hooks of ``posts`` that it requires."""
    condition, values = _deliverable(posts)
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM _ix_outbox AS e WHERE e.next_at <= ? AND e.leased <= ? AND {condition} "
        "ORDER BY e.next_at, e.id LIMIT 1",
        (now, now, *values),
    ).fetchone()
    if row is None:
        return None
    stored = Stored._make(row)._replace(attempts=row[10] + 1, token=token, leased=until)
    connection.execute(
        "UPDATE _ix_outbox SET token = ?, leased = ?, attempts = ? WHERE id = ?",
        (token, until, stored.attempts, stored.id),
    )
    return stored, tuple(name for name in hooks(connection, stored) if (stored.store, stored.op, name) in posts)


def due(connection: Connection, posts: Collection[Post], now: float) -> Optional[float]:
    """When the next entry can be taken, if nothing changes before: never, if there is none for these hooks."""
    condition, values = _deliverable(posts)
    # In the order of the index, so that the first one found is the answer; those that are leased are few.
    free = connection.execute(
        f"SELECT e.next_at FROM _ix_outbox AS e WHERE e.leased <= ? AND {condition} ORDER BY e.next_at, e.id LIMIT 1",
        (now, *values),
    ).fetchone()
    taken = connection.execute(
        "SELECT min(max(e.next_at, e.leased)) FROM _ix_outbox AS e INDEXED BY _ix_outbox_leased "
        f"WHERE e.leased > 0 AND e.leased > ? AND {condition}",
        (now, *values),
    ).fetchone()
    moments = [float(row[0]) for row in (free, taken) if row is not None and row[0] is not None]
    return min(moments, default=None)


def concerns(connection: Connection, posts: Collection[Post]) -> bool:
    """Whether any entry requires one of these hooks."""
    row = connection.execute(
        f"SELECT 1 FROM _ix_duty AS d WHERE {_mine(posts)} LIMIT 1", [part for post in posts for part in post]
    ).fetchone()
    return row is not None


def leased(connection: Connection, now: float) -> bool:
    """Whether any entry is being delivered."""
    row = connection.execute("SELECT 1 FROM _ix_outbox WHERE state = 'ready' AND leased > ? LIMIT 1", (now,)).fetchone()
    return row is not None


def renew(connection: Connection, entry: int, token: str, until: float) -> bool:
    """Keep it longer; false if it is not ``token``'s any more."""
    return bool(
        connection.execute(
            "UPDATE _ix_outbox SET leased = ? WHERE id = ? AND token = ?", (until, entry, token)
        ).rowcount
    )


def finish(connection: Connection, entry: int, token: str, done: Sequence[str], now: float, last: bool) -> bool:
    """These hooks have succeeded; false if the entry is not ``token``'s any more, and nothing was changed.

    :param last: give the entry back to whoever has its other hooks, if it requires any.
    """
    if not _holds(connection, entry, token):
        return False
    connection.executemany("DELETE FROM _ix_duty WHERE entry = ? AND hook = ?", [(entry, name) for name in done])
    if not last:
        return True
    if connection.execute("SELECT 1 FROM _ix_duty WHERE entry = ?", (entry,)).fetchone():
        connection.execute(
            "UPDATE _ix_outbox SET token = NULL, leased = 0, attempts = 0, next_at = ? WHERE id = ?", (now, entry)
        )
    else:
        connection.execute("DELETE FROM _ix_outbox WHERE id = ?", (entry,))
    return True


def _holds(connection: Connection, entry: int, token: str) -> bool:
    row = connection.execute("SELECT 1 FROM _ix_outbox WHERE id = ? AND token = ?", (entry, token)).fetchone()
    return row is not None


def delay(connection: Connection, entry: int, token: str, next_at: float, error: str) -> bool:
    """A hook failed: try again then; false if the entry is not ``token``'s any more."""
    return bool(
        connection.execute(
            "UPDATE _ix_outbox SET token = NULL, leased = 0, next_at = ?, last_error = ? WHERE id = ? AND token = ?",
            (next_at, error, entry, token),
        ).rowcount
    )


def bury(connection: Connection, entry: int, token: str, error: str) -> bool:
    """Nobody is to try it again; false if the entry is not ``token``'s any more."""
    if not _holds(connection, entry, token):
        return False
    names = [row[0] for row in connection.execute("SELECT hook FROM _ix_duty WHERE entry = ? ORDER BY hook", (entry,))]
    connection.execute("DELETE FROM _ix_duty WHERE entry = ?", (entry,))
    connection.execute(
        "UPDATE _ix_outbox SET state = 'dead', token = NULL, leased = 0, last_error = ?, lacking = ? WHERE id = ?",
        (error, json.dumps(names), entry),
    )
    return True


def report(connection: Connection) -> List[Tuple[Stored, Tuple[str, ...]]]:
    """The dead entries that nobody was told of, which counts as told from now on."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM _ix_outbox WHERE state = 'dead' AND NOT reported ORDER BY id"
    ).fetchall()
    found = [(stored, hooks(connection, stored)) for stored in map(Stored._make, rows)]
    if found:
        connection.execute("UPDATE _ix_outbox SET reported = 1 WHERE state = 'dead' AND NOT reported")
    return found


def unreported(connection: Connection) -> bool:
    """Whether :func:`report` would find anything."""
    row = connection.execute("SELECT 1 FROM _ix_outbox WHERE state = 'dead' AND NOT reported LIMIT 1").fetchone()
    return row is not None


# What a user may do about one


def revive(connection: Connection, entry: int, now: float) -> bool:
    """Try it at once, if it waits; anew, if it is dead. False if there is none of that number.

    A dead one requires again the hooks that it lacked, but for those that were retired since.
    """
    stored = fetch(connection, entry)
    if stored is None:
        return False
    if stored.state == "dead":
        known = set(catalogue(connection))
        names = [name for name in hooks(connection, stored) if (stored.store, stored.op, name) in known]
        if not names:
            return drop(connection, entry)
        connection.executemany(
            "INSERT INTO _ix_duty (entry, hook, store, op, k, cleared) VALUES (?, ?, ?, ?, ?, ?)",
            [(entry, name, stored.store, stored.op, stored.key, stored.cleared) for name in names],
        )
        connection.execute("UPDATE _ix_outbox SET attempts = 0 WHERE id = ?", (entry,))
    connection.execute(
        "UPDATE _ix_outbox SET state = 'ready', next_at = ?, lacking = NULL, reported = 0 WHERE id = ?", (now, entry)
    )
    return True


def drop(connection: Connection, entry: int) -> bool:
    """Deliver it to nobody any more; false if there is none of that number."""
    connection.execute("DELETE FROM _ix_duty WHERE entry = ?", (entry,))
    return bool(connection.execute("DELETE FROM _ix_outbox WHERE id = ?", (entry,)).rowcount)
