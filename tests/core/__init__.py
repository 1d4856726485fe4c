"""Tests of the kernel: time, transport, retries, tokens, stores, streams."""
