"""A to-do list that needs no network: what is written here reaches the server's table when the network is back.

python offline_todo.py add "Buy tea" | done NUMBER | list | send
The server, SELFDB_URL, SELFDB_API_KEY, SELFDB_EMAIL and SELFDB_PASSWORD, has a table todos with the columns number
(integer), title (text) and done (boolean). The list lies in ~/.todo.indexie.db. Exit code 75: something is not sent.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from selfdb import SelfDB
from selfdb.indexie import IndexedDBError, Indexie


def send(payload: dict[str, Any]) -> None:
    """Tell the server of one operation. Called again, later or in the next run, until it has succeeded."""
    with SelfDB(max_retries=0, deadline=5.0) as server:
        server.auth.login(os.environ.get("SELFDB_EMAIL", ""), os.environ.get("SELFDB_PASSWORD", ""))
        table = server.tables.get_by_name("todos")
        item, once = payload["item"], payload["operation_id"]  # by which the server knows a repetition
        todo = {"number": item["id"], "title": item["title"], "done": item["done"]}
        if payload["op"] == "add":
            server.tables.data.insert(table.id, todo, idempotency_key=once)
        else:
            server.tables.data.update_row(table.id, item["id"], todo, id_column="number", idempotency_key=once)


def main(given: argparse.Namespace) -> int:
    db = Indexie(Path.home() / ".todo.indexie.db")
    db.version(1).stores({"todos": "++id, done"})
    db.todos.hook.on_add(send, name="server")
    db.todos.hook.on_update(send, name="server")
    with db:
        if given.what == "add":
            print(db.todos.add({"title": given.text, "done": False}))
        elif given.what == "done":
            db.todos.update(int(given.text), {"done": True})
        elif given.what == "list":
            for todo in db.todos.to_array():
                print("x" if todo["done"] else " ", todo["id"], todo["title"])
        elif given.what == "send":
            for entry in db.outbox.entries("ready"):
                db.outbox.retry(entry.id)  # at once, however often it has failed
        return 0 if db.outbox.flush(60.0 if given.what == "send" else 1.0) else os.EX_TEMPFAIL


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["add", "done", "list", "send"])
    parser.add_argument("text", nargs="?", default="")
    try:
        sys.exit(main(parser.parse_args()))
    except IndexedDBError as error:
        sys.exit(f"offline_todo: {error}")
