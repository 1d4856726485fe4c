"""Tables and columns, as the client sees them on the embedded server."""

from __future__ import annotations

import uuid
from typing import Any, Callable, Dict, List, Type

import pytest

from selfdb import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    SelfDB,
    SelfDBError,
    UnprocessableEntityError,
)
from selfdb.models import ColumnDefinition, ColumnUpdate, TableCreate, TableUpdate
from tests.client.conftest import NOTES, Recorded
from tests.support import unique

NewTable = Callable[..., Any]

FLAT = {
    "name": {"type": "text", "nullable": False},
    "age": {"type": "integer", "nullable": True},
    "active": {"type": "boolean", "nullable": True, "default": True},
}


def test_c036_the_flat_schema_comes_back(admin: SelfDB) -> None:
    answer = admin.with_raw_response.tables.create(TableCreate(name=unique("t"), table_schema=FLAT))
    assert answer.status_code == 201
    table = answer.parse()
    assert table.table_schema == FLAT
    assert admin.tables.get(table.id) == table
    assert [column["name"] for column in table.columns] == ["name", "age", "active"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"name": {"type": "string"}}},
        {"name": "text"},
        {"name": {}},
        {"name": {"type": ["text", "null"]}},
        ["name"],
        None,
    ],
)
def test_c037_a_json_schema_document(recorded: Recorded, schema: Any) -> None:
    with pytest.raises(InvalidRequestError, match="table_schema"):
        recorded.db.tables.create({"name": "t", "table_schema": schema})
    with pytest.raises(ValueError, match="table_schema"):
        TableCreate(name="t", table_schema=schema)
    assert recorded.lines == []


@pytest.mark.parametrize(
    "fields",
    [
        {"table_schema": {"price": {"type": "money"}}},
        {"table_schema": {}},
        {"name": "1abc"},
        {"name": "Abc"},
        {"name": "a" * 64},
    ],
)
def test_c038_what_is_refused(admin: SelfDB, fields: Dict[str, Any]) -> None:
    with pytest.raises(UnprocessableEntityError) as caught:
        admin.tables.create({"name": unique("t"), "table_schema": FLAT, **fields})
    assert caught.value.errors


def test_c038_the_longest_name(admin: SelfDB) -> None:
    name = unique("t").ljust(63, "x")
    assert admin.tables.create({"name": name, "table_schema": FLAT}).name == name


def test_c039_a_table_called_users(fresh: SelfDB) -> None:
    table = fresh.tables.create({"name": "users", "table_schema": {"name": {"type": "text"}}})
    fresh.tables.data.insert(table.id, {"name": "nobody"})
    assert fresh.tables.data.query(table.id).count() == 1
    assert [user.email for user in fresh.auth.users.list()] == ["admin@example.com"]
    fresh.tables.delete(table.id)
    assert fresh.auth.me().email == "admin@example.com"


def test_c040_a_name_that_is_taken(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "kept"}])
    with pytest.raises(ConflictError, match="Table name already exists"):
        admin.tables.create({"name": table.name, "table_schema": FLAT})
    assert admin.tables.get(table.id).table_schema == table.table_schema
    assert admin.tables.data.query(table.id).first()["title"] == "kept"


def test_c041_nobody_creates_a_table(anonymous: SelfDB) -> None:
    with pytest.raises(AuthenticationError):
        anonymous.tables.create({"name": unique("t"), "table_schema": FLAT})


def test_c042_only_what_is_set_is_sent(recorded: Recorded) -> None:
    recorded.will({"id": "t", "name": "n", "realtime_enabled": True})
    table = recorded.db.tables.update("t", TableUpdate(realtime_enabled=True))
    assert recorded.last.json == {"realtime_enabled": True}
    assert table.realtime_enabled
    assert table.realtime


def test_c042_the_reply_shows_it(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin)
    assert not table.realtime_enabled
    assert admin.tables.update(table.id, {"realtime_enabled": True}).realtime_enabled
    assert admin.tables.get(table.id).realtime_enabled


@pytest.mark.parametrize("form", ["model", "dict"])
def test_c042_realtime_is_no_field(recorded: Recorded, form: str) -> None:
    with pytest.raises(InvalidRequestError, match="realtime"):
        if form == "model":
            TableUpdate(realtime=True)  # type: ignore[call-arg]
        else:
            recorded.db.tables.update("t", {"realtime": True})
    assert recorded.lines == []


def test_c043_rename(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "one"}])
    renamed = admin.tables.update(table.id, TableUpdate(name=unique("t")))
    assert admin.tables.get(table.id).name == renamed.name != table.name
    assert [row["title"] for row in admin.tables.data.query(table.id)] == ["one"]
    again = admin.tables.create({"name": table.name, "table_schema": FLAT})
    assert admin.tables.data.query(again.id).count() == 0


