"""Imports a CSV file into a table, which is made from the header, with text columns, if it is missing.

SELFDB_URL=... SELFDB_API_KEY=... SELFDB_EMAIL=... SELFDB_PASSWORD=... python import_csv.py FILE TABLE
An empty cell is left out: it becomes the column's default, or null. Exit codes: 0 every row is in; 1 some are not.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

from selfdb import NotFoundError, SelfDB, SelfDBError

try:
    from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]
except ImportError:
    tqdm = None


def import_csv(db: SelfDB, path: Path, table_name: str) -> int:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="(cells beyond the header)")
        rows = [(reader.line_num, {name: cell for name, cell in row.items() if cell}) for row in reader]
    db.auth.login(os.environ.get("SELFDB_EMAIL", ""), os.environ.get("SELFDB_PASSWORD", ""))
    try:
        table = db.tables.get_by_name(table_name)
    except NotFoundError:
        schema = {name: {"type": "text"} for name in reader.fieldnames or ()}
        table = db.tables.create({"name": table_name, "table_schema": schema})
    bar = tqdm(total=len(rows), unit=" rows") if tqdm else None

    def show(done: int, total: int | None) -> None:
        if bar is not None:
            bar.update()
        elif done % 100 == 0 or done == total:
            print(f"{done} of {total} rows", file=sys.stderr)

    report = db.tables.data.insert_many(table.id, [row for _, row in rows], progress=show)
    if bar is not None:
        bar.close()
    print(f"{len(report.done)} done, {len(report.refused)} refused, {len(report.unknown)} unknown")
    for outcome in report.refused + report.unknown:
        print(f"line {rows[outcome.index][0]}: {outcome.status.value}: {outcome.error}")
    return 0 if len(report.done) == len(report) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("FILE", type=Path)
    parser.add_argument("TABLE")
    arguments = parser.parse_args()
    try:
        with SelfDB() as db:
            sys.exit(import_csv(db, arguments.FILE, arguments.TABLE))
    except (SelfDBError, OSError, ValueError, csv.Error) as error:
        sys.exit(f"import_csv: {error}")
