"""Bodies from every kind of source: measured, sent, resent, spooled; honest about sources that change or fail."""

from __future__ import annotations

import array
import gc
import io
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

import pytest

from selfdb.core.request import Request
from selfdb.core.upload import SPOOL_IN_MEMORY, Upload
from selfdb.exceptions import APIConnectionError, InvalidRequestError
from tests.core.kit import open_below, transport_to
from tests.servers.replies import ReplyServer
from tests.servers.scripted import Peer, ScriptedServer, read, reply

CONTENT = bytes(range(256)) * 5  # not one block of any size used here


def drained(upload: Upload, size: int = 100) -> bytes:
    """Everything that one attempt sends, read ``size`` bytes at a time."""
    reader = upload.open()
    whole = b""
    while True:
        block = reader.read(size)
        assert isinstance(block, bytes)
        assert len(block) <= size or size < 0
        whole += block
        if not block:
            reader.close()
            return whole


class Unseekable(io.RawIOBase):
    """A binary stream such as a pipe."""

    def __init__(self, content: bytes) -> None:
        self._inner = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._inner.readinto(buffer)


class ReadOnlyMethod:
    """No file at all but for its ``read``."""

    def __init__(self, content: bytes) -> None:
        self._inner = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(size)


class NoSeekable:
    """A file without ``seekable``, as a spooled one is before Python 3.11."""

    def __init__(self, content: bytes) -> None:
        inner = io.BytesIO(content)
        self.read, self.tell, self.seek = inner.read, inner.tell, inner.seek


def file_at(offset: int, content: bytes) -> io.BytesIO:
    file = io.BytesIO(b"x" * offset + content)
    file.seek(offset)
    return file


# Sources


def with_gaps(content: bytes) -> memoryview:
    spread = bytearray(len(content) * 2)
    spread[::2] = content
    return memoryview(spread)[::2]


REPLAYABLE: List[Tuple[str, Callable[[bytes, Path], Any]]] = [
    ("bytes", lambda content, path: content),
    ("bytearray", lambda content, path: bytearray(content)),
    ("memoryview", lambda content, path: memoryview(content)),
    ("memoryview with gaps", lambda content, path: with_gaps(content)),
    ("path", lambda content, path: path),
    ("file", lambda content, path: file_at(0, content)),
    ("file at an offset", lambda content, path: file_at(7, content)),
    ("file without seekable()", lambda content, path: NoSeekable(content)),
]
ONCE: List[Tuple[str, Callable[[bytes, Path], Any]]] = [
    ("unseekable file", lambda content, path: Unseekable(content)),
    ("read() alone", lambda content, path: ReadOnlyMethod(content)),
    ("generator", lambda content, path: (content[at : at + 300] for at in range(0, len(content), 300))),
    ("list of chunks", lambda content, path: [b"", bytearray(content[:9]), memoryview(content)[9:], b""]),
    ("iterator of views with gaps", lambda content, path: iter([with_gaps(content)])),
]


