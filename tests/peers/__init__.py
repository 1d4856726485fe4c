"""Tests against clients that others wrote, each in a virtual environment of its own."""
