"""The first lines of code in README.rst, run as they stand there."""

from __future__ import annotations

import re
import textwrap

import pytest

from tests.house.test_file_sizes import ROOT

README = (ROOT / "README.rst").read_text(encoding="utf-8")


def code_under(heading: str) -> str:
    """The first code block below ``heading``."""
    below = README[README.index(f"\n{heading}\n") :]
    found = re.search(r"\.\. code-block:: python\n\n((?: {4}.*\n|\n)+)", below)
    assert found is not None
    return textwrap.dedent(found[1])


def test_ten_lines_are_ten_lines_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    code = code_under("In ten lines")
    assert len([line for line in code.splitlines() if line and not line.startswith("from ")]) <= 10
    exec(compile(code, "README.rst", "exec"), {})
    assert capsys.readouterr().out == "green tea 3\nb'thank you'\n"
