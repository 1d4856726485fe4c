"""Every call that the specification of AeroDB's client shows, with what goes over the wire: a table for both faces."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import parse_qsl

from tests.aerodb.services import EMAIL, KEY, PASSWORD
from tests.servers.replies import Request


class SeedCall(NamedTuple):
    """One call.

    :ivar call: makes it on a client; gives the response, or on the awaitable face what is to be awaited for it.
    :ivar line: method and path of what is sent.
    :ivar query: its parameters, decoded.
    :ivar body: of the request, decoded.
    """

    id: str
    call: Callable[[Any], Any]
    line: str
    query: Tuple[Tuple[str, str], ...] = ()
    body: Optional[Any] = None

    def check(self, request: Request) -> None:
        """That ``request`` is what is to be sent."""
        path, _, query = request.target.partition("?")
        assert f"{request.method} {path}" == self.line
        assert tuple(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))) == self.query
        assert (request.json if request.body else None) == self.body
        assert request.header("apikey") == KEY
        assert request.header("Authorization") is None


class SeedStep(NamedTuple):
    """One thing done with a channel.

    :ivar frames: what the server has been sent by then, in all.
    """

    id: str
    call: Callable[[Any, Any], Any]
    frames: Tuple[Dict[str, str], ...]


def users(*query: Tuple[str, str]) -> Dict[str, Any]:
    return {"line": "GET /rest/v1/users", "query": (("select", "*"), *query)}


SEED_CALLS: List[SeedCall] = [
    SeedCall(
        "the query of the specification",
        lambda client: (
            client.from_("users")
            .select("id, name, email")
            .eq("role", "admin")
            .gt("age", 18)
            .order("created_at", ascending=False)
            .limit(10)
            .execute()
        ),
        "GET /rest/v1/users",
        (
            ("select", "id,name,email"),
            ("role", "eq.admin"),
            ("age", "gt.18"),
            ("order", "created_at.desc"),
            ("limit", "10"),
        ),
    ),
    SeedCall("all rows", lambda client: client.from_("users").select("*").execute(), **users()),
    SeedCall(
        "signing in",
        lambda client: client.auth.sign_in(EMAIL, PASSWORD),
        "POST /auth/login",
        (),
        {"email": EMAIL, "password": PASSWORD},
    ),
]
"""Calls that the specification writes down with their ``await``."""

OPERATORS: List[SeedCall] = [
    SeedCall("eq", lambda c: c.from_("users").select("*").eq("role", "admin").execute(), **users(("role", "eq.admin"))),
    SeedCall("neq", lambda c: c.from_("users").select("*").neq("a", 1).execute(), **users(("a", "neq.1"))),
    SeedCall("gt", lambda c: c.from_("users").select("*").gt("a", 1).execute(), **users(("a", "gt.1"))),
    SeedCall("gte", lambda c: c.from_("users").select("*").gte("a", 1).execute(), **users(("a", "gte.1"))),
    SeedCall("lt", lambda c: c.from_("users").select("*").lt("a", 1).execute(), **users(("a", "lt.1"))),
    SeedCall("lte", lambda c: c.from_("users").select("*").lte("a", 1).execute(), **users(("a", "lte.1"))),
    SeedCall("like", lambda c: c.from_("users").select("*").like("a", "%J%").execute(), **users(("a", "like.%J%"))),
    SeedCall("ilike", lambda c: c.from_("users").select("*").ilike("a", "%J%").execute(), **users(("a", "ilike.%J%"))),
    SeedCall("in_", lambda c: c.from_("users").select("*").in_("a", ["x", "y"]).execute(), **users(("a", "in.(x,y)"))),
]
"""The operators that it lists."""

SUBSCRIBE = {"type": "subscribe", "channel": "posts"}
UNSUBSCRIBE = {"type": "unsubscribe", "channel": "posts"}

SEED_STEPS: List[SeedStep] = [
    SeedStep(
        "subscribe",
        lambda client, handler: client.channel("posts").on("INSERT", handler).on("UPDATE", handler).subscribe(),
        (SUBSCRIBE,),
    ),
    SeedStep("unsubscribe", lambda client, handler: client.channel("posts").unsubscribe(), (SUBSCRIBE, UNSUBSCRIBE)),
    SeedStep("disconnect", lambda client, handler: client.realtime.disconnect(), (SUBSCRIBE, UNSUBSCRIBE)),
]
"""What it does with channels, in this order."""

EVENT = {"type": "event", "channel": "posts", "payload": {"type": "INSERT", "new": {"id": 1, "title": "Hello"}}}
