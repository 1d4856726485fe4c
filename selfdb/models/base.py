"""What the models have in common: what is sent, what comes back, and how each is read."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Callable, Dict, Mapping, Optional

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, ValidationError

from ..core.parsing import describe
from ..exceptions import InvalidRequestError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CreateModel", "DeleteResponse", "RequestModel", "ResponseModel", "SystemStatus", "Timestamp", "either"]


class RequestModel(BaseModel):
    """Base of what is sent. Unknown and misspelt fields are refused.

    :raises InvalidRequestError: naming the field, never its value.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, populate_by_name=True)

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            message = f"{type(self).__name__}: {describe(error)}"
        else:
            return
        # Raised here, not in the handler: pydantic's error carries the input, and must not come along.
        raise InvalidRequestError(message)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As pydantic's, but for the error.

        :raises InvalidRequestError: naming the field, never its value.
        """
        return cls._validated(super().model_validate, obj, options)

    @classmethod
    def model_validate_json(cls, json_data: Any, **options: Any) -> Self:
        """As pydantic's, but for the error.

        :raises InvalidRequestError: naming the field, never its value.
        """
        return cls._validated(super().model_validate_json, json_data, options)

    @classmethod
    def _validated(cls, validate: Callable[..., Self], data: Any, options: Dict[str, Any]) -> Self:
        try:
            return validate(data, **options)
        except ValidationError as error:
            message = f"{cls.__name__}: {describe(error)}"
        raise InvalidRequestError(message)

    @classmethod
    def of(cls, payload: Any) -> Self:
        """``payload`` itself if it is of this class, else one made of its keys.

        :raises InvalidRequestError: if it is neither this model nor a mapping, or does not fit.
        """
        if isinstance(payload, cls):
            return payload
        if isinstance(payload, Mapping):
            return cls(**{str(name): value for name, value in payload.items()})
        raise InvalidRequestError(f"expected a {cls.__name__} or a dict, not {type(payload).__name__}")

    def wire(self) -> Dict[str, Any]:
        """What is sent: the fields that were set; an explicit ``None`` goes as null."""
        return self.model_dump(exclude_unset=True)


class CreateModel(RequestModel):
    """Base of what creates a thing: fields left at ``None`` are not sent, the others always."""

    def wire(self) -> Dict[str, Any]:
        """What is sent: every field that has a value."""
        return self.model_dump(exclude_none=True)


class ResponseModel(BaseModel):
    """Base of what comes back. Unknown fields are ignored: servers grow."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


def _aware(value: datetime) -> datetime:
    """UTC where a server leaves the zone out."""
    return value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)


Timestamp = Annotated[datetime, AfterValidator(_aware)]


def either(*names: str) -> Any:
    return AliasChoices(*names)


class DeleteResponse(ResponseModel):
    """What was deleted."""

    message: str
    deleted_id: str


class SystemStatus(ResponseModel):
    """Whether the server has been set up, and its version."""

    initialized: bool = True
    version: Optional[str] = None
