"""Any blocking object of this package as an awaitable one: its face. No call is written twice.

Methods that wait are marked where they are defined (`marks`). The face awaits those: a blocking one on a worker
thread, a waiting one step by step on the loop itself, so that waiting for events costs no thread. Everything else
passes through, and whatever comes back is given a face of its own where it has marked methods too.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import types
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from typing import Any, Generic, TypeVar, cast

from .call import CallAbandoned, shielded
from .executor import Executor
from .forks import renew_after_fork
from .loops import LoopCallback, LoopSource, running_loop
from .marks import Mark, inner_names, mark_of
from .strand import Stranded
from .waits import END, Pause, Waiting, Work

__all__ = ["Bridge", "Face", "Opened", "awaitable"]

T = TypeVar("T")
FaceT = TypeVar("FaceT")
ItemT = TypeVar("ItemT")


class Bridge:
    """What all faces of one client share: its executors, one a loop, and the faces that there are. For any thread.

    :param idle: seconds after which a thread goes that has nothing to do; half a minute by default.
    """

    def __init__(self, idle: float | None = None) -> None:
        self._idle = idle
        self.root: Any = None
        """The client that ends the executors with itself."""
        self.root_face: type[Face] | None = None
        """The class of its face, which may be derived by the user; that of its clones too."""
        self._latest: asyncio.AbstractEventLoop | None = None
        self._faces: weakref.WeakValueDictionary[int, Face] = weakref.WeakValueDictionary()
        renew_after_fork(self)
        self._renew_in_child()

    def _renew_in_child(self) -> None:
        self._lock = threading.Lock()
        self._executors: dict[asyncio.AbstractEventLoop, Executor] = {}

    def executor(self) -> Executor:
        """The one of the running loop."""
        loop = asyncio.get_running_loop()
        executor = self._executors.get(loop)
        return self._new_executor(loop) if executor is None else executor

    def _new_executor(self, loop: asyncio.AbstractEventLoop) -> Executor:
        with self._lock:
            self._latest = loop
            for other in list(self._executors):
                if other.is_closed():
                    self._executors.pop(other).close()
            executor = self._executors[loop] = Executor(loop, self._idle)
            return executor

    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop; on another thread, the one that was there last.

        :raises RuntimeError: if there never was one.
        """
        loop = running_loop() or self._latest
        if loop is None:
            raise RuntimeError("no event loop has awaited this client yet, so there is none to run its callbacks")
        return loop

    async def work(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        shield: bool = False,
    ) -> Any:
        """What ``function`` gives on a worker thread. Cancelled, it is given up at once, unless shielded: then it is
        only not waited for."""
        executor = self.executor()
        strand = self.root.strand() if isinstance(self.root, Stranded) else None
        job = executor.submit(function, arguments, keywords, strand)
        try:
            return await job.future
        except asyncio.CancelledError:
            if not shield:
                job.abandon()
            if isinstance(function, _Maker):
                made = function.give_up()
                if made is not None:
                    executor.submit(made.close, (), {})
            raise
        finally:
            del job  # which leads to the error that leads here

    async def steps(self, steps: Waiting[Any]) -> Any:
        """What ``steps`` come to, waited for on the loop. Where none runs any more, since it has ended under who calls,
        the steps learn of that from their first wait."""
        self._latest = running_loop() or self._latest
        answer: Any = None
        error: BaseException | None = None
        try:
            while True:
                step = steps.send(answer) if error is None else steps.throw(error)
                answer = error = None
                try:
                    if isinstance(step, Pause):
                        await _rung(step)
                    elif isinstance(step, Work):
                        answer = await self.work(step.do, (), {}, step.shield)
                    else:
                        answer = step.function(*map(self.face, step.arguments))
                        if inspect.isawaitable(answer):
                            answer = await answer
                except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - for the steps to handle
                    error = raised
        except StopIteration as end:
            return end.value
        finally:
            error = None
            steps.close()

    def face(self, thing: Any) -> Any:
        """``thing`` with its awaitable face, if it has one; itself, if not."""
        face_class = _faces.get(type(thing), _UNKNOWN)
        if face_class is _UNKNOWN:
            face_class = _face_class_of(type(thing))
        if face_class is None:
            return thing.function if type(thing) is LoopCallback else thing
        face = self._faces.get(id(thing))
        if face is None:
            if type(thing) is type(self.root) and self.root_face is not None:
                face_class = self.root_face
            face = cast("type[Face]", face_class)._of(thing, self)
            self._faces[id(thing)] = face
        return face

    def close(self) -> None:
        """Let the worker threads go. From any thread."""
        with self._lock:
            executors = list(self._executors.values())
        for executor in executors:
            executor.close()


