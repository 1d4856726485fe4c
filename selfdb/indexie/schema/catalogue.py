"""The file's own tables: what kind of file it is, its version, and the stores and indexes that it has."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any, Dict, List, Optional, Tuple

from ..errors import ConstraintError, DatabaseCorruptError, VersionError
from ..file import log
from ..file.connection import Connection
from ..hooks import outbox_tables
from ..keys.extraction import entries_of, index_key_of
from ..keys.keys import decode
from ..keys.stored import document_of
from .schema import Schema, guard_table
from .specs import IndexSpec, StoreSpec

__all__ = [
    "add_indexes",
    "create",
    "create_store",
    "drop_index",
    "drop_store",
    "exists",
    "read",
    "set_version",
]

APPLICATION_ID = 0x49784442
"""``IxDB``: what tells these files from other programs' databases."""

LAYOUT = 1
"""Of the tables below; a file with a higher one was made by a later release."""

_TABLES = (
    "CREATE TABLE _ix_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE _ix_store (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, key_path TEXT NOT NULL, "
    "auto INTEGER NOT NULL)",
    "CREATE TABLE _ix_index (store_id INTEGER NOT NULL, name TEXT NOT NULL, position INTEGER NOT NULL, "
    "key_path TEXT NOT NULL, uniq INTEGER NOT NULL, multi INTEGER NOT NULL, col INTEGER NOT NULL, "
    "PRIMARY KEY (store_id, name)) WITHOUT ROWID",
    "CREATE TABLE _ix_hook (store TEXT NOT NULL, op TEXT NOT NULL, name TEXT NOT NULL, "
    "PRIMARY KEY (store, op, name)) WITHOUT ROWID",
)

_ROWS_AT_ONCE = 1000


def exists(connection: Connection) -> bool:
    """Whether the file is one of ours; false when nothing was ever written to it.

    :raises DatabaseCorruptError: when it is something else.
    :raises VersionError: when a later release made it.
    """
    application, layout, objects = connection.one(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version), "
        "(SELECT count(*) FROM sqlite_master)"
    )
    if application == APPLICATION_ID:
        if layout > LAYOUT:
            raise VersionError(f"a later release of this package made the file (its layout is {layout}, ours {LAYOUT})")
        return True
    if objects or application or layout:
        raise DatabaseCorruptError("the file is a SQLite database, but of another program")
    return False


