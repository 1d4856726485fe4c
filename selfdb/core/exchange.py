"""One exchange, from its description to its answer: attempts, waits, redirects, a renewed session, errors."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from http.client import IncompleteRead
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import DecodeError

from ..exceptions import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ClientClosedError,
    RedirectError,
    ResponseTooLargeError,
    SelfDBError,
)
from .call import current_call
from .clock import Deadline
from .framing import check_coding, check_complete
from .http import Bounds
from .lane import METHODS, Answer, PlainAnswer
from .messages import connection_error
from .redaction import redact
from .refusals import Refusal
from .request import Request
from .response import Response
from .retry import Failure, RetryBudget, may_repeat, parse_retry_after
from .stream import Stream
from .tokens import Tokens
from .upload import Upload, UploadReader

if TYPE_CHECKING:
    from .transport import Transport

__all__ = ["Exchange", "leave_open", "read_whole"]

T = TypeVar("T")

log = logging.getLogger("selfdb")

MAX_ANSWER = 100 * 1024 * 1024
"""Bytes of a JSON answer, of an error's body, or of anything that came compressed."""

MAX_REDIRECTS = 5

LONGEST_WAIT = 60.0
"""Seconds that a ``Retry-After`` is obeyed where no deadline bounds the call."""

_READ_SIZE = 64 * 1024
_KEY_HEADER = "Idempotency-Key"
_REDIRECTS_KEEPING_METHOD = frozenset({307, 308})
_REDIRECTS_TO_GET = frozenset({301, 302, 303})
_REDIRECTS_AFTER_A_WRITE = frozenset({302, 303})
"""How many a server answers a write that it has done: see there what came of it."""


Reader = Callable[["Exchange", Answer], T]


