"""A web application with one client for the whole program, and the visitor's own user in each request.

Set SELFDB_URL and SELFDB_API_KEY and run it. A visitor posts email and password to /login; after that /notes/NAME
shows, and takes, the rows of the table NAME (it has a column text) as far as the server lets him.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, abort, request, session

from selfdb import InvalidRequestError, SelfDB, SelfDBError

TOKENS: dict[str, tuple[str | None, str | None]] = {}  # stay here; a cookie holds a random name for them


def create_app(db: SelfDB) -> Flask:
    app = Flask(__name__)
    app.secret_key = secrets.token_bytes(32)

    @contextmanager
    def visitor() -> Iterator[SelfDB]:
        access, refresh = TOKENS.get(session.get("visitor", ""), (None, None))
        user = db.as_user(access or abort(401), refresh)
        try:
            yield user
        finally:
            if user.access_token != access:  # the session was renewed, or has ended
                TOKENS[session["visitor"]] = user.access_token, user.refresh_token

    @app.post("/login")
    def log_in() -> dict[str, str]:
        user = db.as_guest()  # not db itself: that would sign in everybody
        user.auth.login(request.form["email"], request.form["password"])
        session["visitor"] = secrets.token_urlsafe()
        TOKENS[session["visitor"]] = user.access_token, user.refresh_token
        return {"hello": user.auth.me().email}

    @app.route("/notes/<name>", methods=["GET", "POST"])
    def notes(name: str) -> dict[str, object]:
        with visitor() as user:
            table = user.tables.get_by_name(name)
            if request.method == "POST":
                user.tables.data.insert(table.id, {"text": request.form["text"]})
            return {"visitor": user.auth.me().email, "notes": list(user.tables.data.query(table.id))}

    @app.errorhandler(SelfDBError)
    def failed(error: SelfDBError) -> tuple[dict[str, str], int]:
        status = error.status_code or (400 if isinstance(error, InvalidRequestError) else 503)
        return {"error": error.message if status < 500 else "try again later"}, status

    return app


if __name__ == "__main__":
    create_app(SelfDB()).run(threaded=True)
