"""Files of several versions, and all that a file holds."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Callable, Dict

Make = Callable[..., Any]


def at_version(make_db: Make, *versions: Any, **options: Any) -> Any:
    """A database that declares these versions, from 1 on."""
    db = make_db(None, **options)
    for number, stores in enumerate(versions, 1):
        db.version(number).stores(stores)
    return db


def made(make_db: Make, *versions: Any) -> None:
    """A file of these versions, closed."""
    at_version(make_db, *versions).open().close()


def content(path: Path) -> Dict[str, Any]:
    """All that the file holds, table by table, and its schema in SQL."""
    raw = sqlite3.connect(path)
    try:
        tables = raw.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        rows = {
            name: sorted(raw.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name, sql in tables
            if sql and sql.startswith("CREATE TABLE")
        }
        return {"schema": tables, **rows}
    finally:
        raw.close()
