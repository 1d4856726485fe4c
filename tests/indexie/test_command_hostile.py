"""``selfdb indexie`` with texts and surroundings that wish it no good: it says what is wrong in a line, and ends."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Optional

import pytest

from selfdb.cli import main
from selfdb.indexie import Indexie

HEAD = '{"format":"selfdb.indexie","stores":'
ROWS = [{"id": number, "name": name} for number, name in enumerate(["30 Main Street", "true story", "z\u00fc", 30], 1)]


@pytest.fixture
def file(path: Path) -> Path:
    db = Indexie(path)
    db.version(1).stores({"users": "++id, name"})
    with db:
        db.users.bulk_add(ROWS)
    return path


def run(*arguments: object) -> int:
    try:
        return main(["indexie", *map(str, arguments)])
    except SystemExit as end:
        return int(str(end.code))


@pytest.mark.parametrize(
    "given, expected",
    [("30 Main Street", [1]), ("true story", [2]), ("30", [4]), (" 30 ", [4]), ('"true story"', [2]), ("z\u00fc", [3])],
)
def test_a_value_is_json_as_a_whole_or_text(
    file: Path, capsys: pytest.CaptureFixture[str], given: str, expected: List[int]
) -> None:
    assert run("query", file, "users", "--where", "name", "=", given, "--keys") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == expected


@pytest.mark.parametrize(
    "given",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"$ix":["n","x"]}',
        '{"$ix":["td",[99999999999,0,0]]}',
        '{"$ix":[[]]}',
        "9" * 5000,
    ],
    ids=["lists", "dicts", "decimal", "timedelta", "kind", "digits"],
)
def test_a_value_that_is_no_json_of_ours_is_text(file: Path, capsys: pytest.CaptureFixture[str], given: str) -> None:
    assert run("query", file, "users", "--where", "name", "=", given, "--count") == 0
    assert capsys.readouterr() == ("0\n", "")


@pytest.mark.parametrize(
    "text, status",
    [
        (b"[" * 100_000, 2),
        (b'{"a":' * 100_000, 2),
        (b"\xff\xfe{}", 2),
        (b"", 2),
        (HEAD.encode() + b'{"users":{"rows":[[9,{"id":9}]]}}} {}', 2),
        (HEAD.encode() + b'{"users":{"rows":[[9,{"id":9,"x":{"$ix":["n","x"]}}]]}}}', 2),
        (HEAD.encode() + b'{"users":{"rows":[[9,{"id":9,"x":{"$ix":["td",[99999999999]]}}]]}}}', 2),
        (HEAD.encode() + b'{"users":{"rows":[[9,{"id":9}],[10,{"id":null}]]}}}', 2),
        (HEAD.encode() + b'{"users":{"rows":[[9,{"id":9}],[10,{}]]}}}', 2),
        (HEAD.encode() + b'{"users":{"rows":[[9,{"id":9}]]},"nosuch":{"rows":[]}}}', 2),
        (HEAD.encode() + b'{"users":{"rows":[[9,{"id":9,"x":"\\ud800"}]]}}}', 1),
    ],
    ids=[
        "lists",
        "dicts",
        "utf-16",
        "nothing",
        "behind",
        "decimal",
        "timedelta",
        "null",
        "no key",
        "store",
        "surrogate",
    ],
)
@pytest.mark.parametrize("way", ["file", "stdin"])
def test_a_hostile_text_is_imported_in_no_part(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: bytes,
    status: int,
    way: str,
) -> None:
    source = tmp_path / "hostile.json"
    source.write_bytes(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="latin-1"))
    assert run("import", file, source if way == "file" else "-", "--clear") == status
    out, err = capsys.readouterr()
    assert (out, err.startswith("selfdb indexie: "), err.count("\n")) == ("", True, 1)
    with Indexie(file) as db:
        assert db.users.to_array() == ROWS


def test_a_text_may_begin_with_a_mark_of_its_encoding(file: Path, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(HEAD + '{"users":{"rows":[[9,{"id":9}]]}}}\n', encoding="utf-8-sig")
    assert run("import", file, tmp_path / "x.json", "--clear") == 0
    with Indexie(file) as db:
        assert db.users.to_array() == [{"id": 9}]


@pytest.mark.parametrize("number", [2**63, 10**30])
@pytest.mark.parametrize("option, count", [("--limit", 4), ("--offset", 0)])
def test_any_number_of_rows(
    file: Path, capsys: pytest.CaptureFixture[str], option: str, count: int, number: int
) -> None:
    assert run("query", file, "users", option, number) == 0
    assert len(capsys.readouterr().out.splitlines()) == count


@pytest.mark.parametrize("arguments", [("import", "FILE", "x", "--cle"), ("query", "FILE", "users", "--lim", "1")])
def test_options_are_written_out(file: Path, capsys: pytest.CaptureFixture[str], arguments: Any) -> None:
    assert run(*(file if each == "FILE" else each for each in arguments)) == 2
    assert "unrecognized arguments" in capsys.readouterr().err


def test_a_part_of_an_export_is_not_left(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: Any, **options: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Indexie, "export_json", stop)
    assert run("export", file, "--output", tmp_path / "part.json") == 130
    assert not (tmp_path / "part.json").exists()
    assert capsys.readouterr().err == "selfdb indexie: interrupted\n"


@pytest.mark.parametrize("stream, arguments", [("stdout", ("export", "FILE")), ("stdin", ("import", "FILE", "-"))])
def test_a_stream_that_is_closed(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: str, arguments: Any
) -> None:
    monkeypatch.setattr(sys, stream, None)
    assert run(*(file if each == "FILE" else each for each in arguments)) == 2
    assert capsys.readouterr().err.startswith(f"selfdb indexie: standard {stream[3:]}put is closed")


class Ended:
    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr.decode()


def program(*arguments: object, stdout: Optional[int] = subprocess.PIPE, **environment: str) -> Ended:
    command = [sys.executable, "-m", "selfdb", "indexie", *map(str, arguments)]
    env = {**os.environ, "PYTHONUTF8": "0", **environment}
    return Ended(subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60, env=env))


def test_what_is_piped_is_utf8_whatever_the_platform_would_like(file: Path) -> None:
    ended = program("query", file, "users", PYTHONIOENCODING="ascii")
    assert (ended.status, ended.err) == (0, "")
    assert "z\u00fc" in ended.out.decode("utf-8")


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise there")
@pytest.mark.parametrize("arguments", [("query", "users"), ("export",)])
def test_a_reader_who_has_enough(file: Path, arguments: Any) -> None:
    action, *rest = arguments
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = program(action, file, *rest, stdout=writing)
    finally:
        os.close(writing)
    assert (ended.status, ended.err) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such device")
def test_a_disk_that_is_full(file: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        ended = program("query", file, "users", stdout=full)
    finally:
        os.close(full)
    assert ended.status == 1
    assert ended.err.startswith("selfdb indexie: ")
    assert "Traceback" not in ended.err
