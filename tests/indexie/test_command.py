"""``selfdb indexie``: what it shows of a store, what it writes and reads, and how it says what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, List, Tuple

import pytest

from selfdb.cli import main
from selfdb.indexie import Indexie

SCHEMA = {"users": "++id, &email, age, *tags, [last+first]", "settings": "", "empty": "id"}
USERS = [
    {
        "id": 1,
        "email": "ann@x",
        "age": 30,
        "tags": ["a", "b"],
        "last": "D",
        "first": "Ann",
        "address": {"city": "Oslo"},
    },
    {"id": 2, "email": "ben@x", "age": 17, "tags": [], "last": "D", "first": "Ben", "address": {"city": "Rome"}},
    {"id": 3, "email": "bob@x", "age": 41, "tags": ["b"], "last": "E", "first": "Bob", "address": {"city": "Rome"}},
    {"id": 4, "email": "z\u00fc@x", "age": "old", "tags": "a", "last": None},
]


@pytest.fixture
def file(path: Path) -> Path:
    db = Indexie(path)
    db.version(3).stores(SCHEMA)
    with db:
        db.users.bulk_add(USERS)
        db.settings.add({"theme": "dark"}, key="look")
        db.settings.add([1, 2.5, None], key=7)
    return path


Run = Callable[..., Tuple[int, List[str], str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run(*arguments)``: status, lines of standard output, standard error."""

    def call(*arguments: object) -> Tuple[int, List[str], str]:
        try:
            status = main(["indexie", *map(str, arguments)])
        except SystemExit as end:
            status = int(str(end.code))
        out, err = capsys.readouterr()
        return status, out.splitlines(), err

    return call


def test_the_stores(run: Run, file: Path) -> None:
    status, lines, _ = run("stores", file)
    assert status == 0
    assert lines == [
        f"{file}, version 3",
        "empty            0  id",
        "settings         2",
        "users            4  ++id, &email, age, *tags, [last+first]",
    ]


def test_the_stores_as_json(run: Run, file: Path) -> None:
    status, lines, _ = run("stores", file, "--json")
    shown = json.loads("\n".join(lines))
    assert (status, shown["version"], shown["path"]) == (0, 3, str(file))
    assert [(store["name"], store["rows"], store["key"]) for store in shown["stores"]] == [
        ("empty", 0, "id"),
        ("settings", 2, ""),
        ("users", 4, "id"),
    ]


AT = ("--where", "id", ">", "0", "--where", "address.city")


def ids(lines: List[str]) -> List[Any]:
    return [json.loads(line)["id"] for line in lines]


@pytest.mark.parametrize(
    "options, expected",
    [
        ([], [1, 2, 3, 4]),
        (["--where", "age", "=", "30"], [1]),
        (["--where", "age", "!=", "30"], [2, 3, 4]),
        (["--where", "age", ">", "17"], [1, 3, 4]),
        (["--where", "age", ">=", "17", "--where", "age", "<", "1e9"], [2, 1, 3]),
        (["--where", "age", "<", "30"], [2]),
        (["--where", "age", "<=", "30"], [2, 1]),
        (["--where", "email", "^=", "b"], [2, 3]),
        (["--where", "email", "=", "ann@x"], [1]),
        (["--where", "email", "=", '"ann@x"'], [1]),
        (["--where", "tags", "=", "b"], [1, 3]),
        (["--where", "age", "in", "[41, 17, 99]"], [2, 3]),
        (["--where", "age", "between", "[17, 41]"], [2, 1]),
        (["--where", "[last+first]", "=", '["D", "Ben"]'], [2]),
        ([*AT, "=", "Rome"], [2, 3]),
        ([*AT, "!=", "Rome"], [1]),
        ([*AT, "in", '["Oslo"]'], [1]),
        (
            [*AT, "^=", "R", "--where", "age", "between", "[0, 41]"],
            [2],
        ),
        (["--where", "id", ">", "0", "--where", "age", "<=", "30"], [1, 2]),
        (["--order", "email"], [1, 2, 3, 4]),
        (["--order", "age", "--reverse"], [4, 3, 1, 2]),
        (["--where", "id", ">", "1", "--order", "first"], [2, 3, 4]),
        (["--order", "address.city"], [1, 2, 3, 4]),
        (["--order", "last", "--reverse"], [3, 2, 1, 4]),
        (["--limit", "2"], [1, 2]),
        (["--limit", "2", "--offset", "1", "--reverse"], [3, 2]),
    ],
)
def test_rows(run: Run, file: Path, options: List[str], expected: List[int]) -> None:
    status, lines, err = run("query", file, "users", *options)
    assert (status, err) == (0, "")
    assert ids(lines) == expected
    assert run("query", file, "users", *options, "--count") == (0, [str(len(expected))], "")
    assert run("query", file, "users", *options, "--keys") == (0, [str(number) for number in expected], "")


