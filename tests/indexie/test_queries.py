"""Choosing rows: clauses, unions, filters, order, cuts, and what the ends of a collection give."""

from __future__ import annotations

import threading
from typing import Any, Callable, List

import pytest

from selfdb.indexie import (
    MAX_KEY,
    MIN_KEY,
    DataError,
    InvalidArgumentError,
    ModifyError,
    SchemaError,
)


@pytest.fixture
def ages(db: Any) -> Any:
    """Rows whose id is 1.., with the ages 5, 18, 20, 29, 30, 40."""
    db.users.bulk_add([{"age": age, "name": f"n{age}"} for age in (5, 18, 20, 29, 30, 40)])
    return db.users


def of(rows: List[Any], name: str = "age") -> List[Any]:
    return [row.get(name) for row in rows]


# Clauses


@pytest.mark.parametrize("named", ["nick", "", "first", "[first+last]", "address", "tag", ["age", "name"], ["first"]])
def test_c049_a_path_without_an_index_is_refused_at_the_call(db: Any, named: Any) -> None:
    with pytest.raises(SchemaError) as caught:
        db.users.where(named)
    assert caught.value.table == "users"
    with pytest.raises(SchemaError):
        db.users.order_by(named)
    with pytest.raises(SchemaError):
        db.users.where("age").equals(1).or_(named)


@pytest.mark.parametrize("named", [5, None, [], [5], b"age"])
def test_c049_what_is_no_path_is_refused(db: Any, named: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        db.users.where(named)


@pytest.mark.parametrize("named", [":id", "id", ["id"]])
def test_c049_the_key_is_an_index(ages: Any, named: Any) -> None:
    assert of(ages.where(named).below(3).to_array()) == [5, 18]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((18, 30), [18, 20, 29]),
        ((18, 30, False, True), [20, 29, 30]),
        ((18, 30, True, True), [18, 20, 29, 30]),
        ((18, 30, False, False), [20, 29]),
        ((30, 18), []),
        ((5, 5), []),
        ((5, 5, True, True), [5]),
        ((5, 5, False, True), []),
        ((MIN_KEY, 20), [5, 18]),
        ((29, MAX_KEY), [29, 30, 40]),
        ((MIN_KEY, MAX_KEY), [5, 18, 20, 29, 30, 40]),
        ((MAX_KEY, MIN_KEY), []),
        ((17.5, 29.5), [18, 20, 29]),
        ((29, "a"), [29, 30, 40]),
    ],
)
def test_c050_between(ages: Any, arguments: Any, expected: Any) -> None:
    assert of(ages.where("age").between(*arguments).to_array()) == expected


@pytest.mark.parametrize(
    "clause, expected",
    [
        (lambda where: where.equals(20), [20]),
        (lambda where: where.equals(20.0), [20]),
        (lambda where: where.above(29), [30, 40]),
        (lambda where: where.above_or_equal(29), [29, 30, 40]),
        (lambda where: where.below(18), [5]),
        (lambda where: where.below_or_equal(18), [5, 18]),
        (lambda where: where.above(MIN_KEY), [5, 18, 20, 29, 30, 40]),
        (lambda where: where.below(MAX_KEY), [5, 18, 20, 29, 30, 40]),
        (lambda where: where.above(MAX_KEY), []),
        (lambda where: where.equals("20"), []),
    ],
)
def test_c050_the_other_bounds(ages: Any, clause: Any, expected: Any) -> None:
    found = clause(ages.where("age"))
    assert of(found.to_array()) == expected
    assert found.count() == len(expected)
    assert of(found.reverse().to_array()) == expected[::-1]


@pytest.mark.parametrize("value", [None, float("nan"), {}, {"a": 1}, [None], 2**64, object()])
@pytest.mark.parametrize("clause", ["equals", "not_equal", "above", "below_or_equal", "any_of", "none_of"])
def test_what_is_no_key_is_refused_at_the_call(db: Any, clause: str, value: Any) -> None:
    with pytest.raises((DataError, InvalidArgumentError)):
        getattr(db.users.where("age"), clause)([value] if clause.endswith("_of") else value)


MIXED = [1, 2.5, "", "a", "ab", "b", b"a", [1], "a\U0010ffff", "a\U0010ffffz", "a\ud7ff", "a\uffff"]


@pytest.fixture
def mixed(db: Any) -> Any:
    db.users.bulk_add([{"name": name} for name in MIXED])
    return db.users


