"""The steps of a query as functions: they never raise, whatever they are given, and know the agreed names."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any, Callable, Dict, Iterator, NoReturn

import pytest

from selfdb.aerodb import AeroDBClient, filters
from selfdb.aerodb.database import QueryBuilder
from tests.aerodb.kit import refused
from tests.servers.aerodb.server import AeroServer

SECRET = "what-nobody-may-see"


class OddZone(tzinfo):
    def utcoffset(self, when: Any) -> NoReturn:
        raise RuntimeError(SECRET)

    dst = tzname = utcoffset


class OddText(str):
    def encode(self, *_: Any) -> NoReturn:
        raise RuntimeError(SECRET)


class OddMapping(Dict[str, Any]):
    def keys(self) -> NoReturn:
        raise RuntimeError(SECRET)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError(SECRET)


class OddNumber(int):
    def __le__(self, other: Any) -> NoReturn:
        raise RuntimeError(SECRET)

    __lt__ = __gt__ = __ge__ = __le__


ZONE, TEXT, MAPPING = datetime(2024, 1, 1, tzinfo=OddZone()), OddText("é"), OddMapping(a=1)

Step = Callable[[Any], Any]
ODD: Dict[str, Step] = {
    **{
        f"{name} of a {kind}": lambda query, name=name, value=value: getattr(query, name)("c", value)
        for name in ("eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "contains", "contained_by", "overlaps")
        for kind, value in (("time", ZONE), ("text", TEXT), ("mapping", MAPPING))
    },
    "in_": lambda query: query.in_("c", [ZONE]),
    "not_": lambda query: query.not_("c", "eq", ZONE),
    "filter": lambda query: query.filter("c", "eq", ZONE),
    "match": lambda query: query.match(MAPPING),
    "match of a value": lambda query: query.match({"c": ZONE}),
    "or_": lambda query: query.or_(filters.eq("c", ZONE)),
    "and_ within or_": lambda query: query.or_(filters.and_(filters.in_("c", [TEXT]))),
    "column": lambda query: query.eq(TEXT, 1),
    "order": lambda query: query.order(TEXT),
    "on": lambda query: query.limit(1, on=TEXT),
    "limit": lambda query: query.limit(OddNumber(1)),
    "offset": lambda query: query.offset(OddNumber(1)),
    "range": lambda query: query.range(0, OddNumber(1)),
}


@pytest.mark.parametrize("name", ODD)
def test_a_value_that_fails_by_itself_is_a_validation_error(aero: AeroServer, client: AeroDBClient, name: str) -> None:
    error = refused(ODD[name](client.from_("items")).eq("id", 1).execute())
    assert (error.code, error.status) == ("VALIDATION_ERROR", None)
    assert SECRET not in error.message
    assert aero.requests == []


def test_so_is_a_name_of_a_table_that_does(aero: AeroServer, client: AeroDBClient) -> None:
    assert refused(client.from_(TEXT).execute()).code == "VALIDATION_ERROR"
    assert aero.requests == []


BY_NAME: Dict[str, Step] = {
    "select": lambda query: query.select(columns="id", count="exact", head=False),
    "not_": lambda query: query.not_(column="id", op="eq", value=1),
    "filter": lambda query: query.filter(column="id", op="eq", value="1"),
    "order": lambda query: query.order(column="id", ascending=False, nulls_first=True, on=None),
    "limit": lambda query: query.limit(n=1, on=None),
    "offset": lambda query: query.offset(n=1),
    "range": lambda query: query.range(start=0, end=1),
    **{
        name: lambda query, name=name: getattr(query, name)(column="id", value=None)
        for name in ("eq", "neq", "is_")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BY_NAME)
def test_arguments_go_by_their_names(client: AeroDBClient, name: str) -> None:
    query = client.from_(table="items")
    made = BY_NAME[name](query)
    assert type(made) is QueryBuilder
    assert made._query != query._query
    assert made._query.refused is None