def test_c044_a_private_table(
    user: SelfDB, admin: SelfDB, anonymous: SelfDB, someone: Callable[[], SelfDB], new_table: NewTable
) -> None:
    table = new_table(user)
    stranger = someone()
    with pytest.raises(AuthenticationError):
        anonymous.tables.get(table.id)
    with pytest.raises(PermissionDeniedError):
        stranger.tables.get(table.id)
    for db in (user, admin):
        assert db.tables.get(table.id).id == table.id
    for db in (anonymous, stranger):
        assert table.id not in [found.id for found in db.tables.iter(search=table.name)]
        assert db.tables.count(search=table.name) == 0
        with pytest.raises(NotFoundError):
            db.tables.get_by_name(table.name)
    assert user.tables.count(search=table.name) == 1


def test_c045_stable_pages(admin: SelfDB, new_table: NewTable) -> None:
    mark = unique("m")
    names = [f"{mark}_{number}" for number in range(7)]
    for name in names:
        new_table(admin, name=name)
    up: List[str] = []
    for skip in (0, 3, 6):
        page = admin.tables.list(skip=skip, limit=3, search=mark, sort_by="name", sort_order="asc")
        up += [table.name for table in page]
    assert up == names
    down = admin.tables.list(search=mark, sort_by="name", sort_order="DESC")
    assert [table.name for table in down] == names[::-1]
    assert [table.name for table in admin.tables.iter(search=mark, page_size=2)] == names
    assert admin.tables.count(search=mark) == 7


def test_c046_delete(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "gone"}])
    answer = admin.with_raw_response.tables.delete(table.id)
    assert (answer.status_code, answer.parse().table_id) == (204, table.id)
    with pytest.raises(NotFoundError, match="Table not found"):
        admin.tables.get(table.id)
    again = new_table(admin, name=table.name)
    assert admin.tables.data.fetch(again.id).total == 0


@pytest.mark.parametrize("spelling", ["default_value", "default"])
def test_c047_a_default_reaches_old_rows(admin: SelfDB, new_table: NewTable, spelling: str) -> None:
    table = new_table(admin, rows=[{"title": "old"}])
    column: Dict[str, Any] = {"name": "state", "type": "varchar", spelling: "open"}
    after = admin.tables.columns.add(table.id, ColumnDefinition(**column))
    assert after.table_schema["state"]["default"] == "open"
    assert after.id == table.id
    assert admin.tables.data.query(table.id).first()["state"] == "open"


def test_c048_a_column_twice(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin)
    with pytest.raises(ConflictError):
        admin.tables.columns.add(table.id, {"name": "title", "type": "text"})


def test_c048_a_type_that_is_none(admin: SelfDB, new_table: NewTable) -> None:
    with pytest.raises(UnprocessableEntityError):
        admin.tables.columns.add(new_table(admin).id, {"name": "price", "type": "money"})


def test_c048_not_null_without_a_default(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "old"}])
    with pytest.raises(BadRequestError) as caught:
        admin.tables.columns.add(table.id, {"name": "state", "type": "text", "nullable": False})
    assert caught.value.status_code == 400
    assert "state" not in admin.tables.get(table.id).table_schema


def test_c048_a_unique_column(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "a"}, {"title": "b"}])
    after = admin.tables.columns.add(table.id, ColumnDefinition(name="code", type="text", unique=True))
    assert after.table_schema["code"]["unique"] is True
    assert "unique" not in after.table_schema["title"]
    admin.tables.data.insert(table.id, {"title": "c", "code": "x"})
    with pytest.raises(ConflictError, match='"code"'):
        admin.tables.data.insert(table.id, {"title": "d", "code": "x"})
    assert admin.tables.data.fetch(table.id).total == 3
    twins = ColumnDefinition(name="state", type="text", default_value="open", unique=True)
    with pytest.raises(ConflictError, match='"state"'):
        admin.tables.columns.add(table.id, twins)
    assert "state" not in admin.tables.get(table.id).table_schema


def test_c048_a_second_primary_key(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin)
    with pytest.raises(BadRequestError, match="already has a primary key") as caught:
        admin.tables.columns.add(table.id, ColumnDefinition(name="key", type="uuid", primary_key=True))
    assert caught.value.status_code == 400
    assert admin.tables.get(table.id) == table


def test_c049_a_column_is_renamed(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "kept", "amount": 5}])
    after = admin.tables.columns.update(table.id, "title", ColumnUpdate(new_name="headline"))
    assert set(after.table_schema) == {"headline", "amount"}
    assert admin.tables.data.query(table.id).first()["headline"] == "kept"
    with pytest.raises(ConflictError):
        admin.tables.columns.update(table.id, "headline", {"new_name": "amount"})


