"""A blocking client of AeroDB, and of any PostgREST."""
