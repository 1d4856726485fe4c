"""Opening a file: what it is, whether it has to be made or upgraded, and whether it has what was declared."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, List

from ..errors import OpenFailedError, SchemaError, VersionError
from ..schema import catalogue, upgrade
from ..schema.schema import Schema, differences
from .connection import Connection
from .connections import Connections
from .lease import Leased, Transacted

if TYPE_CHECKING:
    from ..database import Indexie

__all__ = ["about", "attach"]


def about(path: Path) -> str:
    """The path of a file that could not be opened, with what is wrong there as far as a look tells it."""
    folder = path.parent
    with suppress(OSError):  # a path that is too long, or one that must not be seen
        if path.is_dir():
            return f"{path} (a folder)"
        if not folder.is_dir():
            return f"{path} ({'a file' if folder.exists() else 'nothing'} is where its folder should be)"
    return str(path)


def attach(database: Indexie, connections: Connections, seconds: float) -> Schema:
    """Bring the file to what is declared; the schema that it has then.

    :param seconds: how long to wait for others who upgrade it.
    """
    schema = _present(connections)
    if schema is None and not database._versions:
        raise OpenFailedError("the file is empty, and no version is declared to fill it from")
    connections.use_wal()
    if schema is not None and not _behind(database, schema):
        _compare(database, schema)
        return schema
    with Transacted(connections, seconds) as connection:
        # Another process may have done it meanwhile.
        if not catalogue.exists(connection):
            schema = _made(database, connection)
        else:
            schema = catalogue.read(connection)
            if _behind(database, schema):
                schema = upgrade.bring_up(database, connection, schema, _steps(database, schema))
            else:
                _compare(database, schema)
    return schema


def _present(connections: Connections) -> Schema | None:
    with Leased(connections) as connection:
        connection.begin_snapshot()
        return catalogue.read(connection) if catalogue.exists(connection) else None


def _behind(database: Indexie, schema: Schema) -> bool:
    return schema.verno < max(database._versions, default=0)


def _compare(database: Indexie, schema: Schema) -> None:
    declared = max(database._versions, default=schema.verno)
    if schema.verno > declared:
        raise VersionError(
            f"the file has version {schema.verno}, and {declared} is the highest that is declared here",
            stored=schema.verno,
            declared=declared,
        )
    wrong = differences(database._declared(schema.verno), schema.stores)
    if wrong:
        raise SchemaError(
            f"the schema of version {declared} is not the one that the file was made with; a changed schema needs "
            f"a new version number: {'; '.join(wrong)}"
        )


def _made(database: Indexie, connection: Connection) -> Schema:
    stores = {name: spec for name, spec in database._declared().items() if spec is not None}
    return upgrade.create(database, connection, max(database._versions), stores, database._populate)


def _steps(database: Indexie, schema: Schema) -> List[upgrade.Step]:
    return [
        (number, dict(version._stores), list(version._hooks))
        for number, version in sorted(database._versions.items())
        if number > schema.verno
    ]
