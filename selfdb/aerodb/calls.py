"""Where an exchange of the kernel becomes an envelope: what is sent along, and what each way to fail is called."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import responses
from traceback import format_exception
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypeVar, Union

from ..core.encoding import decode_json
from ..core.redaction import redact, redact_json
from ..core.refusals import Refusal, Refusals
from ..core.request import Request
from ..core.transport import Transport
from ..exceptions import (
    APIConnectionError,
    APITimeoutError,
    ClientClosedError,
    InvalidRequestError,
    RealtimeError,
    RedirectError,
    ResponseTooLargeError,
    SelfDBError,
)
from .envelope import AeroDBError, AeroDBRequestError, AeroDBResponse

if TYPE_CHECKING:
    from ..core.stream import Stream
    from ..core.upload import Upload
    from .cache import OfflineCache

__all__ = ["Answer", "Calls", "Refused", "WaysToRefuse", "error_in", "problem"]

T = TypeVar("T")

log = logging.getLogger("selfdb.aerodb")

LONGEST_LINE = 16 * 1024
"""Bytes of a request's first line; servers and proxies refuse longer ones, each in its own way."""

TEXT_IN_MESSAGE = 500
"""Characters of a body that is not JSON that make a message."""

LARGEST_READ = 1024 * 1024
"""Bytes of an error's body that are read as JSON."""

_SAYING = ("error", "message", "msg", "error_description", "detail")
"""Members of an error's body that may say what happened, the first one first."""

_NO_PRIVILEGE = "42501"
_WITHOUT_EFFECT = frozenset({"GET", "HEAD"})
_WORDS = (("base_url", "url"), ("deadline=...", "timeout=..."))
"""What the kernel calls a parameter, and what it is called here."""


class Refused(AeroDBRequestError):
    """An answer of 400 and above.

    :ivar content_range: its ``Content-Range``, which counts the rows that are there if there are fewer than asked for.
    """

    content_range: Optional[str] = None


