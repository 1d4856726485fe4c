"""Writes that are seen, or kept, before they are in the file."""
