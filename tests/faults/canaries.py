"""Secrets that can be told wherever they turn up, and where to look for them: a log, an error, anything shown."""

from __future__ import annotations

import base64
import copy
import logging
import pickle
import traceback
from typing import Any, Dict, Iterator, List, Tuple
from urllib.parse import quote_plus

from selfdb.exceptions import SelfDBError

# Of characters that each encoding writes in its own way; no eight of one are in another.
KEY = "aKey-7f3Qx_of-the/application+1"
ACCESS = "header.Zx91/access+token==.sIgnAtUrE"
REFRESH = "rEfReSh-0b5~token/of+mine=="
PASSWORD = "pAss\"wörd' <of> 日本 & me"
HEADER = "cUsToM-header+secret/55=="
PROXY = "pRoXy-Pa55-word"
VALUE = "vAlUe-in-a-row-4711"

CANARIES: Dict[str, str] = {
    "the API key": KEY,
    "the access token": ACCESS,
    "the refresh token": REFRESH,
    "the password": PASSWORD,
    "a secret header": HEADER,
    "the proxy's password": PROXY,
}
WITH_VALUES = {**CANARIES, "a value": VALUE}


def _forms(secret: str) -> Iterator[str]:
    """What betrays ``secret``: eight characters of it as they are, or as many as tell it in another writing."""
    yield secret[:8]
    yield secret[-8:]
    yield secret[8:16]
    yield quote_plus(secret)[:12]
    data = secret.encode()
    yield data.hex()[:16]
    yield data.hex()[:16].upper()
    for shift in range(3):
        yield base64.b64encode(data[shift:])[:12].decode()
    yield secret[::-1][:8]


_FORMS: List[Tuple[str, str]] = [(name, form) for name, secret in WITH_VALUES.items() for form in _forms(secret)]


def look_for(text: str, where: str, names: Any = CANARIES) -> None:
    """Fail if one of the secrets ``names`` is in ``text``, in any writing."""
    for name, form in _FORMS:
        if name in names and form in text:
            at = text.index(form)
            raise AssertionError(f"{where} shows {name}: ...{text[max(0, at - 200) : at + 60]}...")


def inspect(error: BaseException, where: str, names: Any = CANARIES, *, frames: bool = True) -> None:
    """Look for secrets in all that an error shows, carries and leads to.

    :param frames: also in the variables of the frames that are ours or the HTTP stack's, as tools for crash reports
        show them.
    """
    told = f"{where}: {type(error).__name__}"
    look_for(f"{error} {error!r} {error.args!r}", told, names)
    look_for(
        "".join(traceback.format_exception(type(error), error, error.__traceback__)), f"the traceback of {told}", names
    )
    if isinstance(error, SelfDBError):
        look_for(repr(pickle.dumps(error, 0)), f"the pickle of {told}", names)
        look_for(f"{copy.deepcopy(error)!r} {vars(copy.copy(error))}", f"a copy of {told}", names)
    for step in _chain(error):
        what = f"{type(step).__name__} behind {told}"
        look_for(f"{step!r} {step.args!r} {vars(step)!r}", what, names)
        for name in ("request", "response"):
            if getattr(step, name, None) is not None:
                raise AssertionError(f"{what} holds its {name}")
        if frames:
            look_for("\n".join(_variables(step)), f"the variables in the traceback of {what}", names)


def _chain(error: BaseException) -> List[BaseException]:
    found: List[BaseException] = []
    waiting: List[Any] = [error]
    while waiting:
        step = waiting.pop()
        if isinstance(step, BaseException) and step not in found:
            found.append(step)
            waiting += [step.__cause__, step.__context__, getattr(step, "reason", None), *step.args]
    return found


def _variables(error: BaseException) -> Iterator[str]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not str(frame.f_globals.get("__name__", "")).startswith("tests."):
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_filename}:{line} {name} = {value!r}"


class Log(logging.Handler):
    """Every record of every logger at the finest level, in all that a formatter or a collector may show of it."""

    def __init__(self) -> None:
        super().__init__(level=0)
        self.lines: List[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        shown = [record.name, record.getMessage(), repr(record.args), repr(record.stack_info)]
        if record.exc_info and record.exc_info[0]:
            shown.append("".join(traceback.format_exception(*record.exc_info)))
        self.lines.append(" ".join(shown))

    def __enter__(self) -> Log:
        self._loggers = [logging.getLogger()]
        self._loggers += [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.DEBUG)
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *failure: Any) -> None:
        logging.getLogger().removeHandler(self)
        for logger, level in zip(self._loggers, self._levels):
            logger.setLevel(level)

    def check(self, names: Any = WITH_VALUES) -> None:
        for line in self.lines:
            look_for(line, "the log", names)