def test_c051_an_empty_prefix_is_every_string(mixed: Any) -> None:
    found = of(mixed.where("name").starts_with("").to_array(), "name")
    assert found == sorted(name for name in MIXED if isinstance(name, str))


@pytest.mark.parametrize("prefix", ["a", "a\U0010ffff", "a\ud7ff", "ab", "a\uffff", "zz", "a\U0010ffffz"])
def test_c051_the_bound_holds_for_any_character(mixed: Any, prefix: str) -> None:
    wanted = sorted(name for name in MIXED if isinstance(name, str) and name.startswith(prefix))
    assert of(mixed.where("name").starts_with(prefix).to_array(), "name") == wanted


def test_c051_several_prefixes(mixed: Any) -> None:
    found = mixed.where("name").starts_with_any_of("ab", "b", "a\U0010ffff")
    assert of(found.to_array(), "name") == ["ab", "a\U0010ffff", "a\U0010ffffz", "b"]
    assert of(mixed.where("name").starts_with_any_of(["a", "ab"]).to_array(), "name")[0] == "a"
    assert mixed.where("name").starts_with_any_of().to_array() == []


@pytest.mark.parametrize("prefix", [5, None, b"a", ["a"]])
def test_c051_a_prefix_is_a_string(mixed: Any, prefix: Any) -> None:
    with pytest.raises(DataError):
        mixed.where("name").starts_with(prefix)


def test_c052_any_of_collapses_doubles_and_sorts(ages: Any) -> None:
    assert of(ages.where("age").any_of([30, 5, 30, 77]).to_array()) == [5, 30]
    assert of(ages.where("age").any_of(30, 5).reverse().to_array()) == [30, 5]
    assert of(ages.where(":id").any_of(3, 1, 3).to_array()) == [5, 20]


@pytest.mark.parametrize("none", [[], (), set(), iter(())])
def test_c052_any_of_nothing_is_nothing(ages: Any, none: Any) -> None:
    found = ages.where("age").any_of(none)
    assert (found.to_array(), found.count(), found.first(), found.keys()) == ([], 0, None, [])
    assert ages.where("age").any_of().to_array() == []


def test_c052_five_thousand_values(db: Any) -> None:
    db.users.bulk_add([{"age": n, "email": f"{n:05}"} for n in range(6000)])
    wanted = list(range(0, 10000, 2))
    assert of(db.users.where("age").any_of(wanted).to_array()) == [n for n in wanted if n < 6000]
    assert db.users.where("age").any_of(wanted).count() == 3000
    found = db.users.where("age").any_of(wanted).reverse().offset(300).limit(700)
    assert of(found.to_array()) == [n for n in wanted if n < 6000][::-1][300:1000]
    assert db.users.where("age").none_of(range(1, 6000)).primary_keys() == [1]
    assert len(db.users.where("email").any_of([f"{n:05}" for n in wanted]).primary_keys()) == 3000


def test_c053_none_of_and_not_equal(mixed: Any) -> None:
    mixed.add({"age": 1})  # without a name: in no range of it
    others = [name for name in [1, 2.5, *sorted(n for n in MIXED if isinstance(n, str)), b"a", [1]] if name != "a"]
    assert mixed.where("name").not_equal("a").keys() == others
    assert mixed.where("name").none_of(["a"]).keys() == others
    assert mixed.where("name").none_of([]).count() == len(MIXED)
    assert mixed.where("name").none_of("a", "ab", 1).count() == len(MIXED) - 3
    assert mixed.where("name").none_of("zz").count() == len(MIXED)


# Leading parts of a compound index

PEOPLE = [("D", "A"), ("D", "B"), ("Da", "A"), ("E", "A"), (5, "A"), (["D"], "A"), ("C", "Z")]


@pytest.fixture
def people(db: Any) -> Any:
    db.users.bulk_add([{"last": last, "first": first} for last, first in PEOPLE])
    db.users.add({"last": "D"})
    return db.users


