"""From what went wrong to the error that says so: answers of 400 and above, and failures of the HTTP stack."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterable, Iterator
from typing import Any

import requests
import urllib3

from ..exceptions import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    RateLimitError,
    SelfDBError,
    error_class_for_status,
)
from .encoding import decode_json
from .framing import Misframed
from .redaction import quiet, redact, redact_json
from .retry import Failure

__all__ = ["connection_error", "error_for_answer", "hint_for", "redact"]

TEXT_IN_MESSAGE = 500
"""Characters of a body that is not JSON that go into a message."""

TEXT_KEPT = 2048
"""Characters of such a body that stay on the error."""

LARGEST_KEPT = 1024 * 1024
"""Bytes of an error's body that are read as JSON; a larger one is no message, and its beginning says enough."""


_TIMEOUTS = (TimeoutError, socket.timeout, requests.Timeout, urllib3.exceptions.TimeoutError)


def _without_input(body: Any) -> Any:
    """``body`` without the ``input`` of validation findings, which repeats what was sent, passwords included."""
    if isinstance(body, dict) and isinstance(body.get("detail"), list):
        findings = [
            {name: value for name, value in item.items() if name not in ("input", "ctx")}
            if isinstance(item, dict)
            else item
            for item in body["detail"]
        ]
        return {**body, "detail": findings}
    return body


def error_for_answer(
    status_code: int, content: bytes, retry_after: float | None, secrets: Iterable[str], *, keep_body: bool
) -> SelfDBError:
    """The error that an answer of 400 and above stands for.

    :param keep_body: false where the body may repeat what was sent, and that is secret.
    """
    secrets = tuple(secrets)
    body: Any
    try:
        body = _without_input(redact_json(decode_json(content if len(content) <= LARGEST_KEPT else b""), secrets))
    except ValueError:
        body = redact(content[: 8 * TEXT_KEPT].decode("utf-8", "replace"), secrets)[:TEXT_KEPT] or None
    error = error_class_for_status(status_code)(
        _message_in(body) or f"HTTP {status_code}", status_code, body if keep_body else None
    )
    if isinstance(error, RateLimitError):
        error.retry_after = retry_after
    return error


def hint_for(error: SelfDBError, content: bytes, *, bearer: bool, held: bool) -> str:
    """What whoever gets ``error`` can do about it; empty where the server's own words have to be enough.

    :param content: the answer's body.
    :param bearer: whether the call is made as a user, and not to become one.
    :param held: whether an access token went along.
    """
    status, said = error.status_code or 0, error.message.lower()
    if status in (404, 405) and content.lstrip()[:1] == b"<":
        return "is base_url the address of the API itself?"
    if status == 401 and "api key" in said:
        return "check api_key"
    if status == 401 and bearer:
        return "the session has ended, so log in again" if held else "log in first"
    if status == 429:
        wait = getattr(error, "retry_after", None)
        return "" if wait is None else f"try again in {wait:.0f} s"
    if status == 404 and "may not see" in said:
        return ""
    return "look into the server's log" if status >= 500 else _HINTS.get(status, "")


_HINTS = {
    403: "sign in as somebody who may do that",
    404: "it is not there, or you may not see it",
    406: "pass api_key; if you do, a proxy on the way may remove the header X-API-Key",
}


def _message_in(body: Any) -> str:
    """What the server says, wherever it says it; empty if nowhere."""
    if isinstance(body, str):
        return body.strip()[:TEXT_IN_MESSAGE]
    if not isinstance(body, dict):
        return ""
    detail = body.get("detail")
    if isinstance(detail, list):
        return "; ".join(_finding(item) for item in detail)[:TEXT_KEPT]
    nested = body.get("error")
    for said in (
        detail,
        detail.get("message") if isinstance(detail, dict) else None,
        nested.get("message") if isinstance(nested, dict) else None,
        nested,
        body.get("message"),
    ):
        if isinstance(said, str) and said:
            return said[:TEXT_KEPT]
    return ""


def _finding(item: Any) -> str:
    """One entry of a validation answer as ``body.email: value is not a valid email address``."""
    if not isinstance(item, dict):
        return str(item)
    where = item.get("loc")
    place = ".".join(str(part) for part in where) if isinstance(where, list) else ""
    return f"{place}: {item.get('msg', '')}" if place else str(item.get("msg", ""))


