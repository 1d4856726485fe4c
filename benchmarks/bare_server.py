"""What the embedded server is compared with: FastAPI, two routes, sqlite3. ``python bare_server.py FILE``.

``FILE`` is the database, with the tables ``page`` and ``many``. No user, no key, no check of what comes in; uvicorn and
SQLite as the embedded server sets them. Prints its address, and ends with a signal.
"""

import datetime
import socket
import sqlite3
import sys
import threading
import uuid
from typing import Annotated, Any, Dict

import uvicorn
from fastapi import Body, FastAPI
from fastapi.responses import JSONResponse

COLUMNS = ("id", "title", "n", "done", "note", "created_at", "updated_at")
NAMES = ", ".join(COLUMNS)
INSERT = f"INSERT INTO many ({NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608 - nobody's words
PAGE = f"SELECT {NAMES} FROM page ORDER BY rowid LIMIT ? OFFSET ?"  # noqa: S608

app = FastAPI()
mine = threading.local()
writing = threading.Lock()


def opened(file: str) -> sqlite3.Connection:
    """A connection as the embedded server sets it."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def database() -> sqlite3.Connection:
    """The connection of this thread."""
    if not hasattr(mine, "connection"):
        mine.connection = opened(sys.argv[1])
    return mine.connection


@app.get("/rows")
def rows(page: int = 1, page_size: int = 100) -> JSONResponse:
    """A page, with the number of all rows."""
    connection = database()
    total = connection.execute("SELECT count(*) FROM page").fetchone()[0]
    data = [dict(zip(COLUMNS, row)) for row in connection.execute(PAGE, (page_size, (page - 1) * page_size))]
    for row in data:
        row["done"] = bool(row["done"])
    return JSONResponse({"data": data, "total": total, "page": page, "page_size": page_size})


@app.post("/rows")
def insert(body: Annotated[Dict[str, Any], Body()]) -> JSONResponse:
    """A row, with what the server fills of it."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
    row = {"id": str(uuid.uuid4()), **body, "created_at": now, "updated_at": now}
    connection = database()
    with writing:  # or the threads would wait for one another in SQLite, which lets them sleep
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(INSERT, [row[name] for name in COLUMNS])
        connection.execute("COMMIT")
    return JSONResponse(row, 201)


if __name__ == "__main__":
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    bound.listen(2048)
    print(f"ready at http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
    )
    uvicorn.Server(config).run(sockets=[bound])
