"""What the type checker must accept, and refuse where it is told to ignore: read by a test, never run."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from pydantic import BaseModel

from selfdb import RawResponse, SelfDB
from selfdb.models import TableDataResponse, TableRead, UserRead


class Note(BaseModel):
    title: str


def use(db: SelfDB) -> None:
    answer: RawResponse[UserRead] = db.with_raw_response.auth.me()
    user: UserRead = answer.parse()
    tables: RawResponse[List[TableRead]] = db.with_raw_response.tables.list(limit=5)
    count: int = db.with_raw_response.storage.files.count("b", search="x").parse()
    content: bytes = db.with_raw_response.storage.files.download("b", "a").parse()
    page: TableDataResponse[Note] = db.tables.data.query("t").search("a").as_model(Note).execute()
    first: Optional[Note] = db.tables.data.query("t").as_model(Note).sort("a").first()
    titles: List[str] = [note.title for note in db.tables.data.query("t").as_model(Note)]
    row: Dict[str, Any] = db.tables.data.query("t").execute().data[0]
    db.with_raw_response.auth.me(5)  # type: ignore[call-arg]
    wrong: RawResponse[TableRead] = db.with_raw_response.auth.me()  # type: ignore[assignment]
    db.with_raw_response.tables.list(skip="x")  # type: ignore[arg-type]
    report = db.tables.data.insert_many("t", [{"a": 1}])
    rows: List[Optional[Dict[str, Any]]] = [outcome.result for outcome in report]
    clone: SelfDB = db.with_options(timeout=(1, None), deadline=None).as_user("token")
    print(user, tables, count, content, page, first, titles, row, wrong, rows, clone)
