"""Care of the file: its room, its health, its content as JSON, and its end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Dict, List, Tuple, Union, cast

from .errors import DatabaseCorruptError, DataError, IndexieTimeoutError, InvalidArgumentError
from .file import log, places
from .file.connection import Connection
from .file.connections import Connections
from .file.lease import Leased, Writing
from .file.rows import Rows, rows_of
from .file.snapshot import FileAlone, Snapshot
from .keys.extraction import extractor_of
from .keys.keys import decode, encode
from .keys.paths import MISSING, lookup
from .keys.stored import document_of, text_of
from .keys.values import dump, load, load_whole
from .ports import Sink
from .schema import catalogue
from .schema.specs import EncodedKey, StoreSpec
from .timing import Timing

if TYPE_CHECKING:
    from .database import Indexie

__all__ = ["checkpoint", "delete", "export_json", "import_json", "integrity", "vacuum"]

_FORMAT = "selfdb.indexie"
_ROWS_AT_ONCE = 1000

Place = Union[str, "os.PathLike[str]", IO[str]]


def vacuum(connections: Connections) -> None:
    """Write the file anew, without the room of what was deleted."""
    with Writing(connections) as connection:
        connection.insist("VACUUM")


def checkpoint(connections: Connections) -> None:
    """Bring the write-ahead log into the file, as far as nobody reads an older state."""
    with Writing(connections) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


# Health


def integrity(database: Indexie) -> List[str]:
    """What is wrong, a sentence each."""
    with FileAlone(database) as snapshot:
        found = [str(row[0]) for row in snapshot.connection.all("PRAGMA integrity_check")]
        wrong = [] if found == ["ok"] else found
        try:
            for spec in snapshot.schema.stores.values():
                wrong.extend(_disagreements(snapshot, rows_of(snapshot.schema, spec), spec))
        except DatabaseCorruptError as error:  # pages that cannot be read; SQLite's own words on them stand above
            wrong.append(str(error))
        return wrong


def _disagreements(snapshot: Snapshot, rows: Rows, spec: StoreSpec) -> Iterator[str]:
    """Where indexes hold something else than what the documents say."""
    connection = snapshot.connection
    indexes_of = extractor_of(spec).index_keys
    columns = "".join(f", {column}" for _, column in rows.singles)
    counted = dict.fromkeys((side for _, side in rows.multis), 0)
    last = 0
    unread = False
    while True:
        some = connection.all(
            f"SELECT r, k, CAST(d AS BLOB){columns} FROM {rows.table} WHERE r > ? ORDER BY r LIMIT {_ROWS_AT_ONCE}",
            (last,),
        )
        if not some:
            break
        last = some[-1][0]
        for _, key, stored, *held in some:
            try:
                keys = indexes_of(load(text_of(stored)))
            except DatabaseCorruptError as error:
                unread = True
                yield f"{spec.name}: the row of the key {decode(key)!r}: {error}"
                continue
            for (at, _), value in zip(rows.singles, held):
                if keys[at] != value:
                    yield f"{spec.name}: the index {spec.indexes[at].name} is wrong for the key {decode(key)!r}"
            for at, side in rows.multis:
                entries: Any = keys[at] or ()
                counted[side] += len(entries)
                has = f"SELECT 1 FROM {side} WHERE x = ? AND k = ?"
                if not all(connection.one(has, (entry, key)) for entry in entries):
                    yield f"{spec.name}: the index {spec.indexes[at].name} is wrong for the key {decode(key)!r}"
    for at, side in rows.multis:
        count = connection.one(f"SELECT count(*) FROM {side}")[0]
        if count != counted[side] and not unread:
            yield f"{spec.name}: the index {spec.indexes[at].name} has {count} entries, the rows have {counted[side]}"


# JSON


def export_json(database: Indexie, place: Place, skip_damaged: bool) -> int:
    """Write everything, of one moment; how many rows.

    :param skip_damaged: whether rows that cannot be read are left out.
    """
    if hasattr(place, "write"):
        file = cast("IO[str]", place)
        try:
            file.write("")
        except TypeError as error:
            raise InvalidArgumentError("export_json() takes a path, or a file that is open for writing text") from error
        return _export(database, file, skip_damaged)
    path = _path(place, "export_json() takes a path, or a file that is open for writing text")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            count = _export(database, file, skip_damaged)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _path(place: Any, said: str) -> Path:
    if not isinstance(place, (str, os.PathLike)):
        raise InvalidArgumentError(f"{said}, not {place!r}")
    return Path(place)


def _export(database: Indexie, file: IO[str], skip_damaged: bool) -> int:
    count = 0
    with FileAlone(database) as snapshot:
        head = {"format": _FORMAT, "name": database.name, "verno": snapshot.schema.verno}
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "stores": {')
        generators = json.loads(snapshot.connection.one(log.NEWEST)[2])
        for at, spec in enumerate(snapshot.schema.stores.values()):
            about = {"schema": str(spec), "next_key": generators.get(str(spec.number), 1)}
            name = json.dumps(spec.name, ensure_ascii=False)
            file.write(f'{"," if at else ""}\n{name}: {json.dumps(about, ensure_ascii=False)[:-1]}, "rows": [')
            mark = ""
            for key, text in snapshot.stored(spec):
                try:
                    document_of(spec, key, text)
                except DatabaseCorruptError:
                    if skip_damaged:
                        continue
                    raise
                file.write(f"{mark}\n[{dump(decode(key))[1]}, {text}]")
                mark = ","
                count += 1
            file.write("]}")
        file.write("}}\n")
    return count


def import_json(database: Indexie, place: Place, clear: bool) -> int:
    """Read what :func:`export_json` wrote, in one transaction; how many rows."""
    said = "import_json() takes a path, or a file that is open for reading text"
    try:
        text = place.read() if hasattr(place, "read") else _path(place, said).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError("the text is no export of a database: it is not UTF-8") from error
    if not isinstance(text, str):
        raise InvalidArgumentError(said)
    stores = _stores_of(text)
    found = [(database._store(name), about) for name, about in stores.items()]
    # Before the transaction: what is wrong with the text is known when nothing has been written yet.
    prepared = [(spec, _next_key(about), [_row(spec, each) for each in about["rows"]]) for spec, about in found]

    def work(sink: Sink) -> int:
        with sink.savepoint():
            for spec, next_key, rows in prepared:
                if clear:
                    sink.clear(spec)
                elif any(index.unique for index in spec.indexes):
                    # Two rows may have changed places in one since: neither can be the first to take the other's.
                    for key, _, stored in rows:
                        old = sink.get(spec, key)
                        if old is not None and old.text != stored:
                            sink.remove(spec, old)
                for key, document, stored in rows:
                    old = sink.get(spec, key)
                    if old is None:
                        sink.insert(spec, key, document, stored)
                    elif old.text != stored:
                        sink.replace(spec, old, document, stored)
                if spec.auto:
                    numbers = [key for key, _, _ in rows if not isinstance(key, bytes)]
                    sink.saw_key(spec, max([next_key - 1, *numbers]))
        return sum(len(rows) for _, _, rows in prepared)

    return database._write([spec for spec, _ in found], work, silent=True)


def _stores_of(text: str) -> Dict[str, Any]:
    try:
        content = load_whole(text)
    except DatabaseCorruptError as error:
        raise InvalidArgumentError("the text is no export of a database") from error
    stores = content.get("stores") if isinstance(content, dict) and content.get("format") == _FORMAT else None
    if not isinstance(stores, dict) or not all(
        isinstance(about, dict)
        and isinstance(about.get("rows"), list)
        and all(isinstance(row, list) and len(row) == 2 for row in about["rows"])
        for about in stores.values()
    ):
        raise InvalidArgumentError("the text is no export of a database")
    return stores


def _next_key(about: Dict[str, Any]) -> int:
    said = about.get("next_key")
    return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else 1


def _row(spec: StoreSpec, row: List[Any]) -> Tuple[EncodedKey, Any, str]:
    key, value = row
    document, text = dump(value)
    if spec.key_paths:
        parts = [lookup(document, path) for path in spec.key_paths]
        if MISSING in parts:
            raise DataError(f"a row of {spec.name!r} lacks its key {spec.key_name}", key=None)
        key = parts if spec.compound_key else parts[0]
    return encode(key), document, text


# The end


def delete(path: Path, seconds: float) -> bool:
    """Delete a database that nobody has open; whether there was one."""
    if not places.is_there(path):
        return False
    connections = Connections(str(path), strict=False, busy_timeout=seconds, timing=Timing(), stale=lambda: None)
    try:
        with Leased(connections) as connection:
            catalogue.exists(connection)  # whatever else it is stays
            _take_over(connection, path, seconds)
            if os.name != "nt":
                _unlink(path)  # while nobody else can open it; afterwards there may be another one
    finally:
        connections.close()
    if os.name == "nt":  # where what is open cannot be deleted
        _unlink(path)
    return True


def _unlink(path: Path) -> None:
    # The file itself last: as soon as it is gone somebody may make another, with companions of its own.
    for each in (*places.companions(path), path):
        each.unlink(missing_ok=True)


def _take_over(connection: Connection, path: Path, seconds: float) -> None:
    """Be the only one: leaving the write-ahead log needs every other connection closed."""
    end = time.monotonic() + seconds
    connection.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            if connection.one("PRAGMA journal_mode = DELETE")[0] == "delete":
                connection.execute("BEGIN EXCLUSIVE")
                return
        except IndexieTimeoutError:
            if time.monotonic() < end:
                time.sleep(0.01)
                continue
        if time.monotonic() >= end:
            raise IndexieTimeoutError(f"somebody had {path.name} open for all of {seconds:g} s; it was not deleted")
        time.sleep(0.01)
