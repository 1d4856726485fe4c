"""The page that says what is said to common mistakes says what really is said."""

from __future__ import annotations

import re

from tests.faults import mistakes
from tests.soak import figure


def test_g14_the_table_of_mistakes_is_what_making_them_gives() -> None:
    made = mistakes.make()
    assert mistakes.table(made) == mistakes.page(), "run: python -m tests.faults.mistakes"
    figure("messages", f"{len(made)} common mistakes made; what is said of each stands in docs/errors.rst")


def test_each_says_what_to_do() -> None:
    """A way out in words, or values that are right; and no key, no password, no path of the code."""
    rows = re.findall(r"\* - (.+)\n +- (.+)", mistakes.page())
    assert len(rows) > 35
    for what, said in rows[1:]:
        assert mistakes.KEY not in said
        assert "password123" not in said
        assert "Traceback" not in said
        assert len(said) > 40, f"{what}: {said}"
