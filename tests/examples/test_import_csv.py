"""The import: every row of a file in the table, or in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from selfdb import SelfDB
from tests.examples.conftest import Reader

IMPORT = "import_csv.py"
PLANTS = '\ufeffname,note\n"Rose","two\nlines"\n"Fern",\n"Ivy, common",grows\n'


@pytest.fixture
def plants(tmp_path: Path) -> Path:
    path = tmp_path / "plants.csv"
    path.write_bytes(PLANTS.encode())
    return path


def rows_of(db: SelfDB, table: str, *columns: str) -> List[Dict[str, Any]]:
    rows = db.tables.data.query(db.tables.get_by_name(table).id).sort(columns[0], "asc")
    return [{column: row[column] for column in columns} for row in rows]


def without_tqdm(tmp_path: Path, reader: Reader) -> str:
    """A PYTHONPATH on which tqdm cannot be imported."""
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "tqdm.py").write_text("raise ImportError('not here')\n")
    return f"{tmp_path / 'shadow'}:{reader.variables['PYTHONPATH']}"


def test_a_table_is_made_from_the_header(reader: Reader, db: SelfDB, plants: Path, unique: Callable[..., str]) -> None:
    name = unique("t")
    done = reader.run(IMPORT, plants, name)
    assert (done.returncode, done.stdout) == (0, "3 done, 0 refused, 0 unknown\n")
    assert "3/3" in done.stderr  # the bar
    assert db.tables.get_by_name(name).table_schema == {"name": {"type": "text"}, "note": {"type": "text"}}
    assert rows_of(db, name, "name", "note") == [
        {"name": "Fern", "note": None},
        {"name": "Ivy, common", "note": "grows"},
        {"name": "Rose", "note": "two\nlines"},
    ]


def test_progress_is_plain_text_without_tqdm(
    reader: Reader, db: SelfDB, tmp_path: Path, unique: Callable[..., str]
) -> None:
    name, many = unique("t"), tmp_path / "many.csv"
    many.write_text("number\n" + "".join(f"{number}\n" for number in range(150)))
    done = reader.run(IMPORT, many, name, PYTHONPATH=without_tqdm(tmp_path, reader))
    assert done.returncode == 0
    assert done.stderr == "100 of 150 rows\n150 of 150 rows\n"
    assert {row["number"] for row in rows_of(db, name, "number")} == {str(number) for number in range(150)}


def test_refused_rows_are_reported_by_line_and_the_others_are_in(
    reader: Reader, db: SelfDB, tmp_path: Path, unique: Callable[..., str]
) -> None:
    name, orders = unique("t"), tmp_path / "orders.csv"
    columns = {"item": {"type": "text", "nullable": False}, "n": {"type": "integer"}, "paid": {"type": "boolean"}}
    db.tables.create({"name": name, "table_schema": columns})
    orders.write_text('item,n,paid\n"green\ntea",3,true\ncoffee,many,false\n,2,\nmilk,1,false,extra\nbread,,\n')
    done = reader.run(IMPORT, orders, name)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "2 done, 3 refused, 0 unknown"
    assert [line.partition(": [400] ")[0] for line in lines[1:]] == [f"line {n}: refused" for n in (4, 5, 6)]
    assert '"n"' in lines[1]
    assert '"item"' in lines[2]
    assert "cells beyond the header" in lines[3]
    assert rows_of(db, name, "item", "n", "paid") == [
        {"item": "bread", "n": None, "paid": None},
        {"item": "green\ntea", "n": 3, "paid": True},
    ]


def test_what_stops_it_before_the_first_row(
    reader: Reader, plants: Path, tmp_path: Path, nowhere: str, unique: Callable[..., str]
) -> None:
    name = unique("t")
    for arguments, changes, said in [
        ((plants, name), {"SELFDB_URL": nowhere}, "refused the connection"),
        ((plants, name), {"SELFDB_PASSWORD": "wrong-secret"}, "Incorrect email or password"),
        ((tmp_path / "missing.csv", name), {}, "missing.csv"),
        ((plants, "no table of this name!"), {}, "name"),
    ]:
        done = reader.run(IMPORT, *arguments, **changes)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.startswith("import_csv: ")
        assert said in done.stderr
        assert "wrong-secret" not in done.stderr
    assert reader.run(IMPORT, plants).returncode == 2
