"""What rows come back as: dicts as the server sent them, or models that they were checked against."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Dict, Generic, Optional, TypeVar, cast

from ..core.parsing import describe
from ..exceptions import InvalidRequestError
from .calls import Answer

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["DictReader", "ModelReader", "Row", "RowReader", "total_of"]

Row = Dict[str, Any]
RowT = TypeVar("RowT")


class RowReader(Generic[RowT]):
    """Reads answers that hold rows. Has no state of a call; shared by all queries of a kind."""

    def many(self, answer: Answer) -> list[RowT] | None:
        """The rows of a list; ``None`` for JSON's ``null``.

        :raises AeroDBRequestError: ``INVALID_RESPONSE`` if it is none.
        """
        raise NotImplementedError

    def one(self, answer: Answer) -> RowT | None:
        """The row of an object; ``None`` for JSON's ``null``.

        :raises AeroDBRequestError: ``INVALID_RESPONSE`` if it is none.
        """
        raise NotImplementedError


class DictReader(RowReader[Row]):
    """Rows as dicts."""

    def many(self, answer: Answer) -> list[Row] | None:
        rows = answer.json()
        if rows is not None and not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            del rows
            raise answer.unusable("is not a list of rows")
        return cast("Optional[list[Row]]", rows)

    def one(self, answer: Answer) -> Row | None:
        row = answer.json()
        if row is not None and not isinstance(row, dict):
            del row
            raise answer.unusable("is not a row")
        return row


class ModelReader(RowReader[RowT]):
    """Rows as instances of a pydantic model."""

    def __init__(self, model: Any) -> None:
        from pydantic import BaseModel

        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise InvalidRequestError("model must be a class derived from pydantic.BaseModel")
        complete: type[BaseModel] = model
        if not complete.__pydantic_complete__ and not complete.model_rebuild(raise_errors=False):
            raise InvalidRequestError(
                f"{complete.__name__} names a type that is not defined; define it and call its model_rebuild()"
            )
        self._model = model

    def many(self, answer: Answer) -> list[RowT] | None:
        return cast("Optional[list[RowT]]", self._read(answer, _adapter(self._model, True)))

    def one(self, answer: Answer) -> RowT | None:
        return cast("Optional[RowT]", self._read(answer, _adapter(self._model, False)))

    def _read(self, answer: Answer, adapter: TypeAdapter[Any]) -> Any:
        from pydantic import ValidationError

        if answer.content.strip() in (b"", b"null"):
            return None
        try:
            return adapter.validate_json(answer.content)
        except ValidationError as error:
            failure = describe(error)
        except Exception as error:  # noqa: BLE001 - out of the model's own code, and its text may be the row's
            failure = f"it raised {type(error).__name__}"
        # Raised outside: pydantic's error carries what came.
        raise answer.unusable(f"does not fit {self._model.__name__} ({failure})")


@functools.lru_cache(maxsize=256)
def _adapter(model: Any, many: bool) -> TypeAdapter[Any]:
    from pydantic import FailFast, TypeAdapter

    # Not each item that is wrong: a list of them would take many times the memory of the answer.
    kind: Any = Annotated[list[model], FailFast()] if many else model
    return TypeAdapter(kind)


def total_of(content_range: str | None) -> int | None:
    """How many rows there are in all, as ``0-9/573`` says; ``None`` if it does not."""
    total = (content_range or "").rpartition("/")[2]
    return int(total) if total.isdecimal() and total.isascii() and len(total) < 20 else None
