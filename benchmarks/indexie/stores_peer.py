"""One store under measurement, in a process of its own: ``python stores_peer.py NAME FOLDER``.

Reads lines of "QUESTION TIMES" and answers each with a line of JSON: seconds of CPU and of wall time for one of TIMES.
All of them keep the same documents under the same three indexes, on the same settings of SQLite where it is SQLite.
"""

from __future__ import annotations

import gc
import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

Work = Callable[[int], Any]
Answer = Dict[str, float]

ROWS = 5000
"""Rows that are there when something is read."""


def document(number: int) -> Dict[str, Any]:
    return {
        "name": f"name {number % 100}",
        "email": f"user{number}@example.com",
        "age": number % 50,
        "city": f"city {number % 30}",
    }


class Store:
    """What is asked of each. A method without a body of its own is what a store has no way of doing."""

    def clear(self) -> None:
        """No rows; not measured."""
        raise NotImplementedError

    def fill(self, count: int) -> None:
        """So many rows; not measured."""
        self.clear()
        self.bulk(count)

    rows: List[Any]
    """What is to be added."""

    def prepare(self, count: int, first: int = 0) -> None:
        """Make what is to be added, before the clock runs."""
        raise NotImplementedError

    def bulk(self, count: int) -> None:
        """Rows by the one call that there is for many."""
        raise NotImplementedError

    def batch(self, count: int) -> None:
        """The same, a hundred at a time, where there are rows already."""
        rows = self.rows
        for first in range(0, count, 100):
            self.rows = rows[first : first + 100]
            self.bulk(len(self.rows))

    def add(self, count: int) -> None:
        """Rows one by one in one transaction."""
        raise NotImplementedError

    def own(self, count: int) -> None:
        """Rows one by one, each a transaction."""
        raise NotImplementedError

    def get(self, count: int) -> None:
        """Rows by key."""
        raise NotImplementedError

    def unique(self, count: int) -> None:
        """Rows by a unique index."""
        raise NotImplementedError

    def range(self, count: int) -> None:
        """A hundred rows by a range of an index."""
        raise NotImplementedError

    def close(self) -> None:
        """The end."""


def lowest(number: int) -> int:
    """Where a range begins that has a hundred of the rows."""
    return number % 49


class Ours(Store):
    """`selfdb.indexie`, as it comes."""

    def __init__(self, folder: Path) -> None:
        from selfdb.indexie import Indexie

        self.db = Indexie(folder / "ours.db")
        self.db.version(1).stores({"users": "++id, name, &email, age"})
        self.db.open()
        self.first = 1

    def clear(self) -> None:
        self.db.users.clear()

    def fill(self, count: int) -> None:
        super().fill(count)
        self.first = self.db.users.first()["id"]

    def prepare(self, count: int, first: int = 0) -> None:
        self.rows = [document(number) for number in range(first, first + count)]

    def bulk(self, count: int) -> None:
        self.db.users.bulk_add(self.rows)

    def add(self, count: int) -> None:
        def add_all() -> None:
            add = self.db.users.add
            for each in self.rows:
                add(each)

        self.db.transaction("rw", "users", add_all)

    def own(self, count: int) -> None:
        add = self.db.users.add
        for each in self.rows:
            add(each)

    def get(self, count: int) -> None:
        get, first = self.db.users.get, self.first
        for number in range(count):
            assert get(first + number % ROWS) is not None

    def unique(self, count: int) -> None:
        users = self.db.users
        for number in range(count):
            assert users.where("email").equals(f"user{number % ROWS}@example.com").first() is not None

    def range(self, count: int) -> None:
        users = self.db.users
        for number in range(count):
            low = lowest(number)
            assert len(users.where("age").between(low, low + 1).to_array()) == 100

    def close(self) -> None:
        self.db.close()


