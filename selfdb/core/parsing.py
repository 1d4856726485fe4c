"""From an answer to the typed value that a call promises; a shape that was not promised is an error of ours.

Models are given as functions that fetch them, and so are loaded, and pydantic with them, when the first answer is to be
read as one: importing and building them takes longer than the whole rest of a client's start.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from .response import Response

if TYPE_CHECKING:
    from pydantic import BaseModel, TypeAdapter, ValidationError

__all__ = ["count_in", "deletion", "describe", "list_of", "one"]

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound="BaseModel")

MAX_FINDINGS = 20
"""That are told one by one. A list of nothing but zeros has millions of them."""


def describe(error: ValidationError) -> str:
    """The findings of pydantic in one line, by field and without any value, which may be secret."""
    if error.error_count() > MAX_FINDINGS:
        return f"{error.error_count()} values are not what they should be"
    findings = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in finding['loc']) or 'value'}: {finding['msg'].removeprefix('Value error, ')}"
        for finding in findings
    )


def _made_when_needed(make: Callable[[], Callable[[Response], T]]) -> Callable[[Response], T]:
    """The reader that ``make`` makes, which is called for the first answer."""
    made = functools.cache(make)

    def parse(response: Response) -> T:
        return made()(response)

    return parse


def one(model: Callable[[], type[ModelT]], *wrappers: str) -> Callable[[Response], ModelT]:
    """A reader of one ``model``, bare or, as some servers have it, under one of the keys ``wrappers``."""

    @_made_when_needed
    def parse() -> Callable[[Response], ModelT]:
        return _reader_of_one(model(), wrappers)

    return parse


def _reader_of_one(model: type[ModelT], wrappers: tuple[str, ...]) -> Callable[[Response], ModelT]:
    from pydantic import ValidationError

    def parse(response: Response) -> ModelT:
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            failure = describe(error)
        body = response.json()
        for key in wrappers:
            if isinstance(body, Mapping) and isinstance(body.get(key), Mapping):
                body = body[key]
                break
        # Once more from Python values: pydantic's own reader refuses a byte order mark and lone surrogates. The
        # error is raised outside: pydantic's carries what came, which may be tokens, even as a hidden context.
        with contextlib.suppress(ValidationError):
            return model.model_validate(body)
        del body  # tools that show the variables of a traceback find nothing of the answer in ours
        raise response.unusable(f"is not a {model.__name__} ({failure})")

    return parse


def list_of(model: Callable[[], type[ModelT]], *wrappers: str) -> Callable[[Response], list[ModelT]]:
    """A reader of a list of ``model``: a bare array, or one under one of the keys ``wrappers``."""

    @_made_when_needed
    def parse() -> Callable[[Response], list[ModelT]]:
        return _reader_of_list(model(), wrappers)

    return parse


def _reader_of_list(model: type[ModelT], wrappers: tuple[str, ...]) -> Callable[[Response], list[ModelT]]:
    from pydantic import FailFast, TypeAdapter, ValidationError

    # Not each item that is wrong: a list of them would take many times the memory of the answer.
    kind: Any = Annotated[list[model], FailFast()]  # type: ignore[valid-type]
    adapter: TypeAdapter[list[ModelT]] = TypeAdapter(kind)

    def parse(response: Response) -> list[ModelT]:
        try:
            return adapter.validate_json(response.content)
        except ValidationError as error:
            failure = describe(error)
        body = response.json()
        for key in wrappers:
            if isinstance(body, Mapping) and isinstance(body.get(key), list):
                body = body[key]
                break
        with contextlib.suppress(ValidationError):
            return adapter.validate_python(body)
        del body
        raise response.unusable(f"is not a list of {model.__name__} ({failure})")

    return parse


def count_in(response: Response) -> int:
    """The number in ``7``, ``{"count": 7}`` or ``{"total": 7}``."""
    body: Any = response.json()
    if isinstance(body, Mapping):
        body = body.get("count", body.get("total"))
    if isinstance(body, bool) or not isinstance(body, int):
        del body
        raise response.unusable("is not a count")
    return body


_DELETED_KEYS = ("deleted_id", "user_id", "table_id", "row_id", "bucket_id", "file_id")


def deletion(model: Callable[[], Callable[..., ModelT]], thing: str, asked: object) -> Callable[[Response], ModelT]:
    """A reader of what a delete answers: nothing, or an object that names what was deleted in its own way.

    :param model: fetches what takes ``message`` and ``deleted_id``.
    :param thing: what was deleted, for the message where the server says none.
    :param asked: the id that the call was for, where the server names none.
    """

    def parse(response: Response) -> ModelT:
        from pydantic import ValidationError

        body = response.json() if response.content else {}
        if not isinstance(body, Mapping):
            body = {}
        named = next((body[key] for key in _DELETED_KEYS if body.get(key) is not None), asked)
        with contextlib.suppress(ValidationError, RecursionError):  # of half a character, or a name of many levels
            return model()(message=str(body.get("message") or f"{thing} deleted"), deleted_id=str(named))
        raise response.unusable(f"does not say in text that the {thing.lower()} was deleted")

    return parse
