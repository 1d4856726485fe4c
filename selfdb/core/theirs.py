"""What of an answer on a session of the user's has to be seen to before `requests` goes on with it."""

from __future__ import annotations

from http.client import HTTPResponse
from typing import Any

import requests

from .framing import Chunks, Misframed, framing_of

__all__ = ["FirstLook"]


class FirstLook:
    """Hooks around those of the session, for one request.

    `Session.send` reads the whole body of a redirect, however long, even where it must not follow it; keeps cookies,
    which would sign the next user of the session in as the last one; and reads chunks by Python's idea of a number.
    """

    def __init__(self, request: requests.PreparedRequest) -> None:
        self._location: str | None = None
        hooks = request.hooks["response"]
        hooks.insert(0, self._check)
        hooks.append(self._hide)

    def _check(self, answer: requests.Response, *args: Any, **settings: Any) -> None:
        original = getattr(answer.raw, "_original_response", None)
        if not isinstance(original, HTTPResponse):
            return  # of a mock
        for name in ("Set-Cookie", "Set-Cookie2"):
            del original.headers[name]  # where the session looks for them; the answer still shows them
        if original.fp is None or answer.request.method == "HEAD":
            return
        try:
            chunked, _ = framing_of(original.headers)
            if chunked and not original.chunked:
                raise Misframed("a transfer coding that was not understood")
        except Misframed:
            answer.close()
            raise
        if chunked:
            original.fp = Chunks(original.fp)  # type: ignore[assignment]

    def _hide(self, answer: requests.Response, *args: Any, **settings: Any) -> None:
        self._location = answer.headers.pop("Location", None)

    def restore(self, answer: requests.Response) -> requests.Response:
        """``answer`` with all its headers."""
        if self._location is not None:
            answer.headers["Location"] = self._location
        return answer
