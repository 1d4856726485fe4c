"""What every call of an AeroDB client gives: data or an error, never an exception; and that error as an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar, cast

from ..exceptions import SelfDBError

__all__ = ["AeroDBError", "AeroDBRequestError", "AeroDBResponse"]

T = TypeVar("T")


def _is_step(name: str) -> bool:
    """Whether a query has such a step or call, which somebody may look for behind the call that ended it."""
    if name.startswith("_"):
        return False
    from .database import QueryBuilder

    return hasattr(QueryBuilder, name)


@dataclass(frozen=True)
class AeroDBError:
    """Why a call has no data.

    :ivar message: what happened, as the server or this package says it.
    :ivar status: the HTTP status; ``None`` where no answer came or nothing was sent.
    :ivar code: the server's code (``23505``, ``PGRST116``), or one of this package: ``NETWORK_ERROR``, ``TIMEOUT``,
        ``INVALID_RESPONSE``, ``VALIDATION_ERROR``, ``UNFILTERED_WRITE``, ``NOT_AUTHENTICATED``, ``NO_REFRESH_TOKEN``,
        ``CLIENT_CLOSED`` or ``CLIENT_ERROR``.
    :ivar details: more of it, as the server sent it.
    :ivar hint: what to do about it, where the server says so.
    :ivar may_have_been_applied: whether the call may have changed something although it failed. False means that
        nothing was changed.
    """

    message: str
    status: Optional[int] = None
    code: Optional[str] = None
    details: Any = None
    hint: Optional[str] = None
    may_have_been_applied: bool = False


@dataclass(frozen=True)
class AeroDBResponse(Generic[T]):
    """The outcome of a call.

    :ivar data: what was asked for. ``None`` beside no error means that there is nothing: a sign-out, an update that
        returns no row, ``maybe_single()`` without a row, a count alone.
    :ivar error: why there is no data.
    :ivar count: how many rows there are in all, where that was asked for.
    :ivar status: the HTTP status, where an answer came.
    :ivar from_cache: whether the data were read from the offline cache.
    """

    data: Optional[T]
    error: Optional[AeroDBError]
    count: Optional[int] = None
    status: Optional[int] = None
    from_cache: bool = False

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.error is None

    def unwrap(self) -> T:
        """The data, for those who prefer exceptions.

        :raises AeroDBRequestError: if there is an error.
        """
        if self.error is not None:
            raise AeroDBRequestError.of(self.error)
        return cast(T, self.data)  # None only where T says so

    if not TYPE_CHECKING:  # a type checker finds it by itself

        def __getattr__(self, name: str) -> Any:
            if _is_step(name):
                raise AttributeError(
                    f"the call was made, and this is its response, which has no {name}(): filters go before update(), "
                    "delete() and execute(), as in from_(...).eq(...).update(...)"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class AeroDBRequestError(SelfDBError):
    """The error of a response, raised by ``unwrap()`` and by ``stream()``. Can be pickled.

    :ivar code: as of :class:`AeroDBError`; so are ``details`` and ``hint``.
    """

    code: Optional[str] = None
    details: Any = None

    @classmethod
    def of(cls, error: AeroDBError) -> AeroDBRequestError:
        """``error`` as an exception."""
        raised = cls(error.message, error.status)
        raised.code = error.code
        raised.details = error.details
        raised.hint = error.hint or ""
        raised.may_have_been_applied = error.may_have_been_applied
        return raised

    @property
    def error(self) -> AeroDBError:
        """The error as it stood in the response."""
        return AeroDBError(
            self.message, self.status_code, self.code, self.details, self.hint or None, self.may_have_been_applied
        )
