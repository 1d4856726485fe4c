"""The common mistakes, each made for real, and the table of what is said then: ``python -m tests.faults.mistakes``.

The table is a part of ``docs/errors.rst``; a test compares the two. What differs from run to run (ports, ids, folders)
is written as a name in it.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
import ssl
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional
from unittest import mock

import trustme

from selfdb import SelfDB, SelfDBError
from selfdb.cli import main
from selfdb.server import LocalServer
from tests.servers.process import free_port
from tests.servers.replies import ReplyServer
from tests.servers.scripted import ScriptedServer

KEY = "the-key-of-the-server"
PAGE = Path(__file__).parents[2] / "docs" / "errors.rst"
BEGIN, END = ".. made by: python -m tests.faults.mistakes\n", ".. end of what is made\n"


class Mistake(NamedTuple):
    """What somebody did, and what was said to him: an exception of a call, or what a command printed."""

    what: str
    kind: str
    said: str


class Stage:
    """The servers that the mistakes are made on; everything is let go of at the end."""

    def __init__(self) -> None:
        self.stack = contextlib.ExitStack()
        self.server: Any = self.stack.enter_context(LocalServer(api_key=KEY, admin_password="password"))
        self.names: Dict[str, str] = {}
        self.admin = self.client()
        self.admin.auth.login("admin@example.com", "password")
        self.table = self.admin.tables.create(
            {"name": "orders", "table_schema": {"item": {"type": "text"}, "amount": {"type": "integer"}}}
        )
        self.admin.tables.update(self.table.id, {"realtime_enabled": True})
        self.bucket = self.admin.storage.buckets.create({"name": "photos", "file_size_limit": 1000})
        self.names[self.table.id], self.names[self.bucket.id] = "TABLE_ID", "BUCKET_ID"
        self.eve = self.client()
        person = {"email": "eve@example.com", "password": "password123", "firstName": "Eve", "lastName": "E"}
        self.eve.auth.users.create(person)
        self.eve.auth.login("eve@example.com", "password123")

    def client(self, url: Optional[str] = None, key: str = KEY, **options: Any) -> SelfDB:
        db = SelfDB(url or self.server.url, key, max_retries=0, **options)
        self.stack.callback(db.close)
        return db

    def replies(self, answer: Any, tls: Optional[ssl.SSLContext] = None) -> str:
        return self.stack.enter_context(ReplyServer(answer, tls=tls)).url

    def scripted(self, handler: Any) -> str:
        server = ScriptedServer(default=handler)
        server.start()
        self.stack.callback(server.stop)
        return server.url

    def certificate(self, name: str, *, known: bool) -> SelfDB:
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        url = self.replies(lambda request: (200, {}, {}), context)
        return self.client(url, **({"verify": str(folder / "ca.pem")} if known else {}))

    def normal(self, text: str) -> str:
        for value, name in self.names.items():
            text = text.replace(value, name)
        text = text.replace(self.server.url.rpartition(":")[2], "8000")
        text = re.sub(r"127\.0\.0\.1:(?!8000\b)\d+", "127.0.0.1:PORT", text)
        text = re.sub(r"pid \d+|process \d+", lambda found: f"{found[0].split()[0]} 4711", text)
        text = re.sub(r"/tmp/\S*?/(?=data\b)|/(?:var|private)/\S*?/(?=data\b)", "/srv/", text)
        return " ".join(text.split())


def _expired(stage: Stage) -> SelfDB:
    """A client whose session was ended by somebody else."""
    db = stage.client()
    stage.admin.auth.users.create({**USER, "email": "ann@example.com"})
    db.auth.login("ann@example.com", "password123")
    other = stage.client()
    other.access_token = db.access_token
    other.auth.logout_all()
    return db


def _unresolvable(stage: Stage) -> Any:
    def look_up(*arguments: Any, **options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with mock.patch("socket.getaddrinfo", look_up):
        return stage.client("http://api.exmaple.com").status()


def _proxied(stage: Stage) -> Any:
    address = f"http://127.0.0.1:{free_port()}"
    proxy = {"HTTP_PROXY": address, "http_proxy": address, "NO_PROXY": "", "no_proxy": ""}
    with mock.patch.dict("os.environ", proxy):
        return stage.client("http://api.example.com").status()


def _stall(peer: Any) -> None:
    peer.read_request()
    peer.stall()


def _ssh(peer: Any) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.7\r\n")
    peer.wait_for_close()


def _realtime(db: SelfDB, topic: Optional[str] = None) -> None:
    try:
        db.realtime.connect(timeout=10)
        if topic:
            db.realtime.channel(topic).subscribe(timeout=10)
    finally:
        db.realtime.disconnect()


def _row(stage: Stage, **values: Any) -> Any:
    return stage.admin.tables.data.insert(stage.table.id, values)


USER = {"email": "eve@example.com", "password": "password123", "firstName": "E", "lastName": "E"}
HTML = (404, {"Content-Type": "text/html"}, b"<html><head><title>404 Not Found</title></head></html>")

CALLS: Dict[str, Callable[[Stage], Any]] = {
    "no server runs there": lambda stage: stage.client(f"http://127.0.0.1:{free_port()}").status(),
    "something else listens there": lambda stage: stage.client(stage.scripted(_ssh)).status(),
    "another web server listens there": lambda stage: stage.client(stage.replies(lambda request: HTML)).status(),
    "the address of a web page": lambda stage: stage.client(
        stage.replies(lambda request: (200, {}, "<html>Welcome</html>"))
    ).status(),
    "the host name is misspelt": _unresolvable,
    "the proxy is down": _proxied,
    "the server does not answer": lambda stage: stage.client(stage.scripted(_stall), timeout=0.2).status(),
    "the deadline passes": lambda stage: stage.client(stage.scripted(_stall), deadline=0.2).status(),
    "https, where http is served": lambda stage: stage.client(stage.server.url.replace("http:", "https:")).status(),
    "http, where https is served": lambda stage: (
        stage.certificate("127.0.0.1", known=True)
        and stage.client(stage.certificate("127.0.0.1", known=True).base_url.replace("https:", "http:")).status()
    ),
    "a certificate of an authority of one's own": lambda stage: stage.certificate("127.0.0.1", known=False).status(),
    "a certificate for another name": lambda stage: stage.certificate("db.example.com", known=True).status(),
    "no address": lambda stage: SelfDB("", KEY),
    "no API key": lambda stage: SelfDB("https://api.example.com", ""),
    "a proxy that takes the API key away": lambda stage: stage.client(
        stage.replies(lambda request: (406, {}, {"detail": "Missing required header: X-API-Key"}))
    ).status(),
    "a wrong API key": lambda stage: stage.client(key="another-key").auth.me(),
    "a wrong password": lambda stage: stage.client().auth.login("eve@example.com", "not-this-one"),
    "not signed in": lambda stage: stage.client().auth.me(),
    "no session to refresh": lambda stage: stage.client().auth.refresh(),
    "the session was ended": lambda stage: _expired(stage).auth.me(),
    "the e-mail address is taken": lambda stage: stage.admin.auth.users.create(USER),
    "no such table": lambda stage: stage.admin.tables.get("00000000-0000-4000-8000-000000000000"),
    "no table of that name": lambda stage: stage.admin.tables.get_by_name("order"),
    "somebody else's table": lambda stage: stage.eve.tables.data.fetch(stage.table.id),
    "a value of another type": lambda stage: _row(stage, amount="three"),
    "a column that is not there": lambda stage: _row(stage, colour="red"),
    "no such bucket": lambda stage: stage.admin.storage.files.upload("b", "a.txt", b"x"),
    "no such file": lambda stage: stage.admin.storage.files.download("photos", "a.txt"),
    "a file beyond the bucket's limit": lambda stage: stage.admin.storage.files.upload(
        stage.bucket.id, "a.txt", b"x" * 1001
    ),
    "realtime with a wrong API key": lambda stage: _realtime(stage.client(key="another-key")),
    "realtime, not signed in": lambda stage: _realtime(stage.client()),
    "realtime of somebody else's table": lambda stage: _realtime(stage.eve, "table:orders"),
    "realtime of no table": lambda stage: _realtime(stage.admin, "table:order"),
    "a closed client": lambda stage: [client.close() or client.status() for client in [stage.client()]],
}


@contextlib.contextmanager
def _without_the_extra() -> Iterator[None]:
    class Missing:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name == "sqlalchemy" or name.startswith("selfdb.server"):
                raise ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy")

    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith("selfdb.server")}
    package = sys.modules["selfdb"]
    attribute = vars(package).pop("server", None)
    sys.meta_path.insert(0, Missing())  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.meta_path.pop(0)
        sys.modules.update(kept)
        if attribute is not None:
            vars(package)["server"] = attribute


def _command(*arguments: str) -> str:
    """What the command line says in its own process's stead; in a thread it installs no signal handlers."""
    printed = io.StringIO()
    status: List[int] = []

    def run() -> None:
        try:
            status.append(main(arguments))
        except SystemExit as end:
            status.append(int(end.code or 0))

    with contextlib.redirect_stderr(printed):
        thread = threading.Thread(target=run, name="command")
        thread.start()
        thread.join(30)
    assert status not in ([], [0]), f"{arguments} did not fail: {status} {printed.getvalue()}"
    return printed.getvalue()


