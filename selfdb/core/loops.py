"""From a thread to an event loop and back: callbacks and sources of somebody who lives there."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from typing import Any

from ..exceptions import RealtimeError
from .call import Visit, carry_into, enter_visit, interruptible

__all__ = ["LoopCallback", "LoopSource", "running_loop"]

_LOOK_AROUND = 1.0
"""Seconds after which a thread looks whether the loop that it waits for is closed."""

_END = object()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs on this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Errand:
    """One call of a function on a loop, for a thread that waits for its end."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self._visit = Visit()
        self._task: asyncio.Future[Any] | None = None
        self._given_up = False
        self._outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def wait(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> Any:
        """What the function gives; if it gives an awaitable, what that comes to."""
        if running_loop() is loop:
            raise RuntimeError("a callback of this loop was called on the loop's own thread, which cannot wait for it")
        carry_into(context)
        try:
            with interruptible(lambda: self._give_up(loop)):
                # Not before: the loop may be quick enough to give up the call while this thread is still on its way.
                loop.call_soon_threadsafe(self._begin, context=context)
                while True:
                    try:
                        result, error = self._outcome.get(timeout=_LOOK_AROUND)
                        break
                    except queue.Empty:
                        if loop.is_closed():
                            raise RuntimeError("the event loop is closed") from None
        finally:
            self._visit.active = False
        if error is None:
            return result
        try:
            raise error
        finally:
            del error

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the thread's wait, and the task if there is one."""
        self._given_up = True
        self._outcome.put((None, None))
        try:
            loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            return  # closed, and so is the task's life

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # On the loop

    def _begin(self) -> None:
        if self._given_up:
            return
        enter_visit(self._visit)
        try:
            result = self._function(*self._arguments)
            if inspect.isawaitable(result):
                self._task = asyncio.ensure_future(result)
                self._task.add_done_callback(self._end)
                return
        except (KeyboardInterrupt, SystemExit) as error:
            self._outcome.put((None, error))
            raise
        except BaseException as error:  # noqa: BLE001 - carried to the thread
            self._outcome.put((None, error))
        else:
            self._outcome.put((result, None))

    def _end(self, task: asyncio.Future[Any]) -> None:
        if task.cancelled():
            self._outcome.put((None, RealtimeError("the callback was cancelled")))
        else:
            error = task.exception()
            self._outcome.put((None if error else task.result(), error))


class LoopCallback:
    """A callback that a thread calls and that runs on an event loop; the thread waits for its end.

    It may be a coroutine function, or return an awaitable. Equal to another one of the same function, so that it can
    be taken away again; and named as its function is.

    :param loop: gives the loop where none ran when the callback was given, or that one is closed.
    :param face: what to make of each argument, on the loop.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        loop: Callable[[], asyncio.AbstractEventLoop],
        face: Callable[[Any], Any] | None = None,
    ) -> None:
        self.function = function
        self._face = face
        self._loop = running_loop()
        self._later = loop
        self._context = contextvars.copy_context()
        self.__wrapped__ = function
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))

    def __call__(self, *arguments: Any) -> Any:
        loop = self._loop
        if loop is None or loop.is_closed():
            loop = self._later()
        # A copy, since one context cannot be entered twice, and what a callback sets there is its own.
        return _Errand(self._call, arguments).wait(loop, self._context.copy())

    def _call(self, *arguments: Any) -> Any:
        return self.function(*(arguments if self._face is None else map(self._face, arguments)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoopCallback) and self.function == other.function

    def __hash__(self) -> int:
        return hash(self.function)

    def __repr__(self) -> str:
        return f"<LoopCallback {self.function!r}>"


class LoopSource(Iterator[Any]):
    """An asynchronous iterable for a thread to iterate: each step is made on the loop."""

    def __init__(self, source: AsyncIterable[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._items: AsyncIterator[Any] = aiter_of(source)
        self._loop = loop
        self._context = contextvars.copy_context()

    def __iter__(self) -> LoopSource:
        return self

    def __next__(self) -> Any:
        item = _Errand(self._step, ()).wait(self._loop, self._context.copy())
        if item is _END:
            raise StopIteration
        return item

    async def _step(self) -> Any:
        try:
            return await self._items.__anext__()
        except StopAsyncIteration:
            return _END


def aiter_of(source: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """The builtin ``aiter``, which Python 3.9 lacks."""
    return source.__aiter__()
