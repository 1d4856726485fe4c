"""How a backend says no: what an answer of 400 and above means, and what that means for the session and the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional

from ..exceptions import SelfDBError
from .messages import error_for_answer, hint_for
from .request import Request

__all__ = ["ORDINARY", "Refusal", "Refusals"]


class Refusal(NamedTuple):
    """An answer of 400 and above.

    :ivar retry_after: seconds that it asks to wait.
    :ivar secrets: what no error may show.
    :ivar held: whether an access token went along.
    """

    status_code: int
    headers: Mapping[str, str]
    content: bytes
    retry_after: Optional[float]
    secrets: tuple[str, ...]
    request: Request
    held: bool


class Refusals:
    """Reads refusals as most backends write them. Has no state; subclass it for one that speaks otherwise.

    :cvar hides_failed_renewal: whether a call whose session could not be renewed, for want of an answer, or whose body
        cannot be sent again with the renewed one, raises the refusal that asked for it, and not what became of that.
    :cvar one_more_attempt: whether a call is made once more at most after a 401, even if its new token was one that
        somebody else had fetched before.
    """

    hides_failed_renewal = False
    one_more_attempt = False

    def error(self, refusal: Refusal) -> SelfDBError:
        """The error that ``refusal`` stands for."""
        error = error_for_answer(
            refusal.status_code,
            refusal.content,
            refusal.retry_after,
            refusal.secrets,
            keep_body=refusal.request.keep_body,
        )
        error.hint = hint_for(error, refusal.content, bearer=refusal.request.bearer, held=refusal.held)
        return error

    def of_the_session(self, error: SelfDBError) -> bool:
        """Whether a 401, read as ``error``, is about the access token, so that a newer one may help."""
        return True


ORDINARY = Refusals()
