"""The dashboard: draws what another process writes, in a terminal and into a pipe, until it is told to end."""

from __future__ import annotations

import signal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Iterator, List

import pytest

from tests.examples.conftest import SECONDS, Output, Reader

DASHBOARD = "live_dashboard.py"


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Somebody without a server."""
    home = tmp_path / "home"
    home.mkdir()
    return Reader(SimpleNamespace(url="", api_key=""), home)


@pytest.fixture
def start(reader: Reader) -> Iterator[Callable[[Path], Any]]:
    """``start(file)``: a dashboard that runs, and what it shows."""
    running: List[Any] = []

    def begin(file: Path) -> Any:
        process = reader.start(DASHBOARD, file)
        assert process.stdout is not None
        running.append((process, Output(process.stdout)))
        return running[-1]

    yield begin
    for process, shown in running:
        with process:
            process.kill()  # harmless once it has ended
            shown.join()


def test_what_others_sell_is_drawn(reader: Reader, start: Callable[[Path], Any], tmp_path: Path) -> None:
    file = tmp_path / "sales.db"
    first, shown = start(file)
    shown.wait_for("nothing sold")
    assert reader.run(DASHBOARD, file, "--sell", "green tea", "3").returncode == 0
    shown.wait_for("3 green tea")
    assert reader.run(DASHBOARD, file, "--sell", "cups", "2").returncode == 0
    assert reader.run(DASHBOARD, file, "--sell", "green tea", "1").returncode == 0
    shown.wait_for("4 green tea, 2 cups")
    second, other = start(file)
    other.wait_for("4 green tea, 2 cups")
    lines = len(shown.lines)
    assert reader.run(DASHBOARD, file, "--sell", "a cancelled order", "0").returncode == 0
    assert reader.run(DASHBOARD, file, "--sell", "spoons", "9").returncode == 0
    shown.wait_for("9 spoons, 4 green tea, 2 cups")
    other.wait_for("9 spoons, 4 green tea, 2 cups")
    assert shown.lines[lines:] == ["9 spoons, 4 green tea, 2 cups"], "a row out of its range is not drawn for"
    for process in (first, second):
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0


def test_what_stops_it(reader: Reader, tmp_path: Path) -> None:
    file = tmp_path / "sales.db"
    done = reader.run(DASHBOARD, file, "--sell", "tea", "many")
    assert (done.returncode, done.stderr.startswith("live_dashboard: ")) == (1, True)
    file.write_bytes(b"something else" * 100)
    done = reader.run(DASHBOARD, file)
    assert (done.returncode, done.stderr.startswith("live_dashboard: ")) == (1, True)


def test_a_terminal_gets_a_table(
    load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module: Any = load(DASHBOARD)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    module.draw(module.Counter({"tea": 3, "cups": 2}))
    assert capsys.readouterr().out.splitlines() == [
        "\x1b[2J\x1b[Hsold                       5",
        "tea                        3",
        "cups                       2",
    ]
