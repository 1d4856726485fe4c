"""Taking secrets out of what others say: as they are, as encodings write them, and cut off."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

__all__ = ["quiet", "redact", "redact_json", "secret_headers", "secret_in_url"]

SHORTEST_SECRET = 6
"""Characters; replacing anything shorter would garble messages and hide nothing."""

SHORTEST_BEGINNING = 8
"""Characters of a secret that are taken out where somebody has cut it off and says so, as in ``sk-12345...``."""

LONG_BEGINNING = 12
"""Characters that are taken out at the end of a text, where it may have been cut off without a word."""

_HIDDEN = "***"
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")
_STACK = frozenset({"selfdb", "requests", "urllib3", "http", "ssl", "socket", "websocket"})
_HEX = frozenset("0123456789abcdefABCDEF")
# Of these expressions, `re` compiles each when it is first asked for, and keeps it: most programs need none.
_TELLING = r"(?i)auth|token|key|secret|passw|cookie|credential|signature|session"
_USER_IN_URL = r"//[^/?#\s]*@"
_QUERY = r"\?[^\s'\"]+"


def redact(text: str, secrets: Iterable[str]) -> str:
    """``text`` without any of ``secrets``, which a server may have echoed."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            for form in _written(secret):
                text = text.replace(form, _HIDDEN)
            for form in _in_base64(secret):
                text = _without_runs(text, form, _BASE64)
            spelt = secret.encode("utf-8", "surrogatepass").hex()
            for form in (spelt, spelt.upper()):
                text = _without_runs(text, form, _HEX)
            text = _without_beginnings(text, secret)
    return text


def redact_json(value: Any, secrets: Iterable[str]) -> Any:
    """A decoded JSON ``value`` without any of ``secrets`` in its texts, however they were escaped.

    :raises ValueError: if it is nested too deeply to be walked through.
    """
    try:
        return _walked(value, tuple(secrets))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _walked(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, list):
        return [_walked(item, secrets) for item in value]
    if isinstance(value, dict):
        return {redact(name, secrets): _walked(item, secrets) for name, item in value.items()}
    return value


def secret_headers(headers: Mapping[str, Any]) -> Iterator[str]:
    """The values of those ``headers`` whose name says that they are secret."""
    for name, value in headers.items():
        if re.search(_TELLING, str(name)):
            text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
            yield text
            yield text.rpartition(" ")[2]  # without "Bearer" or the like


def secret_in_url(url: str) -> Iterator[str]:
    """The password in ``url``, such as that of a proxy, as it is and as it is written there."""
    try:
        password = urlsplit(url if "://" in url else f"//{url}").password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)


def quiet(error: BaseException, secrets: Iterable[str]) -> None:
    """Take out of an ``error`` of the HTTP stack what it should not carry on: secrets, queries, users of proxies, what
    was read of an answer, and the stack's own frames, whose variables hold all of that for tools that show them."""
    known = tuple(secrets)

    def cleaned(value: Any) -> Any:
        if isinstance(value, bytes):
            return b""
        if not isinstance(value, str):
            return value
        return redact(re.sub(_QUERY, "?...", re.sub(_USER_IN_URL, f"//{_HIDDEN}@", value)), known)

    error.args = tuple(cleaned(value) for value in error.args)
    attributes = vars(error)
    for name in list(attributes):
        attributes[name] = cleaned(attributes[name])
    frames = []
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _STACK:
            frames.append(step)  # of a hook or an adapter of the user's, who has to find it
        step = step.tb_next
    shown: TracebackType | None = None
    for step in reversed(frames):
        shown = TracebackType(shown, step.tb_frame, step.tb_lasti, step.tb_lineno)
    error.__traceback__ = shown


def _written(secret: str) -> list[str]:
    """``secret`` as it is, and as JSON, Python, HTML and addresses write it; the longest first."""
    import html  # here, for it is needed only where something has gone wrong

    plain, ascii_only = json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(secret)[1:-1]
    quoted = [form(secret, safe="", errors="replace") for form in (quote, quote_plus)]
    lower = [re.sub("%..", lambda match: match[0].lower(), form) for form in quoted]
    written = {secret, plain, ascii_only, plain.replace("/", "\\/"), repr(secret)[1:-1], html.escape(secret)}
    return sorted(written.union(quoted, lower, [quote(secret, errors="replace")]), key=len, reverse=True)


def _in_base64(secret: str) -> Iterator[str]:
    """What the base64 of anything that ``secret`` is a part of has in it, wherever it stands there."""
    data = secret.encode("utf-8", "surrogatepass")
    for skip in range(3):
        whole = len(data[skip:]) // 3 * 3
        form = base64.b64encode(data[skip : skip + whole]).decode("ascii")
        if len(form) >= SHORTEST_BEGINNING:
            yield form
            yield form.translate({ord("+"): "-", ord("/"): "_"})


def _without_runs(text: str, form: str, alphabet: frozenset[str]) -> str:
    """``text`` without the runs of ``alphabet`` that have ``form`` in them."""
    kept: list[str] = []
    at = 0
    while True:
        found = text.find(form, at)
        if found < 0:
            return "".join([*kept, text[at:]])
        start, end = found, found + len(form)
        while start > at and text[start - 1] in alphabet:
            start -= 1
        while end < len(text) and text[end] in alphabet:
            end += 1
        kept += [text[at:start], _HIDDEN]
        at = end


def _without_beginnings(text: str, secret: str) -> str:
    """``text`` without beginnings of ``secret`` that were cut off there."""
    kept: list[str] = []
    at = done = 0
    while len(secret) > SHORTEST_BEGINNING:
        at = text.find(secret[:SHORTEST_BEGINNING], at)
        if at < 0:
            break
        size = SHORTEST_BEGINNING
        while size < len(secret) and text[at + size : at + size + 1] == secret[size]:
            size += 1
        rest = text[at + size : at + size + 2]
        if rest[:1] in ("*", "\N{HORIZONTAL ELLIPSIS}") or rest == ".." or (not rest and size >= LONG_BEGINNING):
            kept += [text[done:at], _HIDDEN]
            done = at + size
        at += size
    return "".join([*kept, text[done:]])
