"""The local store: ``selfdb.indexie``."""
