"""The SQLite file: connections, snapshots that read, transactions that write, the change log."""
