"""Tests of the embedded server over raw HTTP."""