def create(connection: Connection) -> None:
    """Make the tables of a file that has none."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {LAYOUT}")
    for sql in (*_TABLES, *log.CREATE, *outbox_tables.TABLES, f"CREATE TABLE {guard_table(0)} (x)"):
        connection.execute(sql)
    connection.executemany("INSERT INTO _ix_meta (name, value) VALUES (?, ?)", [("verno", 0), ("id", uuid.uuid4().hex)])


def read(connection: Connection) -> Schema:
    """The schema that the file has. Call it in a transaction: it reads more than once."""
    row = connection.one("SELECT value FROM _ix_meta WHERE name = 'verno'")
    if row is None:
        raise DatabaseCorruptError("the file has lost its version")
    indexes: Dict[int, List[IndexSpec]] = {}
    for store_id, name, key_path, unique, multi, number in connection.all(
        "SELECT store_id, name, key_path, uniq, multi, col FROM _ix_index ORDER BY store_id, position"
    ):
        paths, compound = _paths(key_path)
        spec = IndexSpec(name, paths, compound, bool(unique), bool(multi), number)
        indexes.setdefault(store_id, []).append(spec)
    stores = {}
    for store_id, name, key_path, auto in connection.all("SELECT id, name, key_path, auto FROM _ix_store ORDER BY id"):
        paths, compound = _paths(key_path)
        stores[name] = StoreSpec(name, paths, compound, bool(auto), tuple(indexes.get(store_id, ())), store_id)
    return Schema.of(row[0], stores)


def set_version(connection: Connection, before: int, verno: int) -> None:
    """Give the file another version. What was compiled for the former one fails from then on."""
    connection.execute("UPDATE _ix_meta SET value = ? WHERE name = 'verno'", (verno,))
    connection.execute(f"DROP TABLE {guard_table(before)}")
    connection.execute(f"CREATE TABLE {guard_table(verno)} (x)")


def _path_text(paths: Tuple[str, ...], compound: bool) -> str:
    value: Any = list(paths) if compound else paths[0] if paths else None
    return json.dumps(value)


def _paths(text: str) -> Tuple[Tuple[str, ...], bool]:
    value = json.loads(text)
    if isinstance(value, list):
        return tuple(value), True
    return () if value is None else (value,), False


# Stores


def create_store(connection: Connection, spec: StoreSpec) -> StoreSpec:
    """Make the table of a store and its indexes; the spec with its numbers."""
    cursor = connection.execute(
        "INSERT INTO _ix_store (name, key_path, auto) VALUES (?, ?, ?)",
        (spec.name, _path_text(spec.key_paths, spec.compound_key), spec.auto),
    )
    number = cursor.lastrowid
    assert number is not None
    connection.execute(
        f"CREATE TABLE s{number} (r INTEGER PRIMARY KEY, k NOT NULL UNIQUE, v INTEGER NOT NULL, d TEXT NOT NULL)"
    )
    bare = StoreSpec(spec.name, spec.key_paths, spec.compound_key, spec.auto, (), number)
    return add_indexes(connection, bare, spec.indexes)


def drop_store(connection: Connection, spec: StoreSpec) -> None:
    """Remove a store with its rows, its indexes and what the outbox has of it."""
    for index in spec.indexes:
        if index.multi:
            connection.execute(f"DROP TABLE {_side(spec, index)}")
    connection.execute(f"DROP TABLE s{spec.number}")
    connection.execute("DELETE FROM _ix_index WHERE store_id = ?", (spec.number,))
    connection.execute("DELETE FROM _ix_store WHERE id = ?", (spec.number,))
    outbox_tables.forget(connection, spec.name)


# Indexes


def _side(store: StoreSpec, index: IndexSpec) -> str:
    return f"m{store.number}_{index.number}"


def drop_index(connection: Connection, store: StoreSpec, index: IndexSpec) -> StoreSpec:
    """Remove an index; the spec without it."""
    if index.multi:
        connection.execute(f"DROP TABLE {_side(store, index)}")
    else:
        # The column stays: not every SQLite can drop one. The next index of the store takes it.
        column = f"i{index.number}"
        connection.execute(f"DROP INDEX s{store.number}_{column}")
        connection.execute(f"UPDATE s{store.number} SET {column} = NULL WHERE {column} IS NOT NULL")
    connection.execute("DELETE FROM _ix_index WHERE store_id = ? AND name = ?", (store.number, index.name))
    return _with(store, [each for each in store.indexes if each.name != index.name])


def _with(store: StoreSpec, indexes: List[IndexSpec]) -> StoreSpec:
    return StoreSpec(store.name, store.key_paths, store.compound_key, store.auto, tuple(indexes), store.number)


def order_indexes(connection: Connection, store: StoreSpec, names: List[str]) -> StoreSpec:
    """Put the indexes into the order of the schema string; the spec with it."""
    places = {name: place for place, name in enumerate(names)}
    indexes = sorted(store.indexes, key=lambda each: places[each.name])
    connection.executemany(
        "UPDATE _ix_index SET position = ? WHERE store_id = ? AND name = ?",
        [(place, store.number, each.name) for place, each in enumerate(indexes)],
    )
    return _with(store, indexes)


def add_indexes(connection: Connection, store: StoreSpec, wanted: Tuple[IndexSpec, ...]) -> StoreSpec:
    """Add indexes, and enter the rows that are there; the spec with them.

    :raises ConstraintError: when the rows clash in one that is unique.
    """
    if not wanted:
        return store
    table = f"s{store.number}"
    columns = {int(row[1][1:]) for row in connection.all(f"PRAGMA table_info({table})") if row[1][0] == "i"}
    used = {index.number for index in store.indexes}
    free = sorted(columns - used)
    highest = max([*columns, *used, 0])
    placed = []
    for index in wanted:
        if free and not index.multi:
            number = free.pop(0)
        else:
            highest += 1
            number = highest
            if not index.multi:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN i{number}")
        spec = IndexSpec(index.name, index.paths, index.compound, index.unique, index.multi, number)
        placed.append(spec)
        if spec.multi:
            connection.execute(
                f"CREATE TABLE {_side(store, spec)} (x NOT NULL, k NOT NULL, PRIMARY KEY (x, k)) WITHOUT ROWID"
            )
        connection.execute(
            "INSERT INTO _ix_index (store_id, name, position, key_path, uniq, multi, col) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                store.number,
                spec.name,
                len(store.indexes) + len(placed) - 1,
                _path_text(spec.paths, spec.compound),
                spec.unique,
                spec.multi,
                number,
            ),
        )
    _fill(connection, store, placed)
    for spec in placed:
        _index_in_sql(connection, store, spec)
    return _with(store, [*store.indexes, *placed])


def _index_in_sql(connection: Connection, store: StoreSpec, index: IndexSpec) -> None:
    table, column = (_side(store, index), "x") if index.multi else (f"s{store.number}", f"i{index.number}")
    name = f"s{store.number}_i{index.number}"
    if index.multi:
        sql = f"CREATE UNIQUE INDEX {name} ON {table} (x)" if index.unique else ""
    elif index.unique:
        sql = f"CREATE UNIQUE INDEX {name} ON {table} ({column}) WHERE {column} IS NOT NULL"
    else:
        sql = f"CREATE INDEX {name} ON {table} ({column}, k) WHERE {column} IS NOT NULL"
    if not sql:
        return
    try:
        connection.execute(sql)
    except ConstraintError as error:
        twice = connection.one(
            f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL GROUP BY {column} HAVING count(*) > 1 LIMIT 1"
        )
        value = decode(twice[0]) if twice else None
        raise ConstraintError(
            f"{store.name!r} has several rows with {value!r}, which the unique index {index.name!r} forbids",
            table=store.name,
            index=index.name,
            value=value,
        ) from error


def _fill(connection: Connection, store: StoreSpec, added: List[IndexSpec]) -> None:
    singles = [index for index in added if not index.multi]
    multis = [(_side(store, index), entries_of(index)) for index in added if index.multi]
    extractors = [index_key_of(index) for index in singles]
    update = f"UPDATE s{store.number} SET {', '.join(f'i{index.number} = ?' for index in singles)} WHERE r = ?"
    for rows in _chunks(connection, store):
        documents = [document_of(store, key, text) for _, key, text in rows]
        if singles:
            connection.executemany(
                update,
                [
                    (*[_absent(extract, document) for extract in extractors], row[0])
                    for row, document in zip(rows, documents)
                ],
            )
        for side, entries in multis:
            connection.executemany(
                f"INSERT INTO {side} (x, k) VALUES (?, ?)",
                [
                    (entry, row[1])
                    for row, document in zip(rows, documents)
                    if isinstance(document, dict)
                    for entry in entries(document)
                ],
            )


def _absent(extract: Any, document: Any) -> Optional[Any]:
    return extract(document) if isinstance(document, dict) else None


def _chunks(connection: Connection, store: StoreSpec) -> Iterator[List[Tuple[int, Any, str]]]:
    last: Optional[int] = None
    while True:
        where, values = ("", ()) if last is None else ("WHERE r > ?", (last,))
        rows = connection.all(f"SELECT r, k, d FROM s{store.number} {where} ORDER BY r LIMIT {_ROWS_AT_ONCE}", values)
        if not rows:
            return
        yield rows
        last = rows[-1][0]
