"""``python -m benchmarks NAME``: one benchmark or one long run; see README.rst."""

from __future__ import annotations

import importlib
import sys

NAMES = (
    "aio",
    "calls",
    "cron",
    "indexie",
    "faults",
    "latency",
    "mutants",
    "postgrest",
    "realtime",
    "report",
    "server",
    "soak",
    "start",
    "threads",
    "transfer",
)

if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
    raise SystemExit(f"usage: python -m benchmarks {{{','.join(NAMES)}}} [--help]")
importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
