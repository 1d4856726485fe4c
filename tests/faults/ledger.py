"""What writes have really done: counted by triggers in the database of an embedded server, past all of its code."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any, Dict, Tuple

_LEDGER = "CREATE TABLE effects (kind TEXT NOT NULL, logical TEXT NOT NULL)"
_TRIGGER = """CREATE TRIGGER effect_{number} AFTER {kind} ON {table} BEGIN
    INSERT INTO effects VALUES ('{kind}', {cell}); END"""


class Ledger:
    """Counts each committed effect under the logical id that its row carries. For one thread.

    :param server: a running `LocalServer` on SQLite.
    """

    def __init__(self, server: Any) -> None:
        self._connection = sqlite3.connect(server.data / "selfdb.sqlite3", timeout=30, isolation_level=None)
        self._connection.execute(_LEDGER)
        self._triggers = 0

    def rows_of(self, table: Any, column: str) -> None:
        """Count inserts, updates and deletes in ``table``, whose text ``column`` says which call a row is of."""
        name = "t_" + str(table.id).replace("-", "")
        # Physical columns are numbered in the order in which they were declared, the id first.
        cell = f"c{2 + list(table.table_schema).index(column)}"
        for kind, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")):
            self._trigger(kind, name, f"{row}.{cell}")

    def users(self) -> None:
        """Count new users by the local part of their e-mail address at example.com."""
        self._trigger("INSERT", "_selfdb_users", "replace(new.email, '@example.com', '')")

    def files(self) -> None:
        """Count new and replaced files by path."""
        self._trigger("INSERT", "_selfdb_files", "new.path")
        self._trigger("UPDATE", "_selfdb_files", "new.path")

    def _trigger(self, kind: str, table: str, cell: str) -> None:
        self._triggers += 1
        self._connection.execute(_TRIGGER.format(number=self._triggers, kind=kind, table=table, cell=cell))

    def close(self) -> Dict[Tuple[str, str], int]:
        """The number of effects by kind and logical id; call it when the server has stopped and nothing can follow."""
        found = Counter((kind, logical) for kind, logical in self._connection.execute("SELECT * FROM effects"))
        self._connection.close()
        return found
