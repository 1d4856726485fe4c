"""Queries that run again when what they have read is changed."""
