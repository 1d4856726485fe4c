"""What this client has learnt about the way its server speaks of tables."""

from __future__ import annotations

from typing import Any

from ..exceptions import UnprocessableEntityError

__all__ = ["Dialect"]


class Dialect:
    """Shared by a client and its clones; only ever learns, so that threads need no lock.

    :ivar mini: the server is of the small kind that wants ``schema`` for ``table_schema``, and a column's
        ``default`` as an SQL literal.
    """

    def __init__(self) -> None:
        self.mini = False

    def recognises(self, error: UnprocessableEntityError) -> bool:
        """Whether ``error`` is the small server's way of asking for ``schema``; remembered if so."""
        wanted = any(
            finding.get("type") == "missing" and finding.get("loc") == ["body", "schema"] for finding in error.errors
        )
        self.mini = self.mini or wanted
        return wanted

    def table(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of a table's creation as this server wants it."""
        if not self.mini:
            return body
        return {("schema" if name == "table_schema" else name): value for name, value in body.items()}

    def column(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body of a column call as this server wants it."""
        if not self.mini or "default_value" not in body:
            return body
        return {**body, "default": _sql_literal(body["default_value"])}


def _sql_literal(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
