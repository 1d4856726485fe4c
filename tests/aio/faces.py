"""One object of every class that has a face, both ways, made without a server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Dict, List

import selfdb.aio
import selfdb.aio.aerodb
import selfdb.aio.indexie
from selfdb.core.asynchronous import Bridge
from selfdb.core.clock import SYSTEM_CLOCK
from selfdb.core.download import Download
from selfdb.core.marks import mark_of
from selfdb.core.namespace import reading
from selfdb.core.paging import Walk
from selfdb.indexie.schema.schema import Schema
from selfdb.indexie.schema.upgrade import UpgradeTransaction, Upgrading
from selfdb.indexie.transaction import Transaction
from selfdb.realtime.follow import Follower

HOMES: Dict[str, str] = {
    name: home
    for module in (selfdb.aio, selfdb.aio.aerodb, selfdb.aio.indexie)
    for name, home in vars(module)["HOMES"].items()
}


def faces() -> Dict[str, Any]:
    """The face of one object of each class, by the name of the class. None of them was used."""
    db = selfdb.aio.SelfDB("http://127.0.0.1:9", "key", max_retries=0)
    channel, query, raw = db.realtime.channel("table:notes"), db.tables.data.query("notes"), db.with_raw_response
    stream: Any = channel.events()
    blocking_query: Any = query
    made = [
        *(db, db.auth, db.auth.users, db.tables, db.tables.columns, db.tables.data, query, query.__aiter__()),
        *(db.storage, db.storage.buckets, db.storage.files, db.realtime, channel, stream),
        *(raw, raw.auth, raw.auth.users, raw.tables, raw.tables.columns, raw.tables.data),
        *(raw.storage, raw.storage.buckets, raw.storage.files),
        Bridge().face(Walk(lambda pages, items: ((), False))),
        Bridge().face(Follower(stream._blocking, blocking_query._blocking, "id", "notes")),
        Bridge().face(_download()),
        *_of_aerodb(),
        *_of_indexie(),
    ]
    return {type(face).__name__: face for face in made}


def _of_aerodb() -> List[Any]:
    client: Any = selfdb.aio.aerodb.AeroDBClient("http://127.0.0.1:9", "key")
    query = client.from_("notes")
    return [
        *(client, client.auth, client.storage, client.storage.from_("notes"), client.functions, client.health),
        *(client.realtime, client.channel("notes"), query, query.pages(), query.stream()),
        Bridge().face(client._blocking._db),
    ]


def _of_indexie() -> List[Any]:
    db: Any = selfdb.aio.indexie.Indexie(":memory:")
    version = db.version(1).stores({"notes": "++id, title"})
    rows = db.notes.to_collection()
    query = selfdb.aio.indexie.use_live_query(lambda: None)
    blocking = db._blocking
    nothing: Any = None
    upgrade = UpgradeTransaction(Upgrading(blocking, nothing, Schema.of(1, {})))
    return [
        *(db, version, db.notes, db.notes.where("title"), rows, rows.__aiter__(), db.notes.hook, db.outbox),
        *(db.notes.start_transaction(), query, query.__aiter__()),
        *(Bridge().face(Transaction(blocking, "r", ["notes"])), Bridge().face(upgrade)),
    ]


def _download() -> Download:
    answer = SimpleNamespace(status_code=200, headers={"Content-Length": "0"}, close=lambda: None)
    transport: Any = SimpleNamespace(
        options=SimpleNamespace(stream_deadline=None),
        pool=SimpleNamespace(clock=SYSTEM_CLOCK),
        open=lambda request, deadline: answer,
    )
    return Download(transport, reading("/"))


def public(thing: Any) -> Dict[str, Any]:
    """The public attributes of an object, by name."""
    return {name: getattr(thing, name) for name in dir(thing) if not name.startswith("_")}


def is_inner(method: Any) -> bool:
    """Whether a method is for the package alone."""
    mark = mark_of(getattr(method, "__func__", method))
    return mark is not None and mark.kind == "inner"
