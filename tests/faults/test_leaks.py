"""G11: whatever is done often leaves nothing behind: no descriptor, no thread, less than 1 MiB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Callable, Dict, List

import pytest

from tests import soak
from tests.faults.appetite import MIB, SCENARIOS
from tests.servers.process import ROOT
from tests.support import ADMIN_EMAIL, ADMIN_PASSWORD

TIMES = soak.amount("SELFDB_REPEATS", here=5, long=1000)

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="descriptors are counted in Linux's /proc"),
    pytest.mark.timeout(3600 if soak.LONG else 300),
]


def appetite(what: str, **settings: Any) -> Dict[str, Any]:
    """What `tests.faults.appetite` says of itself; warnings are errors there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SELFDB_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.faults.appetite", what, json.dumps(settings)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=3000 if soak.LONG else 280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nothing is told that nobody asked for"
    found: Dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("names", [[name] for name in SCENARIOS] if soak.LONG else [list(SCENARIOS)], ids=str)
def test_g11_nothing_is_left(names: List[str], make_server: Callable[..., Any]) -> None:
    counts = {name: TIMES * (10 if name == "calls" else 1) for name in names}
    server = make_server()
    who = {"url": server.url, "key": server.api_key, "email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
    for name, left in appetite("leaks", **who, counts=counts).items():
        soak.figure("G11", f"{counts[name]} {name}: {left['memory']} bytes, {left['descriptors']} descriptors more")
        assert left["descriptors"] <= 0, name
        assert left["threads"] <= 0, name
        assert left["memory"] < (MIB if soak.LONG else MIB // 10), f"{name}; less here, where less is done"