async def _rung(pause: Pause) -> None:
    """Return when the signal was rung after the pause's moment, or the seconds are over."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(end)
        except RuntimeError:
            return  # the loop is closed, and who waited there is gone

    timer = None if pause.seconds is None else loop.call_later(pause.seconds, end)
    pause.signal.watch(wake)
    try:
        if pause.signal.moment is pause.moment:
            await future
    finally:
        pause.signal.unwatch(wake)
        if timer is not None:
            timer.cancel()


class _Maker:
    """A function that makes something to be closed. What it made when nobody waits for it any more it closes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._made: Any = None
        # Who was first; without a lock, which a forked child might find held by a thread that it does not have.
        self._first: dict[str, str] = {}

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        made = self._made = self._function(*arguments, **keywords)
        if self._first.setdefault("came", "made") == "made":
            return made
        self._made = None
        with shielded():
            made.close()
        raise CallAbandoned

    def give_up(self) -> Any:
        """What is to be closed, if it has been made."""
        if self._first.setdefault("came", "given up") == "given up":
            return None
        made, self._made = self._made, None
        return made


class Face:
    """The awaitable face of a blocking object. Belongs to the loops of one thread at a time, as all of asyncio."""

    _blocking: Any
    _bridge: Bridge
    _blocking_class: type[Any]
    _inner_names: frozenset[str]

    @classmethod
    def _of(cls, blocking: Any, bridge: Bridge) -> Face:
        face = object.__new__(cls)
        face._take(blocking, bridge)
        return face

    def _take(self, blocking: Any, bridge: Bridge) -> None:
        object.__setattr__(self, "_blocking", blocking)
        object.__setattr__(self, "_bridge", bridge)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        bridge = Bridge()
        bridge.root, bridge.root_face = self._blocking_class(*arguments, **keywords), type(self)
        self._take(bridge.root, bridge)
        bridge._faces[id(bridge.root)] = self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in self._inner_names:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self._blocking, name)
        mark = mark_of(value.__func__) if isinstance(value, types.MethodType) else None
        if mark is not None and mark.kind == "inner":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if mark is not None:
            return getattr(self._bridge.face(value.__self__), value.__name__)  # another object's, as in raw answers
        return self._bridge.face(value)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._blocking, name, value)

    def __dir__(self) -> list[str]:
        hidden = {name for name in dir(type(self._blocking)) if _inner(getattr(type(self._blocking), name))}
        return sorted({*object.__dir__(self), *dir(self._blocking)} - hidden - self._inner_names)

    def __repr__(self) -> str:
        return repr(self._blocking)

    def __reduce__(self) -> Any:
        raise TypeError(f"{type(self).__name__} cannot be pickled; make one in each process")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Face) and bool(self._blocking == other._blocking)

    def __hash__(self) -> int:
        return hash(self._blocking)


class Opened(Coroutine[Any, Any, FaceT], Generic[FaceT, ItemT]):
    """A call whose result is to be closed, or looped over: to be awaited, or put after ``async with`` or
    ``async for`` as it is."""

    def __init__(self, call: Coroutine[Any, Any, FaceT]) -> None:
        self._call = call
        self._face: Any = None

    def __await__(self) -> Generator[Any, Any, FaceT]:
        return self._call.__await__()

    def send(self, value: Any) -> Any:
        """As of any coroutine."""
        return self._call.send(value)

    def throw(self, *error: Any) -> Any:
        """As of any coroutine."""
        return self._call.throw(*error)

    def close(self) -> None:
        """As of any coroutine."""
        self._call.close()

    async def __aenter__(self) -> FaceT:
        self._face = await self._call
        return cast(FaceT, await self._face.__aenter__())

    async def __aexit__(self, *error: Any) -> None:
        await self._face.__aexit__(*error)

    def __aiter__(self) -> AsyncIterator[ItemT]:
        return self

    async def __anext__(self) -> ItemT:
        """The next item; the call itself is made by the first step."""
        if self._face is None:
            self._face = await self._call
        return cast(ItemT, await self._face.__anext__())


# Classes

