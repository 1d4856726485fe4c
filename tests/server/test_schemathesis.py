"""The server behaves as its own ``/openapi.json`` says: no undocumented status, type or body, and no 5xx.

What the document allows is not refused as malformed, what it forbids is; what needs a bearer is refused without, and
what was deleted is gone. In the stateful runs things are made, read, changed and deleted in chains of requests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from tests import soak
from tests.conftest import API_KEY
from tests.support import Http

ROOT = Path(__file__).parents[2]
# All but one: that no user gets another's things is what tests/faults/test_permissions.py asks, cell by cell.
CHECKS = ["--checks", "all", "--exclude-checks", "object_level_authorization"]
SETTINGS = """
[checks.positive_data_acceptance]
# 400 is for what no document can say: a default that is no value of its column's type, a column that is not there.
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "413", "415", "416", "429"]

[auth]
# Who is anonymous stays so.
auto-signup = false

[phases.stateful]
max-steps = 15
"""
BEARER = """
[auth.openapi.Bearer]
bearer = "${SELFDB_FUZZ_BEARER}"
"""
SEED = 20250102
SECONDS = 280 if not soak.LONG else 3500
# More by hand: SELFDB_FUZZ_EXAMPLES=200 pytest tests/server/test_schemathesis.py
EXAMPLES = soak.amount("SELFDB_FUZZ_EXAMPLES", here=5, long=20)


def fuzz(
    server: Any, folder: Path, phases: str, *arguments: str, who: str = "anonymous", examples: int = EXAMPLES
) -> str:
    """Run the `schemathesis` command against ``server``; what it printed."""
    http = Http(server)
    if who != "anonymous":
        # The two logouts would end the very session that the run needs; the anonymous run has them.
        arguments = ("--exclude-path-regex", "^/users/logout", *arguments)
    (folder / "schemathesis.toml").write_text(SETTINGS if who == "anonymous" else SETTINGS + BEARER, encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "from schemathesis.cli import schemathesis; schemathesis()",
        "run",
        server.url + "/openapi.json",
        *CHECKS,
        "--phases",
        phases,
        "--max-examples",
        str(examples),
        "--seed",
        str(SEED),
        "--generation-database",
        "none",
        "--workers",
        "1",  # with more, CPython 3.11's ast.parse fails now and then inside hypothesis
        "--suppress-health-check",
        "all",  # they are about the speed of generation, not about the server
        "--request-timeout",
        "30",
        "--no-shrink",
        "--no-color",
        "--warnings",
        "off",
        "--header",
        f"X-API-Key: {API_KEY}",
        *arguments,
    ]
    variables: Dict[str, str] = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.server.openapi_hooks",
        "PYTHONPATH": str(ROOT),
        "SELFDB_FUZZ_URL": server.url,
        "SELFDB_FUZZ_KEY": API_KEY,
        # Who asks also owns what the requests are about.
        "SELFDB_FUZZ_TOKEN": http.new_user()[1] if who == "user" else http.admin,
        "SELFDB_FUZZ_LOG": str(folder / "log"),
    }
    variables["SELFDB_FUZZ_BEARER"] = variables["SELFDB_FUZZ_TOKEN"]
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-20000:]
    return output


#: Who asks, and on which database; a soak takes all of them.
EVERY = tuple(product(("admin", "user", "anonymous"), ("sqlite", "postgresql")))
SOME = (("admin", "postgresql"), ("user", "sqlite"), ("anonymous", "sqlite"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "who" in metafunc.fixturenames:
        runs = list(EVERY if soak.LONG else SOME)
        if "chains" in metafunc.function.__name__:  # only who has signed in makes things
            runs = [run for run in EVERY if run[0] != "anonymous"] if soak.LONG else [("user", "sqlite")]
        metafunc.parametrize(("who", "backend"), runs, scope="session")


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_g19_edge_values_meet_nothing_undocumented(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """Every boundary of every parameter, right and wrong, once."""
    fuzz(make_server(), tmp_path, "examples,coverage", who="admin")


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_g19_nobody_meets_anything_undocumented(fresh_server: Any, tmp_path: Path, who: str) -> None:
    fuzz(fresh_server, tmp_path, "fuzzing", who=who)


@pytest.mark.timeout(3600 if soak.LONG else 300)
def test_g19_chains_of_requests_meet_nothing_undocumented(fresh_server: Any, tmp_path: Path, who: str) -> None:
    """Schemathesis finds by itself what leads to what, for the document says which ids are of which things."""
    fuzz(fresh_server, tmp_path, "stateful", who=who, examples=2 * EXAMPLES)
    calls = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    made = {call[4] for call in calls if call[4]}
    used: Dict[str, List[Tuple[str, int]]] = {}
    for method, _, parameters, status, _ in calls:
        for value in parameters.values():
            if value in made:
                used.setdefault(value, []).append((method, status))
    # What the run itself made was read, changed or deleted afterwards.
    reached = sum(status < 300 for uses in used.values() for _, status in uses)
    assert reached >= 2, f"of {len(made)} things that were made {len(used)} were used, {reached} times"
    longest = max(map(len, used.values()))
    soak.figure(
        "G19",
        f"{who}: {len(calls)} requests in chains, {len(used)} of {len(made)} things used, the longest {longest} times",
    )


def test_g19_an_undocumented_answer_would_be_found(replies: Callable[..., Any], tmp_path: Path) -> None:
    """The command line above does find what it is meant to find."""
    document = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {"/thing": {"get": {"responses": {"200": {"description": "fine"}}}}},
    }

    def answer(request: Any) -> Any:
        if request.path == "/openapi.json":
            return 200, {}, document
        if request.path == "/users/token":
            return 200, {}, {"access_token": "a", "refresh_token": "r"}
        return 418, {}, {}

    with pytest.raises(AssertionError, match="Undocumented status code"):
        fuzz(replies(answer), tmp_path, "fuzzing")
