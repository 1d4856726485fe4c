"""What an operator may decide about a server, and where each decision comes from."""

from __future__ import annotations

import ipaddress
import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

__all__ = ["DEFAULT_ADMIN_PASSWORD", "Settings", "SettingsError", "default_data_folder", "is_loopback"]

#: Seeded for the first ADMIN unless another is configured; fine on loopback, refused elsewhere.
DEFAULT_ADMIN_PASSWORD = "password"  # noqa: S105 - documented default, refused off loopback

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


class SettingsError(ValueError):
    """A setting is missing, malformed or contradicts another; the message names it, never a secret."""


@dataclass(frozen=True)
class Settings:
    """Everything configurable, validated once. Immutable, safe to share between threads.

    :param host: address to listen on.
    :param port: TCP port; 0 picks a free one.
    :param data: the data folder; made with mode 0700 if it is not there.
    :param database: ``postgresql://...``; ``None`` keeps the rows in ``<data>/selfdb.sqlite3``.
    :param api_key: the ``X-API-Key`` every caller must send; ``None`` takes the persisted one or generates it.
    :param admin_email: the ADMIN seeded when no user has this address; never touched afterwards.
    :param admin_password: his first password.
    :param registration: ``open`` lets anyone with the API key create an account, ``admin`` only ADMINs;
        ``None`` means open on loopback, else admin.
    :param list_users: whether users who are not ADMIN see other users.
    :param strict_passwords: accept only letters, digits and ``@$!%*?&`` in new passwords.
    :param access_token_seconds: life of an access token.
    :param refresh_token_seconds: life of a refresh token.
    :param rotation_grace_seconds: how long a rotated refresh token is still answered with its successor.
    :param json_limit_bytes: largest JSON request body.
    :param login_failures: failed logins for one address and e-mail in ``login_window_seconds`` before 429.
    :param idempotency_seconds: how long the answer to a keyed write is kept.
    :param idempotency_keys_per_user: how many such answers are kept for one user.
    :param hash_time_cost: passes of the password hash (argon2id).
    :param hash_memory_kib: memory of one password hash, KiB.
    :param access_log: log each request (method, path without query, status, milliseconds).
    """

    host: str = "127.0.0.1"
    port: int = 8000
    data: Path = field(default_factory=lambda: default_data_folder())
    database: Optional[str] = field(default=None, repr=False)
    api_key: Optional[str] = field(default=None, repr=False)
    admin_email: str = "admin@example.com"
    admin_password: str = field(default=DEFAULT_ADMIN_PASSWORD, repr=False)
    registration: Optional[str] = None
    list_users: bool = False
    strict_passwords: bool = False
    access_token_seconds: int = 30 * 60
    refresh_token_seconds: int = 7 * 24 * 3600
    rotation_grace_seconds: int = 30
    json_limit_bytes: int = 10 * 1024 * 1024
    login_failures: int = 10
    login_window_seconds: int = 60
    idempotency_seconds: int = 24 * 3600
    idempotency_keys_per_user: int = 1000
    hash_time_cost: int = 2
    hash_memory_kib: int = 19456
    access_log: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", Path(self.data).expanduser().absolute())
        if not self.host:
            raise SettingsError("host is empty; 127.0.0.1 listens on this machine only")
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"port {self.port} is not between 0 and 65535")
        if self.registration not in (None, "open", "admin"):
            raise SettingsError(f"registration {self.registration!r} is neither 'open' nor 'admin'")
        if self.api_key is not None and not _is_header_value(self.api_key):
            raise SettingsError("the API key must be 1 to 255 printable ASCII characters without blanks")
        if not 1 <= len(self.admin_password) <= 72 or not all(" " <= c <= "~" for c in self.admin_password):
            raise SettingsError("the admin password must be 1 to 72 printable ASCII characters: no login takes another")
        if self.database is not None:
            scheme, mark, _ = self.database.partition("://")
            if not mark or scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
                shown = f", not {scheme[:20]!r}" if mark else ""  # without the mark it may be anything, a password too
                raise SettingsError(f"database: only postgresql://... is served{shown}")
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1")

    @property
    def open_registration(self) -> bool:
        """Whether someone without an ADMIN's token may create an account."""
        return is_loopback(self.host) if self.registration is None else self.registration == "open"

    @classmethod
    def resolve(
        cls,
        given: Mapping[str, Any],
        environ: Optional[Mapping[str, str]] = None,
        defaults: Optional[Mapping[str, Any]] = None,
    ) -> Settings:
        """Settings from what was ``given`` (``None`` = not given), then ``SELFDB_*`` variables,
        then ``defaults``, then those of the class.

        ``api_key_file`` and ``admin_password_file`` (or their variables) name files that hold the secret;
        at each level a secret itself wins over its file.

        :raises SettingsError: an unknown name, a malformed value, an unreadable or empty secret file.
        """
        environ = os.environ if environ is None else environ
        known = {item.name: item for item in fields(cls)}
        unknown = set(given) - set(known) - set(_SECRET_FILES)
        if unknown:
            raise SettingsError(f"unknown setting: {', '.join(sorted(unknown))}")
        values: Dict[str, Any] = dict(defaults or {})
        for name in known:
            value = given.get(name)
            if value is None:
                value = _secret_from_file(name, given.get(f"{name}_file"))
            if value is None:
                value = _from_environment(name, environ)
            if value is None:
                value = _secret_from_file(name, environ.get(f"SELFDB_{name.upper()}_FILE"))
            if value is not None:
                values[name] = value
        return cls(**values)


_POSITIVE = (
    "access_token_seconds",
    "refresh_token_seconds",
    "json_limit_bytes",
    "login_failures",
    "login_window_seconds",
    "idempotency_seconds",
    "idempotency_keys_per_user",
    "hash_time_cost",
    "hash_memory_kib",
)
_SECRET_FILES = {"api_key_file": "api_key", "admin_password_file": "admin_password"}
_KINDS = {item.name: str(item.type) for item in fields(Settings)}


def _from_environment(name: str, environ: Mapping[str, str]) -> Any:
    text = environ.get(f"SELFDB_{name.upper()}")
    if text is None or text == "":
        return None
    kind = _KINDS[name]
    if kind == "int":
        try:
            return int(text)
        except ValueError:
            raise SettingsError(f"SELFDB_{name.upper()} is not a whole number") from None
    if kind == "bool":
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise SettingsError(f"SELFDB_{name.upper()} is neither true nor false")
    return text


def _secret_from_file(name: str, path: Any) -> Optional[str]:
    if not path or f"{name}_file" not in _SECRET_FILES:
        return None
    try:
        secret = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingsError(f"cannot read {name} from {path}: {problem}") from None
    if not secret:
        raise SettingsError(f"the file {path} for {name} is empty")
    return secret


def _is_header_value(text: str) -> bool:
    return 1 <= len(text) <= 255 and all(33 <= ord(character) <= 126 for character in text)


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine only. Unknown names count as not."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def default_data_folder() -> Path:
    """The data folder of this user, by the custom of the platform."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "selfdb"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "selfdb"
    base = os.environ.get("XDG_DATA_HOME")
    # The XDG rules say that a relative value is to be ignored.
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "share") / "selfdb"