def test_c050_another_type(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "abc", "amount": 5}])
    admin.tables.columns.update(table.id, "amount", ColumnUpdate(type="text"))
    assert admin.tables.data.query(table.id).first()["amount"] == "5"
    with pytest.raises(BadRequestError) as caught:
        admin.tables.columns.update(table.id, "title", ColumnUpdate(type="integer"))
    assert caught.value.status_code == 400
    assert admin.tables.get(table.id).table_schema["title"]["type"] == "text"
    assert admin.tables.data.query(table.id).first()["title"] == "abc"


def test_c051_none_is_sent_and_drops_the_default(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, {"state": {"type": "text", "default": "open"}, "title": {"type": "text"}})
    after = admin.tables.columns.update(table.id, "state", ColumnUpdate(default_value=None))
    assert after.table_schema["state"].get("default") is None
    assert admin.tables.data.insert(table.id, {"title": "x"})["state"] is None


@pytest.mark.parametrize(
    "change, sent",
    [
        (ColumnUpdate(default_value=None), {"default_value": None}),
        (ColumnUpdate(nullable=False), {"nullable": False}),
        (ColumnUpdate(type="text", default_value=0), {"type": "text", "default_value": 0}),
        ({"new_name": "b"}, {"new_name": "b"}),
    ],
)
def test_c051_exactly_what_is_set_is_sent(recorded: Recorded, change: Any, sent: Dict[str, Any]) -> None:
    recorded.will({"id": "t", "name": "n"})
    recorded.db.tables.columns.update("t", "a", change)
    assert recorded.last.json == sent


def test_c052_a_column_is_removed(admin: SelfDB, new_table: NewTable) -> None:
    table = new_table(admin, rows=[{"title": "kept", "amount": 5}])
    after = admin.tables.columns.remove(table.id, "amount")
    assert set(after.table_schema) == {"title"}
    assert "amount" not in admin.tables.data.query(table.id).first()


@pytest.mark.parametrize("name, error, status", [("nothing", NotFoundError, 404), ("id", BadRequestError, 400)])
def test_c052_what_cannot_be_removed(
    admin: SelfDB, new_table: NewTable, name: str, error: Type[SelfDBError], status: int
) -> None:
    with pytest.raises(error) as caught:
        admin.tables.columns.remove(new_table(admin).id, name)
    assert caught.value.status_code == status


@pytest.mark.parametrize("name", ["select", "MixedCase", "order"])
def test_c053_names_that_sql_minds(admin: SelfDB, new_table: NewTable, name: str) -> None:
    table = new_table(admin, {name: {"type": "text"}, "n": {"type": "integer"}})
    rows = [admin.tables.data.insert(table.id, {name: word, "n": 1}) for word in ("banana", "apple", "cherry")]
    changed = admin.tables.data.update_row(table.id, rows[0]["id"], {name: "blueberry"})
    assert changed[name] == "blueberry"
    query = admin.tables.data.query(table.id)
    assert [row[name] for row in query.sort(name, "asc")] == ["apple", "blueberry", "cherry"]
    assert [row[name] for row in query.search("CHERR")] == ["cherry"]
    assert admin.tables.data.update_row(table.id, "apple", {"n": 2}, id_column=name)["n"] == 2
    admin.tables.data.delete_row(table.id, "apple", id_column=name)
    assert query.count() == 2


# Beyond the specification


def test_get_by_name_finds_the_very_one(admin: SelfDB, new_table: NewTable) -> None:
    stem = unique("t")
    new_table(admin, name=f"{stem}_archive")
    wanted = new_table(admin, name=stem)
    assert admin.tables.get_by_name(stem).id == wanted.id
    with pytest.raises(NotFoundError, match=f"{stem}_other"):
        admin.tables.get_by_name(f"{stem}_other")


@pytest.mark.parametrize("name", ["", "x" * 101, "a\0b", None, 5])
def test_get_by_name_checks_the_name(recorded: Recorded, name: Any) -> None:
    with pytest.raises(InvalidRequestError):
        recorded.db.tables.get_by_name(name)
    assert recorded.lines == []


@pytest.mark.parametrize("kind", [str, uuid.UUID])
def test_ids_of_every_kind(admin: SelfDB, new_table: NewTable, kind: Callable[[str], Any]) -> None:
    table = new_table(admin)
    assert admin.tables.get(kind(table.id)) == table
    row = admin.tables.data.insert(kind(table.id), {"title": "x"})
    assert admin.tables.data.update_row(kind(table.id), kind(row["id"]), {"title": "y"})["title"] == "y"
    assert admin.tables.data.delete_row(kind(table.id), kind(row["id"])).row_id == row["id"]


def test_description_and_metadata(admin: SelfDB) -> None:
    payload = TableCreate(name=unique("t"), table_schema=dict(NOTES), description="d", metadata={"a": [1]})
    table = admin.tables.create(payload)
    assert (table.description, table.metadata) == ("d", {"a": [1]})
    cleared = admin.tables.update(table.id, TableUpdate(description=None))
    assert (cleared.description, cleared.metadata) == (None, {"a": [1]})