def named(sources: List[Tuple[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("make", [source[1] for source in sources], ids=[source[0] for source in sources])


@named(REPLAYABLE)
@pytest.mark.parametrize("content", [CONTENT, b""], ids=["full", "empty"])
@pytest.mark.parametrize("size", [1, 100, 10_000, -1])
def test_a_source_that_can_be_rewound_is_measured_and_sent_twice(
    make: Callable[..., Any], content: bytes, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "source"
    path.write_bytes(content)
    upload = Upload(make(content, path))
    assert (upload.length, upload.replayable) == (len(content), True)
    assert upload.spooled() is upload
    assert drained(upload, size) == content
    assert drained(upload, size) == content


@named(ONCE)
@pytest.mark.parametrize("content", [CONTENT, b""], ids=["full", "empty"])
@pytest.mark.parametrize("size", [1, 100, 10_000, -1])
def test_another_source_is_sent_once(make: Callable[..., Any], content: bytes, size: int, tmp_path: Path) -> None:
    upload = Upload(make(content, tmp_path))
    assert (upload.length, upload.replayable, upload.touched) == (None, False, False)
    assert drained(upload, size) == content
    assert upload.touched


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 300, 307])
def test_sizes_around_a_block_keep_their_last_byte(size: int) -> None:
    content = os.urandom(size)
    for source in (content, file_at(3, content), iter([content])):
        assert drained(Upload(source), 100) == content


def test_text_is_sent_as_utf_8() -> None:
    upload = Upload("gr\u00fc\u00df \U0001f600")
    assert upload.length == 11
    assert drained(upload) == "gr\u00fc\u00df \U0001f600".encode()
    with pytest.raises(InvalidRequestError, match="data holds a lone surrogate"):
        Upload("\udc80")


def test_a_view_of_wider_items_is_sent_byte_by_byte() -> None:
    numbers = array.array("I", [1, 2, 3, 4])
    assert drained(Upload(memoryview(numbers)), 3) == numbers.tobytes()
    assert drained(Upload(memoryview(numbers)[::2]), 3) == numbers[::2].tobytes()
    assert Upload(memoryview(numbers)[::2]).length == 2 * numbers.itemsize
    grid = memoryview(CONTENT).cast("B", [5, 256])
    assert drained(Upload(grid)) == CONTENT


def test_memory_is_not_copied_whole() -> None:
    """What is sent is what stands there when it is sent: a copy would show the old bytes."""
    source = bytearray(CONTENT)
    upload = Upload(source)
    source[:3] = b"new"
    assert drained(upload) == b"new" + CONTENT[3:]


def test_a_file_past_its_end_is_empty() -> None:
    file = io.BytesIO(b"short")
    file.seek(100)
    upload = Upload(file)
    assert upload.length == 0
    assert drained(upload) == b""


def test_a_real_pipe() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        os.write(writing, CONTENT)
        os.close(writing)
        upload = Upload(pipe)
        assert (upload.length, upload.replayable) == (None, False)
        assert drained(upload) == CONTENT


# What is refused


@pytest.mark.parametrize("source", [None, 5, 2.5, True, object()], ids=lambda source: type(source).__name__)
def test_another_type_is_refused(source: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"not {type(source).__name__}$"):
        Upload(source)


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with (tmp_path / "file").open() as file:
        for source in (file, io.StringIO("text")):
            with pytest.raises(InvalidRequestError, match="binary mode"):
                Upload(source)  # type: ignore[arg-type]


def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"missing cannot be read: No such file"):
        Upload(tmp_path / "missing")
    with pytest.raises(InvalidRequestError, match=r"cannot be read: Is a directory"):
        Upload(tmp_path)


def test_a_path_of_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidRequestError, match="no regular file"):
        Upload(tmp_path / "fifo")


# Sources that fail


def failing(error: BaseException) -> Iterator[bytes]:
    yield b"first"
    raise error


@pytest.mark.parametrize("error", [ZeroDivisionError("theirs"), OSError("theirs"), KeyboardInterrupt()], ids=repr)
def test_what_a_source_raises_is_remembered_as_its_own(error: BaseException) -> None:
    reader = Upload(failing(error)).open()
    assert reader.read(100) == b"first"
    assert reader.error is None
    with pytest.raises(type(error)):
        reader.read(100)
    assert reader.error is error


class Giving:
    """Its ``read`` gives whatever the test says."""

    def __init__(self, *blocks: Any) -> None:
        self.blocks = list(blocks)
        self.asked: List[int] = []

    def read(self, size: int = -1) -> Any:
        self.asked.append(size)
        return self.blocks.pop(0)


@pytest.mark.parametrize("block", ["text", None, 5])
def test_a_source_that_gives_no_bytes(block: Any) -> None:
    for source in (iter([block]), Giving(block)):
        reader = Upload(source).open()
        with pytest.raises(InvalidRequestError, match=f"data gave {type(block).__name__} instead of bytes"):
            reader.read(10)
        assert isinstance(reader.error, InvalidRequestError)


def test_a_dict_is_an_iterable_of_what_are_no_bytes() -> None:
    with pytest.raises(InvalidRequestError, match="data gave str instead of bytes"):
        drained(Upload({"a": 1}))  # type: ignore[dict-item]


def test_a_source_may_give_other_bytes_like_things() -> None:
    source = Giving(bytearray(b"ab"), memoryview(array.array("H", [1, 2])), b"")
    reader = Upload(source).open()
    assert reader.read(10) == b"ab"
    assert reader.read(10) == array.array("H", [1, 2]).tobytes()
    assert reader.done == 6
    assert reader.read(10) == b""


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"0123456789")
    upload = Upload(path)
    path.write_bytes(b"01234")
    reader = upload.open()
    assert reader.read(100) == b"01234"
    with pytest.raises(InvalidRequestError, match=r"ended after 5 of 10 bytes; it shrank"):
        reader.read(100)
    reader.close()


def test_of_a_file_that_grows_only_what_was_announced_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(b"0123456789")
    upload = Upload(path)
    path.write_bytes(b"0123456789 and more")
    assert drained(upload, 4) == b"0123456789"
    assert drained(upload, -1) == b"0123456789"


