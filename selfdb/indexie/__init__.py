"""A local-first document store on SQLite: schemas and versions, indexed queries, live queries, hooks and an outbox."""