@pytest.mark.parametrize(
    "clause, expected",
    [
        (lambda where: where.equals("D"), [1, 2]),
        (lambda where: where.above("D"), [3, 4, 6]),
        (lambda where: where.above_or_equal("D"), [1, 2, 3, 4, 6]),
        (lambda where: where.below("D"), [5, 7]),
        (lambda where: where.below_or_equal("D"), [5, 7, 1, 2]),
        (lambda where: where.between("D", "E"), [1, 2, 3]),
        (lambda where: where.between("D", "E", False, True), [3, 4]),
        (lambda where: where.starts_with("D"), [1, 2, 3]),
        (lambda where: where.starts_with(""), [7, 1, 2, 3, 4]),
        (lambda where: where.any_of("E", "D", 5), [5, 1, 2, 4]),
        (lambda where: where.not_equal("D"), [5, 7, 3, 4, 6]),
        (lambda where: where.none_of("D", "E"), [5, 7, 3, 6]),
        (lambda where: where.equals(["D"]), [6]),
        (lambda where: where.above(MAX_KEY), []),
    ],
)
def test_c028_the_leading_part_of_a_compound_index(people: Any, clause: Any, expected: Any) -> None:
    assert clause(people.where("last")).primary_keys() == expected


def test_c028_its_keys_are_those_parts(people: Any) -> None:
    assert people.where("last").equals("D").keys() == ["D", "D"]
    assert people.where(["last", "first"]).above(["D", "A"]).keys() == [
        ["D", "B"],
        ["Da", "A"],
        ["E", "A"],
        [["D"], "A"],
    ]
    assert people.where("[last+first]").equals(["D", "B"]).primary_keys() == [2]


def test_two_leading_parts_of_three(make_db: Callable[..., Any]) -> None:
    db = make_db({"t": "[x+y], [a+b+c]"}).open()
    rows = [(a, b, c) for a in (1, 2) for b in ("p", "q") for c in (1, 2)]
    db.t.bulk_add([{"x": n, "y": -n, "a": a, "b": b, "c": c} for n, (a, b, c) in enumerate(rows)])
    clause = db.t.where(["a", "b"])
    assert clause.equals([1, "q"]).primary_keys() == [[2, -2], [3, -3]]
    assert clause.equals([1, "q"]).keys() == [[1, "q"], [1, "q"]]
    assert clause.above([1, "q"]).count() == 4
    assert clause.above_or_equal([1, "q"]).count() == 6
    assert clause.below([1, "q"]).count() == 2
    assert clause.below_or_equal([1, "q"]).count() == 4
    assert clause.above([1]).count() == 8
    assert clause.below([2]).count() == 4
    assert clause.between([1, MIN_KEY], [1, MAX_KEY]).count() == 4
    assert clause.any_of([1, "p"], [2, "q"], [3, "q"]).count() == 4
    assert clause.not_equal([1, "p"]).count() == 6
    for wrong in (1, "a", [1, 2, 3]):
        with pytest.raises(DataError):
            clause.equals(wrong)
    assert db.t.where("x").above(5).primary_keys() == [[6, -6], [7, -7]]
    assert db.t.where({"y": -3, "x": 3}).count() == 1
    assert db.t.where({"b": "q", "a": 2}).count() == 2
    assert db.t.where({"c": 2, "a": 2}).count() == 2


# Unions, filters, order and cuts


def test_c054_each_row_of_a_union_comes_once_in_key_order(ages: Any) -> None:
    ages.add({"name": "Alice", "age": 50})
    ages.add({"name": "Alice", "age": 1})
    union = ages.where("name").equals("Alice").or_("age").above(20)
    assert union.primary_keys() == [4, 5, 6, 7, 8]
    assert union.keys() == [4, 5, 6, 7, 8]
    assert union.count() == 5
    assert union.reverse().primary_keys() == [8, 7, 6, 5, 4]
    assert of(union.order_by("name").to_array(), "name") == ["Alice", "Alice", "n29", "n30", "n40"]
    assert of(union.order_by("age").reverse().limit(2).to_array()) == [50, 40]
    assert union.or_(":id").equals(1).offset(1).limit(2).primary_keys() == [4, 5]
    assert union.filter(lambda row: row["age"] != 29).primary_keys() == [5, 6, 7, 8]


def test_c055_the_second_page_from_the_end(db: Any) -> None:
    db.users.bulk_add([{"name": f"n{n // 7:02}"} for n in range(40)])
    wanted = sorted(((f"n{n // 7:02}", n + 1) for n in range(40)), reverse=True)[10:20]
    page = db.users.order_by("name").reverse().offset(10).limit(10)
    assert [(row["name"], row["id"]) for row in page.to_array()] == wanted
    assert page.count() == 10
    assert page.offset(20).count() == 10
    assert page.offset(25).count() == 5


