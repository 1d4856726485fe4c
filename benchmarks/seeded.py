"""The faults that ``faults.py`` plants: each undoes one protection, and names the conformance case that tells."""

from __future__ import annotations

from typing import NamedTuple, Tuple


class Fault(NamedTuple):
    """One protection undone.

    :ivar name: what is wrong then.
    :ivar path: the file.
    :ivar before: what stands there, exactly once.
    :ivar after: what stands there instead.
    :ivar tests: of which one has to fail.
    """

    name: str
    path: str
    before: str
    after: str
    tests: Tuple[str, ...]


FAULTS: Tuple[Fault, ...] = ()
