"""Rows, as the client sees them on the embedded server."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Callable, Dict, List, Optional, Type

import pytest
from pydantic import BaseModel, Field

from selfdb import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    SelfDB,
    SelfDBError,
)
from tests.client.conftest import Recorded

NewTable = Callable[..., Any]

EIGHT = {
    "a_text": {"type": "text"},
    "a_varchar": {"type": "varchar"},
    "an_integer": {"type": "integer"},
    "a_bigint": {"type": "bigint"},
    "a_boolean": {"type": "boolean"},
    "a_timestamp": {"type": "timestamp"},
    "a_jsonb": {"type": "jsonb"},
    "a_uuid": {"type": "uuid"},
}
AN_ID = uuid.UUID("0b5f7a52-0000-4000-8000-00000000000a")
A_MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))


def test_c057_the_eight_types(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, EIGHT)
    row = {
        "a_text": "tëxt",
        "a_varchar": "v",
        "an_integer": -(2**31),
        "a_bigint": 2**63 - 1,
        "a_boolean": False,
        "a_timestamp": A_MOMENT,
        "a_jsonb": {"list": [1, 2.5, None, "x", True], "empty": {}},
        "a_uuid": AN_ID,
    }
    stored = admin.tables.data.insert(table.id, row)
    read = admin.tables.data.query(table.id).first()
    assert read == stored
    wanted = {**row, "a_uuid": str(AN_ID), "a_timestamp": "2026-01-02T01:04:05.678901+00:00"}
    assert {name: read[name] for name in EIGHT} == wanted
    assert [type(read[name]) for name in ("an_integer", "a_boolean")] == [int, bool]


def test_c057_nulls(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, EIGHT)
    admin.tables.data.insert(table.id, dict.fromkeys(EIGHT))
    read = admin.tables.data.query(table.id).first()
    assert {name: read[name] for name in EIGHT} == dict.fromkeys(EIGHT)


def test_c058_a_declared_id_is_generated(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, {"id": {"type": "uuid", "nullable": False}, "title": {"type": "text"}})
    row = admin.tables.data.insert(table.id, {"title": "x"})
    assert uuid.UUID(row["id"]).version == 4
    assert admin.tables.data.insert(table.id, {"id": AN_ID, "title": "y"})["id"] == str(AN_ID)


def test_c059_columns_of_the_system(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin)
    rows = [admin.tables.data.insert(table.id, {"title": title}) for title in ("one", "two", "three")]
    assert all(row["id"] and row["created_at"] for row in rows)
    assert admin.tables.data.update_row(table.id, rows[1]["id"], {"title": "TWO"})["title"] == "TWO"
    newest = admin.tables.data.query(table.id).sort("created_at", "desc").execute()
    assert [row["title"] for row in newest.data] == ["three", "TWO", "one"]
    assert set(admin.tables.get(table.id).table_schema) == {"title", "amount"}


STRICT = {"name": {"type": "text", "nullable": False}, "n": {"type": "integer"}}


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"name": "a", "colour": "red"},
        {"n": 1},
        {"name": None},
        {"name": "a", "n": "x"},
        {"name": "a", "n": True},
        {"name": "a", "n": 2**31},
        {"name": "a", "n": 1.5},
        {"name": 5},
    ],
)
def test_c060_rows_that_do_not_fit(admin: SelfDB, new_table: NewTable, row: Dict[str, Any]) -> None:
    table = new_table(admin, STRICT)
    with pytest.raises(BadRequestError) as caught:
        admin.tables.data.insert(table.id, row)
    assert caught.value.status_code == 400
    assert admin.tables.get(table.id).row_count == 0


def test_c060_a_number_in_a_text(admin: SelfDB, new_table: NewTable) -> None:
    assert admin.tables.data.insert(new_table(admin, STRICT).id, {"name": "a", "n": "5"})["n"] == 5


TEXTS = ['it\'s "quoted"', "x'; drop table users;--", "🎉 emoji", "100% _", "a\nb\r\n\tc", "\\", "", " ", "\u2028"]


@pytest.mark.parametrize("text", TEXTS)
def test_c061_text_stays_as_it_is(admin: SelfDB, new_table: NewTable, text: str) -> None:
    table = new_table(admin)
    row = admin.tables.data.insert(table.id, {"title": text})
    assert row["title"] == text
    assert (
        admin.tables.data.update_row(table.id, text, {"amount": 1}, id_column="title")["id"] == row["id"]
        if text
        else True
    )
    assert admin.tables.data.query(table.id).first()["title"] == text


def test_c061_nul_is_refused(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin)
    with pytest.raises(BadRequestError) as caught:
        admin.tables.data.insert(table.id, {"title": "a\0b"})
    assert caught.value.status_code == 400


def test_c062_a_table_with_columns_status_and_data(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, {"status": {"type": "text"}, "data": {"type": "jsonb"}})
    row = admin.tables.data.insert(table.id, {"status": "row_inserted", "data": {"a": 1}})
    assert (row["status"], row["data"]) == ("row_inserted", {"a": 1})
    changed = admin.tables.data.update_row(table.id, row["id"], {"status": "row_updated"})
    assert (changed["status"], changed["data"]) == ("row_updated", {"a": 1})


def test_c063_who_may_write_a_public_table(
    user: SelfDB, someone: Callable[[], SelfDB], admin: SelfDB, anonymous: SelfDB, new_table: NewTable
) -> None:
    table = new_table(user, public=True)
    stranger = someone()
    rows = [db.tables.data.insert(table.id, {"title": "x"}) for db in (user, stranger, anonymous)]
    refusals: Dict[SelfDB, Type[SelfDBError]] = {anonymous: AuthenticationError, stranger: PermissionDeniedError}
    for db, error in refusals.items():
        with pytest.raises(error):
            db.tables.data.update_row(table.id, rows[0]["id"], {"title": "y"})
        with pytest.raises(error):
            db.tables.data.delete_row(table.id, rows[1]["id"])
    assert anonymous.tables.data.query(table.id).count() == 3
    assert user.tables.data.update_row(table.id, rows[1]["id"], {"title": "y"})["title"] == "y"
    admin.tables.data.delete_row(table.id, rows[2]["id"])
    assert [row["title"] for row in user.tables.data.fetch(table.id).data] == ["x", "y"]


def test_c064_another_column_names_the_row(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "a", "amount": 1}, {"title": "b", "amount": 2}])
    assert admin.tables.data.update_row(table.id, 2, {"title": "B"}, id_column="amount")["title"] == "B"
    assert [row["title"] for row in admin.tables.data.fetch(table.id).data] == ["a", "B"]


@pytest.mark.parametrize(
    "row_id, updates, id_column, error, status",
    [
        (1, {"title": "x"}, "colour", BadRequestError, 400),
        (9, {"title": "x"}, "amount", NotFoundError, 404),
        (1, {}, "amount", BadRequestError, 400),
        ("x", {"title": "x"}, "amount", BadRequestError, 400),
        (1, {"colour": "red"}, "amount", BadRequestError, 400),
    ],
)
def test_c064_what_is_refused(
    admin: SelfDB,
    new_table: NewTable,
    row_id: Any,
    updates: Dict[str, Any],
    id_column: str,
    error: Type[SelfDBError],
    status: int,
) -> None:
    table = new_table(admin, rows=[{"title": "a", "amount": 1}])
    with pytest.raises(error) as caught:
        admin.tables.data.update_row(table.id, row_id, updates, id_column=id_column)
    assert caught.value.status_code == status
    assert admin.tables.data.query(table.id).first()["title"] == "a"


@pytest.mark.parametrize("call", ["update_row", "delete_row"])
def test_c064_several_rows_where_one_is_meant(admin: SelfDB, new_table: NewTable, call: str) -> None:
    table = new_table(admin, rows=[{"title": "a", "amount": 1}] * 2)
    arguments: List[Any] = [table.id, "a"] + ([{"amount": 2}] if call == "update_row" else [])
    with pytest.raises(ConflictError):
        getattr(admin.tables.data, call)(*arguments, id_column="title")
    assert [row["amount"] for row in admin.tables.data.fetch(table.id).data] == [1, 1]


def test_c065_a_row_is_deleted(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "a"}, {"title": "b"}])
    row = admin.tables.data.query(table.id).first()
    answer = admin.with_raw_response.tables.data.delete_row(table.id, row["id"])
    assert (answer.status_code, answer.parse().row_id, answer.parse().deleted_id) == (204, row["id"], row["id"])
    with pytest.raises(NotFoundError, match="Row not found"):
        admin.tables.data.delete_row(table.id, row["id"])
    assert admin.tables.get(table.id).row_count == 1


IDS = ["a/b c?#", "100%", "%2F", "ü", "a+b", "a&b=c", "..a", "a;b", "'\"", "a\\b", " lead", "//"]


@pytest.mark.parametrize("row_id", IDS)
def test_c066_an_id_of_any_characters(admin: SelfDB, new_table: NewTable, row_id: str) -> None:
    table = new_table(admin, {"id": {"type": "text"}, "n": {"type": "integer"}})
    admin.tables.data.insert(table.id, {"id": row_id, "n": 1})
    admin.tables.data.insert(table.id, {"id": "other", "n": 1})
    assert admin.tables.data.update_row(table.id, row_id, {"n": 2})["id"] == row_id
    assert admin.tables.data.delete_row(table.id, row_id).row_id == row_id
    assert [row["id"] for row in admin.tables.data.fetch(table.id).data] == ["other"]


def test_c066_on_the_wire(recorded: Recorded) -> None:
    recorded.will({"id": "x"})
    recorded.db.tables.data.update_row("t", "a/b c?#", {"n": 1})
    assert recorded.lines == ["PATCH /tables/t/data/a%2Fb%20c%3F%23?id_column=id"]


NAMELESS: Dict[str, Callable[[SelfDB, Any], Any]] = {
    "users.get": lambda db, bad: db.auth.users.get(bad),
    "users.update": lambda db, bad: db.auth.users.update(bad, {}),
    "users.delete": lambda db, bad: db.auth.users.delete(bad),
    "tables.get": lambda db, bad: db.tables.get(bad),
    "tables.update": lambda db, bad: db.tables.update(bad, {}),
    "tables.delete": lambda db, bad: db.tables.delete(bad),
    "columns.add": lambda db, bad: db.tables.columns.add(bad, {"name": "a", "type": "text"}),
    "columns.update": lambda db, bad: db.tables.columns.update(bad, "a", {}),
    "columns.update name": lambda db, bad: db.tables.columns.update("t", bad, {}),
    "columns.remove": lambda db, bad: db.tables.columns.remove(bad, "a"),
    "columns.remove name": lambda db, bad: db.tables.columns.remove("t", bad),
    "data.fetch": lambda db, bad: db.tables.data.fetch(bad),
    "data.insert": lambda db, bad: db.tables.data.insert(bad, {"a": 1}),
    "data.update_row": lambda db, bad: db.tables.data.update_row("t", bad, {"a": 1}),
    "data.delete_row": lambda db, bad: db.tables.data.delete_row("t", bad),
    "data.insert_many": lambda db, bad: db.tables.data.insert_many(bad, [{"a": 1}]),
    "data.delete_many": lambda db, bad: db.tables.data.delete_many(bad, ["a"]),
    "buckets.get": lambda db, bad: db.storage.buckets.get(bad),
    "buckets.update": lambda db, bad: db.storage.buckets.update(bad, {}),
    "buckets.delete": lambda db, bad: db.storage.buckets.delete(bad),
    "files.upload": lambda db, bad: db.storage.files.upload(bad, "a", b""),
    "files.count": lambda db, bad: db.storage.files.count(bad),
    "files.list": lambda db, bad: db.storage.files.list(bucket_id=bad),
    "files.get": lambda db, bad: db.storage.files.get(bad),
    "files.update_metadata": lambda db, bad: db.storage.files.update_metadata(bad, {}),
    "files.delete": lambda db, bad: db.storage.files.delete(bad),
    "files.download": lambda db, bad: db.storage.files.download(bad, "a"),
}


@pytest.mark.parametrize("call", NAMELESS)
def test_c067_an_id_that_is_none(recorded: Recorded, call: str) -> None:
    for bad in ("", ".", "..", True, 1.5, b"x", ["x"], "\ud800"):
        with pytest.raises(InvalidRequestError):
            NAMELESS[call](recorded.db, bad)
    assert recorded.lines == []


@pytest.mark.parametrize("column", ["colour", "id; drop table x", "id desc"])
def test_c073_sorting_by_what_is_no_column(admin: SelfDB, new_table: NewTable, column: str) -> None:
    table = new_table(admin)
    with pytest.raises(BadRequestError) as caught:
        admin.tables.data.query(table.id).sort(column).execute()
    assert caught.value.status_code == 400
    assert column in caught.value.message
    assert "title" in caught.value.message


@pytest.mark.parametrize("term, found", [("50%", ["50% off"]), ("a_b", ["a_b"]), ("OFF", ["50% off", "50 off"])])
def test_c074_search_is_literal(admin: SelfDB, new_table: NewTable, term: str, found: List[str]) -> None:
    table = new_table(admin, rows=[{"title": title} for title in ("50% off", "50 off", "a_b", "axb")])
    assert [row["title"] for row in admin.tables.data.query(table.id).search(term).execute().data] == found


def test_c074_nothing_to_search_in(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, {"n": {"type": "integer"}}, rows=[{"n": 1}, {"n": 2}])
    assert admin.tables.data.query(table.id).search("x").count() == 2


def test_c075_beyond_the_end(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": title} for title in ("a", "ab", "b")])
    page = admin.tables.data.query(table.id).page(9).execute()
    assert (page.data, page.total, page.page) == ([], 3, 9)
    assert admin.tables.data.query(table.id).search("a").execute().total == 2
    assert admin.tables.data.query(table.id).search("a").count() == 2


@pytest.mark.parametrize("order, wanted", [("asc", [1, 2, None, None]), ("desc", [None, None, 2, 1])])
def test_c076_nulls(admin: SelfDB, new_table: NewTable, order: str, wanted: List[Optional[int]]) -> None:
    table = new_table(admin, rows=[{"title": "x", "amount": amount} for amount in (None, 2, None, 1)])
    query = admin.tables.data.query(table.id).sort("amount", order)
    assert [row["amount"] for row in query.execute().data] == wanted
    assert [row["amount"] for row in query.page_size(1)] == wanted


# Values and rows of every kind


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Pair:
    title: str
    amount: Optional[int]


class Note(BaseModel):
    title: str
    amount: Optional[int] = None
    id: Optional[str] = None


class Aliased(BaseModel):
    heading: str = Field(alias="title")
    amount: Optional[int] = None


@pytest.mark.parametrize(
    "value, sent",
    [
        (AN_ID, str(AN_ID)),
        (date(2026, 1, 2), "2026-01-02"),
        (A_MOMENT, "2026-01-02T03:04:05.678901+02:00"),
        (Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Pair("a", None), {"title": "a", "amount": None}),
        (Note(title="a"), {"title": "a", "amount": None, "id": None}),
        ({"nested": [AN_ID]}, {"nested": [str(AN_ID)]}),
    ],
)
def test_values_that_are_sent(recorded: Recorded, value: Any, sent: Any) -> None:
    recorded.will({"id": 1})
    recorded.db.tables.data.insert("t", {"a": value})
    assert recorded.last.json == {"a": sent}


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), datetime(2026, 1, 2), b"bytes", object(), Decimal("NaN"), {1, 2}, "\ud800"]
)
def test_values_that_are_not(recorded: Recorded, value: Any) -> None:
    with pytest.raises(InvalidRequestError):
        recorded.db.tables.data.insert("t", {"a": value})
    with pytest.raises(InvalidRequestError):
        recorded.db.tables.data.update_row("t", 1, {"a": [value]})
    assert recorded.lines == []


@pytest.mark.parametrize(
    "row, sent",
    [
        ({"title": "a"}, {"title": "a"}),
        (Pair("a", None), {"title": "a", "amount": None}),
        (Note(title="a"), {"title": "a"}),
        (Note(title="a", amount=None), {"title": "a", "amount": None}),
        (Aliased(title="a"), {"title": "a"}),
    ],
)
def test_rows_of_every_kind(recorded: Recorded, row: Any, sent: Dict[str, Any]) -> None:
    recorded.will({"id": 1}, {"id": 1})
    recorded.db.tables.data.insert("t", row)
    assert recorded.last.json == sent
    recorded.db.tables.data.update_row("t", 1, row)
    assert recorded.last.json == sent


@pytest.mark.parametrize("row", [None, "row", 5, [("a", 1)], {1: "a"}, Pair, Note])
def test_what_is_no_row(recorded: Recorded, row: Any) -> None:
    with pytest.raises(InvalidRequestError):
        recorded.db.tables.data.insert("t", row)
    assert recorded.lines == []


def test_a_model_goes_in_and_comes_out(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin)
    admin.tables.data.insert(table.id, Note(title="a", amount=5))
    (note,) = admin.tables.data.query(table.id).as_model(Note)
    assert (note.title, note.amount) == ("a", 5)
    note.amount = 6
    assert note.id is not None
    changed = admin.tables.data.update_row(table.id, note.id, Note(**{**note.model_dump(), "amount": 6}))
    assert changed["amount"] == 6
