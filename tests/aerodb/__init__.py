"""The wing for AeroDB and any PostgREST."""
