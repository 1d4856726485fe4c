"""The command line shows no secret: neither in complaints nor in what a server says when it starts, serves and ends."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from selfdb import SelfDB
from selfdb.cli import main
from selfdb.exceptions import SelfDBError
from selfdb.models import TableCreate
from tests.faults.canaries import ACCESS, HEADER, KEY, PASSWORD, REFRESH, VALUE, WITH_VALUES, look_for
from tests.servers.process import ROOT, ServeProcess, free_port
from tests.support import Http

SECRET = PASSWORD
WRONG: List[List[str]] = [
    ["serve", f"--admin-pass={SECRET}"],
    ["serve", "--admin-pass", SECRET],
    ["serve", f"--apikey={KEY}"],
    ["serve", "--apikey", KEY],
    ["serve", KEY],
    ["serve", "--api-key", f"{KEY}\n."],
    ["serve", "--database", f"mysql://me:{SECRET}@db/rows"],
    ["serve", "--database", SECRET],
    ["serve", "--database", f"postgresql//me:{SECRET}@db/rows"],
    ["serve", "--port", "80000", "--api-key", KEY],
    ["serve", "--registration", KEY],
    ["serve", "--port", KEY],
    [KEY],
    ["serve", "--api-key-file", "there/is/none", "--admin-password", SECRET],
    ["backup", f"--key={KEY}", "a.tar.gz"],
    ["restore", "a.tar.gz", KEY],
    ["serve", "--admin-password", SECRET],  # which no login would take
]


@pytest.mark.parametrize("arguments", WRONG, ids=range(len(WRONG)))
def test_g14_a_command_line_that_is_wrong_is_not_repeated(
    arguments: List[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SELFDB_DATA", str(tmp_path / "data"))
    try:
        status = main(arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    assert status != 0
    shown = capsys.readouterr()
    assert shown.err
    look_for(shown.out + shown.err, "the command", WITH_VALUES)


def test_g14_help_shows_nothing_of_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_PASSWORD", "DATABASE"):
        monkeypatch.setenv(f"SELFDB_{name}", KEY)
    for arguments in (["--help"], ["serve", "--help"], ["backup", "--help"], ["restore", "--help"], ["--version"]):
        with pytest.raises(SystemExit):
            main(arguments)
    look_for(capsys.readouterr().out, "the help")


class QuietServe(ServeProcess):
    """Takes its secrets from the environment, and logs all that there is to log."""

    def __init__(self, data: Path, secrets: Dict[str, str]) -> None:
        super().__init__(data, api_key=secrets["SELFDB_API_KEY"])
        program = (
            "import logging, sys; logging.basicConfig(level=logging.DEBUG, stream=sys.stderr); "
            "from selfdb.cli import main; sys.exit(main(sys.argv[1:]))"
        )
        serve = ["serve", "--port", str(self.port), "--data", str(data)]
        given = [f"{name}={value}" for name, value in secrets.items()]
        self.command = ["env", *given, sys.executable, "-c", program, *serve]


def test_g14_a_server_tells_no_secret_in_its_log(tmp_path: Path) -> None:
    password = SECRET.encode("ascii", "ignore").decode()
    secrets = {"SELFDB_API_KEY": KEY, "SELFDB_ADMIN_PASSWORD": password}
    with QuietServe(tmp_path / "data", secrets) as served:
        with SelfDB(served.url, KEY) as db:
            db.auth.login("admin@example.com", password)
            table = db.tables.create(TableCreate(name="things", table_schema={"note": {"type": "text"}}))
            row = db.tables.data.insert(table.id, {"note": VALUE})
            db.tables.data.fetch(table.id, search=VALUE)
            pair = db.access_token, db.refresh_token
            with pytest.raises(SelfDBError):
                db.tables.data.insert(table.id, {"note": {"no": VALUE}, VALUE: 1})
            with pytest.raises(SelfDBError):
                db.tables.data.update_row(table.id, row["id"], {"note": VALUE * 2, "id": VALUE})
        http = Http(served)
        for method, path, body in (
            ("GET", f"/users/me?token={ACCESS}&X-API-Key={KEY}", None),
            ("POST", "/users/token", {"email": "admin@example.com", "password": HEADER}),
            ("POST", "/users/token", {"email": [SECRET], "password": {"a": SECRET}}),
            ("POST", "/users/token/refresh", {"refresh_token": REFRESH}),
            ("POST", "/users/", {"email": "no", "password": SECRET}),
            ("DELETE", f"/users/me?key={KEY}", None),
        ):
            answer = http.request(method, path, bearer=ACCESS, headers={"Idempotency-Key": "k"}, json=body)
            assert answer.status_code < 500, answer.text
            look_for(answer.text, f"the answer to {method} {path.partition('?')[0]}", WITH_VALUES)
        for target in (f"/realtime/socket?X-API-Key={KEY}&token={ACCESS}", f"/realtime/elsewhere?token={REFRESH}"):
            with socket.create_connection(("127.0.0.1", served.port), 10) as sock:
                upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                sock.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{upgrade}{key}\r\n".encode())
                assert sock.recv(65536)
        assert served.stop() == 0
    told = served.output
    assert "GET /users/me" in told  # the access log was on
    look_for(told, "the server's log", WITH_VALUES)
    assert password not in told
    for token in pair:
        assert token is not None
        assert token not in told
        assert token.rpartition(".")[2] not in told
    del answer
    gc.collect()  # an answer of `requests` and its socket refer to each other


def test_g14_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    environment: Dict[str, Any] = {name: value for name, value in os.environ.items() if not name.startswith("SELFDB_")}
    environment.update(
        PYTHONPATH=str(ROOT), SELFDB_API_KEY=KEY, SELFDB_DATABASE=f"postgresql://me:{KEY}@127.0.0.1:{free_port()}/rows"
    )
    done = subprocess.run(
        [sys.executable, "-m", "selfdb", "serve", "--port", "0", "--data", str(tmp_path / "data")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 1, json.dumps(done.stderr)
    assert "127.0.0.1" in done.stderr
    look_for(done.stdout + done.stderr, "the command")
