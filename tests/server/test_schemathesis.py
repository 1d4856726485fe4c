"""The server behaves as its own ``/openapi.json`` says: no undocumented status, type or body, and no 5xx."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from tests import soak
from tests.conftest import API_KEY
from tests.support import Http

ROOT = Path(__file__).parents[2]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SEED = 20250102
SECONDS = 110 if not soak.LONG else 3500
# More by hand: SELFDB_FUZZ_EXAMPLES=200 pytest tests/server/test_schemathesis.py
EXAMPLES = soak.amount("SELFDB_FUZZ_EXAMPLES", here=5, long=200)


def fuzz(server: Any, folder: Path, phases: str, *arguments: str) -> str:
    """Run the `schemathesis` command against ``server``; what it printed."""
    command = [
        sys.executable,
        "-c",
        "from schemathesis.cli import schemathesis; schemathesis()",
        "run",
        server.url + "/openapi.json",
        "--checks",
        CHECKS,
        "--phases",
        phases,
        "--max-examples",
        str(EXAMPLES),
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
        "SELFDB_FUZZ_TOKEN": Http(server).admin,
    }
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-20000:]
    return output


def as_administrator(server: Any) -> List[str]:
    # The two logouts would end the very session that the run needs; the anonymous run has them.
    return ["--header", f"Authorization: Bearer {Http(server).admin}", "--exclude-path-regex", "^/users/logout"]


def test_edge_values_meet_nothing_undocumented(make_server: Callable[..., Any], tmp_path: Path) -> None:
    """Every boundary of every parameter, right and wrong, once."""
    server = make_server()
    fuzz(server, tmp_path, "examples,coverage", *as_administrator(server))


def test_the_administrator_meets_nothing_undocumented(fresh_server: Any, tmp_path: Path) -> None:
    fuzz(fresh_server, tmp_path, "fuzzing", *as_administrator(fresh_server))


def test_the_anonymous_meet_nothing_undocumented(make_server: Callable[..., Any], tmp_path: Path) -> None:
    fuzz(make_server(), tmp_path, "fuzzing")


def test_an_undocumented_answer_would_be_found(replies: Callable[..., Any], tmp_path: Path) -> None:
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
