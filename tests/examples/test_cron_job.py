"""The nightly job: once a day, never twice at a time, and an exit code that tells cron what to do."""

from __future__ import annotations

import stat
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, List

import pytest

from tests.examples.conftest import SECONDS, Reader
from tests.servers.scripted import ScriptedServer
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD

JOB = "cron_job.py"


@pytest.fixture
def reader(make_server: Callable[..., Any], tmp_path: Path) -> Reader:
    """With a server of his own: the job's table has one name for all."""
    home = tmp_path / "home"
    home.mkdir()
    return Reader(make_server(), home)


def closed_days(reader: Reader) -> List[str]:
    with reader.client() as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        return [row["day"] for row in db.tables.data.query(db.tables.get_by_name("closed_days").id)]


def test_a_second_run_neither_signs_in_nor_inserts_again(reader: Reader) -> None:
    first = reader.run(JOB)
    assert (first.returncode, first.stdout) == (0, "")
    assert "is closed" in first.stderr
    session = reader.home / ".selfdb-nightly" / "session"
    assert stat.S_IMODE(session.stat().st_mode) == 0o600
    second = reader.run(JOB, SELFDB_PASSWORD="no longer needed")
    assert second.returncode == 0, second.stderr
    assert len(closed_days(reader)) == 1


def test_a_session_that_was_ended_is_begun_anew(reader: Reader) -> None:
    assert reader.run(JOB).returncode == 0
    with reader.client() as db:
        db.auth.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        db.auth.logout_all()
    assert reader.run(JOB, SELFDB_PASSWORD="wrong").returncode == 1
    assert reader.run(JOB).returncode == 0
    assert len(closed_days(reader)) == 1


def test_two_never_overlap_and_a_killed_one_blocks_nobody(
    reader: Reader, scripted: Callable[..., ScriptedServer]
) -> None:
    silent = scripted(default=lambda peer: peer.stall())
    with reader.start(JOB, SELFDB_URL=silent.url) as waiting:  # for a server, half a minute long
        try:
            silent.wait_for(connections=1, timeout=SECONDS)  # it has taken its lock before
            done = reader.run(JOB)
            assert (done.returncode, done.stderr) == (75, "nightly: the last run is still at work\n")
            assert waiting.poll() is None
        finally:
            waiting.kill()
    assert reader.run(JOB).returncode == 0
    assert len(closed_days(reader)) == 1


def test_two_that_start_at_once_close_the_day_once(reader: Reader) -> None:
    with reader.start(JOB) as one, reader.start(JOB) as other:
        try:
            errors = [process.communicate(timeout=SECONDS)[1] for process in (one, other)]
        finally:
            one.kill()
            other.kill()
    assert sorted([one.returncode, other.returncode]) in ([0, 0], [0, 75]), errors
    assert len(closed_days(reader)) == 1


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"SELFDB_PASSWORD": "wrong-secret"}, "refused: [401] Incorrect email or password"),
        ({"SELFDB_PASSWORD": ""}, "refused: password must be"),
        ({"SELFDB_API_KEY": "wrong-secret"}, "refused: [401] Invalid API key"),
        ({"SELFDB_URL": ""}, "refused: base_url is missing"),
    ],
    ids=["password", "no password", "key", "no url"],
)
def test_what_is_refused_is_not_tried_later(reader: Reader, changes: Any, said: str) -> None:
    done = reader.run(JOB, **changes)
    assert done.returncode == 1
    assert said in done.stderr
    assert "wrong-secret" not in done.stderr


def test_without_a_server_it_is_tried_later(
    reader: Reader,
    nowhere: str,
    load: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {**reader.variables, "SELFDB_URL": nowhere}.items():
        monkeypatch.setenv(name, value)
    job = load(JOB)
    monkeypatch.setattr(job, "WAIT", 0.2)
    assert job.main() == 75
    assert "nightly: try later: " in capsys.readouterr().err
    monkeypatch.setenv("SELFDB_URL", reader.server.url)
    assert job.main() == 0  # the lock is free again