class Exchange:
    """The state of one call while it is made; used by one thread."""

    def __init__(self, transport: Transport, request: Request, deadline: Deadline) -> None:
        self.transport = transport
        self.request = request
        self.deadline = deadline
        self.pool = transport.pool
        self.started = self.pool.clock.monotonic()
        self.origin = str(transport.base.origin)
        self._url: str | None = None
        """Where a redirect has led."""
        self._attempts = 0
        self._retries = 0
        self._redirects = 0
        self._spent = 0
        self._renewed = self._adopted = False
        self._doubtful = False
        """Whether an attempt so far may have been applied, so that no later one can take that back."""
        self._tokens: list[str] = []
        """Those that went along: no longer held once they were replaced or the user was signed out."""
        self._key = request.idempotency_key
        if self._key is None and transport.options.keyed_writes and request.writes and request.keyable:
            import uuid  # here, for few clients want keys

            self._key = uuid.uuid4().hex

    def run(self, read: Reader[T]) -> T:
        """Attempts until one gives an answer to return or an error to raise."""
        try:
            return self._run(read)
        except SelfDBError as error:
            if self._doubtful:  # whatever ended it: what the last attempt met says nothing about those before
                error.may_have_been_applied = True
            raise

    def _run(self, read: Reader[T]) -> T:
        self._renew_early()
        while True:
            self.transport.lifeline.check()
            call = current_call()
            if call is not None:
                call.check()
            tokens = self.transport.keeper.current() if self.request.bearer else None
            self._tokens += [token for token in tokens or () if token]
            try:
                answer = self._send(tokens, read is read_whole)
                if 200 <= answer.status_code < 300:
                    return self._accept(answer, read)
                with answer:
                    refusal = self._refusal(answer) if answer.status_code >= 400 else None
            except SelfDBError as error:
                raise self._signed(error).with_traceback(None) from error.__cause__  # those frames hold tokens
            except Exception as error:  # noqa: BLE001 - nothing of the HTTP stack leaves the package
                self._recover(error)
                continue
            if refusal is None:
                self._redirect(answer)
            elif not (answer.status_code == 401 and self._renew(tokens, refusal)):
                try:
                    self._refused(answer, refusal)
                finally:
                    del refusal  # as in `_recover`: it must not lead back to itself through this frame

    def _accept(self, answer: Answer, read: Reader[T]) -> T:
        self._doubtful = self._doubtful or self.request.writes
        try:
            result = read(self, answer)
            self._succeeded(answer)
            return result
        finally:
            if read is not leave_open:
                answer.close()

    def _error_body(self, answer: Answer) -> bytes:
        """What an answer of 400 and above says. Its status counts even if its body breaks off."""
        try:
            return read_whole(self, answer).content
        except SelfDBError:
            raise
        except Exception:
            if self.deadline.passed:
                raise
            return b""

    # One attempt

    def _send(self, tokens: Tokens | None, whole: bool) -> Answer:
        """One attempt.

        :param whole: whether the answer is wanted all at once.
        """
        request = self.request
        if self.deadline.passed:
            raise self._late()
        self._attempts += 1
        begun = self.pool.clock.monotonic()
        status = "failed"
        try:
            answer = self._send_shortly(tokens) if whole else None
            if answer is None:
                answer = self._send_ordinarily(tokens)
            status = str(answer.status_code)
            return answer
        finally:
            if log.isEnabledFor(logging.DEBUG):
                took = (self.pool.clock.monotonic() - begun) * 1000
                log.debug("%s %s -> %s in %.1f ms", request.method, request.path, status, took)

    def _send_shortly(self, tokens: Tokens | None) -> Answer | None:
        """The answer of the short way; ``None``, and nothing was sent, if this is no call for it."""
        request, transport = self.request, self.transport
        if self._url is not None or isinstance(request.body, Upload) or request.method not in METHODS:
            return None
        way = transport.lane(request.headers)
        if way is None:
            return None
        lane, lines = way
        if tokens is not None:
            lines += f"Authorization: Bearer {tokens.access}\r\n"
        if request.content_type is not None:
            lines += f"Content-Type: {request.content_type}\r\n"
        if self._key is not None:
            lines += f"{_KEY_HEADER}: {self._key}\r\n"
        options = transport.options
        bounds = Bounds(options.connect, options.read, self.deadline, request.writes)
        target = transport.base.prefix + request.path + request.query
        return lane.send(request.method, target, lines, request.body, bounds, MAX_ANSWER)

    def _send_ordinarily(self, tokens: Tokens | None) -> requests.Response:
        request, transport = self.request, self.transport
        headers = dict(transport.headers)
        if request.content_type is not None:
            headers["Content-Type"] = request.content_type
        if request.headers:
            headers.update(request.headers)
        if self._key is not None:
            headers[_KEY_HEADER] = self._key
        body: bytes | _Guarded | None
        reader = None
        if isinstance(request.body, Upload):
            try:
                reader = request.body.open()
            except Exception as error:  # noqa: BLE001 - theirs, whatever it is
                raise _OfTheCaller(error) from None
            length = request.body.length
            body = b"" if length == 0 else _Guarded(reader)
        else:
            body = request.body
            length = None if body is None else len(body)
        try:
            return self.pool.send(
                request.method,
                self._address(),
                headers,
                tokens.access if tokens else None,
                body,
                length,
                (transport.options.connect, transport.options.read),
                self.deadline,
            )
        except Exception:
            if reader is not None and reader.error is not None:
                raise _OfTheCaller(reader.error) from None
            raise
        finally:
            if reader is not None:
                reader.close()

    def _address(self) -> str:
        return self._url or self.transport.base.text + self.request.path + self.request.query

    def _succeeded(self, answer: Answer) -> None:
        self.pool.budget.give(1 + self._spent)
        if self._key is not None and answer.headers.get(_KEY_HEADER) == self._key:
            self.pool.acknowledges_keys = True

    # What to do when no answer came

    def _recover(self, error: Exception) -> None:
        """Return if the request may be tried again, after the wait before it; raise otherwise."""
        if isinstance(error, _OfTheCaller):
            context = error.error.__context__
            try:
                raise error.error
            finally:
                error.error.__context__ = context  # the way it took through the HTTP stack is no part of it
        sent = self.pool.sent
        failure, raised = connection_error(error, self.origin, sent, self.secrets())
        if failure is Failure.AMBIGUOUS and self.request.writes:
            self._doubtful = True
        if self.deadline.passed:
            raised = self._late()
        if isinstance(raised, APIConnectionError):
            raised.may_have_been_applied = self._doubtful
            if self._doubtful:
                raised.message += "; the request may have been applied, so look before you send it again"
        cost = RetryBudget.COST_OF_TIMEOUT if isinstance(raised, APITimeoutError) else RetryBudget.COST
        try:
            if self.deadline.passed or not self._may_repeat(failure) or not self._waited(cost, None, raised):
                raise self._signed(raised) from error
        finally:
            # An error that its own traceback leads back to would hold the connection until the next collection.
            del raised, error

    def _late(self) -> APITimeoutError:
        seconds = self.deadline.seconds
        error = APITimeoutError(
            f"the deadline of {seconds:g} s for the whole call passed at {self.origin}; allow more with deadline=..."
        )
        error.may_have_been_applied = self._doubtful
        self._signed(error)
        return error

    # What to do with an answer that is none of success

    def _refusal(self, answer: Answer) -> SelfDBError:
        """The error that ``answer`` stands for."""
        content = self._error_body(answer)
        asked = parse_retry_after(answer.headers.get("Retry-After"), self.pool.clock.time())
        secrets = self.secrets()
        held = bool(self._tokens)
        error = self.transport.refusals.error(
            Refusal(answer.status_code, answer.headers, content, asked, secrets, self.request, held)
        )
        given = answer.headers.get("X-Request-ID")
        error.request_id = None if given is None else redact(given, secrets)
        return self._signed(error)

    def secrets(self) -> tuple[str, ...]:
        """What no error may show."""
        return (*self.transport.secrets(), *self.request.secrets, *self._tokens)

    def _refused(self, answer: Answer, error: SelfDBError) -> None:
        """Return if the request may be tried again, after the wait before it; raise otherwise."""
        status = answer.status_code
        asked = parse_retry_after(answer.headers.get("Retry-After"), self.pool.clock.time())
        policy = self.transport.options.retry
        if status in policy.unprocessed and self.request.patient:
            failure = Failure.RATE_LIMITED
        elif status == 409 and asked is not None and self._key is not None and self._retries:
            # Our own earlier attempt is still being done, and its outcome is ours to wait for.
            failure = Failure.AMBIGUOUS
        elif status in policy.statuses and (status != 429 or self.request.patient):
            failure = Failure.UNAVAILABLE
        else:
            failure = Failure.FINAL
            if status < 500:
                self.pool.budget.give()
        if status >= 500:
            self._doubtful = self._doubtful or self.request.writes
        try:
            if not self._may_repeat(failure) or not self._waited(RetryBudget.COST, asked, error):
                raise error
        finally:
            del error

    def _may_repeat(self, failure: Failure) -> bool:
        policy = self.transport.options.retry
        acknowledged = self._key is not None and self.pool.acknowledges_keys
        return (
            self._retries < policy.max_retries
            and may_repeat(failure, self.request.method, acknowledged, policy.methods)
            and (self.request.replayable or not self._body_touched())
        )

    def _body_touched(self) -> bool:
        return isinstance(self.request.body, Upload) and self.request.body.touched

    def _waited(self, cost: int, asked: float | None, error: SelfDBError) -> bool:
        """Sleep before the next attempt; false, at once, if there is no time or no budget for one."""
        policy = self.transport.options.retry
        seconds = policy.wait(self._retries, asked)
        fits = self.deadline.allows(seconds) and (self.deadline.seconds is not None or seconds <= LONGEST_WAIT)
        if not fits or not self.pool.budget.take(cost):
            return False
        self._retries += 1
        self._spent += cost
        if policy.on_retry is not None:
            try:
                policy.on_retry(self._attempts, self._signed(error), seconds)
            except Exception:
                log.exception("the callback that hears of retries failed")
            finally:
                del error  # as in `_refused`
        self.transport.lifeline.sleep(seconds)
        return True

    def _redirect(self, answer: Answer) -> None:
        """Go on at the address that ``answer`` names if that is safe; raise otherwise."""
        refusal = self._follow(answer)
        if refusal is not None:
            refusal.status_code = answer.status_code
            try:
                raise self._signed(refusal)
            finally:
                del refusal

    def _follow(self, answer: Answer) -> SelfDBError | None:
        """Take the address that ``answer`` names for the next attempt, or say why not. It may hold secrets, so no
        error is raised where it is at hand."""
        status, location = answer.status_code, answer.headers.get("Location")
        follows = status in _REDIRECTS_KEEPING_METHOD or (status in _REDIRECTS_TO_GET and not self.request.writes)
        if status in _REDIRECTS_AFTER_A_WRITE and self.request.writes:
            self._doubtful = True
        if location is None or not (follows or status in _REDIRECTS_TO_GET):
            return SelfDBError(f"the server answered {status}, which is no answer to this call", status)
        base = self.transport.base
        try:
            origin, target = base.redirect(self._address(), location)
        except ValueError:
            return RedirectError("the server redirected to something that is no http address")
        if "@" in urlsplit(target).netloc:
            return RedirectError("the server redirected to an address with a user name in it")
        if origin != base.origin:
            # The path is left out: a redirect may carry a one-time secret in it.
            shown = redact(str(origin), [secret.lower() for secret in self.secrets()])
            return RedirectError(
                f"the server redirected to {shown}, and no key or token is sent there; "
                f"if that is the right server, set base_url to {shown}{base.prefix}"
            )
        if not follows:
            return RedirectError(
                f"the server answered a {self.request.method} with a {status} redirect; check base_url"
            )
        if not self.request.replayable:
            return RedirectError(
                "the server redirected in the middle of a body that cannot be sent again; "
                "pass bytes, a path or a seekable file"
            )
        self._redirects += 1
        if self._redirects > MAX_REDIRECTS:
            return RedirectError(f"the server redirected more than {MAX_REDIRECTS} times")
        self._url = target
        return None

    # The session

    def _renew_early(self) -> None:
        """Renew a session that is about to end before a body starts that could not be sent again."""
        transport = self.transport
        if self.request.replayable or transport.renewer is None or not self.request.renewable:
            return
        tokens = transport.keeper.current()
        if tokens is not None and tokens.refresh is not None and transport.keeper.expires_within(30.0):
            try:
                self._newer_than(tokens)
            except SelfDBError as error:
                if not self._hidden(error):
                    raise
                # The one that there is may still be good: by the clock of who made it, if not by ours.

    def _hidden(self, error: SelfDBError) -> bool:
        """Whether a renewal that failed with ``error`` is nobody's business."""
        return self.transport.refusals.hides_failed_renewal and not isinstance(error, ClientClosedError)

    def _renew(self, tokens: Tokens | None, refusal: SelfDBError) -> bool:
        """Whether a 401 for ``tokens``, read as ``refusal``, is worth one more attempt, with a newer pair."""
        transport, ways = self.transport, self.transport.refusals
        if tokens is None or self._renewed or transport.renewer is None or not self.request.renewable:
            return False
        if not ways.of_the_session(refusal):
            return False
        if not self.request.replayable and not ways.hides_failed_renewal:
            way_out = "log in" if tokens.refresh is None else "refresh the session"
            raise self._signed(
                AuthenticationError(
                    "the access token was refused in the middle of a body that cannot be sent again; "
                    f"{way_out} and send it again, or pass bytes, a path or a seekable file",
                    401,
                )
            )
        before = transport.keeper.renewals
        try:
            fresh = self._newer_than(tokens)
        except SelfDBError as error:
            if not self._hidden(error):
                raise
            return False
        # What another process fetched some time ago may have ended as well, and is worth a renewal then.
        self._renewed = self._adopted or ways.one_more_attempt or transport.keeper.renewals != before
        self._adopted = True
        return self.request.replayable and fresh is not None and fresh.access != tokens.access

    def _newer_than(self, tokens: Tokens) -> Tokens | None:
        try:
            return self.transport.keeper.renew(tokens.access, self._ask_for_renewal, self._time_to_renew())
        except SelfDBError as error:
            error.may_have_been_applied = False  # was said of the renewal; the call itself was refused, or not begun
            raise error.with_traceback(None) from error.__cause__  # the frames below hold tokens

    def _ask_for_renewal(self, refresh_token: str, deadline: Deadline) -> Tokens:
        assert self.transport.renewer is not None
        return self.transport.renewer(self.transport, refresh_token, deadline)

    def _time_to_renew(self) -> Deadline:
        if self.deadline.seconds is not None:
            return self.deadline
        return Deadline(self.transport.options.deadline, self.pool.clock)  # a stream has none of its own

    def _signed(self, error: SelfDBError) -> SelfDBError:
        """``error`` with what this exchange knows."""
        error.method, error.path, error.attempts = self.request.method, self.request.path, self._attempts
        return error

    # The body of an answer

    def check_time(self) -> None:
        """Raise if the deadline passed: on a session that is not ours only the pauses between reads are bounded."""
        if self.deadline.passed:
            raise TimeoutError


