"""What every namespace of calls stands on: a transport, and a way to make its exchanges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..exceptions import InvalidRequestError
from .arguments import choice, text, whole_number
from .encoding import dataclass_fields, encode_json
from .options import check_key
from .paging import walk_by_offset
from .request import Request
from .response import RawResponse, Response
from .transport import Transport
from .urls import query_string

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")

__all__ = [
    "Caller",
    "Namespace",
    "RawCaller",
    "mapping_of",
    "raw",
    "reading",
    "search_term",
    "sort_direction",
    "walk",
    "window",
    "writing",
]

T = TypeVar("T")


class Caller:
    """Makes an exchange and gives what the call promises: the value that ``parse`` reads from its answer."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __call__(self, request: Request, parse: Callable[[Response], T]) -> T:
        return self.result(self._transport.exchange(request), parse)

    def result(self, response: Response, parse: Callable[[Response], T]) -> T:
        """What a call gives for an answer that came already."""
        return parse(response)


class RawCaller(Caller):
    """Gives the answer itself, with the way to read it."""

    def result(self, response: Response, parse: Callable[[Response], T]) -> T:
        """The answer. Its type is mended where a namespace is wrapped, by `raw`: one method then serves both faces."""
        return cast(T, RawResponse(response, parse))


class Namespace:
    """A group of calls. Holds no state of its own; may be shared by threads.

    :param transport: makes the exchanges.
    :param call: what a call gives; the parsed value by default.
    """

    def __init__(self, transport: Transport, call: Caller | None = None) -> None:
        self._transport = transport
        self._call = Caller(transport) if call is None else call

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._transport.base.text}>"


def raw(method: Callable[P, T]) -> Callable[P, RawResponse[T]]:
    """``method`` of a namespace with a :class:`RawCaller`, under the type that it really has then."""
    return cast("Callable[P, RawResponse[T]]", method)


def reading(path: str, *query: tuple[str, object]) -> Request:
    """A ``GET`` of ``path`` with those pairs of ``query`` that are not ``None``."""
    return Request("GET", path, query_string(query))


def writing(
    method: str,
    path: str,
    body: Any = None,
    *,
    query: tuple[tuple[str, object], ...] = (),
    key: str | None = None,
    secrets: tuple[str, ...] = (),
) -> Request:
    """A request that changes something, with ``body`` as JSON unless it is ``None``."""
    return Request(
        method,
        path,
        query_string(query),
        None if body is None else encode_json(body),
        None if body is None else "application/json",
        secrets=secrets,
        idempotency_key=None if key is None else check_key(key),
    )


def search_term(term: str | None) -> str | None:
    """``term`` checked; an empty one is none."""
    return text(term, "search", 100, allow_empty=True) or None if term is not None else None


def sort_direction(order: str | None) -> str | None:
    """``asc`` or ``desc`` in lower case."""
    return choice(order, "sort_order", ("asc", "desc")) if order is not None else None


def window(
    skip: int | None, limit: int | None, search: str | None, sort_by: str | None, sort_order: str | None
) -> tuple[tuple[str, object], ...]:
    """The query of a list call, checked; what is ``None`` is not sent.

    :raises InvalidRequestError: for skip below 0, limit below 1, search above 100 characters, an empty
        ``sort_by``, or a ``sort_order`` that is neither ``asc`` nor ``desc``.
    """
    return (
        ("skip", None if skip is None else whole_number(skip, "skip", 0)),
        ("limit", None if limit is None else whole_number(limit, "limit", 1)),
        ("search", search_term(search)),
        ("sort_by", None if sort_by is None else text(sort_by, "sort_by", 100)),
        ("sort_order", sort_direction(sort_order)),
    )


def walk(fetch: Callable[..., Sequence[T]], page_size: int, **query: Any) -> Iterator[T]:
    """Every item that a list call with ``query`` would show, fetched ``page_size`` at a time as the loop goes on.

    :param fetch: the list call.
    :raises InvalidRequestError: as :func:`window`; here, not in the first step of the loop.
    """
    window(0, page_size, **query)
    return walk_by_offset(lambda skip, limit: fetch(skip=skip, limit=limit, **query), page_size)


def mapping_of(row: Any, what: str) -> Mapping[str, Any]:
    """``row`` as a mapping by column: a mapping, a pydantic model or a dataclass.

    :raises InvalidRequestError: for anything else, or a key that is no ``str``.
    """
    if isinstance(row, Mapping):
        for name in row:
            if not isinstance(name, str):
                raise InvalidRequestError(f"{what}: a column name must be a str, not {type(name).__name__}")
        return row
    if not isinstance(row, type):
        if hasattr(row, "model_dump"):
            return cast("Mapping[str, Any]", row.model_dump(by_alias=True))
        fields = dataclass_fields(row)
        if fields is not None:
            return fields
    raise InvalidRequestError(f"{what} must be a mapping, a pydantic model or a dataclass, not {type(row).__name__}")
