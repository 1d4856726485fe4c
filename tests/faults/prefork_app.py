"""An application for a pre-forking server: one client for the module, which has made a call before the fork."""

from __future__ import annotations

import os

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from selfdb import SelfDB

app = Flask(__name__)
db = SelfDB()
db.auth.login(os.environ["EMAIL"], os.environ["PASSWORD"])
ME = db.auth.me().id


@app.get("/echo")
def echo() -> ResponseReturnValue:
    word = request.args["word"]
    row = db.tables.data.insert(os.environ["TABLE"], {"word": word})
    return jsonify(word=row["word"], process=os.getpid(), me=db.auth.me().id == ME)
