"""The list of planted faults is in step with the sources, and its last run told that each turned a case red."""

from __future__ import annotations

import re

import pytest

from benchmarks.faults import planted
from benchmarks.seeded import FAULTS, Fault
from tests.house.test_file_sizes import ROOT

WANTED = 20


def test_there_are_enough() -> None:
    assert len(FAULTS) >= WANTED
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_can_be_planted_and_its_cases_are_there(fault: Fault) -> None:
    source = (ROOT / fault.path).read_text(encoding="utf-8")
    changed = planted(fault, source)
    assert changed != source
    compile(changed, fault.path, "exec")
    assert fault.tests
    for test in fault.tests:
        path, _, name = test.partition("::")
        names = [re.escape(part.partition("[")[0]) for part in name.split("::")]
        text = (ROOT / path).read_text(encoding="utf-8")
        assert all(re.search(rf"(?m)^\s*(?:def|class) {part}\b|\b{part} = ", text) for part in names if part), test


def test_in_the_last_run_each_was_noticed() -> None:
    report = sorted((ROOT / "benchmarks").glob("faults-2*.txt"))[-1].read_text(encoding="utf-8")
    told = dict(re.findall(r"(?m)^(\S.*): (red|NOT NOTICED)$", report))
    assert told == {fault.name: "red" for fault in FAULTS}
