"""The embedded SelfDB-compatible server: doors for callers, nothing else.

Needs the extra ``server``. Names are imported when they are first used, so that reading a folder's lock
file or parsing a command line does not load the web stack.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any, Dict

if TYPE_CHECKING:
    from .app import create_app
    from .folderlock import FolderInUse, Serving, serving
    from .local import LocalServer
    from .settings import Settings

__all__ = ["FolderInUse", "LocalServer", "Serving", "Settings", "create_app", "serving"]

_HOMES: Dict[str, str] = {
    "FolderInUse": "folderlock",
    "LocalServer": "local",
    "Serving": "folderlock",
    "Settings": "settings",
    "create_app": "app",
    "serving": "folderlock",
}

logging.getLogger("selfdb").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
