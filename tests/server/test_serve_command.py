"""``selfdb serve`` as a process of its own: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

import selfdb
from selfdb import cli
from selfdb.server.settings import default_data_folder
from tests.support import Http

ROOT = Path(selfdb.__file__).parent.parent
PATIENCE = 150.0
CHEAP = {"SELFDB_HASH_TIME_COST": "1", "SELFDB_HASH_MEMORY_KIB": "8"}


def environment(**more: str) -> Dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SELFDB_")}
    return {**inherited, "PYTHONPATH": str(ROOT), **CHEAP, **more}


class Served:
    """A running command; ``url`` and ``api_key`` make it a server for :class:`tests.support.Http`."""

    def __init__(self, process: subprocess.Popen[str], lines: List[str], api_key: str) -> None:
        self.process = process
        self.lines = lines
        self.url = lines[0].split()[-1]
        self.api_key = api_key


@contextmanager
def serving(*options: str, api_key: str = "key-of-the-test", **env: str) -> Iterator[Served]:
    """Start it, wait until it says that it is ready, and end it."""
    command = [sys.executable, "-m", "selfdb", "serve", "--port", "0", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**env)
    )
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        lines: List[str] = []
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.startswith("Stop with"):
                break
        assert lines, f"it ended with {process.wait()}"
        assert "ready at http://" in lines[0]
        yield Served(process, lines, api_key)
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(*options: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "selfdb", *options]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(**env), timeout=PATIENCE, check=False
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_ends_cleanly_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    with serving("--data", str(tmp_path / "data"), "--api-key", "key-of-the-test") as served:
        http = Http(served)
        assert http.get("/users/me", bearer=http.admin).json()["email"] == "admin@example.com"
        assert not any("key-of-the-test" in line for line in served.lines)
        served.process.send_signal(number)
        _, log = served.process.communicate(timeout=PATIENCE)
        assert served.process.returncode == 0, log
        assert "Traceback" not in log
        assert "POST /users/token 200" in log
    assert not (tmp_path / "data" / "serving.json").exists()


def test_a_generated_key_is_written_to_a_file_and_its_path_is_told(tmp_path: Path) -> None:
    with serving("--data", str(tmp_path)) as served:
        path = tmp_path / "api-key"
        assert f"API key: in the file {path}" in served.lines
        key = path.read_text().strip()
        assert key not in "".join(served.lines)
        served.api_key = key
        assert Http(served).get("/system/status").status_code == 200
        assert path.stat().st_mode & 0o777 == 0o600


def test_every_option_comes_from_the_environment_too_and_secrets_from_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key-in-a-file\n")
    (tmp_path / "password").write_text("admin-secret\n")
    env = {
        "SELFDB_DATA": str(tmp_path / "data"),
        "SELFDB_API_KEY_FILE": str(tmp_path / "key"),
        "SELFDB_ADMIN_EMAIL": "root@example.com",
        "SELFDB_ADMIN_PASSWORD_FILE": str(tmp_path / "password"),
        "SELFDB_REGISTRATION": "admin",
        "SELFDB_LIST_USERS": "true",
        "SELFDB_ACCESS_LOG": "false",
    }
    with serving(api_key="key-in-a-file", **env) as served:
        http = Http(served)
        bearer = http.login("root@example.com", "admin-secret").access
        body = {"email": "a@example.com", "password": "password123", "firstName": "A", "lastName": "B"}
        assert http.post("/users/", json=body).status_code == 401
        assert http.post("/users/", json=body, bearer=bearer).status_code == 201
        user = http.login("a@example.com", "password123").access
        assert http.get("/users/count", bearer=user).json() == {"count": 2}
        served.process.terminate()
        _, log = served.process.communicate(timeout=PATIENCE)
        assert "GET" not in log
    assert (tmp_path / "data" / "selfdb.sqlite3").exists()


def test_a_second_server_on_the_folder_names_the_first(tmp_path: Path) -> None:
    with serving("--data", str(tmp_path)) as served:
        second = run("serve", "--port", "0", "--data", str(tmp_path))
        assert second.returncode == 1
        assert f"process {served.process.pid} at {served.url}" in second.stderr
        assert "Traceback" not in second.stderr
        served.api_key = (tmp_path / "api-key").read_text().strip()
        assert Http(served).login().access


def test_a_killed_server_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    with serving("--data", str(tmp_path), "--api-key", "key-of-the-test") as served:
        user, _ = Http(served).new_user()
        served.process.kill()
        served.process.communicate()
    assert (tmp_path / "serving.json").exists()
    with serving("--data", str(tmp_path), "--api-key", "key-of-the-test") as served:
        http = Http(served)
        assert http.get(f"/users/{user['id']}", bearer=http.admin).json() == user


def test_other_machines_are_not_served_with_the_default_password(tmp_path: Path) -> None:
    fresh = run("serve", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "fresh"))
    assert fresh.returncode == 1
    assert "default password" in fresh.stderr
    assert "--admin-password" in fresh.stderr
    # What was refused leaves no ADMIN with the default password behind.
    options = ("--data", str(tmp_path / "fresh"), "--api-key", "key-of-the-test")
    with serving(*options, "--host", "0.0.0.0", "--admin-password", "long-enough") as served:
        http = Http(served)
        assert http.login("admin@example.com", "long-enough").access
        body = {"email": "a@example.com", "password": "password123", "firstName": "A", "lastName": "B"}
        assert http.post("/users/", json=body).status_code == 401, "registration is for ADMINs there"


def test_an_admin_with_the_default_password_is_found_whoever_he_is(tmp_path: Path) -> None:
    options = ("--data", str(tmp_path), "--api-key", "key-of-the-test")
    with serving(*options, "--admin-password", "long-enough") as served:
        http = Http(served)
        bearer = http.login("admin@example.com", "long-enough").access
        body = {"email": "b@example.com", "password": "password", "firstName": "A", "lastName": "B", "role": "ADMIN"}
        assert http.post("/users/", json=body, bearer=bearer).status_code == 201
        served.process.terminate()
        served.process.communicate()
    refused = run("serve", *options, "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 1
    assert "b@example.com still has the default password" in refused.stderr


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = run("serve", "--port", port, "--data", str(tmp_path))
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_unreachable_database_is_said_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        url = f"postgresql://someone:geheim@127.0.0.1:{port}/none"
        refused = run("serve", "--port", "0", "--data", str(tmp_path), "--database", url)
    assert refused.returncode == 1
    assert "the database cannot be used" in refused.stderr
    assert "geheim" not in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("options", [("--port", "70000"), ("--port", "x"), ("--registration", "closed")])
def test_wrong_options_end_with_status_2(options: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    try:
        status = cli.main(["serve", "--data", str(tmp_path), *options])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    assert options[0].lstrip("-") in capsys.readouterr().err


def test_a_missing_extra_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def missing(name: str, package: Any = None) -> Any:
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

    monkeypatch.setattr("importlib.import_module", missing)
    assert cli.main(["serve", "--data", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "'fastapi'" in said
    assert 'pip install ".[server]"' in said


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "serve" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("selfdb ")


def test_backup_and_restore_from_the_command_line(tmp_path: Path) -> None:
    data, archive, copy = tmp_path / "data", tmp_path / "all.tar.gz", tmp_path / "copy"
    with serving("--data", str(data), "--api-key", "key-of-the-test") as served:
        user, _ = Http(served).new_user()
        done = run("backup", str(archive), "--data", str(data))
        assert done.returncode == 0, done.stderr
        refused = run("restore", str(archive), "--data", str(data))
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
    done = run("restore", str(archive), "--data", str(copy))
    assert done.returncode == 0, done.stderr
    with serving("--data", str(copy), "--api-key", "key-of-the-test") as served:
        http = Http(served)
        assert http.get(f"/users/{user['id']}", bearer=http.admin).json() == user


@pytest.mark.parametrize(
    "platform,variables,expected",
    [
        ("linux", {"XDG_DATA_HOME": "/data/of/me"}, "/data/of/me/selfdb"),
        ("linux", {"XDG_DATA_HOME": "relative"}, "/home/me/.local/share/selfdb"),
        ("linux", {}, "/home/me/.local/share/selfdb"),
        ("darwin", {}, "/home/me/Library/Application Support/selfdb"),
        ("win32", {"LOCALAPPDATA": "/c/local"}, "/c/local/selfdb"),
        ("win32", {}, "/home/me/AppData/Local/selfdb"),
    ],
)
def test_the_default_folder_follows_the_custom_of_the_platform(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: Dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_data_folder() == Path(expected)