def test_rows_without_a_key_of_their_own(run: Run, file: Path) -> None:
    assert run("query", file, "settings")[1] == ["[1,2.5,null]", '{"theme":"dark"}']
    assert run("query", file, "settings", "--keys")[1] == ["7", '"look"']
    assert run("query", file, "settings", "--where", ":id", "=", "look")[1] == ['{"theme":"dark"}']
    assert run("query", file, "empty") == (0, [], "")


def test_out_and_in_again(run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, written = tmp_path / "copy.db", tmp_path / "all.json"
    assert run("export", file, "--output", written) == (0, [], "")
    assert run("export", file)[1] == written.read_text(encoding="utf-8").splitlines()
    status, _, err = run("export", file, "--output", written)
    assert (status, "all.json" in err) == (1, True), "nothing is written over"
    db = Indexie(copy)
    db.version(3).stores(SCHEMA)
    with db:
        db.users.add({"id": 9, "email": "other"})
    assert run("import", copy, written)[0] == 0
    assert ids(run("query", copy, "users")[1]) == [1, 2, 3, 4, 9]
    with written.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert run("import", copy, "-", "--clear")[0] == 0
    assert run("query", copy, "users")[1] == run("query", file, "users")[1]
    assert run("query", copy, "settings")[1] == run("query", file, "settings")[1]
    written.write_text("{}")
    assert run("import", copy, written)[0] == 2
    assert ids(run("query", copy, "users")[1]) == [1, 2, 3, 4]
    assert run("import", copy, tmp_path / "missing.json")[0] == 1


def test_it_reads_while_another_process_writes(run: Run, file: Path, peer: Callable[[], Any]) -> None:
    other = peer()
    other.run(
        "from selfdb.indexie import Indexie\nfrom pathlib import Path\n"
        "db = Indexie(Path(path)).open()\ntx = db.transaction('rw', ['users'])\ntx.__enter__()\n"
        "db.users.delete(1)"
    )
    assert ids(run("query", file, "users")[1]) == [1, 2, 3, 4]
    other.run("tx.__exit__(None, None, None)\ndb.close()")
    assert ids(run("query", file, "users")[1]) == [2, 3, 4]


def test_whether_the_file_is_whole(run: Run, file: Path) -> None:
    assert run("check", file) == (0, [], "")
    file.write_bytes(b"no database at all" * 1000)
    status, _, err = run("check", file)
    assert status == 1
    assert err.startswith("selfdb indexie: ")


def test_databases_by_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = Indexie("my notes", directory=tmp_path)
    db.version(1).stores({"notes": "++id"})
    db.open().close()
    assert run("--dir", tmp_path, "names") == (0, ["my notes"], "")
    assert run("--dir", tmp_path, "stores", "my notes")[0] == 0
    monkeypatch.setenv("SELFDB_INDEXIE_DIR", str(tmp_path))
    assert run("names")[1] == ["my notes"]
    assert run("query", "my notes", "notes", "--count")[1] == ["0"]


@pytest.mark.parametrize(
    "arguments, status, said",
    [
        ((), 2, ""),
        (("query", "FILE"), 2, "STORE"),
        (("query", "FILE", "nosuch"), 2, "'nosuch'"),
        (("query", "FILE", "users", "--where", "nick", "=", "x"), 2, "nick"),
        (("query", "FILE", "users", "--where", "age", "~", "x"), 2, "'~' is no operator"),
        (("query", "FILE", "users", "--where", "age", ">", "0", "--where", "id", "~", "x"), 2, "'~' is no operator"),
        (("query", "FILE", "users", "--where", "age", "=", "null"), 2, "key"),
        (("query", "FILE", "users", "--where", "age", "in", "3"), 2, "in takes a JSON list"),
        (("query", "FILE", "users", "--where", "age", "between", "[3]"), 2, "list of 2"),
        (("query", "FILE", "users", "--where", "age", "^=", "3"), 2, "prefix"),
        (("query", "FILE", "users", "--order", ""), 2, "path"),
        (("query", "FILE", "users", "--limit", "-1"), 2, "limit"),
        (("query", "FILE", "users", "--limit", "x"), 2, "--limit"),
        (("stores", "./missing.db"), 1, "there is no database at"),
        (("stores", "missing"), 1, "there is no database at"),
        (("nosuch",), 2, "nosuch"),
    ],
)
def test_what_is_wrong(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, status: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SELFDB_INDEXIE_DIR", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    code, lines, err = run(*(file if each == "FILE" else each for each in arguments))
    assert (code, said in err) == (status, True), err
    assert "Traceback" not in err
    if arguments:
        assert lines == []
    assert sorted(tmp_path.iterdir()) == before, "nothing is made by looking"


def test_as_a_program(file: Path) -> None:
    command = [sys.executable, "-m", "selfdb", "indexie", "query", str(file), "users", "--count"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")
    helped = subprocess.run([*command[:4], "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert "usage: selfdb indexie" in helped.stdout
    assert (
        "indexie"
        in subprocess.run([*command[:3], "--help"], capture_output=True, text=True, check=False, timeout=60).stdout
    )


def test_what_is_closed_is_one_file(file: Path, tmp_path: Path) -> None:
    assert [each.name for each in tmp_path.iterdir()] == [file.name]
    copy = tmp_path / "copy.db"
    copy.write_bytes(file.read_bytes())
    with Indexie(copy) as db:
        assert db.users.count() == 4


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([("tags", "=", "a"), ("age", ">", "18")], [1, 4]),
        ([("tags", "in", '["a", "b"]'), ("age", ">", "18")], [1, 3, 4]),
        ([("tags", "!=", "a"), ("age", ">", "18")], [1, 3]),
        ([(":id", ">", "1"), ("age", ">", "0"), ("tags", "^=", "b")], [3]),
        ([("[last+first]", "=", '["D", "Ben"]'), ("age", "<", "18")], [2]),
        ([("email", "^=", "b"), (":id", "=", "3")], [3]),
    ],
)
def test_conditions_mean_the_same_in_any_order(
    run: Run, file: Path, conditions: List[Tuple[str, str, str]], expected: List[int]
) -> None:
    for some in (conditions, conditions[::-1]):
        words = [word for condition in some for word in ("--where", *condition)]
        assert sorted(run("query", file, "users", "--keys", *words)[1]) == [str(key) for key in expected]
        assert run("query", file, "users", "--count", *words)[1] == [str(len(expected))]


def test_a_key_that_rows_do_not_hold_cannot_be_tested_on_them(run: Run, file: Path) -> None:
    assert run("query", file, "settings", "--keys", "--where", ":id", "=", "look")[1] == ['"look"']
    status, lines, said = run("query", file, "settings", "--where", ":id", "=", "look", "--where", ":id", "!=", "7")
    assert (status, lines) == (2, [])
    assert "do not hold their keys" in said
