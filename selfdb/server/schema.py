"""The server's own tables, as SQLAlchemy sees them; how they come to be is in ``migrations``.

Names are written without a schema; on PostgreSQL the engine translates them into the schema ``selfdb``.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Optional

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = [
    "DATA_SCHEMA",
    "SYSTEM_SCHEMA",
    "Text",
    "UtcDateTime",
    "buckets",
    "events",
    "files",
    "idempotency",
    "refresh_tokens",
    "schema_version",
    "sessions",
    "settings",
    "system",
    "tables",
    "users",
]

#: Where PostgreSQL keeps the tables below, and the tables of users.
SYSTEM_SCHEMA = "selfdb"
DATA_SCHEMA = "selfdb_data"


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime: TIMESTAMPTZ on PostgreSQL; on SQLite text of fixed width, so that it sorts as time."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.String(32))
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: Optional[datetime], dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without time zone reached the database")
        value = value.astimezone(timezone.utc)
        return value.isoformat(timespec="microseconds") if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Optional[datetime]:
        if value is None:
            return None
        moment: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.astimezone(timezone.utc)


#: Text that both databases sort alike: by code point.
Text = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
#: JSON kept as text, so that the order of keys survives.
Json = sa.JSON(none_as_null=True)

system = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

schema_version = sa.Table(
    "_selfdb_schema_version",
    system,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("applied_at", UtcDateTime, nullable=False),
)

#: Names and values that must survive a restart: API key, secret of the tokens, whether anyone ever signed in.
settings = sa.Table(
    "_selfdb_settings",
    system,
    sa.Column("name", Text, primary_key=True),
    sa.Column("value", Text, nullable=False),
)

users = sa.Table(
    "_selfdb_users",
    system,
    sa.Column("id", Text, primary_key=True),
    sa.Column("email", Text, nullable=False),
    # The address in lower case: what makes it unique.
    sa.Column("email_key", Text, nullable=False, unique=True),
    sa.Column("password_hash", Text, nullable=False),
    sa.Column("first_name", Text),
    sa.Column("last_name", Text),
    sa.Column("role", Text, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

sessions = sa.Table(
    "_selfdb_sessions",
    system,
    sa.Column("id", Text, primary_key=True),
    sa.Column("user_id", Text, sa.ForeignKey("_selfdb_users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("revoked_at", UtcDateTime),
)

refresh_tokens = sa.Table(
    "_selfdb_refresh_tokens",
    system,
    sa.Column("id", Text, primary_key=True),
    sa.Column("session_id", Text, sa.ForeignKey("_selfdb_sessions.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("role", Text, nullable=False),
    sa.Column("issued_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    # When it, or an access token minted with it, was first presented.
    sa.Column("used_at", UtcDateTime),
    sa.Column("rotated_at", UtcDateTime),
    sa.Column("successor_id", Text),
)

tables = sa.Table(
    "_selfdb_tables",
    system,
    sa.Column("id", Text, primary_key=True),
    sa.Column("name", Text, nullable=False, unique=True),
    sa.Column("table_schema", Json, nullable=False),
    sa.Column("public", sa.Boolean, nullable=False),
    sa.Column("realtime_enabled", sa.Boolean, nullable=False),
    sa.Column("owner_id", Text, sa.ForeignKey("_selfdb_users.id"), nullable=False, index=True),
    sa.Column("description", Text),
    sa.Column("metadata", Json),
    sa.Column("row_count", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

buckets = sa.Table(
    "_selfdb_buckets",
    system,
    sa.Column("id", Text, primary_key=True),
    sa.Column("name", Text, nullable=False, unique=True),
    sa.Column("public", sa.Boolean, nullable=False),
    sa.Column("owner_id", Text, sa.ForeignKey("_selfdb_users.id"), nullable=False, index=True),
    sa.Column("description", Text),
    sa.Column("file_size_limit", sa.BigInteger),
    sa.Column("allowed_mime_types", Json),
    # Kept in step with the files by each transaction that changes one.
    sa.Column("file_count", sa.BigInteger, nullable=False),
    sa.Column("total_size", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
)

files = sa.Table(
    "_selfdb_files",
    system,
    sa.Column("id", Text, primary_key=True),
    sa.Column("bucket_id", Text, sa.ForeignKey("_selfdb_buckets.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", Text, nullable=False),
    # The object key, without a leading slash.
    sa.Column("path", Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mime_type", Text, nullable=False),
    sa.Column("owner_id", Text, sa.ForeignKey("_selfdb_users.id", ondelete="SET NULL"), index=True),
    sa.Column("metadata", Json),
    # Which version in the object store holds the bytes; a new one for each overwrite, so it is the ETag too.
    sa.Column("version", Text, nullable=False, unique=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("bucket_id", "path"),
)

#: Answers to keyed writes, so that a repeated write is answered and not done again.
idempotency = sa.Table(
    "_selfdb_idempotency",
    system,
    # Hash of API key, user, method, path and the caller's key.
    sa.Column("scope", Text, primary_key=True),
    sa.Column("owner", Text, nullable=False),
    sa.Column("fingerprint", Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("body", Text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix__selfdb_idempotency_owner_created_at", "owner", "created_at"),
)

#: What sockets are to be told, written in the transaction of the change itself. Ids grow in the order of the
#: commits (see ``realtime.outbox``), so whoever has read one id has missed none below it.
events = sa.Table(
    "_selfdb_events",
    system,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    # INSERT, UPDATE and DELETE are for the sockets; other kinds are for the servers.
    sa.Column("kind", Text, nullable=False),
    # No foreign key: it is to tell of tables that are gone.
    sa.Column("table_id", Text),
    sa.Column("topic", Text),
    sa.Column("payload", Text, nullable=False),
    # Characters of the payload, so that a reader can bound what it asks for.
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, index=True),
    # Numbers are not given out again after old rows are removed.
    sqlite_autoincrement=True,
)
