"""``selfdb indexie``: a store on the command line, to look into, ask, write out as JSON and read in again."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, List, Optional

from ..exceptions import SelfDBError
from .database import Indexie
from .errors import DatabaseCorruptError, DataError, InvalidArgumentError, InvalidTableError, SchemaError
from .keys import keys
from .keys.ranges import Range, complement, contains
from .keys.values import dump, load_whole
from .queries.plan import keys_at
from .schema.specs import EncodedKey

__all__ = ["main"]

_OPERATORS = {
    "=": "equals",
    "!=": "not_equal",
    ">": "above",
    ">=": "above_or_equal",
    "<": "below",
    "<=": "below_or_equal",
    "^=": "starts_with",
}

_DESCRIPTION = "Look into a store of selfdb.indexie, which may be in use meanwhile."

_EPILOG = """\
NAME is that of the database, as the program gives it to Indexie(...), or a path: whatever has a slash, or a suffix, is
one. A VALUE is JSON (30, "Ann", [1, "a"], true); what is none is taken as text, so that Ann needs no quotes.
"""

_WHERE_HELP = """\
of an index, or of the key: above all of them with age '>' 18. Operators: = != > >= < <= ^= (begins with); in takes a
JSON list, between a JSON list of two (the second excluded). Given again, a row has to meet each.
"""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns the exit status (0 done, 1 failed, 2 not understood)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    for stream in (sys.stdin, sys.stdout):
        _speak_utf8(stream)
    try:
        status = int(options.command(options))
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is known here, and not only after the end
        return status
    except (InvalidArgumentError, InvalidTableError, SchemaError, DataError) as problem:
        return _fail(problem, 2)
    except BrokenPipeError:
        # Who reads has enough. What is still to be written must not come up again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SelfDBError, OSError) as problem:
        return _fail(problem, 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _speak_utf8(stream: Any) -> None:
    """JSON in a pipe or a file is UTF-8, whatever the platform would like; a terminal is shown what it can show."""
    if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        if stream.isatty():
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8")


class _Action(argparse.ArgumentParser):
    """Takes no shortened options: ``--cle`` is too little to empty a store."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="selfdb indexie",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=None)
    parser.add_argument("--dir", metavar="DIR", help="folder of the databases that are named (SELFDB_INDEXIE_DIR)")
    actions = parser.add_subparsers(title="what to do", metavar="ACTION", parser_class=_Action)

    names = actions.add_parser("names", help="list the databases of the folder")
    names.set_defaults(command=_names)

    stores = actions.add_parser("stores", help="list the stores of a database with their rows, keys and indexes")
    _add_database(stores, _stores)
    stores.add_argument("--json", action="store_true", help="as JSON")

    query = actions.add_parser("query", help="print rows, one line of JSON each")
    _add_database(query, _query)
    query.add_argument("store", metavar="STORE")
    query.add_argument(
        "--where", nargs=3, action="append", default=[], metavar=("PATH", "OP", "VALUE"), help=_WHERE_HELP
    )
    query.add_argument("--order", metavar="PATH", help="any path to sort by (the key, or the first --where)")
    query.add_argument("--reverse", action="store_true", help="from the end")
    query.add_argument("--limit", type=int, metavar="N")
    query.add_argument("--offset", type=int, default=0, metavar="N", help="leave the first N out")
    query.add_argument("--count", action="store_true", help="print how many there are and nothing else")
    query.add_argument("--keys", action="store_true", help="print the keys and nothing else")

    export = actions.add_parser("export", help="write a whole database as JSON")
    _add_database(export, _export)
    export.add_argument("--output", metavar="FILE", help="a new file (standard output)")
    export.add_argument("--skip-damaged", action="store_true", help="leave out rows that cannot be read")

    read = actions.add_parser("import", help="read what export wrote into the stores of a database")
    _add_database(read, _import)
    read.add_argument("file", metavar="FILE", help="- is standard input")
    read.add_argument("--clear", action="store_true", help="empty the stores that the file has first")

    check = actions.add_parser("check", help="look whether the file is whole")
    _add_database(check, _check)
    return parser


def _add_database(parser: argparse.ArgumentParser, action: Callable[[Any, argparse.Namespace], int]) -> None:
    parser.add_argument("name", metavar="NAME")

    def command(options: argparse.Namespace) -> int:
        with _opened(options) as db:
            return action(db, options)

    parser.set_defaults(command=command)


@contextmanager
def _opened(options: argparse.Namespace) -> Iterator[Indexie]:
    """The database, which has to be there: nothing is made by looking."""
    given = options.name
    is_path = "/" in given or "\\" in given or bool(Path(given).suffix)
    db = Indexie(Path(given) if is_path else given, directory=options.dir)
    if db.path is None or not db.path.is_file():
        raise FileNotFoundError(f"there is no database at {db.path}")
    with db:
        yield db