@pytest.mark.parametrize("order", ["filter first", "limit first"])
def test_c056_filters_come_before_cuts(ages: Any, order: str) -> None:
    query = ages.where("age").above(0)
    accept = lambda row: row["age"] % 2 == 0  # noqa: E731
    query = query.filter(accept).limit(3) if order == "filter first" else query.limit(3).and_(accept)
    assert of(query.to_array()) == [18, 20, 30]
    assert query.count() == 3
    assert of(query.filter(lambda row: row["age"] > 18).offset(1).to_array()) == [30, 40]


def test_c057_cuts_and_directions_add_up(ages: Any) -> None:
    everything = ages.to_collection()
    assert len(everything.limit(5).limit(10).to_array()) == 5
    assert len(everything.limit(5).limit(2).to_array()) == 2
    assert of(everything.offset(2).offset(3).to_array()) == [40]
    assert everything.limit(0).to_array() == []
    assert (everything.limit(0).count(), everything.limit(0).first(), everything.limit(0).last()) == (0, None, None)
    assert of(everything.reverse().reverse().to_array()) == [5, 18, 20, 29, 30, 40]
    assert of(everything.reverse().limit(2).to_array()) == [40, 30]
    assert everything.offset(99).to_array() == []
    assert everything.offset(4).limit(10).count() == 2


