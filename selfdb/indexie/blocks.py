"""The end of a ``with`` block, which comes even where an interrupt keeps ``__exit__`` from being called."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional, TypeVar, cast

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Block", "Holding", "ends"]

F = TypeVar("F", bound=Callable[..., Any])


class Block:
    """Base of what is entered by ``with``, once, and must be left.

    Python may raise `KeyboardInterrupt` when a block is over and the first line of ``__exit__`` has not begun. All that
    it does then is to forget the method that it had bound before the block began: that is seen here.
    """

    _bound_end: Optional[weakref.ref[Callable[..., Any]]] = None
    _block_begun = False

    def _begin_block(self) -> None:
        """From here on :meth:`_forgotten` is called when nobody can end the block any more. Called by ``__enter__``."""
        self._block_begun = True
        bound = None if self._bound_end is None else self._bound_end()
        # There is none where it is entered by somebody who does not ask for it before, such as `contextlib.ExitStack`.
        self._bound_end = None if bound is None else weakref.ref(bound, self._lost)

    def _end_block(self) -> None:
        """It has ended. Called by ``__exit__``."""
        self._bound_end = None

    def _lost(self, bound: object) -> None:
        self._bound_end = None
        self._forgotten()

    def _forgotten(self) -> None:
        """End it, unless it has ended: on the thread whose block it is, which is on its way out of it."""
        raise NotImplementedError


class _End:
    """A method whose bound form is made anew each time, so that the one of a block lives as long as the block."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __get__(self, block: Optional[Block], kind: Any = None) -> Callable[..., Any]:
        if block is None:
            return self._function
        bound = functools.partial(self._function, block)
        if not block._block_begun:
            block._bound_end = weakref.ref(bound)
        return bound


def ends(function: F) -> F:
    """Have a block know when ``function``, its ``__exit__``, is forgotten."""
    return cast(F, _End(function))


class Holding(Block):
    """Base of a block that gives back what it holds, however it is left: :meth:`_forgotten` does, also repeatedly."""

    @ends
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forgotten()
        self._end_block()
