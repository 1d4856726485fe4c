"""Servers that tests talk to: PostgreSQL, and fakes for what no real server does on demand."""