def test_a_source_that_gives_more_than_it_was_asked_for_sends_no_more_than_announced() -> None:
    class Eager(io.BytesIO):
        def read(self, size: Optional[int] = -1, /) -> bytes:
            return super().read(-1) + b"surplus"

    assert drained(Upload(Eager(b"0123456789")), -1) == b"0123456789"


def test_a_file_whose_seek_does_not_work_is_read_once() -> None:
    class Liar(io.BytesIO):
        def seek(self, *arguments: Any) -> int:
            raise OSError("not really")

    class Odd:
        def read(self, size: int = -1) -> bytes:
            return b""

        def tell(self) -> int:
            return 0

        def seek(self, offset: int) -> int:  # takes no whence
            return offset

    for source in (Liar(CONTENT), Odd()):
        upload = Upload(source)
        assert (upload.length, upload.replayable) == (None, False)


# Who closes what


def test_a_file_of_the_callers_is_never_closed() -> None:
    for file in (io.BytesIO(CONTENT), Unseekable(CONTENT)):
        upload = Upload(file)
        reader = upload.open()
        reader.read(10)
        reader.close()
        assert not file.closed
    generator = (chunk for chunk in [b"a", b"b"])
    reader = Upload(generator).open()
    reader.read(10)
    reader.close()
    assert next(generator) == b"b"


