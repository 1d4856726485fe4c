"""Tests of the awaitable face, ``selfdb.aio``."""
