"""How the server's own tables come to be and change: numbered steps, each applied once, all or nothing.

A step is never edited once it was released; it spells out what it does and does not look at ``schema``,
which describes the newest version only. An empty database is given that version at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .clock import Clock
from .database import Database, create_namespaces, lock
from .schema import Json, Text, UtcDateTime, schema_version, system

if TYPE_CHECKING:
    from alembic.operations import Operations

__all__ = ["STEPS", "SchemaTooNew", "migrate", "operations"]

Step = Callable[["Operations"], None]


class SchemaTooNew(RuntimeError):
    """The data was written by a newer version of this package; nothing was touched."""


def operations(connection: Connection) -> Operations:
    """Alembic's operations in the transaction of ``connection``."""
    # Few starts of a server have anything to change, and this takes as long to import as much of the rest.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    context = MigrationContext.configure(connection, opts={"target_metadata": system})
    return Operations(context)


def migrate(database: Database, clock: Clock, steps: Optional[Sequence[Step]] = None) -> int:
    """Bring the database to the newest version in one transaction; returns the version it had before.

    Several processes may call it at once on PostgreSQL: one works, the others find the work done.

    :param steps: take these, one by one, on an empty database as well.
    :raises SchemaTooNew: the version found is not known here.
    """
    at_once = steps is None
    steps = STEPS if steps is None else steps
    with database.write() as connection:
        lock(connection, "migrations")
        create_namespaces(connection)
        schema_version.create(connection, checkfirst=True)
        found = connection.scalar(sa.select(sa.func.max(schema_version.c.version))) or 0
        if found > len(steps):
            raise SchemaTooNew(
                f"the data has schema version {found}, this selfdb knows up to {len(steps)}: use a newer selfdb"
            )
        at_once = at_once and not found
        if at_once:
            newest = [table for table in system.sorted_tables if table is not schema_version]
            system.create_all(connection, newest, checkfirst=False)
        for version in range(found + 1, len(steps) + 1):
            if not at_once:
                steps[version - 1](operations(connection))
            connection.execute(schema_version.insert().values(version=version, applied_at=clock.now()))
    return int(found)


def _first(op: Operations) -> None:
    op.create_table(
        "_selfdb_settings",
        sa.Column("name", Text, nullable=False),
        sa.Column("value", Text, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "_selfdb_users",
        sa.Column("id", Text, nullable=False),
        sa.Column("email", Text, nullable=False),
        sa.Column("email_key", Text, nullable=False),
        sa.Column("password_hash", Text, nullable=False),
        sa.Column("first_name", Text),
        sa.Column("last_name", Text),
        sa.Column("role", Text, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email_key"),
    )
    _sessions(op)
    op.create_table(
        "_selfdb_tables",
        sa.Column("id", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("table_schema", Json, nullable=False),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("realtime_enabled", sa.Boolean, nullable=False),
        sa.Column("owner_id", Text, nullable=False),
        sa.Column("description", Text),
        sa.Column("metadata", Json),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.ForeignKeyConstraint(["owner_id"], ["_selfdb_users.id"]),
    )
    op.create_index("ix__selfdb_tables_owner_id", "_selfdb_tables", ["owner_id"])
    _storage(op)
    op.create_table(
        "_selfdb_idempotency",
        sa.Column("scope", Text, nullable=False),
        sa.Column("owner", Text, nullable=False),
        sa.Column("fingerprint", Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", Text),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("scope"),
    )
    op.create_index("ix__selfdb_idempotency_owner_created_at", "_selfdb_idempotency", ["owner", "created_at"])


def _sessions(op: Operations) -> None:
    op.create_table(
        "_selfdb_sessions",
        sa.Column("id", Text, nullable=False),
        sa.Column("user_id", Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.Column("revoked_at", UtcDateTime),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["user_id"], ["_selfdb_users.id"], ondelete="CASCADE"),
    )
    op.create_index("ix__selfdb_sessions_user_id", "_selfdb_sessions", ["user_id"])
    op.create_table(
        "_selfdb_refresh_tokens",
        sa.Column("id", Text, nullable=False),
        sa.Column("session_id", Text, nullable=False),
        sa.Column("role", Text, nullable=False),
        sa.Column("issued_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.Column("used_at", UtcDateTime),
        sa.Column("rotated_at", UtcDateTime),
        sa.Column("successor_id", Text),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["session_id"], ["_selfdb_sessions.id"], ondelete="CASCADE"),
    )
    op.create_index("ix__selfdb_refresh_tokens_session_id", "_selfdb_refresh_tokens", ["session_id"])


def _storage(op: Operations) -> None:
    op.create_table(
        "_selfdb_buckets",
        sa.Column("id", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("public", sa.Boolean, nullable=False),
        sa.Column("owner_id", Text, nullable=False),
        sa.Column("description", Text),
        sa.Column("file_size_limit", sa.BigInteger),
        sa.Column("allowed_mime_types", Json),
        sa.Column("file_count", sa.BigInteger, nullable=False),
        sa.Column("total_size", sa.BigInteger, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.ForeignKeyConstraint(["owner_id"], ["_selfdb_users.id"]),
    )
    op.create_index("ix__selfdb_buckets_owner_id", "_selfdb_buckets", ["owner_id"])
    op.create_table(
        "_selfdb_files",
        sa.Column("id", Text, nullable=False),
        sa.Column("bucket_id", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("path", Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mime_type", Text, nullable=False),
        sa.Column("owner_id", Text),
        sa.Column("metadata", Json),
        sa.Column("version", Text, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("version"),
        sa.UniqueConstraint("bucket_id", "path"),
        sa.ForeignKeyConstraint(["bucket_id"], ["_selfdb_buckets.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["owner_id"], ["_selfdb_users.id"], ondelete="SET NULL"),
    )
    op.create_index("ix__selfdb_files_owner_id", "_selfdb_files", ["owner_id"])


def _events(op: Operations) -> None:
    """Realtime: what sockets are to be told."""
    op.create_table(
        "_selfdb_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", Text, nullable=False),
        sa.Column("table_id", Text),
        sa.Column("topic", Text),
        sa.Column("payload", Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix__selfdb_events_created_at", "_selfdb_events", ["created_at"])


#: Position is version: the first step makes version 1.
STEPS: Sequence[Step] = (_first, _events)