def test_a_file_that_was_opened_here_is_closed_here(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    upload = Upload(path)
    assert open_below(tmp_path) == 0
    reader = upload.open()
    assert open_below(tmp_path) == 1
    reader.read(10)
    reader.close()
    assert open_below(tmp_path) == 0


# Progress


@pytest.mark.parametrize("known", [True, False])
def test_progress_counts_bytes_and_begins_again_with_each_attempt(known: bool) -> None:
    steps: List[Tuple[int, Optional[int]]] = []
    content = bytes(250)
    source: Any = content if known else iter([content])
    upload = Upload(source, lambda done, total: steps.append((done, total)))
    assert drained(upload) == content
    total = 250 if known else None
    assert steps == [(100, total), (200, total), (250, total)]
    if known:
        drained(upload)
        assert steps[3:] == steps[:3]


def test_what_progress_raises_is_the_callers_own() -> None:
    def stop(done: int, total: Optional[int]) -> None:
        raise StopAsyncIteration("enough")

    reader = Upload(b"abc", stop).open()
    with pytest.raises(StopAsyncIteration):
        reader.read(10)
    assert isinstance(reader.error, StopAsyncIteration)


# Spooling


@pytest.mark.parametrize("size", [0, 5, SPOOL_IN_MEMORY, SPOOL_IN_MEMORY + 1, 3 * SPOOL_IN_MEMORY + 7])
def test_a_spooled_body_can_be_sent_more_than_once(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    content = os.urandom(size)
    steps: List[Tuple[int, Optional[int]]] = []
    upload = Upload(
        (content[at : at + 65_000] for at in range(0, size, 65_000)), lambda done, total: steps.append((done, total))
    )
    spooled = upload.spooled()
    assert (spooled.length, spooled.replayable) == (size, True)
    assert steps == [], "nothing has been sent yet"
    assert open_below(tmp_path) == (1 if size > SPOOL_IN_MEMORY else 0)
    assert drained(spooled, 100_000) == content
    assert drained(spooled, 100_000) == content
    assert steps[-1:] == ([(size, size)] if size else [])
    del spooled
    gc.collect()
    assert open_below(tmp_path) == 0, "the copy goes with its body"


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()], ids=repr)
def test_a_source_that_fails_while_it_is_spooled_leaves_nothing(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    spooled: List[int] = []

    def source() -> Iterator[bytes]:
        yield bytes(SPOOL_IN_MEMORY + 1)
        spooled.append(open_below(tmp_path))
        raise error

    with pytest.raises(type(error)):
        Upload(source()).spooled()
    gc.collect()
    assert (spooled, open_below(tmp_path)) == ([1], 0)


def test_a_spooled_file_of_the_callers_is_read_from_where_it_stands() -> None:
    with tempfile.SpooledTemporaryFile(10) as file:
        file.write(b"skip" + CONTENT)
        file.seek(4)
        upload = Upload(file)
        assert (upload.length, upload.replayable) == (len(CONTENT), True)
        assert drained(upload) == CONTENT


# On the wire


def sent_by(transport: Any, source: Any, progress: Any = None) -> Any:
    request = Request("POST", "/up", "", Upload(source, progress), "application/octet-stream")
    return transport.exchange(request)


@named(REPLAYABLE + ONCE)
@pytest.mark.parametrize("content", [CONTENT * 300, b""], ids=["full", "empty"])
def test_every_source_arrives_whole(
    make: Callable[..., Any], content: bytes, tmp_path: Path, replies: Callable[..., ReplyServer]
) -> None:
    path = tmp_path / "source"
    path.write_bytes(content)
    server = replies([(200, {}, {})])
    source = make(content, path)
    with transport_to(server.url) as transport:
        sent_by(transport, source)
    request = server.requests[0]
    assert request.body == content
    known = any(make is known for _, known in REPLAYABLE)
    assert request.header("Content-Length") == (str(len(content)) if known else None)
    assert request.header("Transfer-Encoding") == (None if known else "chunked")
    assert request.header("Content-Type") == "application/octet-stream"


def test_a_second_attempt_sends_the_same_bytes_from_the_first_on(scripted: Callable[..., ScriptedServer]) -> None:
    content = CONTENT * 1000
    again = [read(), reply(429, b"{}", {"Retry-After": "0"}), read(), reply(200, b"{}")]
    for source in (content, file_at(9, content)):
        steps: List[int] = []
        server = scripted(again)
        with transport_to(server.url) as transport:
            sent_by(transport, source, lambda done, total, steps=steps: steps.append(done))
        assert [request.body for request in server.requests] == [content, content]
        assert steps.count(len(content)) == 2


def test_a_body_that_is_spent_is_not_sent_again(scripted: Callable[..., ScriptedServer]) -> None:
    server = scripted([read(), reply(429, b"{}", {"Retry-After": "0"})])
    with transport_to(server.url) as transport, pytest.raises(Exception, match="429"):
        sent_by(transport, iter([b"once"]))
    assert [request.body for request in server.requests] == [b"once"]


def test_a_body_that_nobody_touched_is_sent_after_a_refused_connection(
    replies: Callable[..., ReplyServer],
) -> None:
    """Nothing was read from the iterator when the connection was refused, so it is whole still."""
    server = replies([(200, {}, {})])
    refusing = socket.socket()
    refusing.bind(("127.0.0.1", 0))  # bound and not listening: connecting is refused
    attempts: List[Any] = []
    with refusing, transport_to(server.url) as transport:
        send = transport.pool.send

        def first_elsewhere(method: str, url: str, *rest: Any) -> Any:
            attempts.append(url)
            if len(attempts) == 1:
                url = f"http://127.0.0.1:{refusing.getsockname()[1]}/up"
            return send(method, url, *rest)

        transport.pool.send = first_elsewhere  # type: ignore[method-assign,assignment]
        sent_by(transport, iter([b"whole ", b"still"]))
    assert len(attempts) == 2
    assert server.requests[0].body == b"whole still"


@pytest.mark.parametrize("error", [ZeroDivisionError("theirs"), KeyError("theirs"), APIConnectionError("theirs")])
def test_what_a_source_raises_reaches_the_caller_as_it_is(
    error: Exception, scripted: Callable[..., ScriptedServer]
) -> None:
    server = scripted(lambda peer: (peer.read_request(body=False), peer.wait_for_close()))
    with transport_to(server.url) as transport, pytest.raises(type(error)) as caught:
        sent_by(transport, failing(error))
    assert caught.value is error
    server.wait_for(connections=1)
    assert server.connections == 1, "the fault is not the net's, so nothing is tried again"


def test_a_file_that_shrinks_on_the_way_is_told_to_the_caller(
    tmp_path: Path, scripted: Callable[..., ScriptedServer]
) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(5_000_000))
    server = scripted(lambda peer: (peer.read_request(body=False), peer.wait_for_close()))

    def shrink(done: int, total: Optional[int]) -> None:
        os.truncate(path, done)

    with transport_to(server.url) as transport, pytest.raises(InvalidRequestError, match="it shrank"):
        sent_by(transport, path, shrink)


def test_an_upload_reads_no_faster_than_it_is_taken(scripted: Callable[..., ScriptedServer]) -> None:
    """Constant memory: of an endless source, only what the socket takes is asked for."""
    taken = 0
    enough = threading.Event()

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while not enough.is_set():
            taken += 65536
            yield bytes(65536)

    def slow(peer: Peer) -> None:
        peer.read_request(body=False)
        peer.read_exactly(1_000_000)
        enough.set()
        peer.reply(200, b"{}")
        peer.wait_for_close()

    server = scripted(slow)
    with transport_to(server.url) as transport:
        sent_by(transport, endless())
    assert taken < 64 * 2**20
