"""Buckets and files: ``client.storage``."""

from __future__ import annotations

from ..core.marks import blocking
from ..core.namespace import Caller, Namespace
from ..core.transport import Transport
from .buckets import Buckets, RawBuckets
from .files import Files, RawFiles, UploadRoute

__all__ = ["Buckets", "Files", "RawStorage", "Storage", "UploadRoute"]


@blocking
class Storage(Namespace):
    """Where objects live. May be shared by threads.

    :ivar buckets: the buckets.
    :ivar files: the files in them.
    """

    def __init__(self, transport: Transport, route: UploadRoute, call: Caller | None = None) -> None:
        super().__init__(transport, call)
        self.buckets = Buckets(transport, call)
        self.files = Files(transport, route, call)


@blocking
class RawStorage:
    """The calls of :class:`Storage` with their whole answers."""

    def __init__(self, storage: Storage) -> None:
        self.buckets = RawBuckets(storage.buckets)
        self.files = RawFiles(storage.files)
