"""The command line: ``selfdb serve``, ``selfdb backup``, ``selfdb restore`` and ``selfdb indexie``.

Nothing of the server is imported before a command needs it, so ``selfdb --help`` works without the extra.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import re
import sys
from typing import Any, Dict, List, NoReturn, Optional, Sequence

from ._version import __version__

__all__ = ["main"]

_EPILOG = """\
Every option of serve may also come from the environment: SELFDB_HOST, SELFDB_PORT, SELFDB_DATA, SELFDB_DATABASE,
SELFDB_API_KEY, SELFDB_API_KEY_FILE, SELFDB_ADMIN_EMAIL, SELFDB_ADMIN_PASSWORD, SELFDB_ADMIN_PASSWORD_FILE,
SELFDB_REGISTRATION, SELFDB_LIST_USERS, SELFDB_STRICT_PASSWORDS, SELFDB_ACCESS_LOG. What is given on the command
line wins. Secrets are safer in files: a command line can be read by every user of the machine.
"""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; returns the exit status (0 done, 1 failed, 2 not understood).

    :param arguments: the command line without the program's name; that of the process by default.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["indexie"]:
        return int(importlib.import_module("selfdb.indexie.command").main(given[1:]))
    parser = _parser()
    options = parser.parse_args(given)
    if options.command is None:
        parser.print_help()
        return 2
    options.own_process = arguments is None
    try:
        return int(options.command(options))
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "selfdb":
            raise
        print(_missing(missing.name), file=sys.stderr)
        return 1


def _missing(name: str) -> str:
    extra = "postgres" if name.startswith("psycopg") else "server"
    return (
        f"selfdb: this command needs the package {name!r}, which is not installed.\n"
        f'Install the extra "{extra}" from the project\'s folder: pip install ".[{extra}]"'
    )


class _Parser(argparse.ArgumentParser):
    """Takes no shortened options and shows no value: behind a misspelt option it may be a password."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end with 2."""
        said, mark, given = message.partition("unrecognized arguments: ")
        names = [word.partition("=")[0] for word in given.split() if word.startswith("-")]
        if mark:
            super().error(said + mark + (" ".join(names) or "a value that belongs to no option"))
        super().error(re.sub(r"(invalid (?:choice|\w+ value)): .*?(?= \(choose|\Z)", r"\1", message, flags=re.DOTALL))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="selfdb", description="A SelfDB-compatible server, care for its data, and local stores.")
    parser.add_argument("--version", action="version", version=f"selfdb {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_serve(commands)
    _add_backup(commands)
    _add_restore(commands)
    commands.add_parser("indexie", help="look into a local store")  # which reads the rest of the line itself
    return parser


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve the SelfDB API",
        description="Serve the SelfDB API until SIGINT (Ctrl+C) or SIGTERM.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--host", help="address to listen on (127.0.0.1)")
    serve.add_argument("--port", type=int, help="TCP port; 0 picks a free one (8000)")
    serve.add_argument("--data", metavar="DIR", help="data folder (the user's own, by the platform's custom)")
    serve.add_argument("--database", metavar="URL", help="postgresql://... instead of SQLite in the data folder")
    serve.add_argument("--api-key", metavar="KEY", help="what callers send as X-API-Key (kept, or generated)")
    serve.add_argument("--api-key-file", metavar="FILE", help="file that holds it")
    serve.add_argument("--admin-email", metavar="E", help="first ADMIN (admin@example.com)")
    serve.add_argument("--admin-password", metavar="P", help="his first password; later starts never reset it")
    serve.add_argument("--admin-password-file", metavar="FILE", help="file that holds it")
    serve.add_argument(
        "--registration",
        choices=["open", "admin"],
        help="who may create accounts: everybody with the API key, or ADMINs (open on loopback, else admin)",
    )
    serve.add_argument("--list-users", action="store_true", default=None, help="let users see other users")
    serve.add_argument(
        "--strict-passwords",
        action="store_true",
        default=None,
        help="new passwords of letters, digits and @$!%%*?& only",
    )
    serve.add_argument(
        "--no-access-log", dest="access_log", action="store_false", default=None, help="do not log requests"
    )
    serve.set_defaults(command=_serve)


def _add_backup(commands: Any) -> None:
    backup = commands.add_parser(
        "backup",
        help="copy a data folder into an archive",
        description="Copy a data folder into one archive; it may be served meanwhile.",
    )
    backup.add_argument("archive", metavar="FILE.tar.gz")
    backup.add_argument("--data", metavar="DIR", help="data folder (as for serve)")
    backup.set_defaults(command=_backup)


def _add_restore(commands: Any) -> None:
    restore = commands.add_parser(
        "restore",
        help="make a data folder from an archive",
        description="Make a data folder from an archive of selfdb backup; the folder must be empty or new.",
    )
    restore.add_argument("archive", metavar="FILE.tar.gz")
    restore.add_argument("--data", metavar="DIR", help="data folder (as for serve)")
    restore.set_defaults(command=_restore)


_SERVE_OPTIONS: List[str] = [
    "host",
    "port",
    "data",
    "database",
    "api_key",
    "api_key_file",
    "admin_email",
    "admin_password",
    "admin_password_file",
    "registration",
    "list_users",
    "strict_passwords",
    "access_log",
]


def _serve(options: argparse.Namespace) -> int:
    from .server.settings import Settings, SettingsError

    given: Dict[str, Any] = {name: getattr(options, name) for name in _SERVE_OPTIONS}
    try:
        settings = Settings.resolve(given, defaults={"access_log": True})
    except SettingsError as problem:
        return _fail(str(problem), 2)
    if options.own_process:
        gc.disable()
    serving = importlib.import_module("selfdb.server.serve")
    failures = importlib.import_module("selfdb.server.failures")
    if options.own_process:
        # What was imported stays until the end: the collector need not go through it, now, later nor at the end.
        gc.freeze()
        gc.enable()
    try:
        serving.serve(settings, announce=_announce)
    except failures.START_FAILURES as problem:
        return _fail(failures.explained(problem), 1)
    return 0


def _announce(line: str) -> None:
    # At once: whoever started us may be waiting for it at the other end of a pipe.
    print(line, flush=True)


def _data_folder(options: argparse.Namespace) -> Any:
    from .server.settings import Settings

    return Settings.resolve({"data": options.data}).data


def _backup(options: argparse.Namespace) -> int:
    from .server.backup import BackupError, backup
    from .server.settings import Settings

    try:
        settings = Settings.resolve({"data": options.data})
        backup(settings.data, options.archive, database=settings.database)
    except (BackupError, OSError, ValueError) as problem:
        return _fail(str(problem), 1)
    print(f"Wrote {options.archive}")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from .server.backup import BackupError, restore

    folder = None
    try:
        folder = _data_folder(options)
        restore(options.archive, folder)
    except (BackupError, OSError, ValueError) as problem:
        return _fail(str(problem), 1)
    print(f"Restored into {folder}")
    return 0


def _fail(message: str, status: int) -> int:
    print(f"selfdb: {message}", file=sys.stderr)
    return status
