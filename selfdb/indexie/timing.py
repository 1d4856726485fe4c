"""Every interval of the store in one value, so that a test can scale them together."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from .errors import InvalidArgumentError

__all__ = ["Timing"]


@dataclass(frozen=True)
class Timing:
    """How often and how long; all in seconds. Give one as ``Indexie(timing=...)``.

    :ivar poll_interval: how often the file is asked for other processes' commits while something listens.
    :ivar busy_step: the shortest wait before a locked file is tried again.
    :ivar busy_step_limit: the longest; the steps double with a random part up to it.
    :ivar outbox_poll: how often a process that has durable hooks looks for entries that other processes made.
    :ivar lease: how long an outbox entry belongs to the process that took it, unless it renews it.
    :ivar lease_renewal: how often it does.
    :ivar retry_first: the longest wait before an outbox entry is tried for the second time; it doubles from then on.
    :ivar retry_limit: where it ends doubling.
    :ivar join: how long closing waits for a background thread that is in a callback.
    """

    poll_interval: float = 0.02
    busy_step: float = 0.0002
    busy_step_limit: float = 0.01
    outbox_poll: float = 0.1
    lease: float = 60.0
    lease_renewal: float = 20.0
    retry_first: float = 1.0
    retry_limit: float = 300.0
    join: float = 5.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise InvalidArgumentError(f"Timing({each.name}={value!r}): it is a number of seconds above 0")

    def scaled(self, factor: float) -> Timing:
        """All of it ``factor`` times as long."""
        return replace(self, **{each.name: getattr(self, each.name) * factor for each in fields(self)})
