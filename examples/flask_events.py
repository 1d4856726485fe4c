"""Streams the changes of a table to browsers, as server-sent events: to visitors who may read it, what they may see.

Set SELFDB_URL and SELFDB_API_KEY, enable realtime on the table, and run it. Each viewer takes one thread."""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from json import dumps

from flask import Flask, Response, abort, request, session

from selfdb import APIConnectionError, AuthenticationError, PermissionDeniedError, RealtimeError, SelfDB, SelfDBError

COLUMNS = ("id", "item", "state")  # a row may hold more than browsers should get
PAGE = """<!doctype html><title>Orders</title><pre></pre><form method="post" action="/login"><input name="email">
<input name="password" type="password"><button>Sign in</button></form><script>
  const source = new EventSource("/events"), pre = document.querySelector("pre")
  source.onopen = source.onmessage = (message) => pre.prepend(message.data ?? "from here on:", "\\n")</script>"""


def stream(viewer: SelfDB, table: str, silence: float) -> Iterator[str]:
    with viewer, suppress(APIConnectionError, AuthenticationError, RealtimeError):  # ends it; the browser asks anew
        viewer.realtime.connect()
        changes = viewer.realtime.channel(f"table:{table}").subscribe().events(silence, maxsize=100, resync=True)
        yield ":\n\n"
        while not changes.ended:
            change = changes.get()  # None after a silence; what is sent then fails if he has gone
            row = (change and (change.new or change.old)) or {}
            yield f"data: {dumps([change.event, *map(row.get, COLUMNS)])}\n\n" if change else ":\n\n"


def create_app(db: SelfDB, table: str = "orders", silence: float = 15.0) -> Flask:
    app, visitors = Flask(__name__), dict[str, SelfDB]()
    app.secret_key = secrets.token_bytes(32)
    app.add_url_rule("/", view_func=lambda: PAGE)
    app.register_error_handler(PermissionDeniedError, lambda error: ("not yours to read", 403))
    app.register_error_handler(SelfDBError, lambda error: ("try again", error.status_code or 503))

    @app.post("/login")
    def log_in() -> tuple[str, int, dict[str, str]]:
        user = db.as_guest()
        user.auth.login(request.form["email"], request.form["password"])
        session["visitor"] = secrets.token_urlsafe()
        visitors[session["visitor"]] = user
        return "", 303, {"Location": "/"}

    @app.get("/events")
    def events() -> Response:
        visitor = visitors.get(session.get("visitor", "")) or abort(401)
        visitor.auth.me()  # renews his session if it is time for that
        lines = stream(db.as_user(visitor.access_token or abort(401)), table, silence)
        next(lines, None)  # connects, and raises what keeps him out
        return Response(lines, mimetype="text/event-stream", headers={"Cache-Control": "no-store"})

    return app


if __name__ == "__main__":
    create_app(SelfDB()).run(threaded=True)
