"""A folder in memory, where the system has one: a new file of the store waits for the disk seven times."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Optional

_MEMORY = Path("/dev/shm")
_ENOUGH = 1 << 30

FOLDER: Optional[str] = None
"""What ``tempfile`` takes as ``dir``; None means that it has to be on the disk."""

if os.access(_MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(_MEMORY).free >= _ENOUGH:
    FOLDER = str(_MEMORY)
