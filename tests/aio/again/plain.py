"""The awaitable face with a blocking front, so that tests of the blocking client can be run through it.

Every method is called on an event loop that runs in a thread of its own, and awaited there; the calling thread waits
for what came of it. Callbacks go as coroutine functions and generators as asynchronous ones, so that those ways are
gone too; what they run blocks a thread of its own, never the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import weakref
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, Optional, Tuple

from selfdb.core.asynchronous import Face, Opened, awaitable
from selfdb.core.marks import mark_of

BOUND = 60.0

CLOSING = ("close", "__exit__", "__aexit__")


class Loop:
    """An event loop in a thread.

    :ivar awaited: how many calls of the face have been awaited on it.
    :ivar asked: how many of its methods have been called, whether to be awaited or not. Closing counts for neither,
        for fixtures do it.
    """

    def __init__(self) -> None:
        self.awaited = 0
        self.asked = 0
        self.alone: List[Face] = []
        self.plains: weakref.WeakValueDictionary[int, Plain] = weakref.WeakValueDictionary()
        self.lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="loop-of-the-tests", daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def start(self) -> Loop:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOUND)
        assert not self._thread.is_alive()
        self._loop.close()

    def call(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """What ``function`` gives on the loop; if it gives an awaitable, what that comes to."""
        assert threading.current_thread() is not self._thread, "this would wait for itself"

        async def whole() -> Any:
            result = function(*arguments, **keywords)
            if not inspect.isawaitable(result):
                return _Outcome(result)
            self.awaited += getattr(function, "__name__", "") not in CLOSING
            try:
                return _Outcome(await result)
            except (StopIteration, StopAsyncIteration) as end:  # which no coroutine may raise
                return end

        outcome = asyncio.run_coroutine_threadsafe(whole(), self._loop).result()
        if isinstance(outcome, _Outcome):
            return outcome.value
        raise StopIteration

    def let_go(self) -> None:
        """End the threads of faces that a test made without a client, whose end would be theirs."""
        while self.alone:
            self.alone.pop()._bridge.close()

    def tasks(self) -> List[Any]:
        """What is still under way on it."""

        async def others() -> List[Any]:
            return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

        return asyncio.run_coroutine_threadsafe(others(), self._loop).result(BOUND)


class _Outcome:
    def __init__(self, value: Any) -> None:
        self.value = value


running: Optional[Loop] = None
"""The loop that all of this goes through; a fixture starts it."""


def the_loop() -> Loop:
    assert running is not None, "the fixture that starts the loop was not asked for"
    return running


class Plain:
    """A face whose methods wait for themselves. Names that are private, or the package's own, lead to the blocking
    object behind it: that is where a test looks that looks behind."""

    _face: Any
    _face_class: Any

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        loop = the_loop()
        given, named = _outgoing(self._face_class.__init__, arguments, keywords)
        try:
            face = loop.call(self._face_class, *given, **named)
        except Exception:
            loop.asked += 1  # that it refuses is an answer
            raise
        object.__setattr__(self, "_face", face)
        loop.plains[id(face)] = self
        if not hasattr(face, "auth"):
            loop.alone.append(face)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            return getattr(self._face._blocking, name)
        mark = mark_of(getattr(type(self._face._blocking), name, None))
        if mark is not None and mark.kind == "inner":
            return getattr(self._face._blocking, name)  # the package's own, which no face has
        return _incoming(getattr(self._face, name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._face._blocking if name.startswith("_") else self._face, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._face._blocking, name)

    def __repr__(self) -> str:
        return repr(self._face)

    def __dir__(self) -> List[str]:
        return dir(self._face)

    def __reduce__(self) -> Any:
        return self._face.__reduce__()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and bool(self._face == other._face)

    def __hash__(self) -> int:
        return hash(self._face)


class Callback:
    """A callback as a coroutine function that waits for it on a thread. Equal to another one of the same function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    async def __call__(self, *arguments: Any) -> Any:
        return await _on_a_thread(self.function, *map(_incoming, arguments))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Callback) and self.function == other.function

    def __hash__(self) -> int:
        return hash(self.function)