_UNKNOWN: Any = object()
_faces: dict[type[Any], type[Face] | None] = {}
_DUNDERS = ("__len__", "__getitem__", "__contains__", "__bool__", "__str__", "__call__")


def awaitable(blocking_class: type[Any], module: str | None = None) -> type[Any]:
    """The class of the awaitable faces of ``blocking_class``; the same for every call.

    :param module: where it says that it lives.
    :raises TypeError: if no method of the class is marked.
    """
    made = _face_class_of(blocking_class)
    if made is None:
        raise TypeError(f"{blocking_class.__name__} has no blocking methods")
    if module is not None:
        made.__module__ = module
    return made


def _face_class_of(blocking_class: type[Any]) -> type[Face] | None:
    known = _faces.get(blocking_class, _UNKNOWN)
    if known is not _UNKNOWN:
        return cast("type[Face] | None", known)
    made = _make(blocking_class) if _has_marks(blocking_class) else None
    # Of two threads that come here at once both go on with the same class.
    return _faces.setdefault(blocking_class, made)


def _has_marks(blocking_class: type[Any]) -> bool:
    if issubclass(blocking_class, Face):
        return False  # what a callback has returned, for one: its methods have the marks of their namesakes
    for base in blocking_class.__mro__:
        mark = mark_of(base)
        if mark is not None and mark.kind != "inner":
            return True
        for value in vars(base).values():
            function = value.__func__ if isinstance(value, classmethod) else value
            if inspect.isfunction(function) and mark_of(function) is not None and not _inner(function):
                return True
    return False


def _make(blocking_class: type[Any]) -> type[Face]:
    members: dict[str, Any] = {
        "__doc__": blocking_class.__doc__,
        "__module__": blocking_class.__module__,
        "_blocking_class": blocking_class,
        "_inner_names": inner_names(blocking_class),
        "__class_getitem__": classmethod(types.GenericAlias),
    }
    for base in reversed(blocking_class.__mro__[:-1]):
        if base.__module__.startswith(("typing", "collections", "abc")):
            continue
        for name, value in vars(base).items():
            if _inner(value) or name in members["_inner_names"]:
                continue
            if not name.startswith("_") or name in _DUNDERS:
                members[name] = _member(name, value)
            elif name == "__iter__":
                members["__aiter__"] = _passing(value, None)
            elif name == "__next__":
                members["__anext__"] = _next(value)
            elif name == "__enter__":
                members["__aenter__"] = _awaited(value) if _waits(value) else _at_once(value)
            elif name == "__exit__":
                members["__aexit__"] = _awaited(value) if _waits(value) else _at_once(value)
    if "__anext__" in members:
        members.setdefault("__aiter__", lambda self: self)
    if "__init__" in vars(blocking_class):
        members["__init__"] = functools.wraps(blocking_class.__init__)(
            lambda self, *a, **k: Face.__init__(self, *a, **k)
        )
    made = type(blocking_class.__name__, (Face,), members)
    made.__qualname__ = blocking_class.__qualname__
    return made


def _member(name: str, value: Any) -> Any:
    if isinstance(value, classmethod):
        return _class_method(value.__func__)
    if isinstance(value, property):
        return _property(name, value)
    if inspect.isfunction(value):
        return _awaited(value) if _waits(value) else _passing(value, mark_of(value))
    return value


def _waits(function: Any) -> bool:
    mark = mark_of(function)
    return mark is not None and mark.kind != "passing"


def _inner(value: Any) -> bool:
    mark = mark_of(value) if inspect.isfunction(value) else None
    return mark is not None and mark.kind == "inner"


def _property(name: str, value: property) -> property:
    def get(self: Face) -> Any:
        return self._bridge.face(getattr(self._blocking, name))

    put = None if value.fset is None else lambda self, new: setattr(self._blocking, name, new)
    return property(functools.wraps(value.fget)(get) if value.fget else None, put, doc=value.__doc__)


def _passing(function: Callable[..., Any], mark: Mark | None) -> Callable[..., Any]:
    """A method that is called as it is."""
    adapted = _adapter(function, mark)

    @functools.wraps(function)
    def call(self: Face, *arguments: Any, **keywords: Any) -> Any:
        if arguments or keywords:
            arguments, keywords = adapted(self._bridge, arguments, keywords)
        result = function(self._blocking, *arguments, **keywords)
        return self if result is self._blocking else self._bridge.face(result)

    return call