class _Guarded:
    """A body whose source may fail with an `OSError`: urllib3 would take it for the connection's, and wait for the
    answer to a request that never came to its end."""

    def __init__(self, reader: UploadReader) -> None:
        self._reader = reader

    def read(self, size: int = -1) -> bytes:
        try:
            return self._reader.read(size)
        except OSError as error:
            raise _OfTheCaller(error) from None


class _OfTheCaller(Exception):
    """What the source of a body raised, on its way through the HTTP stack."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def read_whole(exchange: Exchange, answer: Answer) -> Response:
    request = exchange.request
    announced = answer.headers.get("Content-Length", "")
    too_large = ResponseTooLargeError(
        f"the answer is larger than {MAX_ANSWER // 2**20} MiB; ask for less, for example with a smaller page_size",
        answer.status_code,
        method=request.method,
        path=request.path,
    )
    if request.method != "HEAD" and announced.isdecimal() and int(announced) > MAX_ANSWER:
        raise too_large
    content = answer.content if isinstance(answer, PlainAnswer) else _content_of(exchange, answer, too_large)
    elapsed = exchange.pool.clock.monotonic() - exchange.started
    return Response(
        answer.status_code,
        answer.headers,
        content,
        elapsed,
        request.method,
        request.path,
        private=not request.keep_body,
        secrets=exchange.secrets,
    )


def _content_of(exchange: Exchange, answer: requests.Response, too_large: ResponseTooLargeError) -> bytes:
    check_coding(answer.headers)
    content, size = io.BytesIO(), 0  # not a list: of chunks of a byte each, it would be many times as large
    for block in answer.iter_content(_READ_SIZE):
        size += len(block)
        if size > MAX_ANSWER:
            raise too_large
        content.write(block)
        exchange.check_time()
    check_complete(answer.raw)
    if not size and exchange.pool.may_be_cut(answer):
        raise IncompleteRead(b"")
    return content.getvalue()


def leave_open(exchange: Exchange, answer: Answer) -> Stream:
    assert not isinstance(answer, PlainAnswer)  # which is only made for who reads all at once
    try:
        check_coding(answer.headers)
    except DecodeError:
        answer.close()
        raise
    may_be_cut = exchange.pool.may_be_cut(answer)
    return Stream(answer, exchange.deadline, exchange.origin, exchange.request, may_be_cut, exchange.secrets)