class Raw(Store):
    """`sqlite3`: the table and the indexes that ours has, keys and texts made before, nothing parsed but ranges."""

    INSERT = "INSERT INTO s1 (k, v, d, i1, i2, i3) VALUES (?, ?, ?, ?, ?, ?)"

    def __init__(self, folder: Path) -> None:
        self.raw = sqlite3.connect(str(folder / "raw.db"), isolation_level=None)
        for sql in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            "CREATE TABLE s1 (r INTEGER PRIMARY KEY, k NOT NULL UNIQUE, v INTEGER NOT NULL, d TEXT NOT NULL, "
            "i1, i2, i3)",
            "CREATE INDEX s1_1 ON s1 (i1, k) WHERE i1 IS NOT NULL",
            "CREATE UNIQUE INDEX s1_2 ON s1 (i2) WHERE i2 IS NOT NULL",
            "CREATE INDEX s1_3 ON s1 (i3, k) WHERE i3 IS NOT NULL",
        ):
            self.raw.execute(sql)

    def clear(self) -> None:
        self.raw.execute("DELETE FROM s1")

    def prepare(self, count: int, first: int = 0) -> None:
        self.rows: List[Any] = []
        for number in range(first, first + count):
            row = {**document(number), "id": number + 1}
            text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
            self.rows.append(
                (number + 1, 1, text, b"0" + row["name"].encode(), b"0" + row["email"].encode(), row["age"])
            )

    def bulk(self, count: int) -> None:
        self.raw.execute("BEGIN IMMEDIATE")
        self.raw.executemany(self.INSERT, self.rows)
        self.raw.execute("COMMIT")

    def add(self, count: int) -> None:
        execute = self.raw.execute
        execute("BEGIN IMMEDIATE")
        for values in self.rows:
            execute(self.INSERT, values)
        execute("COMMIT")

    def own(self, count: int) -> None:
        execute = self.raw.execute
        for values in self.rows:
            execute("BEGIN IMMEDIATE")
            execute(self.INSERT, values)
            execute("COMMIT")

    def get(self, count: int) -> None:
        execute = self.raw.execute
        for number in range(count):
            assert execute("SELECT d FROM s1 WHERE k = ?", (1 + number % ROWS,)).fetchone() is not None

    def unique(self, count: int) -> None:
        execute = self.raw.execute
        for number in range(count):
            email = b"0user%d@example.com" % (number % ROWS)
            assert execute("SELECT d FROM s1 WHERE i2 = ?", (email,)).fetchone() is not None

    def range(self, count: int) -> None:
        execute, loads = self.raw.execute, json.loads
        sql = "SELECT d FROM s1 WHERE i3 >= ? AND i3 < ? ORDER BY i3, k"
        for number in range(count):
            low = lowest(number)
            assert len([loads(text) for (text,) in execute(sql, (low, low + 1))]) == 100

    def close(self) -> None:
        self.raw.close()


class TinyDB(Store):
    """TinyDB: a JSON file that each write writes anew, looked through from end to end."""

    def __init__(self, folder: Path) -> None:
        from tinydb import TinyDB as Database
        from tinydb import where

        self.db: Any = Database(str(folder / "tiny.json"))
        self.where: Any = where

    def clear(self) -> None:
        self.db.truncate()

    def prepare(self, count: int, first: int = 0) -> None:
        self.rows = [document(number) for number in range(first, first + count)]

    def bulk(self, count: int) -> None:
        self.db.insert_multiple(self.rows)

    def own(self, count: int) -> None:
        for each in self.rows:
            self.db.insert(each)

    def get(self, count: int) -> None:
        first = next(iter(self.db)).doc_id
        for number in range(count):
            assert self.db.get(doc_id=first + number % ROWS) is not None

    def unique(self, count: int) -> None:
        for number in range(count):
            assert self.db.get(self.where("email") == f"user{number % ROWS}@example.com") is not None

    def range(self, count: int) -> None:
        for number in range(count):
            low = lowest(number)
            found = self.db.search((self.where("age") >= low) & (self.where("age") < low + 1))
            assert len(sorted(found, key=lambda row: row["age"])) == 100

    def close(self) -> None:
        self.db.close()


