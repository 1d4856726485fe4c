"""The page on AeroDB and the README's lines: their code runs and prints what it should, their tables are true."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import textwrap
import threading
from datetime import date
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple
from urllib.parse import parse_qsl

import pytest
import requests

import selfdb.aerodb
from selfdb.aerodb import AeroDBClient, filters
from selfdb.aerodb.paging import Pages, RowStream
from selfdb.core.marks import mark_of
from tests.servers.aerodb.realtime import AeroRealtime
from tests.servers.aerodb.server import AeroServer
from tests.servers.postgrest import PACKAGE, PostgRest
from tests.servers.process import free_port
from tests.servers.scripted import read, stall
from tests.servers.tcpproxy import TcpProxy

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "aerodb.rst"
ADDRESS = "https://api.example.com"
SECONDS = 20.0


class Snippet(NamedTuple):
    section: str
    line: int
    code: str


def snippets() -> List[Snippet]:
    found: List[Snippet] = []
    section, lines = "", PAGE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if number and line and set(line) <= set("=-") and len(line) >= len(lines[number - 1]) > 0:
            section = lines[number - 1]
        if line == ".. code-block:: python":
            block = []
            for inner in lines[number + 1 :]:
                if inner and not inner.startswith("    "):
                    break
                block.append(inner[4:])
            found.append(Snippet(section, number + 2, "\n".join(block).strip("\n") + "\n"))
    return found


def cells(after: str) -> List[Tuple[str, str]]:
    """The rows, of two columns, of the first simple table behind the words ``after``."""
    text = PAGE.read_text(encoding="utf-8")
    table = re.search(r"^(=+)  =+\n(.*?)^=+  =+\n", text[text.index(after) :], re.MULTILINE | re.DOTALL)
    assert table is not None
    width = len(table[1])
    return [(line[:width].strip(), line[width:].strip()) for line in table[2].splitlines()]


class Output(io.StringIO):
    """What a program prints, on whichever thread."""

    def __init__(self) -> None:
        super().__init__()
        self._came = threading.Condition()

    def write(self, text: str) -> int:
        with self._came:
            self._came.notify_all()
            return super().write(text)

    def lines_once(self, count: int) -> List[str]:
        """The lines that there are, once there are ``count``."""
        with self._came:
            assert self._came.wait_for(lambda: self.getvalue().count("\n") >= count, SECONDS), self.getvalue()
            return self.getvalue().splitlines()


class Program:
    """The code of one section after the other, in one set of names, in which ``client`` is at hand anew for each."""

    def __init__(self) -> None:
        self.names: Dict[str, Any] = {"AeroDBClient": AeroDBClient}  # which the page imports at its top
        self.output = Output()

    def run(self, section: str, url: str, **options: Any) -> List[str]:
        """The lines that the section prints when its server is at ``url``."""
        code = [snippet for snippet in snippets() if snippet.section == section]
        assert code, section
        begin = len(self.output.getvalue())
        with AeroDBClient(url, "key-of-the-page", **options) as client, contextlib.redirect_stdout(self.output):
            self.names["client"] = client
            for snippet in code:
                exec(
                    compile(
                        "\n" * snippet.line + snippet.code.replace(ADDRESS, url), str(PAGE), "exec", dont_inherit=True
                    ),
                    self.names,
                )
        return self.output.getvalue()[begin:].splitlines()

    def close(self) -> None:
        """Close what the code has left open."""
        for value in self.names.values():
            if isinstance(value, AeroDBClient):
                value.close()
        if "cache" in self.names:
            self.names["cache"].close()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    monkeypatch.chdir(tmp_path)
    made = Program()
    yield made
    made.close()


ON_POSTGREST = {
    "AeroDB, and any PostgREST": ["Alice", "a&b=c+d #é"],
    "Data or an error": ["23505 Key (email)=(alice@example.com) already exists.", "406 PGRST116"],
    "Queries": ["first by Alice", "second by Alice", "1 of 2", "True None"],
    "Writing": ["['Anna', 'Ben']"],
    "Rows as models": ["albert 17"],
    "Large tables": ["3126250", "1000", "500"],
    "Functions of the database, other schemas": ["3", "[{'id': 1, 'name': 'thing'}]"],
    "Without a network": ["False"],
    "With await": ["2", "number 1", "number 2", "number 3"],
}
ON_STAND_INS = {
    "Users": ["ann@example.com"],
    "Files": ["b'...' ['2026/cat.jpg']", "{url}/storage/v1/object/sign/photos/2026/cat.jpg?token=t"],
    "Functions": ["{{'hello': 'Ann'}}"],
}
APART = {"Events", "Is the server up?", "Trying again"}


@pytest.mark.parametrize("section", ON_POSTGREST)
def test_what_is_about_tables_runs_on_postgrest(section: str, rest: PostgRest, program: Program) -> None:
    assert program.run(section, rest.url) == ON_POSTGREST[section]
    for name in ("admins", "guests"):
        if name in program.names:
            assert program.names[name].ok
            assert len(program.names[name].data) == 2


@pytest.mark.parametrize("section", ON_STAND_INS)
def test_what_is_beside_them_runs_on_a_stand_in(section: str, aero: AeroServer, program: Program) -> None:
    aero.functions["greet"] = 200, {}, {"hello": "Ann"}
    assert program.run(section, aero.url) == [line.format(url=aero.url) for line in ON_STAND_INS[section]]
    assert not any(
        response.error for name, response in program.names.items() if isinstance(response, selfdb.aerodb.AeroDBResponse)
    )
    if section == "Users":
        assert [line for line in aero.lines if line.startswith("POST")] == [
            "POST /auth/signup",
            "POST /auth/login",
            "POST /auth/logout",
        ]


def test_events_come_and_a_gap_is_told(aero: AeroServer, program: Program) -> None:
    realtime = AeroRealtime()
    realtime.start()
    try:
        code = next(snippet.code for snippet in snippets() if snippet.section == "Events")
        with (
            AeroDBClient(aero.url, "key", realtime_url=realtime.url) as client,
            contextlib.redirect_stdout(program.output) as output,
        ):
            exec(code, {"client": client})
            realtime.event("posts", new={"id": 1})
            output.lines_once(2)
            realtime.drop()
            assert output.lines_once(3) == ["joined", "INSERT {'id': 1}", "look again"]
            assert realtime.subscribed(2) == ["posts", "posts"]
    finally:
        realtime.stop()


def test_a_server_is_watched(aero: AeroServer, program: Program) -> None:
    code = next(snippet.code for snippet in snippets() if snippet.section == "Is the server up?")
    with AeroDBClient(aero.url) as client, contextlib.redirect_stdout(program.output) as output:
        exec(code, {"client": client})
        assert output.lines_once(2) == ["ok", "was unknown and is up"]


def test_a_policy_tries_again(rest: PostgRest, program: Program) -> None:
    rest.instead = lambda request: (503, {}, b"busy") if len(rest.requests) == 1 else None
    assert program.run("Trying again", rest.url) == ["503", "True"]
    assert len(rest.requests) == 2


def test_without_the_network_the_cache_answers(rest: PostgRest, program: Program) -> None:
    with TcpProxy(int(rest.url.rpartition(":")[2])) as network:
        assert program.run("Without a network", network.url) == ["False"]
        network.refuse()
        network.cut()
        query = program.names["client"].from_("users").select("name").eq("id", 1)
        kept = query.execute()
        assert (kept.data, kept.error, kept.from_cache) == ([{"name": "Alice"}], None, True)
        assert query.insert({"name": "Eve"}).error.code == "VALIDATION_ERROR"
        assert program.names["client"].from_("users").insert({"name": "Eve"}).error.code == "NETWORK_ERROR"
        network.resume()
        rest.instead = lambda request: (500, {}, b"broken")
        assert query.execute().error.message == "broken"


def test_all_code_of_the_page_is_run_here() -> None:
    assert {snippet.section for snippet in snippets()} == {*ON_POSTGREST, *ON_STAND_INS, *APART}


@pytest.mark.parametrize(("step", "sent"), cells("Steps and what they are sent as"))
def test_a_step_is_sent_as_the_page_says(step: str, sent: str, rest: PostgRest, db: AeroDBClient) -> None:
    names = {"query": db.from_("users"), "filters": filters, "date": date}
    response = eval("query" + step.strip("`") + ".execute()", names)
    assert response.error is None
    parameters = parse_qsl(rest.requests[-1].query, keep_blank_values=True, strict_parsing=True)
    assert "&".join(f"{name}={value}" for name, value in parameters) == f"select=*&{sent.strip('`')}"


class _Unreadable(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        raise OSError("the disk is gone")


def _of_one_that_is_closed(client: AeroDBClient) -> Any:
    client.close()
    return client.from_("users").execute()


WAYS_TO_FAIL: Dict[str, Callable[[AeroDBClient], Any]] = {
    "NETWORK_ERROR": lambda client: client.from_("users").execute(),
    "TIMEOUT": lambda client: client.from_("users").execute(),
    "INVALID_RESPONSE": lambda client: client.from_("users").execute(),
    "VALIDATION_ERROR": lambda client: client.from_("users").limit(-1).execute(),
    "UNFILTERED_WRITE": lambda client: client.from_("users").delete(),
    "NOT_AUTHENTICATED": lambda client: client.auth.get_user(),
    "NO_REFRESH_TOKEN": lambda client: client.auth.refresh_session(),
    "CLIENT_CLOSED": _of_one_that_is_closed,
    "CLIENT_ERROR": lambda client: client.storage.from_("photos").upload("a", _Unreadable()),
}


@pytest.mark.parametrize(("code", "about"), cells("ends the query sends nothing"))
def test_a_code_is_what_the_page_says(
    code: str, about: str, rest: PostgRest, client_of: Callable[..., AeroDBClient], scripted: Callable[..., Any]
) -> None:
    name = code.strip("`")
    url = rest.url
    if name == "NETWORK_ERROR":
        url = f"http://127.0.0.1:{free_port()}"
    if name == "TIMEOUT":
        url = scripted([read(), stall()]).url
    if name == "INVALID_RESPONSE":
        rest.instead = lambda request: (200, {}, b"<html>")
    response = WAYS_TO_FAIL[name](client_of(url, timeout=0.3 if name == "TIMEOUT" else 30.0))
    assert response.error.code == name
    assert (response.ok, response.data) == (False, None)
    if "nothing was sent" in about:
        assert rest.requests == []
        assert not response.error.may_have_been_applied


# The table of what there is


class Feature(NamedTuple):
    what: str
    calls: List[str]
    awaited: str
    proven: List[str]


HOMES = {
    "": "AeroDBClient",
    "from_()": "QueryBuilder",
    "auth": "AuthClient",
    "storage": "StorageClient",
    "storage.from_()": "StorageBucket",
    "functions": "FunctionsClient",
    "channel()": "RealtimeChannel",
    "realtime": "RealtimeClient",
    "health": "HealthClient",
}
SECOND_NAMES = {("AeroDBClient", "table"), ("StorageBucket", "list_"), ("RealtimeClient", "channel")}


def features() -> List[Feature]:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index(".. features:") : text.index(".. end of features")]
    rows = [
        re.findall(r"^(?:   \* - |     -) ?(.*)$", row, re.MULTILINE)
        for row in re.split(r"^(?=   \* )", table, flags=re.M)
    ]
    found = [
        Feature(row[0], re.findall(r"``([^`]+)``", row[1]), row[2].strip("`"), row[3].split(", "))
        for row in rows[2:]
        if not row[0].startswith("**")
    ]
    assert len(found) > 20
    return found


def place_of(call: str) -> Tuple[str, str]:
    """The class and the name of a call of the table."""
    home, _, name = call.rpartition(".")
    return HOMES[home], name


def marked(owner: type, name: str) -> str:
    mark = mark_of(inspect.getattr_static(owner, name))
    return "passing" if mark is None else mark.kind


def is_waited_for(call: str) -> bool:
    owner, name = place_of(call)
    return marked(getattr(selfdb.aerodb, owner), name) in ("blocking", "waiting")


@pytest.mark.parametrize("feature", features(), ids=lambda feature: feature.what)
def test_a_feature_is_there_blocking_and_awaited(feature: Feature) -> None:
    import selfdb.aio.aerodb as awaited

    assert feature.calls
    for call in feature.calls:
        if call in selfdb.aerodb.__all__:
            if feature.awaited == "the same":
                assert getattr(awaited, call) is getattr(selfdb.aerodb, call)
            continue
        owner, name = place_of(call)
        assert callable(getattr(getattr(selfdb.aerodb, owner), name)) or name == "state"
        assert hasattr(getattr(awaited, owner), name)
        assert is_waited_for(call) == (feature.awaited == "await"), call
    if feature.awaited == "async for":
        assert {marked(walk, "__next__") for walk in (Pages, RowStream)} == {"waiting"}
    if feature.awaited == "async with":
        assert marked(AeroDBClient, "__exit__") == "blocking"


@pytest.mark.parametrize("owner", HOMES.values())
def test_no_call_is_left_out(owner: str) -> None:
    shown = {place_of(call) for feature in features() for call in feature.calls if call not in selfdb.aerodb.__all__}
    for name, value in vars(getattr(selfdb.aerodb, owner)).items():
        if (
            inspect.isfunction(value)
            and not name.startswith("_")
            and marked(getattr(selfdb.aerodb, owner), name) != "inner"
        ):
            assert (owner, name) in shown | SECOND_NAMES


def test_the_code_of_the_readme_runs(rest: PostgRest, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    below = text[text.index("\nAeroDB and PostgREST\n") :]
    block = re.search(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", below)
    assert block is not None
    names: Dict[str, Any] = {}
    exec(compile(textwrap.dedent(block[1]).replace(ADDRESS, rest.url), "README.rst", "exec", dont_inherit=True), names)
    assert capsys.readouterr().out == "[{'id': 1, 'name': 'Alice'}, {'id': 7, 'name': 'a&b=c+d #é'}]\n"
    assert (names["response"].ok, names["row"]["id"]) == (True, 2500)


def test_postgrest_is_of_the_version_that_the_page_names(rest: PostgRest) -> None:
    (version,) = re.findall(r"version ([\d.]+) on PostgreSQL", PAGE.read_text(encoding="utf-8"))
    with requests.Session() as session:
        session.trust_env = False
        said = session.get(f"{rest.url}/rest/v1/users?limit=0", timeout=10).headers["Server"]
    assert version in said
    assert f"@{version}" in PACKAGE


def sources() -> Dict[str, str]:
    """The text of the tests on the real one, and of those on stand-ins."""
    files = [*Path(__file__).parent.glob("test_*.py"), *(ROOT / "tests" / "examples").glob("test_*.py")]
    files += [ROOT / "examples" / name for name in ("station_report.py", "field_device.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path != Path(__file__)}
    real = re.compile(r"\bPostgRest\b|\bdb: |^AERODB_URL", re.MULTILINE)
    return {
        "PostgREST": "\n".join(text for text in texts.values() if real.search(text)),
        "stand-in": "\n".join(text for text in texts.values() if re.search(r"\bAero(Server|Realtime)\b", text)),
    }


@pytest.mark.parametrize("feature", features(), ids=lambda feature: feature.what)
def test_a_feature_is_used_where_the_page_says(feature: Feature) -> None:
    texts = sources()
    for where in feature.proven:
        for call in feature.calls:
            name = call.rpartition(".")[2]
            before = "" if name[0].isupper() else r"(\.|\"|import )"
            assert re.search(rf"{before}\b{name}\b", texts[where]), (where, call)
