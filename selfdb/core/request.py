"""One exchange as a namespace describes it: what to send, and what may be done when it goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional, Union

from .retry import SAFE_METHODS
from .upload import Upload

__all__ = ["Request"]


class Request(NamedTuple):
    """Immutable; made for one call.

    :ivar method: the HTTP method, in capitals.
    :ivar path: below the base URL, encoded, with its leading slash.
    :ivar query: encoded, with its leading question mark, or empty.
    :ivar body: JSON bytes, or a body with a source of its own.
    :ivar content_type: of ``body``.
    :ivar headers: more headers for this exchange.
    :ivar bearer: whether the access token goes along when one is held.
    :ivar renewable: whether a 401 may be answered by one refresh and one more attempt.
    :ivar secrets: passwords and tokens in ``body``, which no error may show.
    :ivar keep_body: whether an error keeps the answer's body; not where answers carry tokens.
    :ivar patient: whether a 429 may be waited out.
    :ivar idempotency_key: sent with a write so that the server does it once however often it arrives.
    :ivar keyable: whether a write may carry such a key at all.
    """

    method: str
    path: str
    query: str = ""
    body: Optional[Union[bytes, Upload]] = None
    content_type: Optional[str] = None
    headers: Optional[Mapping[str, str]] = None
    bearer: bool = True
    renewable: bool = True
    secrets: tuple[str, ...] = ()
    keep_body: bool = True
    patient: bool = True
    idempotency_key: Optional[str] = None
    keyable: bool = True

    def __repr__(self) -> str:
        # Its body and query are the user's; tools that show the variables of a traceback show this.
        return f"<Request {self.method} {self.path}>"

    @property
    def writes(self) -> bool:
        """Whether sending it twice may do something twice."""
        return self.method not in SAFE_METHODS

    @property
    def replayable(self) -> bool:
        """Whether its body can be sent a second time."""
        return not isinstance(self.body, Upload) or self.body.replayable
