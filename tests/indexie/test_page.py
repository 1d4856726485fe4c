"""The page on the local store and the README's lines: their code prints what it should, their tables are true."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import pytest

import selfdb.aio.indexie as awaited
import selfdb.indexie
from selfdb.cli import main
from selfdb.core.marks import inner_names, mark_of
from selfdb.indexie import MAX_KEY, MIN_KEY, IndexedDBError, Indexie

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "indexie.rst"


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


PRINTED = {
    "A local store: Indexie": ["1 Ann 1", "['Bob', 'Ann']"],
    "Schemas and versions": ["2 2 ['users', 'logs', 'settings']"],
    "Keys and values": ["2026 ['look']"],
    "Writing": ["32 {'city': 'Oslo', 'zip': '00100'}", "True True False", "Lea 2"],
    "Queries": [],
    "Transactions": ["kept", "5"],
    "Live queries": ["users: 5", "users: 6", "6 2 False"],
    "Hooks and the outbox": ["add 109 Gil 1", "True 0"],
    "Trying before keeping": ["2 with the overlay", "1 the server said no", "99", "32"],
    "With await": ["Hal", "['Hal', 'Ida']", "['Hal', 'Ida', 'Jo']"],
}


class Program:
    """The code of the page, one section after the other, in one set of names."""

    def __init__(self) -> None:
        self.names: Dict[str, Any] = {}

    def run(self, last: str) -> List[str]:
        """What the section ``last`` prints, after all those before it."""
        printed = ""
        for section in PRINTED:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                for snippet in snippets():
                    if snippet.section == section:
                        code = "\n" * snippet.line + snippet.code
                        exec(compile(code, str(PAGE), "exec", dont_inherit=True), self.names)
            printed = output.getvalue()
            if section == last:
                break
        return printed.splitlines()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    monkeypatch.setenv("SELFDB_INDEXIE_DIR", str(tmp_path))
    made = Program()
    yield made
    if "db" in made.names:
        made.names["db"].close()


def test_all_code_of_the_page_is_run_here() -> None:
    assert {snippet.section for snippet in snippets()} == set(PRINTED)


@pytest.mark.parametrize("section", PRINTED)
def test_the_code_prints_what_it_should(section: str, program: Program) -> None:
    assert program.run(section) == PRINTED[section]


def test_a_query_finds_what_the_page_says(program: Program) -> None:
    program.run("Queries")
    names = {"users": program.names["db"].users, "MIN_KEY": MIN_KEY, "MAX_KEY": MAX_KEY}
    rows = cells("each of the following gives")
    assert len(rows) == 20
    for query, expected in rows:
        found = program.names["names"](eval(query.strip("`"), names))
        assert found == expected.strip("`"), query


@pytest.mark.parametrize(("schema", "about"), cells("A store is declared by"))
def test_a_schema_string_is_one(schema: str, about: str) -> None:
    for each in re.findall(r"``([^`]+)``", schema):
        is_key = "key" in about.split(",")[0] and "index" not in about.split(",")[0]
        db = Indexie(":memory:")
        db.version(1).stores({"users": each if is_key else f"id, {each}"})
        with db:
            key, *indexes = str(db.users.schema).split(", ")
            assert (key if is_key else indexes[0]) == each


@pytest.mark.parametrize(("name", "about"), cells("Some that one catches"))
def test_an_error_is_what_the_page_says(name: str, about: str) -> None:
    for each in [name, *re.findall(r"``(\w+Error)``:", about)]:
        error = getattr(selfdb.indexie, each.strip("`"))
        assert issubclass(error, IndexedDBError)
    builtin = re.search(r"also a ``(\w+)``", about)
    if builtin:
        assert issubclass(getattr(selfdb.indexie, name.strip("`")), eval(builtin[1]))


def test_the_command_lines_are_understood(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program.run("Trying before keeping")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index("\nOn the command line\n") :]
    block = re.search(r"::\n\n((?: {4}.*\n)+)", section)
    assert block is not None
    lines = [shlex.split(line) for line in block[1].splitlines()]
    assert len(lines) == 6
    for program_name, *arguments in lines:
        assert program_name == "selfdb"
        assert main(arguments) == 0, arguments
        assert not capsys.readouterr().err


# The table of what there is

HOMES = {
    "": "Indexie",
    "version()": "Version",
    "users": "Table",
    "where()": "WhereClause",
    "query": "Collection",
    "tx": "Transaction",
    "live": "LiveQuery",
    "hook": "TableHooks",
    "outbox": "Outbox",
    "overlay": "OverlayTransaction",
}


class Feature(NamedTuple):
    what: str
    calls: List[str]
    awaited: str


def features() -> List[Feature]:
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index(".. features:") : text.index(".. end of features")]
    rows = [
        re.findall(r"^(?:   \* - |     -) ?(.*)$", row, re.MULTILINE)
        for row in re.split(r"^(?=   \* )", table, flags=re.M)
    ]
    found = [Feature(row[0], re.findall(r"``([^`]+)``", row[1]), row[2].strip("`")) for row in rows[2:]]
    assert len(found) > 15
    return found


def face_of(home: str) -> Any:
    return getattr(awaited, HOMES[home])


def blocking_of(home: str) -> Any:
    return face_of(home)._blocking_class


def kind_of(call: str) -> str:
    home, _, name = call.rpartition(".")
    value = inspect.getattr_static(blocking_of(home), name)
    mark = mark_of(getattr(value, "__func__", value))
    return "passing" if mark is None else mark.kind


@pytest.mark.parametrize("feature", features(), ids=lambda feature: feature.what)
def test_a_feature_is_there_blocking_and_awaited(feature: Feature) -> None:
    assert feature.calls
    for call in feature.calls:
        if call in selfdb.indexie.__all__:
            assert callable(getattr(selfdb.indexie, call))
            assert callable(getattr(awaited, call))
            continue
        home, _, name = call.rpartition(".")
        assert callable(getattr(blocking_of(home), name))
        assert hasattr(face_of(home), name)
        assert (kind_of(call) in ("blocking", "waiting")) == (feature.awaited != "as it is"), call


@pytest.mark.parametrize("home", HOMES)
def test_no_call_is_left_out(home: str) -> None:
    shown = {call for feature in features() for call in feature.calls}
    cls = blocking_of(home)
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        function = getattr(value, "__func__", value)
        if name.startswith("_") or name in inner_names(cls) or not inspect.isfunction(function):
            continue
        mark = mark_of(function)
        if mark is None or mark.kind != "inner":
            assert f"{home}.{name}".lstrip(".") in shown


def test_the_code_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELFDB_INDEXIE_DIR", str(tmp_path))
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    below = text[text.index("\nA local store\n") :]
    block = re.search(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", below)
    assert block is not None
    names: Dict[str, Any] = {}
    try:
        exec(compile(textwrap.dedent(block[1]), "README.rst", "exec", dont_inherit=True), names)
        assert names["db"].outbox.flush(20)
        first, *others = capsys.readouterr().out.splitlines()
        assert (first, sorted(others)) == ("[]", ["['Buy tea']", "pushed Buy tea"])  # two threads print the others
    finally:
        names["db"].close()
