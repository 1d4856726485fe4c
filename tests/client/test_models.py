"""The models of the specification: their fields and defaults, what they refuse, every spelling that they read."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
import re
from enum import Enum
from typing import Any, Dict, List, Sequence, Tuple, Type

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from selfdb import models
from selfdb.core.encoding import encode_json
from selfdb.exceptions import BadRequestError, InvalidRequestError
from selfdb.models import (
    BucketCreate,
    BucketDeleteResponse,
    BucketResponse,
    BucketUpdate,
    ColumnDefinition,
    ColumnUpdate,
    DeleteResponse,
    FileDataResponse,
    FileDeleteResponse,
    FileResponse,
    FileUploadResponse,
    LogoutResponse,
    RowDeleteResponse,
    StorageStatsResponse,
    SystemStatus,
    TableCreate,
    TableDataResponse,
    TableDeleteResponse,
    TableRead,
    TableUpdate,
    TokenPair,
    UserCreate,
    UserDeleteResponse,
    UserRead,
    UserRole,
    UserUpdate,
)

SECRET = "hunter2-the-secret"
UTC = datetime.timezone.utc
REQUIRED = "(required)"

# The contract's table: every field with its default, in order.
FIELDS: Dict[Type[BaseModel], Dict[str, Any]] = {
    UserCreate: {"email": REQUIRED, "password": REQUIRED, "firstName": REQUIRED, "lastName": REQUIRED, "role": None},
    UserUpdate: dict.fromkeys(("firstName", "lastName", "password", "email", "role", "isActive")),
    UserRead: {
        "id": REQUIRED, "email": REQUIRED, "role": UserRole.USER, "firstName": None, "lastName": None,
        "isActive": True, "created_at": None, "updated_at": None,
    },
    TokenPair: {
        "access_token": REQUIRED, "refresh_token": None, "token_type": "bearer", "expires_in": None, "user": None
    },
    LogoutResponse: {"message": "Logged out"},
    DeleteResponse: {"message": REQUIRED, "deleted_id": REQUIRED},
    UserDeleteResponse: {"message": REQUIRED, "deleted_id": REQUIRED},
    TableDeleteResponse: {"message": REQUIRED, "deleted_id": REQUIRED},
    RowDeleteResponse: {"message": REQUIRED, "deleted_id": REQUIRED},
    BucketDeleteResponse: {"message": REQUIRED, "deleted_id": REQUIRED},
    FileDeleteResponse: {"message": REQUIRED, "deleted_id": REQUIRED},
    TableCreate: {
        "name": REQUIRED, "table_schema": REQUIRED, "public": False, "description": None, "metadata": None
    },
    TableUpdate: dict.fromkeys(("name", "public", "realtime_enabled", "description", "metadata")),
    TableRead: {
        "id": REQUIRED, "name": REQUIRED, "table_schema": {}, "public": False, "realtime_enabled": False,
        "owner_id": None, "description": None, "metadata": None, "row_count": 0, "created_at": None,
        "updated_at": None,
    },
    ColumnDefinition: {
        "name": REQUIRED, "type": REQUIRED, "nullable": True, "default_value": None, "primary_key": False,
        "unique": False,
    },
    ColumnUpdate: dict.fromkeys(("new_name", "type", "nullable", "default_value")),
    TableDataResponse: {"data": REQUIRED, "total": REQUIRED, "page": 1, "page_size": 100},
    BucketCreate: {
        "name": REQUIRED, "public": False, "description": None, "file_size_limit": None, "allowed_mime_types": None
    },
    BucketUpdate: dict.fromkeys(("name", "public", "description", "file_size_limit", "allowed_mime_types")),
    BucketResponse: {
        "id": REQUIRED, "name": REQUIRED, "public": False, "owner_id": None, "description": None,
        "file_size_limit": None, "allowed_mime_types": None, "file_count": 0, "total_size": 0, "created_at": None,
        "updated_at": None,
    },
    FileResponse: {
        "id": REQUIRED, "name": REQUIRED, "bucket_id": None, "bucket_name": None, "path": None, "size": 0,
        "mime_type": None, "owner_id": None, "metadata": None, "created_at": None, "updated_at": None,
    },
    FileUploadResponse: {
        "success": REQUIRED, "bucket": REQUIRED, "path": REQUIRED, "size": REQUIRED, "file_id": REQUIRED,
        "upload_time": None, "url": None, "original_path": None, "message": None,
    },
    FileDataResponse: {"data": REQUIRED, "total": REQUIRED, "page": 1, "page_size": 100},
    StorageStatsResponse: {"total_files": 0, "total_size": 0, "total_buckets": 0},
    SystemStatus: {"initialized": True, "version": None},
}  # fmt: skip

REQUESTS: List[Type[BaseModel]] = [
    UserCreate,
    UserUpdate,
    TableCreate,
    TableUpdate,
    ColumnDefinition,
    ColumnUpdate,
    BucketCreate,
    BucketUpdate,
]
RESPONSES = [model for model in FIELDS if model not in REQUESTS]
SAMPLES: Dict[str, Any] = {
    "data": [], "table_schema": {"a": {"type": "text"}}, "total": 3, "size": 3, "success": True
}  # fmt: skip


def sample(model: Type[BaseModel], **more: Any) -> Dict[str, Any]:
    """The least that makes a ``model``."""
    given_fields = {name: SAMPLES.get(name, name) for name, default in FIELDS[model].items() if default is REQUIRED}
    return {**given_fields, **more}


def of_all(chosen: Sequence[Type[BaseModel]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("model", chosen, ids=lambda model: model.__name__)


# The table


@of_all(list(FIELDS))
def test_fields_and_defaults_are_those_of_the_contract(model: Type[BaseModel]) -> None:
    made = model(**sample(model))
    assert list(model.model_fields) == list(FIELDS[model])
    for name, default in FIELDS[model].items():
        assert getattr(made, name) == (SAMPLES.get(name, name) if default is REQUIRED else default), name
    for name in sample(model):
        lacking = {key: value for key, value in sample(model).items() if key != name}
        with pytest.raises(ValueError, match=name):
            model(**lacking)


def test_every_name_of_the_contract_can_be_imported() -> None:
    assert set(models.__all__) == {model.__name__ for model in FIELDS} | {"RealtimePayload", "UserRole"}
    assert all(hasattr(models, name) for name in models.__all__)


def test_a_default_is_not_shared_between_models() -> None:
    one, two = TableRead(id="1", name="a"), TableRead(id="2", name="b")
    one.table_schema["x"] = {"type": "text"}
    assert two.table_schema == {}


@pytest.mark.parametrize(
    "model, alias",
    [
        (UserDeleteResponse, "user_id"),
        (TableDeleteResponse, "table_id"),
        (RowDeleteResponse, "row_id"),
        (BucketDeleteResponse, "bucket_id"),
        (FileDeleteResponse, "file_id"),
    ],
)
def test_what_was_deleted_goes_by_two_names(model: Type[DeleteResponse], alias: str) -> None:
    made = model(message="gone", deleted_id="7")
    assert isinstance(made, DeleteResponse)
    assert getattr(made, alias) == made.deleted_id == "7"


# Requests: what they refuse


def refused(model: Type[Any], **fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        model(**fields)
    error = caught.value
    assert isinstance(error, BadRequestError)
    assert isinstance(error, ValueError)
    assert str(error).startswith(f"{model.__name__}: ")
    assert SECRET not in str(error)
    assert SECRET not in repr(error.__dict__)
    # pydantic's own error would carry the input along.
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


@pytest.mark.parametrize("missing", ["email", "password", "firstName", "lastName"])
def test_c022_a_user_needs_all_four_fields(missing: str) -> None:
    fields = {name: value for name, value in sample(UserCreate, password=SECRET).items() if name != missing}
    assert str(refused(UserCreate, **fields)) == f"UserCreate: {missing}: Field required"


@pytest.mark.parametrize("model", [UserCreate, UserUpdate])
@pytest.mark.parametrize("name", ["first_name", "last_name", "is_active", "firstname"])
def test_c022_other_spellings_are_refused_on_what_is_sent(model: Type[BaseModel], name: str) -> None:
    error = refused(model, **sample(model), **{name: SECRET})
    assert f"{name}: Extra inputs are not permitted" in str(error)


@of_all(REQUESTS)
def test_unknown_keys_are_refused_on_what_is_sent(model: Type[BaseModel]) -> None:
    assert "passwort: Extra inputs are not permitted" in str(refused(model, **sample(model), passwort=SECRET))


@of_all(REQUESTS)
def test_a_wrong_type_is_refused_by_field_and_never_by_value(model: Type[BaseModel]) -> None:
    for name in model.model_fields:
        if name == "default_value":
            continue  # takes anything
        error = refused(model, **{**sample(model), name: [[SECRET], object()]})
        assert re.match(rf"{model.__name__}: {name}(\.0)?: ", str(error))
        assert error.status_code is None


def test_a_wrong_password_is_not_shown() -> None:
    refused(UserCreate, email="a", password=[SECRET], firstName="a", lastName="b")
    refused(UserUpdate, password=SECRET.encode() + b"\xff")


@pytest.mark.parametrize("role", ["root", "", 5, SECRET, ["ADMIN"]])
@pytest.mark.parametrize("model", [UserCreate, UserUpdate])
def test_an_unknown_role_is_not_sent(model: Type[BaseModel], role: Any) -> None:
    assert str(refused(model, **sample(model), role=role)) == f"{model.__name__}: role: must be USER or ADMIN"


@pytest.mark.parametrize("role", ["admin", "ADMIN", "Admin", UserRole.ADMIN])
def test_a_role_in_any_case_is_sent_in_capitals(role: Any) -> None:
    assert json.loads(encode_json(UserUpdate(role=role).wire())) == {"role": "ADMIN"}
    assert json.loads(encode_json(UserCreate(**sample(UserCreate), role=role).wire()))["role"] == "ADMIN"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"name": {"type": "string"}}},
        {"type": "object"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "properties": {}},
        {"properties": {"name": {"type": "string"}}, "required": ["name"]},
        {"age": "integer"},
        {"age": {"nullable": True}},
        {"age": {"type": None}},
        {"age": {"type": ["integer", "null"]}},
        {"age": None},
    ],
    ids=repr,
)
def test_c037_a_json_schema_document_is_refused(schema: Any) -> None:
    error = refused(TableCreate, name="t", table_schema=schema)
    assert "TableCreate: table_schema: column " in str(error)
    assert "JSON Schema" in str(error)


@pytest.mark.parametrize("schema", [None, [], "text", [("a", {"type": "text"})]])
def test_a_schema_that_is_no_mapping_is_refused(schema: Any) -> None:
    assert "table_schema: Input should be a valid dictionary" in str(
        refused(TableCreate, name="t", table_schema=schema)
    )


def test_c042_realtime_is_no_field_of_an_update() -> None:
    assert TableUpdate(realtime_enabled=True).wire() == {"realtime_enabled": True}
    assert str(refused(TableUpdate, realtime=True)) == "TableUpdate: realtime: Extra inputs are not permitted"
    assert TableRead(id="1", name="t", realtime_enabled=True).realtime is True


def test_pydantics_own_door_shows_no_value_either() -> None:
    for validate, data in (
        (UserCreate.model_validate, {"email": "a", "password": [SECRET]}),
        (UserCreate.model_validate_json, f'{{"email": "a", "password": ["{SECRET}"]}}'),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            validate(data)
        assert "password: Input should be a valid string" in str(caught.value)
        assert SECRET not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
    assert UserUpdate.model_validate({"firstName": "A"}).wire() == {"firstName": "A"}


# Requests: what they send


def test_a_create_sends_every_field_that_has_a_value() -> None:
    assert UserCreate(**sample(UserCreate)).wire() == sample(UserCreate)
    assert UserCreate(**sample(UserCreate), role=None).wire() == sample(UserCreate)
    assert BucketCreate(name="b").wire() == {"name": "b", "public": False}
    assert BucketCreate(name="b", public=True, file_size_limit=0).wire() == {
        "name": "b", "public": True, "file_size_limit": 0
    }  # fmt: skip


def test_c036_a_table_schema_is_sent_as_it_was_given() -> None:
    schema = {
        "name": {"type": "text", "nullable": False},
        "active": {"type": "boolean", "nullable": True, "default": None},
        "type": {"type": "varchar", "length": 5, "more": {"x": None}},
    }
    sent = TableCreate(name="t", table_schema=schema, metadata={"kept": None}).wire()
    assert sent == {"name": "t", "table_schema": schema, "public": False, "metadata": {"kept": None}}


def test_a_column_sends_its_flags_only_when_they_are_set() -> None:
    assert ColumnDefinition(name="a", type="text").wire() == {"name": "a", "type": "text", "nullable": True}
    assert ColumnDefinition(name="a", type="text", unique=True, primary_key=True, nullable=False).wire() == {
        "name": "a", "type": "text", "nullable": False, "primary_key": True, "unique": True
    }  # fmt: skip


@pytest.mark.parametrize("value", [0, False, "", [], {"a": None}, "x"])
def test_a_default_may_be_spelt_in_two_ways(value: Any) -> None:
    for spelling in ("default_value", "default"):
        column = ColumnDefinition(name="a", type="text", **{spelling: value})
        assert column.default_value == value
        assert column.wire()["default_value"] == value
        assert "default" not in column.wire()
    refused(ColumnDefinition, name="a", type="text", default=SECRET, default_value=SECRET)


def test_c051_an_explicit_none_drops_the_default_and_an_unset_one_is_not_sent() -> None:
    assert ColumnUpdate(default_value=None).wire() == {"default_value": None}
    assert encode_json(ColumnUpdate(default_value=None).wire()) == b'{"default_value":null}'
    assert ColumnUpdate(new_name="b").wire() == {"new_name": "b"}
    assert ColumnUpdate().wire() == {}


@of_all([UserUpdate, TableUpdate, ColumnUpdate, BucketUpdate])
def test_an_update_sends_exactly_what_was_set(model: Type[Any]) -> None:
    assert model().wire() == {}
    for name in model.model_fields:
        assert model(**{name: None}).wire() == {name: None}
        changed = model()
        setattr(changed, name, None)
        assert changed.wire() == {name: None}, "set later is set as well"


def test_a_payload_may_be_the_model_or_a_dict() -> None:
    made = UserUpdate(firstName="Ada")
    assert UserUpdate.of(made) is made
    assert UserUpdate.of({"firstName": "Ada"}) == made
    assert UserUpdate.of({}).wire() == {}
    with pytest.raises(InvalidRequestError, match="UserUpdate: first_name: Extra"):
        UserUpdate.of({"first_name": SECRET})
    with pytest.raises(InvalidRequestError, match="5: Extra inputs"):
        UserUpdate.of({5: SECRET})


@pytest.mark.parametrize("payload", [None, 5, "text", [("firstName", "Ada")], UserCreate, BucketUpdate(name="b")])
def test_another_payload_is_refused(payload: Any) -> None:
    with pytest.raises(InvalidRequestError, match=f"expected a UserUpdate or a dict, not {type(payload).__name__}$"):
        UserUpdate.of(payload)


# Responses: what they read


@of_all(RESPONSES)
def test_c098_unknown_keys_are_ignored_on_what_comes_back(model: Type[BaseModel]) -> None:
    content = {**sample(model), "new_in_version_9": {"x": 1}, "model_config": 1, "__class__": "x"}
    assert model.model_validate_json(json.dumps(content)) == model(**sample(model))
    assert not hasattr(model.model_validate(content), "new_in_version_9")


def test_c035_every_spelling_of_a_user_is_read() -> None:
    common = {"id": "1", "email": "ada@example.com", "role": "ADMIN"}
    moment = "2024-02-29T12:30:00Z"
    camel = {**common, "firstName": "Ada", "lastName": "B", "isActive": False, "createdAt": moment, "updatedAt": moment}
    snake = {
        **common, "first_name": "Ada", "last_name": "B", "is_active": False, "created_at": moment,
        "updated_at": moment, "last_login_at": moment,
    }  # fmt: skip
    mixed = {
        **common,
        "firstName": "Ada",
        "lastName": "B",
        "isActive": False,
        "created_at": moment,
        "updated_at": moment,
    }
    users = [UserRead.model_validate_json(json.dumps(content)) for content in (camel, snake, mixed)]
    assert users[0] == users[1] == users[2]
    assert users[0].isActive is False
    assert users[0].created_at == datetime.datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
    assert users[0] == UserRead(
        id="1", email="ada@example.com", role=UserRole.ADMIN, firstName="Ada", lastName="B", isActive=False,
        created_at=users[0].created_at, updated_at=users[0].created_at,
    )  # fmt: skip


@pytest.mark.parametrize(
    "role, read",
    [
        ("USER", UserRole.USER),
        ("ADMIN", UserRole.ADMIN),
        ("admin", UserRole.ADMIN),
        ("Admin", UserRole.ADMIN),
        ("owner", UserRole.USER),
        ("", UserRole.USER),
        (None, UserRole.USER),
        (7, UserRole.USER),
    ],
)
def test_a_role_in_any_case_is_read_and_an_unknown_one_grants_nothing(role: Any, read: UserRole) -> None:
    content = {"id": "1", "email": "e", "role": role}
    assert UserRead.model_validate_json(json.dumps(content)).role is read
    assert UserRead.model_validate(content).role is read


def test_roles_are_texts_in_capitals() -> None:
    assert [role.value for role in UserRole] == ["USER", "ADMIN"]
    assert UserRole.ADMIN == "ADMIN"
    assert issubclass(UserRole, Enum)


@pytest.mark.parametrize(
    "text, moment",
    [
        ("2024-02-29T01:02:03Z", (2024, 2, 29, 1, 2, 3, 0)),
        ("2024-02-29t01:02:03z", (2024, 2, 29, 1, 2, 3, 0)),
        ("2024-02-29 01:02:03+00:00", (2024, 2, 29, 1, 2, 3, 0)),
        ("2024-02-29T01:02:03", (2024, 2, 29, 1, 2, 3, 0)),
        ("2024-02-29T01:02:03.5", (2024, 2, 29, 1, 2, 3, 500_000)),
        ("2024-02-29T06:32:03+05:30", (2024, 2, 29, 1, 2, 3, 0)),
        ("2024-02-28T20:02:03-0500", (2024, 2, 29, 1, 2, 3, 0)),
        ("2024-02-29T01:02:03.1Z", (2024, 2, 29, 1, 2, 3, 100_000)),
        ("2024-02-29T01:02:03.12Z", (2024, 2, 29, 1, 2, 3, 120_000)),
        ("2024-02-29T01:02:03.123Z", (2024, 2, 29, 1, 2, 3, 123_000)),
        ("2024-02-29T01:02:03.1234Z", (2024, 2, 29, 1, 2, 3, 123_400)),
        ("2024-02-29T01:02:03.12345Z", (2024, 2, 29, 1, 2, 3, 123_450)),
        ("2024-02-29T01:02:03.123456Z", (2024, 2, 29, 1, 2, 3, 123_456)),
        ("2024-02-29T01:02:03.1234567Z", (2024, 2, 29, 1, 2, 3, 123_456)),
        ("2024-02-29T01:02:03.12345678+00:00", (2024, 2, 29, 1, 2, 3, 123_456)),
        ("2024-02-29T01:02:03.123456789", (2024, 2, 29, 1, 2, 3, 123_456)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", [UserRead, TableRead, BucketResponse, FileResponse])
def test_timestamps_are_aware_whatever_their_form(model: Type[Any], text: str, moment: Tuple[int, ...]) -> None:
    made = model.model_validate_json(json.dumps({**sample(model), "created_at": text, "updated_at": None}))
    assert made.created_at.utcoffset() is not None
    year, month, day, hour, minute, second, micro = moment
    assert made.created_at == datetime.datetime(year, month, day, hour, minute, second, micro, tzinfo=UTC)
    assert made.updated_at is None


@settings(max_examples=60, deadline=None)
@given(st.datetimes(min_value=datetime.datetime(1900, 1, 1)), st.booleans())
def test_a_timestamp_is_read_as_it_was_written(moment: datetime.datetime, aware: bool) -> None:
    moment = moment.replace(tzinfo=UTC) if aware else moment
    read = UserRead.model_validate_json(json.dumps({"id": "1", "email": "e", "created_at": moment.isoformat()}))
    assert read.created_at == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["yesterday", "2024-02-30T00:00:00Z", "", {}])
def test_what_is_no_timestamp(text: Any) -> None:
    with pytest.raises(ValidationError):
        UserRead(id="1", email="e", created_at=text)


FLAT = {"name": {"type": "text", "nullable": False}, "age": {"type": "integer", "nullable": True, "default": 5}}
LISTED = [{"name": name, **column} for name, column in FLAT.items()]


@pytest.mark.parametrize(
    "stated",
    [
        {"table_schema": FLAT},
        {"schema": FLAT},
        {"schema": {"columns": LISTED, "indexes": []}},
        {"table_schema": {"columns": LISTED}},
        {"columns": LISTED},
        {"columns": FLAT},
        {"table_schema": None, "schema": None, "columns": LISTED},
        {"table_schema": FLAT, "schema": {}, "columns": []},
        {"table_schema": FLAT, "schema_name": "public", "columns": [{"name": "id", "type": "uuid"}]},
    ],
    ids=lambda stated: ",".join(stated),
)
def test_c056_columns_are_read_however_they_are_stated(stated: Dict[str, Any]) -> None:
    content = {"id": "1", "name": "t", **stated}
    for table in (TableRead.model_validate(content), TableRead.model_validate_json(json.dumps(content))):
        assert table.table_schema == FLAT
        assert table.columns == LISTED
        assert TableRead(**table.model_dump()) == table


@pytest.mark.parametrize("stated", [{}, {"table_schema": None}, {"schema": 5, "columns": "x"}, {"columns": [5, {}]}])
def test_a_table_without_columns(stated: Dict[str, Any]) -> None:
    assert TableRead.model_validate({"id": "1", "name": "t", **stated}).table_schema == {}


def test_what_is_no_table() -> None:
    wrong: List[Any] = [[], 5, None, "t"]
    for content in wrong:
        with pytest.raises(ValidationError):
            TableRead.model_validate(content)
        with pytest.raises(ValidationError):
            TableDataResponse.model_validate(content)


@pytest.mark.parametrize("name", ["realtime_enabled", "realtime"])
def test_realtime_is_read_in_both_spellings(name: str) -> None:
    table = TableRead.model_validate({"id": "1", "name": "t", name: True})
    assert table.realtime_enabled is table.realtime is True


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"a": 1}], "total": 30, "page": 2, "page_size": 10},
        {"data": [{"a": 1}], "total": 30, "page": 2, "pageSize": 10},
        {"data": [{"a": 1}], "metadata": {"total_count": 30, "page": 2, "page_size": 10, "columns": []}},
        {"data": [{"a": 1}], "total": 30, "page": 2, "page_size": 10, "metadata": {"total_count": 99}},
    ],
)  # fmt: skip
def test_c077_a_page_is_filled_from_either_form(content: Dict[str, Any]) -> None:
    for page in (
        TableDataResponse.model_validate(content),
        TableDataResponse[Dict[str, Any]].model_validate_json(json.dumps(content)),
    ):
        assert (page.data, page.total, page.page, page.page_size) == ([{"a": 1}], 30, 2, 10)
    files = {**content, "data": []}
    if "total" in files:
        assert FileDataResponse.model_validate(files).page_size == 10


def test_rows_of_a_page_may_have_a_model() -> None:
    page = TableDataResponse[BucketUpdate].model_validate({"data": [{"name": "b"}], "total": 1})
    assert page.data == [BucketUpdate(name="b")]


@pytest.mark.parametrize("name", ["total_buckets", "buckets_count"])
def test_c090_stats_are_read_in_both_spellings(name: str) -> None:
    assert StorageStatsResponse.model_validate({"total_files": 1, "total_size": 2, name: 3}).total_buckets == 3


def test_c016_a_login_without_refresh_token() -> None:
    pair = TokenPair.model_validate_json('{"access_token": "a", "token_type": "Bearer"}')
    assert (pair.access_token, pair.refresh_token, pair.token_type) == ("a", None, "Bearer")


# Secrets, copies


@pytest.mark.parametrize(
    "made",
    [
        UserCreate(**sample(UserCreate, password=SECRET)),
        UserUpdate(password=SECRET, firstName="Ada"),
        TokenPair(access_token=SECRET, refresh_token=SECRET, user={"token": SECRET}),
    ],
    ids=lambda made: type(made).__name__,
)
def test_c019_passwords_and_tokens_are_not_shown(made: Any) -> None:
    for shown in (repr(made), str(made), f"{made}", f"{[made]}", repr(copy.copy(made))):
        assert SECRET not in shown
        assert "password" not in shown
        assert "access_token" not in shown
    assert SECRET in json.dumps(made.model_dump(mode="json")), "it is there all the same"


@of_all(list(FIELDS))
def test_models_can_be_pickled_and_copied(model: Type[BaseModel]) -> None:
    made = model(**sample(model))
    for copied in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), copy.copy(made)):
        assert copied == made
        assert type(copied) is type(made)
        assert copied.model_fields_set == made.model_fields_set
        assert copied is not made


def test_a_copied_update_still_knows_what_was_set() -> None:
    made = ColumnUpdate(default_value=None)
    assert pickle.loads(pickle.dumps(made)).wire() == copy.deepcopy(made).wire() == {"default_value": None}


@pytest.mark.parametrize("row", [{"a": 1}, UserRead(id="1", email="e")], ids=["dict", "model"])
def test_a_page_of_rows_can_be_pickled(row: Any) -> None:
    for kind in (TableDataResponse, TableDataResponse[Dict[str, Any]], TableDataResponse[UserRead]):
        page = kind.model_construct(data=[row], total=1, page=1, page_size=100)
        copied = pickle.loads(pickle.dumps(page))
        assert (copied.data, copied.total, copied.page, copied.page_size) == ([row], 1, 1, 100)
        assert copied == page
