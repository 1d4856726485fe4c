"""The to-do list: works without its server, and tells it everything once it is there, also in a later run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from selfdb import SelfDB
from tests.examples.conftest import Reader
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD

TODO = "offline_todo.py"
LATER = 75


@pytest.fixture
def reader(make_server: Callable[..., Any], tmp_path: Path) -> Reader:
    """With a server of his own: the table has one name for all."""
    home = tmp_path / "home"
    home.mkdir()
    return Reader(make_server(), home)


def make_table(reader: Reader) -> None:
    columns = {"number": {"type": "integer"}, "title": {"type": "text"}, "done": {"type": "boolean"}}
    with reader.client() as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        db.tables.create({"name": "todos", "table_schema": columns})


def on_the_server(db: SelfDB) -> List[Dict[str, Any]]:
    rows = [dict(row) for row in db.tables.data.query(db.tables.get_by_name("todos").id)]
    return sorted(
        ({key: row[key] for key in ("number", "title", "done")} for row in rows), key=lambda row: row["number"]
    )


def test_what_is_written_without_a_network_arrives_when_it_is_back(reader: Reader, nowhere: str) -> None:
    for arguments, shown in [(("add", "Buy tea"), "1"), (("add", "Drink it"), "2"), (("done", "1"), "")]:
        done = reader.run(TODO, *arguments, SELFDB_URL=nowhere)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (LATER, shown, "")
    done = reader.run(TODO, "list", SELFDB_URL=nowhere)
    assert (done.returncode, done.stdout) == (LATER, "x 1 Buy tea\n  2 Drink it\n")

    make_table(reader)
    assert reader.run(TODO, "send").returncode == 0
    with reader.client() as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        tea = {"number": 1, "title": "Buy tea", "done": True}
        assert on_the_server(db) == [tea, {"number": 2, "title": "Drink it", "done": False}]
        if reader.run(TODO, "done", "2").returncode != 0:  # with a network it is there at once, or nearly so
            assert reader.run(TODO, "send").returncode == 0
        assert on_the_server(db) == [tea, {"number": 2, "title": "Drink it", "done": True}]
    assert reader.run(TODO, "list", SELFDB_URL=nowhere).returncode == 0, "nothing is left to be sent"


def test_what_it_does_not_understand(reader: Reader, nowhere: str) -> None:
    done = reader.run(TODO, "done", "7", SELFDB_URL=nowhere)
    assert done.returncode == 1
    assert done.stderr.startswith("offline_todo: ")
    assert reader.run(TODO, "sing").returncode == 2