class SqliteUtils(Store):
    """sqlite-utils: a column for each field."""

    def __init__(self, folder: Path) -> None:
        from sqlite_utils import Database

        self.db: Any = Database(str(folder / "utils.db"))
        self.db.enable_wal()
        self.db.execute("PRAGMA synchronous = NORMAL")
        self.users: Any = self.db["users"]
        self.users.create({"id": int, "name": str, "email": str, "age": int, "city": str}, pk="id")
        self.users.create_index(["name"])
        self.users.create_index(["email"], unique=True)
        self.users.create_index(["age"])

    def clear(self) -> None:
        with self.db.conn:
            self.db.execute("DELETE FROM users")

    def fill(self, count: int) -> None:
        super().fill(count)
        self.first = next(iter(self.users.rows))["id"]

    def prepare(self, count: int, first: int = 0) -> None:
        self.rows = [document(number) for number in range(first, first + count)]

    def bulk(self, count: int) -> None:
        self.users.insert_all(self.rows)

    def add(self, count: int) -> None:
        with self.db.conn:
            for each in self.rows:
                self.users.insert(each)

    def own(self, count: int) -> None:
        for each in self.rows:
            self.users.insert(each)

    def get(self, count: int) -> None:
        for number in range(count):
            assert self.users.get(self.first + number % ROWS) is not None

    def unique(self, count: int) -> None:
        for number in range(count):
            found = self.users.rows_where("email = ?", [f"user{number % ROWS}@example.com"])
            assert next(found) is not None

    def range(self, count: int) -> None:
        for number in range(count):
            low = lowest(number)
            assert len(list(self.users.rows_where("age >= ? and age < ?", [low, low + 1], order_by="age"))) == 100

    def close(self) -> None:
        self.db.close()


class Peewee(Store):
    """peewee: a model with a field for each."""

    def __init__(self, folder: Path) -> None:
        import peewee

        self.db: Any = peewee.SqliteDatabase(
            str(folder / "peewee.db"), pragmas={"journal_mode": "wal", "synchronous": "normal"}
        )
        fields = {
            "Meta": type("Meta", (), {"database": self.db}),
            "name": peewee.CharField(index=True, null=True),
            "email": peewee.CharField(unique=True, null=True),
            "age": peewee.IntegerField(index=True, null=True),
            "city": peewee.CharField(null=True),
        }
        self.model: Any = type("User", (peewee.Model,), fields)
        self.db.create_tables([self.model])

    def clear(self) -> None:
        self.model.delete().execute()

    def fill(self, count: int) -> None:
        super().fill(count)
        self.first = self.model.select().order_by(self.model.id).first().id

    def prepare(self, count: int, first: int = 0) -> None:
        self.rows = [document(number) for number in range(first, first + count)]

    def bulk(self, count: int) -> None:
        with self.db.atomic():
            for start in range(0, count, 100):
                self.model.insert_many(self.rows[start : start + 100]).execute()

    def add(self, count: int) -> None:
        with self.db.atomic():
            for each in self.rows:
                self.model.create(**each)

    def own(self, count: int) -> None:
        for each in self.rows:
            self.model.create(**each)

    def get(self, count: int) -> None:
        for number in range(count):
            assert self.model.get_by_id(self.first + number % ROWS) is not None

    def unique(self, count: int) -> None:
        model = self.model
        for number in range(count):
            assert model.get(model.email == f"user{number % ROWS}@example.com") is not None

    def range(self, count: int) -> None:
        model = self.model
        for number in range(count):
            low = lowest(number)
            query = model.select().where((model.age >= low) & (model.age < low + 1)).order_by(model.age)
            assert len(list(query.dicts())) == 100

    def close(self) -> None:
        self.db.close()


STORES: Dict[str, Callable[[Path], Store]] = {
    "selfdb.indexie": Ours,
    "sqlite3": Raw,
    "tinydb": TinyDB,
    "sqlite-utils": SqliteUtils,
    "peewee": Peewee,
}


def answer(store: Store, question: str, times: int) -> Optional[Answer]:
    """Seconds for one of ``times``; ``None`` for what the store has no way of doing."""
    if getattr(type(store), question) is getattr(Store, question) and question != "batch":
        return None
    if question in ("add", "bulk", "own"):
        store.clear()
        store.prepare(times)
    else:
        store.prepare(ROWS)
        store.fill(ROWS)
        if question == "batch":
            store.prepare(times, ROWS)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    getattr(store, question)(times)
    return {"cpu": (time.process_time() - cpu) / times, "wall": (time.perf_counter() - wall) / times}


def main() -> None:
    store = STORES[sys.argv[1]](Path(sys.argv[2]))
    print("ready", flush=True)
    for line in sys.stdin:
        question, times = line.split()
        print(json.dumps(answer(store, question, int(times))), flush=True)
    store.close()


if __name__ == "__main__":
    main()