def _awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that is awaited."""
    mark = mark_of(function) or Mark("blocking")
    adapted = _adapter(function, mark)

    @functools.wraps(function)
    async def call(self: Face, *arguments: Any, **keywords: Any) -> Any:
        bridge, blocking = self._bridge, self._blocking
        if arguments or keywords:
            arguments, keywords = adapted(bridge, arguments, keywords)
        if mark.steps is not None:
            result = await bridge.steps(mark.steps(blocking, *arguments, **keywords))
        elif mark.closes:
            close = functools.partial(_close, bridge, function, blocking)
            result = await bridge.work(close, arguments, keywords, shield=True)
        else:
            do = _Maker(function) if mark.opens else function
            result = await bridge.work(do, (blocking, *arguments), keywords)
        return self if result is blocking else bridge.face(result)

    return _opening(call) if mark.opens else call


def _close(bridge: Bridge, function: Callable[..., Any], blocking: Any, *arguments: Any, **keywords: Any) -> Any:
    try:
        return function(blocking, *arguments, **keywords)
    finally:
        if bridge.root is blocking:
            bridge.close()


def _opening(call: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    @functools.wraps(call)
    def opened(*arguments: Any, **keywords: Any) -> Opened[Any, Any]:
        return Opened(call(*arguments, **keywords))

    return opened


def _class_method(function: Callable[..., Any]) -> Any:
    """An alternative constructor; what it makes is a client of its own. Or a question that needs no client."""
    mark = mark_of(function)
    if mark is None:
        return classmethod(functools.wraps(function)(lambda cls, *a, **k: function(cls._blocking_class, *a, **k)))

    @functools.wraps(function)
    async def call(cls: type[Face], *arguments: Any, **keywords: Any) -> Any:
        bridge = Bridge()
        do = _Maker(function) if mark.opens else function
        try:
            made = await bridge.work(do, (cls._blocking_class, *arguments), keywords)
        except BaseException:
            bridge.close()  # there is no client that could be closed
            raise
        if not isinstance(made, cls._blocking_class):
            bridge.close()
            return made
        bridge.root, bridge.root_face = made, cls
        face = cls._of(bridge.root, bridge)
        bridge._faces[id(bridge.root)] = face
        return face

    return classmethod(_opening(call) if mark.opens else call)


def _next(function: Callable[..., Any]) -> Callable[..., Any]:
    mark = mark_of(function)
    steps = None if mark is None else mark.steps

    def step(blocking: Any) -> Any:
        try:
            return function(blocking)
        except StopIteration:
            return END  # which no future can carry

    @functools.wraps(function)
    async def call(self: Face) -> Any:
        bridge = self._bridge
        if steps is not None:
            result = await bridge.steps(steps(self._blocking))
        else:
            result = await bridge.work(step, (self._blocking,), {})
        if result is END:
            raise StopAsyncIteration
        return bridge.face(result)

    return call


def _at_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that has to be awaited on a loop, though it does not wait."""

    @functools.wraps(function)
    async def call(self: Face, *arguments: Any) -> Any:
        result = function(self._blocking, *arguments)
        return self if result is self._blocking else self._bridge.face(result)

    return call


_Adapter = Callable[[Bridge, "tuple[Any, ...]", "dict[str, Any]"], "tuple[tuple[Any, ...], dict[str, Any]]"]


def _adapter(function: Callable[..., Any], mark: Mark | None) -> _Adapter:
    """What makes of the arguments of an awaited call those of the blocking one."""
    callbacks = frozenset(() if mark is None else mark.callbacks)
    sources = frozenset(() if mark is None else mark.sources)
    names = list(inspect.signature(function).parameters)[1:]

    def adapted(bridge: Bridge, name: str | None, value: Any) -> Any:
        if isinstance(value, Face):
            return value._blocking
        if isinstance(value, (list, tuple)) and any(isinstance(item, Face) for item in value):
            return [item._blocking if isinstance(item, Face) else item for item in value]
        if name in callbacks and callable(value):
            return LoopCallback(value, bridge.loop, bridge.face)
        if name in sources and hasattr(value, "__aiter__"):
            return LoopSource(value, bridge.loop())
        return value

    def adapt(
        bridge: Bridge, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        padded = [*names, *[None] * (len(arguments) - len(names))]
        return (
            tuple(adapted(bridge, name, value) for name, value in zip(padded, arguments)),
            {name: adapted(bridge, name, value) for name, value in keywords.items()},
        )

    return adapt
