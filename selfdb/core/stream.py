"""An answer whose body is still on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http.client import IncompleteRead

import requests

from ..exceptions import APITimeoutError, SelfDBError
from .clock import Deadline
from .framing import check_complete
from .messages import connection_error
from .request import Request

__all__ = ["Stream"]


class Stream:
    """A successful answer whose body has not been read. Belongs to one thread; close it.

    :ivar status_code: 200 or 206.
    :ivar headers: by name in any case.

    :param may_be_cut: whether a body of nothing may as well mean that the answer broke off in its head.
    :param secrets: gives what no error may show.
    """

    def __init__(
        self,
        answer: requests.Response,
        deadline: Deadline,
        origin: str,
        request: Request,
        may_be_cut: bool = False,
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.status_code = answer.status_code
        self.headers = answer.headers
        self._answer = answer
        self._deadline = deadline
        self._origin = origin
        self._request = request
        self._may_be_cut = may_be_cut
        self._secrets = secrets

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes as they came over the wire, decompressed if need be; empty at the end.

        :raises APIConnectionError: if the connection breaks before the announced end.
        :raises APITimeoutError: if the server pauses for longer than the read time-out or the deadline passes.
        """
        if self._deadline.passed:
            raise self._failed(TimeoutError())
        try:
            block = self._answer.raw.read(size, decode_content=True) or b""
            if not block:
                check_complete(self._answer.raw)
            if not block and self._may_be_cut:
                raise IncompleteRead(b"")
            self._may_be_cut = False
            return block
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
            _, raised = connection_error(error, self._origin, True, self._secrets())
        raised.method, raised.path, raised.attempts = self._request.method, self._request.path, 1
        return raised

    def close(self) -> None:
        """Let go of the connection; one that still has bytes to read is closed."""
        self._answer.close()
