"""How passwords are stored and compared."""

from __future__ import annotations

import os
import threading

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

__all__ = ["Passwords"]


class Passwords:
    """argon2id hashes. Thread-safe; only a few are computed at once, for each takes memory on purpose.

    :param time_cost: passes over the memory.
    :param memory_kib: memory of one computation, KiB.
    """

    def __init__(self, time_cost: int, memory_kib: int) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=max(8, memory_kib), parallelism=1, type=Type.ID)
        self._places = threading.BoundedSemaphore(max(2, os.cpu_count() or 2))
        # What a login with an unknown address is compared with, so that it takes as long as any other.
        self._nobody = self._hasher.hash(os.urandom(16).hex())

    def hash(self, password: str) -> str:
        """A salted hash that carries its parameters."""
        with self._places:
            return self._hasher.hash(password)

    def matches(self, stored: str, password: str) -> bool:
        """Whether ``password`` is the one behind ``stored``; any unreadable hash matches nothing."""
        with self._places:
            try:
                return self._hasher.verify(stored, password)
            except (VerificationError, InvalidHashError, UnicodeEncodeError):
                return False

    def matches_nobody(self, password: str) -> None:
        """Spend the time of a comparison."""
        self.matches(self._nobody, password)

    def outdated(self, stored: str) -> bool:
        """Whether ``stored`` was made with other parameters than those of now."""
        return self._hasher.check_needs_rehash(stored)