async def _on_a_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    # Not a pool's: its threads would be taken for some that a client has left behind.
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def land(value: Any, error: Optional[BaseException]) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def run() -> None:
        try:
            outcome: Tuple[Any, Optional[BaseException]] = context.run(function, *arguments), None
        except BaseException as error:
            outcome = None, error
        loop.call_soon_threadsafe(land, *outcome)

    threading.Thread(target=run, name="callback-of-a-test", daemon=True).start()
    return await future


async def _asynchronous(source: Iterator[Any]) -> AsyncIterator[Any]:
    end = object()
    while True:
        item = await _on_a_thread(next, source, end)
        if item is end:
            return
        yield item


def _outgoing(function: Any, arguments: Any, keywords: Dict[str, Any]) -> Tuple[List[Any], Dict[str, Any]]:
    """The arguments as somebody on a loop would give them."""
    mark = mark_of(getattr(function, "__func__", function))
    names = list(inspect.signature(function).parameters)
    callbacks = () if mark is None else mark.callbacks
    sources = () if mark is None else mark.sources

    def one(name: Optional[str], value: Any) -> Any:
        if isinstance(value, Plain):
            return value._face
        if name in callbacks and callable(value):
            return Callback(value)
        if name in sources and inspect.isgenerator(value):
            return _asynchronous(value)
        return value

    padded: List[Optional[str]] = [*names, *[None] * (len(arguments) - len(names))]
    return (
        [one(name, value) for name, value in zip(padded, arguments)],
        {name: one(name, value) for name, value in keywords.items()},
    )


def _incoming(value: Any) -> Any:
    """What came from the face, as a blocking client would give it."""
    if isinstance(value, Face):
        return _plain(value)
    if inspect.ismethod(value) and isinstance(value.__self__, (Face, type)):
        return _method(value)
    assert not is_blocking(type(value)), f"the awaitable face gave a blocking {type(value).__name__}"
    return value


def _plain(face: Face) -> Plain:
    loop = the_loop()
    with loop.lock:
        plain = loop.plains.get(id(face))
        if plain is None:
            plain = object.__new__(plain_class(face._blocking_class))
            object.__setattr__(plain, "_face", face)
            loop.plains[id(face)] = plain
        return plain


def _method(method: Any) -> Callable[..., Any]:
    def call(*arguments: Any, **keywords: Any) -> Any:
        loop = the_loop()
        loop.asked += method.__name__ not in CLOSING
        given, named = _outgoing(method, arguments, keywords)
        return _incoming(loop.call(method, *given, **named))

    call.__doc__ = method.__doc__
    call.__name__ = method.__name__
    call.__wrapped__ = method  # type: ignore[attr-defined]  # so that its signature is the same
    return call


# Classes

_classes: Dict[Any, Any] = {}


class _Meta(type):
    """Class methods and constants of the face's class."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _incoming(getattr(cls._face_class, name))


def plain_class(blocking_class: Any) -> Any:
    """The class of the plain objects of the awaitable face of ``blocking_class``."""
    known = _classes.get(blocking_class)
    if known is not None:
        return known
    face_class = awaitable(blocking_class)
    members: Dict[str, Any] = {"_face_class": face_class, "__doc__": face_class.__doc__}
    for name in ("__len__", "__getitem__", "__contains__", "__bool__", "__str__"):
        if name in vars(face_class):
            members[name] = _through(name)
    for name, awaited in (("__next__", "__anext__"), ("__enter__", "__aenter__"), ("__exit__", "__aexit__")):
        if awaited in vars(face_class):
            members[name] = _through(awaited)
    if "__aiter__" in vars(face_class):
        members["__iter__"] = _through("__aiter__")
    made = _Meta(blocking_class.__name__, (Plain,), members)
    return _classes.setdefault(blocking_class, made)


def _through(name: str) -> Callable[..., Any]:
    def call(self: Plain, *arguments: Any) -> Any:
        return _method(getattr(self._face, name))(*arguments)

    return call


def is_blocking(thing: Any) -> bool:
    """Whether ``thing`` is a class that has an awaitable face."""
    if not isinstance(thing, type) or issubclass(thing, (Face, Plain, Opened)):
        return False
    try:
        awaitable(thing)
    except TypeError:
        return False
    return True


__all__ = ["Loop", "Plain", "is_blocking", "plain_class", "the_loop"]
