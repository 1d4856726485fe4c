"""``python -m benchmarks NAME``: one benchmark; see README.rst."""

from __future__ import annotations

import sys

from . import aio

BENCHMARKS = {"aio": aio.main}

if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
    raise SystemExit(f"usage: python -m benchmarks {{{','.join(BENCHMARKS)}}} [--help]")
BENCHMARKS[sys.argv[1]](sys.argv[2:])
