"""An answer whose body is still on the wire."""

from __future__ import annotations

import requests

from ..exceptions import APITimeoutError, SelfDBError
from .clock import Deadline
from .messages import connection_error
from .request import Request

__all__ = ["Stream"]


class Stream:
    """A successful answer whose body has not been read. Belongs to one thread; close it.

    :ivar status_code: 200 or 206.
    :ivar headers: by name in any case.
    """

    def __init__(self, answer: requests.Response, deadline: Deadline, origin: str, request: Request) -> None:
        self.status_code = answer.status_code
        self.headers = answer.headers
        self._answer = answer
        self._deadline = deadline
        self._origin = origin
        self._request = request

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes as they came over the wire, decompressed if need be; empty at the end.

        :raises APIConnectionError: if the connection breaks before the announced end.
        :raises APITimeoutError: if the server pauses for longer than the read time-out or the deadline passes.
        """
        if self._deadline.passed:
            raise self._failed(TimeoutError())
        try:
            return self._answer.raw.read(size, decode_content=True) or b""
        except Exception as error:
            raise self._failed(error) from error
        except BaseException:
            self.close()
            raise

    def _failed(self, error: Exception) -> SelfDBError:
        self.close()
        raised: SelfDBError
        if self._deadline.passed:
            raised = APITimeoutError(f"the deadline of {self._deadline.seconds:g} s for the whole transfer passed")
        else:
            _, raised = connection_error(error, self._origin, sent=True)
        raised.method, raised.path, raised.attempts = self._request.method, self._request.path, 1
        return raised

    def close(self) -> None:
        """Let go of the connection; one that still has bytes to read is closed."""
        self._answer.close()
