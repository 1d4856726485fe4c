"""The moment at which a change becomes visible: commits, overlays and the snapshots that must not fall in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import List, Protocol, Tuple

from ...core.forks import renew_after_fork
from ..ports import View
from ..schema.specs import EncodedKey
from .merge import Merged, OverlayRow

__all__ = ["Layer", "Others", "Publisher"]


class Layer(Protocol):
    """An overlay as readers see it."""

    def freeze(self) -> Mapping[str, Mapping[EncodedKey, OverlayRow]]:
        """Its rows by store, which nobody changes from now on. Called under the publisher's mutex."""

    def rows(self, store: str) -> Mapping[EncodedKey, OverlayRow]:
        """Its rows of one store, to be looked at under the publisher's mutex."""

    def forsake(self) -> None:
        """The database was closed, or this is a forked child: its transaction is over."""


Others = Sequence[Layer]


class Publisher:
    """Holds together what must change at one instant for every reader of this process.

    A commit holds :attr:`mutex` while SQLite does it and while the overlay that it makes real is taken away; a reader
    that merges overlays holds it while its snapshot begins and the overlays are taken down. So it has either the
    overlay or the rows that came of it, never both and never neither. Where there is no overlay readers need none of
    this: a single statement is a snapshot by itself.

    :ivar mutex: held for moments only, never while a user's code runs or somebody waits for the file's lock.
    :ivar layers: the visible overlays in the order in which they were begun; replaced, never changed.
    :ivar epoch: grows with each change that is not a commit of the file.
    """

    def __init__(self) -> None:
        self.layers: Tuple[Layer, ...] = ()
        self.epoch = 0
        self._everyone: List[Layer] = []
        self.mutex = threading.RLock()  # a signal handler may read where its own thread is about to
        renew_after_fork(self)

    def _renew_in_child(self) -> None:
        self.mutex = threading.RLock()
        self.close()

    def view(self, begin: Callable[[], View]) -> Merged:
        """What is visible now: a snapshot of the file that ``begin`` makes, under the overlays."""
        with self.mutex:
            return Merged(begin(), tuple(layer.freeze() for layer in self.layers), self.epoch)

    def over(self, begin: Callable[[], View], own: Layer) -> Merged:
        """What is visible to the owner of ``own``: its own rows lie over everybody's."""
        with self.mutex:
            frozen = [layer.freeze() for layer in self.layers if layer is not own]
            return Merged(begin(), (*frozen, own.freeze()), self.epoch)

    def enrol(self, layer: Layer) -> None:
        """It is begun; from now on it is forsaken when the database is closed."""
        with self.mutex:
            self._everyone.append(layer)

    def change(self, layer: Layer, apply: Callable[[], object], note: Callable[[Others], object]) -> int:
        """Change a visible overlay by ``apply``, showing it if it was not shown before; the epoch that this begins.

        :param note: given the other visible overlays, which may lie under it or over it.
        """
        with self.mutex:
            note(self.others(layer))
            apply()
            if layer not in self.layers:
                # In the order of their beginning, not of their first row.
                self.layers = tuple(each for each in self._everyone if each is layer or each in self.layers)
            self.epoch += 1
            return self.epoch

    def withdraw(self, layer: Layer, note: Callable[[Others], object]) -> int:
        """Take an overlay away, if it is there; the epoch that this begins, if it was visible.

        :param note: given the other visible overlays.
        """
        with self.mutex:
            note(self.others(layer))
            return self.remove(layer)

    def others(self, layer: Layer) -> Others:
        """The other visible overlays. For one who holds the mutex."""
        return [each for each in self.layers if each is not layer]

    def remove(self, layer: Layer) -> int:
        """As :meth:`withdraw`, for one who holds the mutex: in the moment of a commit."""
        if layer in self._everyone:
            self._everyone.remove(layer)
        if layer in self.layers:
            self.layers = tuple(each for each in self.layers if each is not layer)
            self.epoch += 1
        return self.epoch

    def close(self) -> None:
        """End all overlays: their transactions are over."""
        with self.mutex:
            everyone, self._everyone = self._everyone, []
            self.layers = ()
            self.epoch += 1
        for layer in everyone:
            layer.forsake()
