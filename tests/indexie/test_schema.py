"""Schema strings: what they declare, and what is refused."""

from __future__ import annotations

from typing import Any, Callable, Tuple

import pytest

from selfdb.indexie import InvalidStateError, SchemaError
from selfdb.indexie.schema.schema import differences, merged, read_schema
from selfdb.indexie.schema.specs import IndexSpec, StoreSpec


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param("id, ++n", id="a generated index"),
        pytest.param("*id", id="a multi-entry key"),
        pytest.param("++*id", id="a generated multi-entry key"),
        pytest.param("id,,x", id="an empty part"),
        pytest.param("id, x,", id="a comma too many"),
        pytest.param("id, x, x", id="an index twice"),
        pytest.param("id, x, &x", id="an index twice with different marks"),
        pytest.param("id, id", id="the key as an index"),
        pytest.param("id, [a+b], [a+b]", id="a compound index twice"),
        pytest.param("++[a+b]", id="a generated compound key"),
        pytest.param("id, *[a+b]", id="a multi-entry compound index"),
        pytest.param("id, [a+a]", id="a path twice in a compound index"),
        pytest.param("id, [a+b", id="no closing bracket"),
        pytest.param("id, [a+]", id="an empty path in a compound index"),
        pytest.param("id, []", id="an empty compound index"),
        pytest.param("id, &", id="a mark alone"),
        pytest.param("id, &&x", id="a mark twice"),
        pytest.param("id, a..b", id="an empty step of a path"),
        pytest.param("id, .a", id="an empty first step"),
        pytest.param("id, a*b", id="a mark within a path"),
        pytest.param("id, :id", id="the name of the key"),
        pytest.param("id, a\0", id="NUL"),
        pytest.param("id, \ud800", id="a lone surrogate"),
        pytest.param(5, id="no string"),
    ],
)
def test_c003_what_a_schema_string_must_not_say(make_db: Callable[..., Any], schema: Any) -> None:
    db = make_db(None)
    with pytest.raises(SchemaError) as caught:
        db.version(1).stores({"good": "id", "users": schema})
    assert caught.value.table == "users"
    with pytest.raises(AttributeError):
        db.good


@pytest.mark.parametrize("name", ["", "_ix_meta", "_ixample", "a\0b", "\udc00", 5])
def test_c003_names_that_no_store_may_have(make_db: Callable[..., Any], name: Any) -> None:
    with pytest.raises(SchemaError):
        make_db(None).version(1).stores({name: "id"})


def test_c003_schemas_are_given_by_name(make_db: Callable[..., Any]) -> None:
    with pytest.raises(SchemaError):
        make_db(None).version(1).stores("id")


@pytest.mark.parametrize(
    ("schema", "key"),
    [
        ("++id", (("id",), False, True)),
        ("id", (("id",), False, False)),
        ("&id", (("id",), False, False)),
        ("++", ((), False, True)),
        ("", ((), False, False)),
        ("[a+b]", (("a", "b"), True, False)),
        ("&[a+b]", (("a", "b"), True, False)),
        ("++meta.id", (("meta.id",), False, True)),
    ],
)
def test_primary_keys(schema: str, key: Tuple[Any, ...]) -> None:
    spec = read_schema("s", schema)
    assert (spec.key_paths, spec.compound_key, spec.auto) == key
    assert spec.indexes == ()


def test_indexes_and_white_space() -> None:
    spec = read_schema("s", " ++ id ,\tname,& email ,*tags,\n&*codes, *&more, [last + first], &[a+b.c], address.city ")
    assert spec == StoreSpec(
        "s",
        ("id",),
        False,
        True,
        (
            IndexSpec("name", ("name",)),
            IndexSpec("email", ("email",), unique=True),
            IndexSpec("tags", ("tags",), multi=True),
            IndexSpec("codes", ("codes",), unique=True, multi=True),
            IndexSpec("more", ("more",), unique=True, multi=True),
            IndexSpec("[last+first]", ("last", "first"), compound=True),
            IndexSpec("[a+b.c]", ("a", "b.c"), compound=True, unique=True),
            IndexSpec("address.city", ("address.city",)),
        ),
    )
    assert read_schema("s", str(spec)) == spec


def test_several_versions_come_to_one_schema() -> None:
    one, other = read_schema("a", "id"), read_schema("a", "id, x")
    versions = {3: {"a": other}, 1: {"a": one, "b": read_schema("b", "id")}, 2: {"b": None}}
    assert merged(versions, 1) == versions[1]
    assert merged(versions, 2) == {"a": one, "b": None}
    assert merged(versions, 3) == {"a": other, "b": None}


@pytest.mark.parametrize(
    ("declared", "there"),
    [
        pytest.param("id, a, b", "id, b, a", id="another order"),
        pytest.param("id, a", "id, a", id="the same"),
    ],
)
def test_what_is_the_same_schema(declared: str, there: str) -> None:
    assert not differences({"s": read_schema("s", declared)}, {"s": read_schema("s", there)})


@pytest.mark.parametrize("there", ["++id, a", "key, a", "id", "id, &a", "id, *a", "id, a, b", "[id+a], a"])
def test_what_is_another_schema(there: str) -> None:
    assert differences({"s": read_schema("s", "id, a")}, {"s": read_schema("s", there)})


def test_stores_that_only_the_file_has_are_no_difference() -> None:
    s, more = read_schema("s", "id"), read_schema("more", "id")
    assert not differences({"s": s}, {"s": s, "more": more})
    assert differences({"s": s, "more": None}, {"s": s, "more": more})
    assert differences({"s": s, "more": more}, {"s": s})


def test_repeated_calls_add_up(make_db: Callable[..., Any]) -> None:
    db = make_db(None)
    assert db.version(1).stores({"a": "id"}) is db.version(1)
    db.version(1).stores({"b": "id"}).stores({"a": "id, x"})
    assert [table.name for table in db.tables] == ["a", "b"]
    assert str(db.a.schema) == "id, x"


@pytest.mark.parametrize("number", [0, -1, 1.0, True, "1", None, 2**31])
def test_versions_are_positive_integers(make_db: Callable[..., Any], number: Any) -> None:
    with pytest.raises(ValueError, match="version"):
        make_db(None).version(number)


def test_declarations_come_before_opening(make_db: Callable[..., Any]) -> None:
    db = make_db()
    version = db.version(1)
    db.open()
    for declare in (
        lambda: db.version(2),
        lambda: version.stores({"more": "id"}),
        lambda: version.upgrade(lambda tx: None),
    ):
        with pytest.raises(InvalidStateError):
            declare()
    db.close()
    db.version(2).stores({"more": "id"})
    db.open()
    assert db.verno == 2
