"""What tests of downloads share: an object that breaks off at will, and everything that a download may go to."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from selfdb.core.download import Download, read_all, save
from selfdb.core.request import Request
from selfdb.core.transport import Transport
from tests.servers.scripted import Peer, Received, ScriptedServer, answer

CONTENT = b"0123456789ab"
OTHER = b"ABCDEFGHIJKLMNOP"

Scripted = Callable[..., ScriptedServer]


class Object:
    """One object behind every connection, each of which ends after as many bytes of a body as ``cuts`` says."""

    def __init__(self, content: bytes = CONTENT, cuts: Any = (), tag: Optional[str] = '"v1"') -> None:
        self.content = content
        self.cuts = list(cuts)
        self.tag = tag
        self.reset = False
        self.then: Callable[[Received], Optional[bytes]] = lambda request: None
        """What to answer instead to a request for the rest."""
        self.more: Dict[str, str] = {}

    def __call__(self, peer: Peer) -> None:
        request = peer.read_request()
        span = request.header("Range")
        instead = self.then(request) if span else None
        if instead is not None:
            peer.send(instead)
            return
        headers = {"Connection": "close", "Content-Type": "application/octet-stream", **self.more}
        if self.tag is not None:
            headers["ETag"] = self.tag
        status, body = 200, self.content
        if span and request.header("If-Range") == self.tag:
            begin = int(span[len("bytes=") : -1])
            status, body = 206, self.content[begin:]
            headers["Content-Range"] = f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}"
        cut = self.cuts.pop(0) if self.cuts else None
        peer.send(answer(status, body[:cut], headers, length=len(body)))
        if cut is not None and self.reset:
            peer.reset()

    def becomes(self, content: bytes, tag: str) -> Callable[[int, Optional[int]], None]:
        """A progress callback that exchanges the object as soon as the first bytes of it came."""

        def change(done: int, total: Optional[int]) -> None:
            self.content, self.tag = content, tag

        return change


def fetch(transport: Transport, **options: Any) -> Download:
    return Download(transport, Request("GET", "/object"), **options)


class WriteOnly:
    """Something that is written like a file and cannot go back."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)


def to_bytes(download: Download, folder: Path) -> bytes:
    return read_all(download)


def to_path(download: Download, folder: Path) -> bytes:
    assert save(download, folder / "target") == download.done
    assert [file.name for file in folder.iterdir()] == ["target"]
    return (folder / "target").read_bytes()


def to_file(download: Download, folder: Path) -> bytes:
    file = io.BytesIO(b"kept")
    file.seek(4)
    size = save(download, file)
    assert not file.closed
    assert file.getvalue()[:4] == b"kept"
    assert len(file.getvalue()) == 4 + size
    return file.getvalue()[4:]


def to_writer(download: Download, folder: Path) -> bytes:
    writer = WriteOnly()
    assert save(download, writer) == len(writer.written)
    return writer.written


def to_iterator(download: Download, folder: Path) -> bytes:
    with download as blocks:
        return b"".join(blocks)


REWINDABLE = [to_bytes, to_path, to_file]
FORWARD_ONLY = [to_writer, to_iterator]
ALL = REWINDABLE + FORWARD_ONLY
