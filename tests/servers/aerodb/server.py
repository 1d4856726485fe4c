"""All HTTP services of an AeroDB server in one place. Tables are a stand-in: `tests.servers.postgrest` is real."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

from tests.servers.aerodb.auth import FakeAuth, refusal
from tests.servers.aerodb.storage import FakeStorage
from tests.servers.replies import Reply, ReplyServer, Request

ROWS = [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}]


class AeroServer:
    """See the services for what they do.

    :ivar functions: what they are answered, by name, or a function of the request.
    :ivar guarded: whether tables and storage want a signed-in user.
    :ivar instead: what the next requests are answered, whatever they ask.
    """

    def __init__(self) -> None:
        self.auth = FakeAuth()
        self.storage = FakeStorage()
        self.functions: Dict[str, Any] = {}
        self.health: Reply = (200, {}, {"status": "ok", "version": "1.2.3"})
        self.guarded = False
        self.rows: List[Dict[str, Any]] = list(ROWS)
        self.instead: List[Reply] = []
        self.before: Optional[Callable[[Request], object]] = None
        self._http = ReplyServer(self._answer)
        self.url = self._http.url
        self._forgotten = 0

    def start(self) -> AeroServer:
        self._http.start()
        return self

    def stop(self) -> None:
        self._http.stop()

    @property
    def requests(self) -> List[Request]:
        return self._http.requests[self._forgotten :]

    @property
    def lines(self) -> List[str]:
        return [request.line for request in self.requests]

    def forget(self) -> None:
        """Begin to count anew."""
        self._forgotten = len(self._http.requests)

    @property
    def last(self) -> Request:
        """The newest request."""
        return self.requests[-1]

    def _answer(self, request: Request) -> Reply:
        if self.before is not None:
            self.before(request)
        if self.instead:
            return self.instead.pop(0)
        service = request.path.split("/")[1]
        if service == "auth":
            return self.auth.answer(request)
        if service == "health":
            return self.health
        if self.guarded and self.auth.user_of(request) is None:
            return 401, {"WWW-Authenticate": "Bearer"}, {"code": "PGRST301", "message": "JWT expired"}
        if service == "storage":
            return self.storage.answer(request)
        if service == "functions":
            return self._function(request)
        return self._table(request)

    def _function(self, request: Request) -> Reply:
        name = request.path[len("/functions/v1") :].lstrip("/")
        if not name:
            return 200, {}, [{"name": one} for one in self.functions]
        reply = self.functions.get(name)
        if reply is None:
            return refusal(404, "no such function")
        given: Reply = reply(request) if callable(reply) else reply
        return given

    def _table(self, request: Request) -> Reply:
        if request.method in ("GET", "HEAD"):
            return 200, {"Content-Range": f"0-{len(self.rows) - 1}/*"}, self.rows
        return (201 if request.method == "POST" else 200), {}, self.rows
