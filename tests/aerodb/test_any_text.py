"""Any text finds exactly the rows that hold it, by whichever filter it is looked for, on PostgREST itself."""

from __future__ import annotations

from typing import Any, Callable, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfdb.aerodb import filters
from tests import soak
from tests.aerodb.kit import rows
from tests.servers.postgrest import PostgRest

EXAMPLES = soak.amount("SELFDB_AERODB_TEXTS", here=40, long=2000)

# Half of it from what PostgREST, PostgreSQL's arrays, LIKE, JSON and addresses have a meaning for.
AWKWARD = st.sampled_from([*",.:()\"\\{}'%_+&=?#/;|<>!-~ \t\n\r\v\x1c\x85\xa0\u2028*", "null", "NULL", "eq", "and", ""])
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.lists(AWKWARD | CHARACTERS, max_size=12).map("".join)

WAYS = {
    "eq": lambda query, text: query.eq("text", text),
    "in_": lambda query, text: query.in_("text", [text]),
    "in_ with another": lambda query, text: query.in_("text", [text, "another", None]),
    "or_ of eq": lambda query, text: query.or_(filters.eq("text", text), filters.eq("text", "another")),
    "or_ of in_": lambda query, text: query.or_(filters.in_("text", ["another", text])),
    "and_ in or_": lambda query, text: query.or_(filters.and_(filters.eq("text", text), filters.gt("id", 0))),
    "contains": lambda query, text: query.contains("tags", [text]),
    "overlaps": lambda query, text: query.overlaps("tags", ["another", text]),
    "or_ of contains": lambda query, text: query.or_(filters.contains("tags", [text]), "id.eq.0"),
    "match": lambda query, text: query.match({"text": text}),
    "like": lambda query, text: query.like("text", filters.escape_like(text)),
    "or_ of like": lambda query, text: query.or_(filters.like("text", filters.escape_like(text)), "id.eq.0"),
}


def with_all(sql: Callable[..., Any], texts: List[str]) -> None:
    sql("SELECT reset()")
    sql("INSERT INTO notes (text, tags) SELECT t, ARRAY[t] FROM unnest(%s::text[]) t", texts)


@pytest.mark.parametrize("way", WAYS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=not soak.LONG,
)
@given(text=TEXTS, others=st.lists(TEXTS, max_size=3))
def test_a3_any_text_finds_the_rows_that_hold_it(
    db: Any, rest: PostgRest, sql: Callable[..., Any], way: str, text: str, others: List[str]
) -> None:
    if "like" in way and "*" in text:
        with pytest.raises(ValueError, match="star"):
            filters.escape_like(text)
        return
    # Its neighbours too: what differs by a quote, a blank, an escape or its case must not be found.
    near = [
        f" {text}",
        f"{text} ",
        f'"{text}"',
        f"\\{text}",
        text.replace("\\", ""),
        text.swapcase(),
        f"{{{text}}}",
        text[:-1],
    ]
    with_all(sql, [text, *others, *near])
    expected = sorted(id for (id,) in sql("SELECT id FROM notes WHERE text = %s", text))
    assert expected
    found = rows(WAYS[way](db.from_("notes").select("id, text"), text).order("id").execute())
    assert [row["id"] for row in found] == expected
    assert {row["text"] for row in found} == {text}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=not soak.LONG,
)
@given(texts=st.lists(TEXTS, max_size=6))
def test_a3_a_list_of_any_texts(db: Any, rest: PostgRest, sql: Callable[..., Any], texts: List[str]) -> None:
    with_all(sql, [*texts, "another", ""])
    expected = sorted(id for (id,) in sql("SELECT id FROM notes WHERE text = ANY (%s::text[])", texts))
    found = rows(db.from_("notes").select("id").in_("text", texts).order("id").execute())
    assert [row["id"] for row in found] == expected
    rest_of = rows(db.from_("notes").select("id").not_("text", "in", texts).order("id").execute())
    assert len(rest_of) + len(found) == len(texts) + 2


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=not soak.LONG,
)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_a3_an_array_of_any_texts(db: Any, rest: PostgRest, sql: Callable[..., Any], texts: List[str]) -> None:
    sql("SELECT reset()")
    sql("INSERT INTO notes (text, tags) VALUES ('all', %s), ('few', %s), ('none', '{}')", texts, texts[1:])
    for step, sign in (("contains", "@>"), ("contained_by", "<@"), ("overlaps", "&&")):
        expected = [text for (text,) in sql(f"SELECT text FROM notes WHERE tags {sign} %s::text[] ORDER BY id", texts)]
        found = rows(getattr(db.from_("notes").select("text"), step)("tags", texts).order("id").execute())
        assert [row["text"] for row in found] == expected


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=not soak.LONG,
)
@given(text=TEXTS, tags=st.lists(TEXTS, max_size=3))
def test_a3_any_text_is_written_as_it_is(
    db: Any, rest: PostgRest, sql: Callable[..., Any], text: str, tags: List[str]
) -> None:
    (row,) = rows(db.from_("notes").insert({"text": text, "tags": tags}))
    assert (row["text"], row["tags"]) == (text, tags)
    assert sql("SELECT text, tags FROM notes WHERE id = %s", row["id"]) == [(text, tags)]
    (row,) = rows(db.from_("notes").eq("text", text).eq("id", row["id"]).update({"text": text + "."}))
    assert row["text"] == text + "."


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a\udfff"])
@pytest.mark.parametrize("way", WAYS)
def test_a3_what_cannot_be_stored_is_refused(db: Any, rest: PostgRest, way: str, text: str) -> None:
    error = WAYS[way](db.from_("notes").select("*"), text).execute().error
    assert error.code == "VALIDATION_ERROR"
    assert rest.requests == []
    assert "\0" not in error.message
