"""Every error that the package can raise travels whole: through pickles, copies, processes and pools."""

from __future__ import annotations

import concurrent.futures
import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
from pathlib import Path
from typing import Any, Dict, List, Type

import pytest

import selfdb
from selfdb import SelfDB
from selfdb.exceptions import NotFoundError, SelfDBError
from selfdb.indexie import StorageError
from selfdb.models import TokenPair, UserCreate, UserUpdate
from selfdb.server.folderlock import Serving
from tests.faults.canaries import ACCESS, HEADER, KEY, PASSWORD, REFRESH, look_for
from tests.faults.errors_of_users import OfTheUser, made, throw
from tests.soak import figure

PRIVATE = {"_Stopped", "_GivenUp", "_OfTheCaller", "_Lost"}
"""Signals within one function, which nobody outside of it ever sees."""


def _classes() -> List[Type[BaseException]]:
    found = set()
    for module in pkgutil.walk_packages(selfdb.__path__, "selfdb."):
        if module.name.endswith("__main__"):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and issubclass(kind, BaseException) and kind.__module__.startswith("selfdb"):
                found.add(kind)
    return sorted(found, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


CLASSES = _classes()


OTHERS: Dict[str, Any] = {
    "ApiError": (409, "gone", {"Retry-After": "1"}),
    "Retry": (1.5,),
    "FolderInUse": (Path("/srv/data"), Serving(4711, "http://127.0.0.1:8000", KEY)),
}
"""What the constructors of other classes take, where it is not a message."""


class OfTheUserPlain(NotFoundError):
    """With the signature of its base."""

    extra = "none"


def _examples(kind: Type[BaseException]) -> List[BaseException]:
    """Errors of ``kind`` as they come to be: with everything set, and with as little as its constructor takes."""
    if issubclass(kind, StorageError):
        carried = {name: "ann" for base in kind.__mro__ for name in vars(base).get("__annotations__", ())}
        carrying = kind("gone", **{name: value for name, value in carried.items() if hasattr(kind, name)})
        return [carrying, kind("gone")]
    if issubclass(kind, SelfDBError):
        whole = kind("gone", 404, {"detail": ["x"]}, method="GET", path="/x", request_id="r", attempts=2)
        whole.hint = "look elsewhere"
        vars(whole).update(retry_after=1.5, may_have_been_applied=True, close_code=4001)
        return [whole, kind("gone")]
    return [kind(*OTHERS.get(kind.__name__, ("gone",)))]


def _state(error: BaseException) -> Any:
    return type(error), str(error), repr(error), error.args, vars(error)


@pytest.mark.parametrize("kind", [*CLASSES, OfTheUserPlain], ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_survives_pickles_and_copies(kind: Type[BaseException]) -> None:
    if kind.__name__ in PRIVATE:
        assert kind.__name__.startswith("_")
        return
    for error in _examples(kind):
        error.__cause__ = OSError("stays behind")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert _state(pickle.loads(pickle.dumps(error, protocol))) == _state(error)
        assert _state(copy.copy(error)) == _state(copy.deepcopy(error)) == _state(error)


def test_an_error_of_the_users_own() -> None:
    error = OfTheUser(7, method="GET", path="/orders/7")
    assert _state(pickle.loads(pickle.dumps(error))) == _state(copy.deepcopy(error)) == _state(error)


def test_across_processes() -> None:
    """As Celery and ``multiprocessing`` do it: raised in a process of its own, caught here."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for which, kind in enumerate([OfTheUser, NotFoundError]):
            with pytest.raises(kind) as caught:
                pool.submit(throw, which).result(60)
        assert _state(caught.value) == _state(made(1))
    figure("pickling", f"{len(CLASSES)} classes of errors x 6 protocols, copies, and a process of its own")


def test_g14_what_is_pickled_holds_no_secret() -> None:
    db = SelfDB("http://127.0.0.1:1", KEY)
    db.access_token, db.refresh_token = ACCESS, REFRESH
    parts = [db, db.auth, db.auth.users, db.tables.data, db.tables.data.query("t"), db.storage.files, db.realtime]
    parts += [db.realtime.channel("table:x"), db._transport, db._transport.keeper, db._transport.pool]
    for part in parts:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            try:
                told = repr(pickle.dumps(part, protocol))
            except (TypeError, AttributeError, pickle.PicklingError) as error:
                told = f"{error!r} {error.args} {vars(error)}"
            look_for(told, f"a pickle of {type(part).__name__}")
    db.close()


def test_g14_reprs_hold_no_secret() -> None:
    db = SelfDB("http://127.0.0.1:1", KEY, headers={"X-Secret": HEADER})
    db.access_token, db.refresh_token = ACCESS, REFRESH
    pair = TokenPair(access_token=ACCESS, refresh_token=REFRESH, user={"password": PASSWORD})
    new = UserCreate(email="a@example.com", password=PASSWORD, firstName="A", lastName="B")
    shown: List[Any] = [db, db.auth, db.tables, db.storage.files, db.realtime, pair, new, UserUpdate(password=PASSWORD)]
    transport = db._transport
    shown += [
        transport,
        transport.keeper,
        transport.keeper.current(),
        transport.options,
        transport.pool,
        transport.base,
    ]
    shown += [
        db.realtime.address(),
        db.with_raw_response,
        db.as_user(ACCESS),
        db.tables.data.query("t").search(PASSWORD),
    ]
    for thing in shown:
        look_for(f"{thing!r} {thing!s} {thing:}", f"the repr of {type(thing).__name__}")
        look_for(repr([thing, {"x": thing}]), f"a list with {type(thing).__name__}")
    look_for(f"{copy.deepcopy(new)!r} {copy.deepcopy(pair)!r} {copy.copy(new)!r}", "the repr of a copy")
    assert pickle.loads(pickle.dumps(pair)).access_token == ACCESS, "it is what was asked for"
    db.close()