def _commands(stage: Stage, folder: Path) -> Iterator[Mistake]:
    data = str(folder / "data")
    taken = stage.server.url.rpartition(":")[2]
    with _without_the_extra():
        try:
            SelfDB.local()
        except SelfDBError as error:
            yield Mistake("``SelfDB.local()`` without the extra", type(error).__name__, str(error))
        yield Mistake("``selfdb serve`` without the extra", "", _command("serve", "--data", data))
    yield Mistake("``selfdb serve`` on a port in use", "", _command("serve", "--data", data, "--port", taken))
    with LocalServer(data) as other:
        said = _command("serve", "--data", data, "--port", "0").replace(other.url, "http://127.0.0.1:PORT")
    yield Mistake("``selfdb serve`` of a folder that is served", "", said)
    said = _command("serve", "--data", data, "--host", "0.0.0.0")
    yield Mistake("``selfdb serve`` for others with the first password", "", said)


def make() -> List[Mistake]:
    """Make every mistake; in the order of the table."""
    stage = Stage()
    made: List[Mistake] = []
    with stage.stack, tempfile.TemporaryDirectory() as folder:
        for what, call in CALLS.items():
            try:
                call(stage)
            except SelfDBError as error:
                made.append(Mistake(what, type(error).__name__, stage.normal(str(error))))
            else:
                raise AssertionError(f"{what}: nothing was wrong")
        for mistake in _commands(stage, Path(folder)):
            made.append(mistake._replace(said=stage.normal(mistake.said)))
    return made


def table(mistakes: List[Mistake]) -> str:
    """The table as reStructuredText."""
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 30 70",
        "",
        "   * - What was done",
        "     - What is said",
    ]
    for mistake in mistakes:
        lines.append(f"   * - {mistake.what}")
        kind = f"``{mistake.kind}``: " if mistake.kind else ""
        said = mistake.said.replace("\\", "\\\\").replace("*", "\\*").replace("`", "\\`").replace("|", "\\|")
        lines.append(f"     - {kind}{said}")
    return "\n".join(lines) + "\n"


def page() -> str:
    """What stands between the marks of the committed page."""
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0].strip("\n") + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(make())}\n{END}{after}", encoding="utf-8")
