"""Any tree of conditions finds the rows that the same condition finds in SQL."""

from __future__ import annotations

from typing import Any, Callable, List, NamedTuple, Tuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfdb.aerodb import filters
from selfdb.aerodb.filters import Condition
from tests import soak
from tests.aerodb.kit import rows
from tests.servers.postgrest import PostgRest

EXAMPLES = soak.amount("SELFDB_AERODB_TREES", here=150, long=5000)

ROLES = st.sampled_from(["admin", "user", "guest", "", "null", "a,b", "(x)", 'q"'])
AGES = st.sampled_from([17, 18, 30, 51, 65, 66, 1000])
NAMES = st.sampled_from(
    ["Alice", "albert", "Bob, Jr.", "(paren)", 'Say "hi"', "back\\slash", "a&b=c+d #é", "50% off", "{}"]
)
TAGS = st.lists(st.sampled_from(["red", "green", "blue", "a,b", 'say "hi"', ""]), max_size=3)
SIGNS = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Both(NamedTuple):
    """A condition as the client has it, and as SQL has it."""

    ours: Condition
    sql: str
    values: Tuple[Any, ...]


def compared(column: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Both]:
    return st.builds(
        lambda name, value: Both(getattr(filters, name)(column, value), f"{column} {SIGNS[name]} %s", (value,)),
        st.sampled_from(list(SIGNS)),
        values,
    )


def listed(column: str, values: st.SearchStrategy[Any], denied: bool) -> st.SearchStrategy[Both]:
    def make(found: List[Any]) -> Both:
        ours = filters.not_(column, "in", found) if denied else filters.in_(column, found)
        parts = ["false", *(f"{column} IS NULL" if value is None else f"{column} = %s" for value in found)]
        # As one list, and null apart from it: what is denied is the whole of it.
        known = tuple(value for value in found if value is not None)
        return Both(ours, f"{'NOT' if denied else ''} ({' OR '.join(parts)})", known)

    return st.builds(make, st.lists(values | st.none(), max_size=4))


def nullity(column: str, values: Any = (None,)) -> st.SearchStrategy[Both]:
    words = {None: "NULL", True: "TRUE", False: "FALSE", "unknown": "UNKNOWN"}
    return st.builds(
        lambda value, denied: Both(
            filters.not_(column, "is", value) if denied else filters.is_(column, value),
            f"{column} IS {'NOT ' if denied else ''}{words[value]}",
            (),
        ),
        st.sampled_from(values),
        st.booleans(),
    )


def of_tags() -> st.SearchStrategy[Both]:
    signs = {"contains": "@>", "contained_by": "<@", "overlaps": "&&"}
    return st.builds(
        lambda name, tags: Both(getattr(filters, name)("tags", tags), f"tags {signs[name]} %s::text[]", (tags,)),
        st.sampled_from(list(signs)),
        TAGS,
    )


def joined(children: st.SearchStrategy[Both]) -> st.SearchStrategy[Both]:
    words = {"and_": ("", " AND "), "or_": ("", " OR "), "not_and": ("NOT ", " AND "), "not_or": ("NOT ", " OR ")}

    def make(name: str, parts: List[Both]) -> Both:
        before, between = words[name]
        values = tuple(value for part in parts for value in part.values)
        return Both(
            getattr(filters, name)(*(part.ours for part in parts)),
            f"{before}({between.join(f'({part.sql})' for part in parts)})",
            values,
        )

    return st.builds(make, st.sampled_from(list(words)), st.lists(children, min_size=1, max_size=3))


LEAVES = st.one_of(
    compared("role", ROLES),
    compared("age", AGES),
    compared("name", NAMES),
    listed("role", ROLES, False),
    listed("role", ROLES, True),
    listed("name", NAMES, False),
    listed("age", AGES, True),
    nullity("role"),
    nullity("active", (None, True, False, "unknown")),
    of_tags(),
)
TREES = st.recursive(LEAVES, joined, max_leaves=8)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=not soak.LONG,
)
@given(conditions=st.lists(TREES, min_size=1, max_size=3))
def test_c040_any_tree_finds_what_sql_finds(
    db: Any, rest: PostgRest, sql: Callable[..., Any], conditions: List[Both]
) -> None:
    query = db.from_("users").select("id").order("id")
    for condition in conditions:
        query = query.and_(condition.ours)
    where = " AND ".join(f"({condition.sql})" for condition in conditions)
    values = [value for condition in conditions for value in condition.values]
    expected = [id for (id,) in sql(f"SELECT id FROM users WHERE {where} ORDER BY id", *values)]
    assert [row["id"] for row in rows(query.execute())] == expected
