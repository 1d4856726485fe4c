"""What the last mutation run told: enough mutants of what must be right are noticed; each other one has a reason."""

from __future__ import annotations

import re

from benchmarks.mutants import NEW, TARGETS, WANTED
from tests.house.test_file_sizes import ROOT

REPORT = sorted((ROOT / "benchmarks").glob("mutants-2*.txt"))[-1].read_text(encoding="utf-8")


def test_g23_every_module_is_in_the_report_and_enough_of_its_mutants_are_killed() -> None:
    rows = {
        path: int(killed) / int(made)
        for path, killed, made in re.findall(r"(?m)^(\S+\.py): (\d+) of (\d+), .* killed$", REPORT)
    }
    assert set(rows) >= {target.path for target in TARGETS}
    assert {path: rate for path, rate in rows.items() if rate < WANTED} == {}


def test_g23_every_survivor_has_its_reason() -> None:
    survivors = re.findall(r"(?m)^    \d+: .*\n((?:        .*\n)+)", REPORT)
    assert survivors
    assert [reason for reason in survivors if reason.strip() in ("", NEW)] == []