class Answer(NamedTuple):
    """An answer of success.

    :ivar headers: by name in any case.
    :ivar from_cache: whether the offline cache gave it.
    :ivar wrote: whether it is the answer to something that changes things.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    from_cache: bool = False
    wrote: bool = False

    def __repr__(self) -> str:
        return f"<Answer {self.status}, {len(self.content)} bytes>"  # which may be tokens

    def json(self) -> Any:
        """The decoded body; ``None`` if there is none.

        :raises AeroDBRequestError: ``INVALID_RESPONSE`` if it is not JSON.
        """
        if not self.content:
            return None
        with suppress(ValueError):
            return decode_json(self.content)
        # Raised outside: what the reader raises carries the whole body.
        raise self.unusable("is not JSON")

    def unusable(self, why: str) -> AeroDBRequestError:
        """An error for an answer that says success and cannot be used, such as one that ``is not JSON``."""
        raised = problem("INVALID_RESPONSE", f"the answer {why}; is url the address of the API itself?", self.status)
        raised.may_have_been_applied = self.wrote
        return raised


def problem(code: str, message: str, status: int | None = None) -> AeroDBRequestError:
    """An error that is made here, to be raised inside of :meth:`Calls.enveloped`."""
    return AeroDBRequestError.of(AeroDBError(message, status, code))


def error_in(status: int, content: bytes, secrets: tuple[str, ...]) -> AeroDBError:
    """What an answer of 400 and above with the body ``content`` says.

    :param secrets: what it may repeat and nobody may see.
    """
    try:
        body = redact_json(decode_json(content if len(content) <= LARGEST_READ else b""), secrets)
    except ValueError:
        text = redact(content[: 8 * TEXT_IN_MESSAGE].decode("utf-8", "replace"), secrets).strip()
        return AeroDBError(text[:TEXT_IN_MESSAGE] or responses.get(status) or f"HTTP {status}", status)
    if not isinstance(body, dict):
        return AeroDBError("Unknown error", status)
    nested = body.get("error")
    if isinstance(nested, dict):
        body = {**body, **nested, "error": None}
    said = (body.get(name) for name in _SAYING)
    message = next((text for text in said if isinstance(text, str) and text), "Unknown error")
    code, hint = body.get("code"), body.get("hint")
    return AeroDBError(
        message,
        status,
        None if code is None else str(code),
        body.get("details"),
        hint if hint is None or isinstance(hint, str) else json.dumps(hint, ensure_ascii=False),
    )


class WaysToRefuse(Refusals):
    """How an AeroDB server, or any PostgREST, says no."""

    hides_failed_renewal = True
    one_more_attempt = True

    def error(self, refusal: Refusal) -> SelfDBError:
        """The refusal with all that its body says."""
        raised = Refused.of(error_in(refusal.status_code, refusal.content, refusal.secrets))
        assert isinstance(raised, Refused)
        raised.content_range = refusal.headers.get("Content-Range")
        return raised

    def of_the_session(self, error: SelfDBError) -> bool:
        """Whether a 401 may end with a new token; where a role lacks a privilege it does not."""
        return not (isinstance(error, AeroDBRequestError) and error.code == _NO_PRIVILEGE)


class Calls:
    """Makes the exchanges of one client, and envelopes of what comes of them. May be shared by threads.

    :param transport: makes the exchanges; its refusals are :class:`WaysToRefuse`.
    :param schema: of the tables.
    :param cache: gives rows that were read before, while the server cannot be reached.
    :param identity: says who is signed in, for the cache; secret.
    """

    def __init__(
        self,
        transport: Transport,
        schema: str = "public",
        cache: OfflineCache | None = None,
        identity: Callable[[], str] = str,
    ) -> None:
        self.transport = transport
        self.schema = schema
        self.cache = cache
        self.identity = identity

    def __repr__(self) -> str:
        return f"<Calls to {self.transport.base.text}>"

    @property
    def url(self) -> str:
        """Where the server lives, without a trailing slash."""
        return self.transport.base.text

    @property
    def closed(self) -> bool:
        """Whether the client was closed."""
        return self.transport.lifeline.closed

    def within(self, timeout: float) -> Calls:
        """The same with another time for a whole call."""
        mine = self.transport
        options = mine.options.changed(timeout=timeout, deadline=timeout, stream_deadline=timeout)
        changed = Transport(
            mine.pool, mine.base, mine.identity, mine.keeper, options, mine.renewer, mine.lifeline, mine.refusals
        )
        return Calls(changed, self.schema, self.cache, self.identity)

    def profile(self, method: str) -> dict[str, str]:
        """The header that names the schema of a call to a table; none for the usual one."""
        if self.schema == "public":
            return {}
        return {"Accept-Profile" if method in _WITHOUT_EFFECT else "Content-Profile": self.schema}

    def send(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: Union[bytes, Upload, None] = None,
        content_type: str | None = None,
        bearer: bool = True,
        renewable: bool = True,
        patient: bool = True,
        secrets: tuple[str, ...] = (),
        table: str | None = None,
    ) -> Answer:
        """Make one exchange and return its answer of success.

        :param path: below the client's URL, encoded, with its leading slash.
        :param query: encoded, with or without its question mark.
        :param headers: of this operation; they win over all others.
        :param bearer: whether the access token goes along.
        :param renewable: whether a 401 may be answered by one refresh and one more attempt.
        :param patient: whether a 429 may be waited out.
        :param secrets: passwords and tokens in ``body``.
        :param table: whose rows a ``GET`` reads, or another method may have changed: the offline cache keeps the
            answer, gives it while the server cannot be reached, and forgets it after a change.
        :raises SelfDBError: see :meth:`enveloped`, which makes an envelope of it.
        """
        request = self._request(method, path, query, headers, body, content_type, bearer, renewable, patient, secrets)
        if self.cache is None or table is None:
            return self._exchange(request)
        if method != "GET":
            return self._change(request, self.cache, table)
        identity = self.identity()
        entry = self.cache.entry(self.url, self.schema, table, identity, request)
        try:
            answer = self._exchange(request)
        except RedirectError:
            raise
        except APIConnectionError:
            kept = self.cache.recall(entry)
            if kept is None:
                raise
            return kept
        if self.identity() == identity:  # else it may be what somebody else has read
            self.cache.keep(entry, answer)
        return answer

    def open(self, path: str, *, headers: Mapping[str, str] | None = None) -> Stream:
        """``GET`` the ``path`` and return its answer with the body still on the wire.

        :raises SelfDBError: as :meth:`send`.
        """
        return self.transport.open(self._request("GET", path, headers=headers))

    def _request(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: Union[bytes, Upload, None] = None,
        content_type: str | None = None,
        bearer: bool = True,
        renewable: bool = True,
        patient: bool = True,
        secrets: tuple[str, ...] = (),
    ) -> Request:
        if query and not query.startswith("?"):
            query = f"?{query}"
        size = len(method) + len(self.transport.base.prefix) + len(path) + len(query) + len("  HTTP/1.1\r\n")
        if size > LONGEST_LINE:
            raise InvalidRequestError(
                f"the request line would have {size} bytes, and at most {LONGEST_LINE} can go; ask for less at a time, "
                "or send long values in a body, to a function called with rpc()"
            )
        return Request(
            method,
            path,
            query,
            body,
            content_type,
            headers,
            bearer=bearer,
            renewable=renewable,
            patient=patient,
            secrets=secrets,
            keyable=False,
        )

    def _change(self, request: Request, cache: OfflineCache, table: str) -> Answer:
        changed = request.method not in _WITHOUT_EFFECT
        try:
            return self._exchange(request)
        except SelfDBError as error:
            changed = error.may_have_been_applied
            raise
        finally:
            if changed:
                cache.forget_table(self.url, self.schema, table)

    def _exchange(self, request: Request) -> Answer:
        response = self.transport.exchange(request)
        wrote = request.method not in _WITHOUT_EFFECT
        return Answer(response.status_code, response.headers, response.content, wrote=wrote)

    def enveloped(self, work: Callable[[], AeroDBResponse[T]]) -> AeroDBResponse[T]:
        """What ``work`` returns, or an envelope of the error that it raises; see :meth:`error_of`.

        Nothing of it is done once the client is closed.
        """
        try:
            self.transport.lifeline.check()
            return work()
        except Exception as error:  # noqa: BLE001 - no call raises
            return self.failed(error)

    def failed(self, error: Exception) -> AeroDBResponse[Any]:
        """The envelope of an ``error``."""
        found = self.error_of(error)
        return AeroDBResponse(None, found, status=found.status)

    def redacted(self, text: str) -> str:
        """``text`` of the server's without anything that is secret."""
        return redact(text, self.transport.secrets())

    def error_of(self, error: Exception) -> AeroDBError:
        """What ``error`` is called in an envelope."""
        if isinstance(error, AeroDBRequestError):
            return error.error
        if not isinstance(error, SelfDBError):
            secrets = self.transport.secrets()
            if log.isEnabledFor(logging.DEBUG):
                trace = "".join(format_exception(type(error), error, error.__traceback__))
                log.debug("a call failed by itself: %s", redact(trace, secrets))
            said, name = redact(str(error), secrets), type(error).__name__
            return AeroDBError(f"{name}: {said}" if said else name, None, "CLIENT_ERROR")
        message = error.message
        for theirs, ours in _WORDS:
            message = message.replace(theirs, ours)
        return AeroDBError(
            message, error.status_code, _code_of(error), may_have_been_applied=error.may_have_been_applied
        )


def _code_of(error: SelfDBError) -> str:
    if isinstance(error, ClientClosedError):
        return "CLIENT_CLOSED"
    if isinstance(error, InvalidRequestError):
        return "VALIDATION_ERROR"
    if isinstance(error, (RedirectError, ResponseTooLargeError)):
        return "INVALID_RESPONSE"
    if isinstance(error, APITimeoutError):
        return "TIMEOUT"
    if isinstance(error, APIConnectionError):
        return "NETWORK_ERROR"
    if isinstance(error, RealtimeError) and error.close_code is not None:
        return "NETWORK_ERROR"  # it was the server that ended the connection, or broke its rules
    return "CLIENT_ERROR" if error.status_code is None else "INVALID_RESPONSE"