def connection_error(
    error: Exception, origin: str, sent: bool | None, secrets: Iterable[str] = ()
) -> tuple[Failure, SelfDBError]:
    """What a failure of the HTTP stack means for the request, and the error that says it.

    :param error: what the stack raised; it loses its request and answer here, which hold the secrets.
    :param origin: scheme, host and port, for the message.
    :param sent: whether a byte of the request may have left; ``None`` if only the failure's kind can tell.
    :param secrets: what it may have been told, and must not repeat.
    """
    causes = list(_chain(error))
    secrets = tuple(secrets)
    for cause in causes:
        quiet(cause, secrets)
        if isinstance(cause, requests.RequestException):
            cause.request = cause.response = None
    if sent is None:
        sent = not _came_before_sending(causes)
    failure = Failure.AMBIGUOUS if sent else Failure.NOT_SENT

    for cause in causes:
        if isinstance(cause, InvalidRequestError):  # ours, wrapped by the stack on its way here
            return Failure.FINAL, InvalidRequestError(cause.message)
        if isinstance(cause, ssl.SSLError) and not _is_the_end(cause):
            # In the handshake nothing was sent and nothing would change; later it is a broken connection.
            early = not sent or isinstance(cause, ssl.SSLCertVerificationError) or _is_plain(cause)
            early = early or cause.reason in _IN_HANDSHAKES
            return (Failure.FINAL if early else failure), APIConnectionError(_tls_message(cause, origin))
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        message = "the address of the proxy is not valid; check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"
        return Failure.FINAL, InvalidRequestError(message)
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader)) and not sent:
        return Failure.FINAL, InvalidRequestError("the URL or a header of the request is not valid")
    # In urllib3 every connection that could not be made is a time-out, to please programs of its first version.
    if any(isinstance(c, _TIMEOUTS) and not isinstance(c, urllib3.exceptions.NewConnectionError) for c in causes):
        what = f"{origin} did not answer in time" if sent else f"connecting to {origin} took too long"
        return failure, APITimeoutError(f"{what}; see whether it is well, or allow more with timeout=...")
    for cause in causes:
        if isinstance(cause, requests.exceptions.ProxyError):
            return failure, APIConnectionError(
                f"the proxy for {origin} refused or failed; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
            )
        if isinstance(cause, (socket.gaierror, urllib3.exceptions.NameResolutionError)):
            return failure, APIConnectionError(
                f"the host name of {origin} could not be resolved; check base_url and the network"
            )
        if isinstance(cause, ConnectionRefusedError):
            return failure, APIConnectionError(
                f"{origin} refused the connection; is the server running, and are host and port right?"
            )
    if not sent:
        return failure, APIConnectionError(f"could not connect to {origin}")
    if any(isinstance(cause, Misframed) for cause in causes):
        return failure, APIConnectionError(
            f"{origin} answered with something that is not HTTP; are host and port right?"
        )
    for cause in causes:
        if isinstance(cause, (requests.exceptions.ContentDecodingError, urllib3.exceptions.DecodeError)):
            return failure, APIConnectionError(f"the answer of {origin} is compressed in a way that cannot be undone")
        if isinstance(cause, (http.client.IncompleteRead, requests.exceptions.ChunkedEncodingError)):
            return failure, APIConnectionError(f"the answer of {origin} broke off before its end")
        if isinstance(cause, (http.client.HTTPException, urllib3.exceptions.InvalidHeader)) and not isinstance(
            cause, http.client.RemoteDisconnected
        ):
            return failure, APIConnectionError(
                f"{origin} answered with something that is not HTTP; are host and port right?"
            )
    why = "did the server stop, or does it serve https?" if origin.startswith("http:") else "did the server stop?"
    return failure, APIConnectionError(f"the connection to {origin} was lost before the answer came; {why}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and everything it was made of: `requests` and `urllib3` nest causes in three different ways."""
    seen: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        current = waiting.pop(0)
        if not isinstance(current, BaseException) or any(current is known for known in seen):
            continue
        seen.append(current)
        yield current
        waiting += [getattr(current, "reason", None), current.__cause__, current.__context__, *current.args]


def _came_before_sending(causes: list[BaseException]) -> bool:
    """Whether a session that is not ours failed while connecting. When in doubt, it did not."""
    if any(isinstance(cause, urllib3.exceptions.InvalidHeader) for cause in causes):
        return False  # of the answer; `requests` names it as it names one of the request
    return any(
        isinstance(
            cause,
            (
                requests.ConnectTimeout,
                urllib3.exceptions.NewConnectionError,
                urllib3.exceptions.ConnectTimeoutError,
                urllib3.exceptions.ClosedPoolError,
                requests.exceptions.InvalidURL,
                requests.exceptions.InvalidHeader,
                requests.exceptions.MissingSchema,
                requests.exceptions.InvalidSchema,
            ),
        )
        for cause in causes
    )


_CERTIFICATES = {
    9: "check the clock of this machine",
    10: "renew it on the server, and check the clock of this machine",
    62: "set base_url to a name that it is for",
    64: "set base_url to a name that it is for",
}
"""What helps, by OpenSSL's number of the reason."""


def _tls_message(error: ssl.SSLError, origin: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        way_out = _CERTIFICATES.get(error.verify_code, 'for a private authority pass verify="/path/to/ca.pem"')
        reason = error.verify_message.rstrip(".")
        return f"the certificate of {origin} was not accepted: {reason}; {way_out}"
    if _is_plain(error):
        return f"{origin} does not speak TLS on this port; if it serves plain HTTP, set base_url to http://..."
    reason = (error.reason or "TLS handshake failed").replace("_", " ").lower()
    return f"no secure connection to {origin} could be made or kept: {reason}"


_IN_HANDSHAKES = frozenset(
    {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "SSLV3_ALERT_HANDSHAKE_FAILURE"}
)
"""Reasons that come before a byte of the request has left, if only the failure can tell."""


def _is_the_end(error: ssl.SSLError) -> bool:
    # Python 3.9 knows what OpenSSL 3 calls an unexpected end by this reason only.
    return (
        isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) or error.reason == "UNEXPECTED_EOF_WHILE_READING"
    )


def _is_plain(error: ssl.SSLError) -> bool:
    return error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