@pytest.mark.parametrize("count", [-1, True, 1.5, "1", None])
@pytest.mark.parametrize("cut", ["limit", "offset"])
def test_c057_a_cut_is_a_whole_number(ages: Any, cut: str, count: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        getattr(ages.to_collection(), cut)(count)
    with pytest.raises(InvalidArgumentError):
        getattr(ages, cut)(count)


def test_c058_a_collection_is_never_changed(ages: Any) -> None:
    base = ages.where("age").above(6)
    first, second = base.limit(2), base.offset(2).limit(2)
    results: List[Any] = []

    def read(query: Any, times: int) -> None:
        for _ in range(times):
            results.append((query is first, of(query.to_array())))

    threads = [threading.Thread(target=read, args=(query, 30)) for query in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 60
    assert all(rows == ([18, 20] if is_first else [29, 30]) for is_first, rows in results)
    assert base.first()["age"] == 18
    assert base.last()["age"] == 40
    assert of(base.to_array()) == [18, 20, 29, 30, 40]
    assert base.clone().to_array() == base.to_array()
    assert first.last()["age"] == 20
    assert second.reverse().last()["age"] == 20


def test_c059_criteria(people: Any) -> None:
    people.bulk_put([{"id": 1, "last": "D", "first": "A", "age": 3}, {"id": 2, "last": "D", "age": 3}])
    people.put({"id": 3, "last": "E", "first": "A", "age": 3, "tags": ["x", "y"]})
    # "last" leads a compound index that rows without "first" are absent from; "age" has one of its own.
    assert people.where({"last": "D", "age": 3}).primary_keys() == [1, 2]
    assert people.where({"first": "A", "last": "D"}).primary_keys() == [1]
    assert people.get({"age": 3, "last": "E"})["id"] == 3
    assert people.get({"age": 3, "nothing": 1}) is None
    assert people.where({"age": 3, "tags": "y"}).primary_keys() == [3]
    assert people.where({"id": 3, "age": 3, "last": "E"}).count() == 1
    assert people.where({"id": 3, "age": 4}).count() == 0
    # What is tested on the rows that an index gives means what it would mean there.
    for criteria in ({"age": 3, "[last+first]": ["D", "A"]}, {"[last+first]": ["D", "A"], "age": 3}):
        assert people.where(criteria).primary_keys() == [1]
    for criteria in ({"id": 3, ":id": 3}, {":id": 3, "id": 3}, {"age": 3, ":id": 3, "tags": "x"}):
        assert people.where(criteria).primary_keys() == [3]
    assert people.where({"id": 3, ":id": 1}).count() == people.where({"age": 3, "tags": ["x", "y"]}).count() == 0
    for criteria in ({"x": 1}, {"x": 1, "y": 2}):
        with pytest.raises(SchemaError):
            people.where(criteria)
    for criteria in ({}, {5: 1}):
        with pytest.raises(InvalidArgumentError):
            people.get(criteria)
    with pytest.raises(DataError):
        people.where({"age": None})


def test_order_by_any_path_keeps_all_rows(db: Any) -> None:
    db.users.bulk_add([{"n": 3}, {"n": "x"}, {}, {"n": 1}, {"n": None}, {"n": 3}, {"n": {"a": 1}}])
    everything = db.users.to_collection()
    assert everything.order_by("n").primary_keys() == [4, 1, 6, 2, 3, 5, 7]
    assert everything.order_by("n").reverse().primary_keys() == [2, 6, 1, 4, 7, 5, 3]
    assert [row["id"] for row in everything.sort_by("n")] == [4, 1, 6, 2, 3, 5, 7]
    assert everything.order_by("n").offset(1).limit(2).primary_keys() == [1, 6]
    assert everything.order_by("n").last()["id"] == 7
    assert everything.order_by(":id").reverse().primary_keys() == [7, 6, 5, 4, 3, 2, 1]
    with pytest.raises(InvalidArgumentError):
        everything.order_by(5)


def test_until_ends_it(ages: Any) -> None:
    query = ages.order_by("age")
    stop = lambda row: row["age"] >= 20  # noqa: E731
    assert of(query.until(stop).to_array()) == [5, 18]
    assert of(query.until(stop, True).to_array()) == [5, 18, 20]
    assert of(query.until(stop, include_stop=True).until(lambda row: row["age"] == 18).to_array()) == [5]
    assert of(query.limit(1).until(stop).offset(1).to_array()) == [18]
    assert of(query.reverse().until(lambda row: row["age"] < 29).to_array()) == [40, 30, 29]
    assert query.until(stop).count() == 2
    assert query.until(stop).last()["age"] == 18


def test_c061_a_multi_entry_index_gives_a_row_for_each_entry(db: Any) -> None:
    db.users.bulk_add([{"tags": ["b", "a", "c"]}, {"tags": ["b"]}, {"tags": "a"}])
    found = db.users.where("tags").any_of("a", "b")
    assert found.primary_keys() == [1, 3, 1, 2]
    assert (found.count(), found.distinct().count()) == (4, 3)
    assert found.distinct().primary_keys() == [1, 3, 2]
    assert found.distinct().reverse().primary_keys() == [2, 1, 3]
    assert found.distinct().offset(1).limit(1).primary_keys() == [3]
    assert found.keys() == ["a", "a", "b", "b"]
    assert found.distinct().last()["id"] == 2
    assert [row["id"] for row in found.to_array()] == [1, 3, 1, 2]
    assert found.or_("tags").equals("c").primary_keys() == [1, 2, 3]


# Ends


def test_ends_agree_with_each_other(ages: Any) -> None:
    for query in (ages.where("age").above(10), ages.where("age").above(10).filter(lambda row: row["age"] < 40)):
        rows = query.to_array()
        seen: List[Any] = []
        query.each(seen.append)
        assert list(query) == seen == [row for _, row in query.items()] == rows
        assert [key for key, _ in query.items()] == query.primary_keys() == [row["id"] for row in rows]
        assert query.keys() == of(rows)
        assert (query.first(), query.last(), query.count()) == (rows[0], rows[-1], len(rows))
    assert list(ages) == ages.to_array()
    assert (ages.first()["age"], ages.last()["age"], ages.count()) == (5, 40, 6)
    assert ages.keys() == ages.primary_keys() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("step", ["filter", "and_", "until", "each"])
def test_what_is_no_function_is_refused(ages: Any, step: str) -> None:
    with pytest.raises(InvalidArgumentError):
        getattr(ages.to_collection(), step)({"age": 1})


def test_c060_modify_changes_each_row_once_although_it_moves_them(db: Any) -> None:
    db.users.bulk_add([{"age": n} for n in range(1000)])
    assert db.users.where("age").above_or_equal(0).modify(lambda row: row.update(age=row["age"] + 5000)) == 1000
    assert sorted(of(db.users.to_array())) == list(range(5000, 6000))
    assert db.users.where("age").above(0).modify({"age": 1}) == 1000
    assert db.users.where("age").equals(1).count() == 1000


def test_c060_a_row_of_many_entries_is_changed_once(db: Any) -> None:
    from selfdb.indexie import ops

    db.users.bulk_add([{"tags": ["a", "b"], "age": 1}, {"tags": ["b"], "age": 1}])
    assert db.users.where("tags").any_of("a", "b").modify({"age": ops.add(1)}) == 2
    assert of(db.users.to_array()) == [2, 2]
    assert db.users.where("tags").any_of("a", "b").delete() == 2
    assert db.users.count() == 0


def test_modify_and_delete_take_cuts_and_unions(ages: Any) -> None:
    assert ages.order_by("age").reverse().limit(2).modify({"name": "old"}) == 2
    assert of(ages.where("name").equals("old").to_array()) == [30, 40]
    assert ages.where("name").equals("old").or_("age").below(6).delete() == 3
    assert of(ages.to_array()) == [18, 20, 29]
    assert ages.where("age").equals(77).delete() == 0


def test_modify_reports_rows_and_undoes_all(ages: Any) -> None:
    with pytest.raises(ModifyError) as caught:
        ages.to_collection().modify(lambda row: row.update(email="same"))
    assert caught.value.failed_keys == [2, 3, 4, 5, 6]
    assert caught.value.success_count == 1
    assert ages.where("email").equals("same").count() == 0

    def keep(db: Any) -> None:
        with pytest.raises(ModifyError):
            ages.to_collection().modify({"email": "same"})

    ages.db.transaction("rw", ages, lambda: keep(ages.db))
    assert ages.where("email").equals("same").primary_keys() == [1]


def test_what_a_function_raises_undoes_all_of_the_call(ages: Any) -> None:
    def change(row: Any) -> None:
        row["name"] = "changed"
        if row["age"] == 29:
            raise LookupError("mine")

    with pytest.raises(LookupError):
        ages.to_collection().modify(change)
    assert ages.where("name").equals("changed").count() == 0
    with ages.db.transaction("rw", ages):
        ages.update(1, {"name": "changed"})
        with pytest.raises(LookupError):
            ages.to_collection().modify(change)
    assert ages.where("name").equals("changed").primary_keys() == [1]
    with pytest.raises(ModifyError, match="key"):
        ages.to_collection().modify({"id": 1})


# One state


def test_c062_an_iteration_sees_its_own_state_only(db: Any) -> None:
    db.users.bulk_add([{"age": n} for n in range(2000)])
    for collection in (db.users.to_collection(), db.users.where("age").above(-1), db.users.filter(lambda row: True)):
        before = db.users.count()
        iterator = iter(collection)
        seen = [next(iterator) for _ in range(3)]
        db.users.add({"age": 10**6})
        db.users.where("age").between(1000, 1010).modify({"name": "changed"})
        db.users.update(1, {"name": "x"})
        assert db.users.count() == before + 1  # while this thread's other reads are up to date
        seen += iterator
        assert len(seen) == before
        assert not any(row["age"] == 10**6 and row["id"] == before + 1 for row in seen)
        db.users.to_collection().modify(lambda row: row.pop("name", None) and None)


def test_c062_each_sees_one_state_and_may_write(ages: Any) -> None:
    seen: List[int] = []

    def copy(row: Any) -> None:
        seen.append(row["age"])
        ages.add({"age": row["age"] + 100})

    ages.where("age").above(0).each(copy)
    assert seen == [5, 18, 20, 29, 30, 40]
    assert ages.count() == 12


def test_c062_in_a_transaction_it_sees_the_state_at_its_beginning(ages: Any) -> None:
    with ages.db.transaction("rw", ages):
        for row in ages.where("age").above(0):
            ages.delete(row["id"])
            ages.add({"age": row["age"] + 1000})
    assert of(ages.order_by("age").to_array()) == [1005, 1018, 1020, 1029, 1030, 1040]


def test_an_iterator_that_is_left_gives_its_snapshot_back(db: Any) -> None:
    db.users.bulk_add([{"age": n} for n in range(1000)])
    for _ in range(20):  # more than are kept open
        for row in db.users:
            assert row["age"] == 0
            break
    iterator = iter(db.users)
    next(iterator)
    iterator.close()
    iterator.close()
    assert list(iterator) == []
    with iter(db.users) as rows:
        next(rows)
    with pytest.raises(ZeroDivisionError):
        list(db.users.filter(lambda row: 1 // 0))
    db.users.clear()
    db.checkpoint()
    assert db.users.count() == 0


def test_reads_see_each_commit_at_once(db: Any) -> None:
    for n in range(50):
        key = db.users.add({"age": n, "email": str(n)})
        assert db.users.get(key)["age"] == n
        assert db.users.where("email").equals(str(n)).first()["id"] == key
        assert db.users.order_by("age").last()["age"] == n
        assert db.users.count() == n + 1