def _fail(problem: object, status: int) -> int:
    print(f"selfdb indexie: {problem}", file=sys.stderr)
    return status


# What there is to do


def _names(options: argparse.Namespace) -> int:
    for name in Indexie.database_names(directory=options.dir):
        print(name)
    return 0


def _stores(db: Any, options: argparse.Namespace) -> int:
    found = [
        {"name": table.name, "rows": table.count(), "key": table.primary_key, "schema": str(table.schema)}
        for table in sorted(db.tables, key=lambda table: str(table.name))
    ]
    if options.json:
        print(json.dumps({"path": str(db.path), "version": db.verno, "stores": found}, ensure_ascii=False, indent=2))
        return 0
    print(f"{db.path}, version {db.verno}")
    width = max((len(store["name"]) for store in found), default=0)
    for store in found:
        print(f"{store['name']:{width}}  {store['rows']:>8}  {store['schema']}".rstrip())
    return 0


def _query(db: Any, options: argparse.Namespace) -> int:
    rows = _collection(db.table(options.store), options)
    if options.count:
        print(rows.count())
        return 0
    for each in rows.primary_keys() if options.keys else rows:
        print(dump(each)[1])
    return 0


def _collection(table: Any, options: argparse.Namespace) -> Any:
    """The rows that were asked for."""
    if options.where:
        path, operator, value = options.where[0]
        rows = _bounded(table.where(path), operator, _value(value))
        for path, operator, value in options.where[1:]:
            rows = rows.filter(_meets(keys_at(table.schema, path), _ranges(operator, _value(value))))
        rows = rows.distinct()  # a row with several values at the path is one row all the same
    else:
        rows = table.to_collection()
    rows = rows if options.order is None else rows.order_by(options.order)
    rows = (rows.reverse() if options.reverse else rows).offset(options.offset)
    return rows if options.limit is None else rows.limit(options.limit)


def _value(given: str) -> Any:
    """What stands on the command line, as a value: JSON, or the text itself."""
    try:
        return load_whole(given)
    except DatabaseCorruptError:
        return given


def _bounded(clause: Any, operator: str, value: Any) -> Any:
    """The rows that an index gives."""
    if operator == "in":
        return clause.any_of(_list(operator, value))
    if operator == "between":
        return clause.between(*_list(operator, value, 2))
    if operator not in _OPERATORS:
        raise InvalidArgumentError(f"{operator!r} is no operator: = != > >= < <= ^= in between")
    return getattr(clause, _OPERATORS[operator])(value)


def _ranges(operator: str, value: Any) -> Sequence[Range]:
    """The same for a row that is at hand, whose path needs no index."""
    if operator == "in":
        return [Range.only(keys.encode(each)) for each in _list(operator, value)]
    if operator == "between":
        lower, upper = _list(operator, value, 2)
        return [keys.span(lower, upper, False, True)]
    if operator == "^=":
        return [keys.prefix(value)]
    if operator not in _OPERATORS:
        raise InvalidArgumentError(f"{operator!r} is no operator: = != > >= < <= ^= in between")
    key = keys.encode(value)
    if operator == "=":
        return [Range.only(key)]
    if operator == "!=":
        return complement([Range.only(key)])
    strict = operator in "<>"
    return [Range(key, None, strict) if operator[0] == ">" else Range(None, key, False, strict)]


def _meets(keys_of: Callable[[Any], Sequence[EncodedKey]], ranges: Sequence[Range]) -> Callable[[Any], bool]:
    return lambda row: any(contains(ranges, key) for key in keys_of(row))


def _list(operator: str, value: Any, length: Optional[int] = None) -> List[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        wanted = "list" if length is None else f"list of {length}"
        raise InvalidArgumentError(f"{operator} takes a JSON {wanted}, such as '[18, 30]'")
    return value


def _export(db: Any, options: argparse.Namespace) -> int:
    if options.output is None:
        db.export_json(_open(sys.stdout, "output"), skip_damaged=options.skip_damaged)
        return 0
    written = Path(options.output)
    written.open("x").close()  # what is there already is not written over
    try:
        db.export_json(written, skip_damaged=options.skip_damaged)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
    return 0


def _open(stream: Any, name: str) -> Any:
    if stream is None:
        raise InvalidArgumentError(f"standard {name} is closed")
    return stream


def _import(db: Any, options: argparse.Namespace) -> int:
    if options.file == "-":
        db.import_json(_open(sys.stdin, "input"), clear=options.clear)
    else:
        db.import_json(Path(options.file), clear=options.clear)
    return 0


def _check(db: Any, options: argparse.Namespace) -> int:
    problems = db.integrity_check()
    for problem in problems:
        print(problem)
    return 1 if problems else 0
