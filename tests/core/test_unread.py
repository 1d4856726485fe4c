"""A value that is made when somebody looks at it: whatever looks, sees what it stands for, made once."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Callable, Dict, List

import pytest
from pydantic import BaseModel, ConfigDict

from selfdb.core.unread import unread


class Thing(BaseModel):
    name: str
    size: int = 0


class Frozen(Thing):
    model_config = ConfigDict(frozen=True)


class Holder(BaseModel):
    thing: Thing


THING = Thing(name="a", size=2)


def of(made: List[str]) -> Thing:
    def make() -> Thing:
        made.append("made")
        return Thing(name="a", size=2)

    return unread(make)


LOOKS: Dict[str, Callable[[Any], object]] = {
    "attribute": lambda thing: thing.name == "a",
    "isinstance": lambda thing: isinstance(thing, Thing) and isinstance(thing, BaseModel),
    "class": lambda thing: thing.__class__ is Thing,
    "dict": lambda thing: vars(thing) == {"name": "a", "size": 2},
    "dump": lambda thing: thing.model_dump() == {"name": "a", "size": 2},
    "json": lambda thing: thing.model_dump_json() == '{"name":"a","size":2}',
    "repr": lambda thing: repr(thing) == "Thing(name='a', size=2)",
    "str": lambda thing: f"{thing}" == str(thing) == "name='a' size=2",
    "equal": lambda thing: thing == THING,
    "equal from the other side": lambda thing: [THING].index(thing) == 0,
    "equal to another": lambda thing: thing == of([]),
    "unequal": lambda thing: thing != Thing(name="b") and thing != "a",
    "truth": lambda thing: bool(thing) is True,
    "iterated": lambda thing: dict(thing) == {"name": "a", "size": 2},
    "dir": lambda thing: {"name", "size", "model_dump"} <= set(dir(thing)),
    "copied": lambda thing: type(copy.copy(thing)) is Thing and copy.copy(thing) == THING,
    "copied deep": lambda thing: type(copy.deepcopy(thing)) is Thing and copy.deepcopy(thing) == THING,
    "model_copy": lambda thing: thing.model_copy(update={"size": 3}) == Thing(name="a", size=3),
    "pickled": lambda thing: (
        type(pickle.loads(pickle.dumps(thing))) is Thing and pickle.loads(pickle.dumps(thing)) == THING
    ),
    "validated": lambda thing: Thing.model_validate(thing) == THING,
    "in a model": lambda thing: Holder(thing=thing).model_dump() == {"thing": {"name": "a", "size": 2}},
}


@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_sees_what_it_stands_for(look: str) -> None:
    made: List[str] = []
    thing = of(made)
    assert made == []
    assert LOOKS[look](thing)
    assert LOOKS[look](thing)
    assert made == ["made"]


def test_what_is_set_stays() -> None:
    thing = of([])
    thing.size = 5
    assert (thing.size, thing.model_dump()["size"], thing.model_fields_set) == (5, 5, {"name", "size"})
    del thing.size
    with pytest.raises(AttributeError, match="size"):
        assert thing.size
    with pytest.raises(ValueError, match="colour"):  # as pydantic has it
        thing.colour = "red"  # type: ignore[attr-defined]


def test_it_has_a_hash_if_what_it_stands_for_has_one() -> None:
    assert hash(unread(lambda: Frozen(name="a"))) == hash(Frozen(name="a"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(of([]))
