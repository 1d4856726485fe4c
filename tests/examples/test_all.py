"""What holds for every example."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    "backup_folder.py",
    "cron_job.py",
    "fastapi_app.py",
    "field_device.py",
    "flask_app.py",
    "flask_events.py",
    "import_csv.py",
    "live_dashboard.py",
    "offline_todo.py",
    "order_board.py",
    "quickstart.py",
    "station_report.py",
]


def test_every_example_is_run_by_a_test_here() -> None:
    assert sorted(path.name for path in (ROOT / "examples").glob("*.py")) == EXAMPLES
    for example in EXAMPLES:
        assert example in (Path(__file__).parent / f"test_{example}").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_read_in_a_minute(example: str) -> None:
    assert len((ROOT / "examples" / example).read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_readme_mentions_each(example: str) -> None:
    assert f"examples/{example}" in (ROOT / "README.rst").read_text(encoding="utf-8")
