"""Conditions on rows: what ``or_()`` and ``and_()`` of a query are made of, and what its own steps make.

::

    from selfdb.aerodb import filters

    client.from_("users").or_(filters.eq("name", "Bob, Jr."), filters.and_(filters.gt("age", 50), "vip.is.true"))

None of these functions raises (but for :func:`escape_like`): a wrong argument is remembered by what it returns, and the
call that the query ends in returns it as ``VALIDATION_ERROR``.
"""

from __future__ import annotations

import decimal
import enum
import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast

from ..exceptions import InvalidRequestError
from . import values
from .values import like_literal as escape_like

if TYPE_CHECKING:
    from typing_extensions import ParamSpec

    P = ParamSpec("P")

__all__ = [
    "Condition",
    "and_",
    "contained_by",
    "contains",
    "eq",
    "escape_like",
    "filter",
    "gt",
    "gte",
    "ilike",
    "in_",
    "is_",
    "like",
    "lt",
    "lte",
    "neq",
    "not_",
    "not_and",
    "not_or",
    "or_",
    "overlaps",
]

F = TypeVar("F", bound=Callable[..., Any])

RESERVED = frozenset({"select", "order", "limit", "offset", "or", "and", "not", "columns", "on_conflict"})
"""Parameters with a meaning of their own; a column of such a name is filtered within ``and=(…)``."""

_ALIASES = {"in_": "in", "is_": "is", "contains": "cs", "contained_by": "cd", "overlaps": "ov"}
_USUAL = frozenset({"eq", "neq", "gt", "gte", "lt", "lte", "like", "ilike", "in", "is", "cs", "cd", "ov"})
_ARRAYS = frozenset({"cs", "cd", "ov"})
_OPERATOR = re.compile(r"[a-z]+(\([A-Za-z_]+\))?\Z")
_IS = {None: "null", True: "true", False: "false", "unknown": "unknown"}


class Condition:
    """A condition on rows. Immutable; may be part of many queries."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # never what is looked for

    def parameter(self) -> tuple[str, str]:
        """Name and value of the parameter of a query, decoded."""
        raise NotImplementedError

    def inside(self) -> str:
        """Its text within ``or=(…)``."""
        raise NotImplementedError

    @property
    def embedded(self) -> bool:
        """Whether it chooses only among rows that are embedded."""
        return False


class Refused(Condition):
    """Stands where a condition could not be made, and says why."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


class Comparison(Condition):
    """A column, an operator and what it is compared with.

    :param verbatim: whether ``value`` has the quotes that it needs within ``or=(…)``.
    """

    __slots__ = ("column", "operator", "value", "verbatim")

    def __init__(self, column: str, operator: str, value: str, verbatim: bool = False) -> None:
        self.column = column
        self.operator = operator
        self.value = value
        self.verbatim = verbatim

    def parameter(self) -> tuple[str, str]:
        path, leaf = split_path(self.column)
        if leaf in RESERVED:
            return f"{path}and", f"({self._inside(leaf)})"
        return self.column, f"{self.operator}.{self.value}"

    def inside(self) -> str:
        return self._inside(self.column)

    def _inside(self, column: str) -> str:
        return f"{column}.{self.operator}.{self.value if self.verbatim else values.quoted(self.value)}"

    @property
    def embedded(self) -> bool:
        return bool(split_path(self.column)[0])


class Membership(Condition):
    """A column and the values that it may have, or may not.

    :param null: whether null is one of them.
    """

    __slots__ = ("column", "negated", "null", "texts")

    def __init__(self, column: str, texts: tuple[str, ...], null: bool, negated: bool) -> None:
        self.column = column
        self.texts = texts
        self.null = null
        self.negated = negated

    def parameter(self) -> tuple[str, str]:
        if not self.null:
            return self._listed().parameter()
        path, leaf = split_path(self.column)
        return f"{path}{'not.' if self.negated else ''}or", f"({self._either(leaf)})"

    def inside(self) -> str:
        if not self.null:
            return self._listed().inside()
        return f"{'not.' if self.negated else ''}or({self._either(self.column)})"

    def _listed(self) -> Comparison:
        return Comparison(self.column, "not.in" if self.negated else "in", values.listed(self.texts), verbatim=True)

    def _either(self, column: str) -> str:
        return f"{column}.in.{values.listed(self.texts)},{column}.is.null"

    @property
    def embedded(self) -> bool:
        return bool(split_path(self.column)[0])

    def halves(self) -> tuple[Membership, Membership]:
        """Two that together find the same rows, each row by one of them."""
        middle = len(self.texts) // 2
        return (
            Membership(self.column, self.texts[:middle], self.null, self.negated),
            Membership(self.column, self.texts[middle:], False, self.negated),
        )


class Written(Condition):
    """A condition in PostgREST's own grammar, as the caller wrote it."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def inside(self) -> str:
        return self.text


class Tree(Condition):
    """Conditions of which any, or all, have to hold.

    :param name: ``or`` or ``and``, perhaps behind ``not.``
    :param path: the embedded table that it is about, with a dot behind it; empty for the table itself.
    """

    __slots__ = ("children", "name", "path")

    def __init__(self, name: str, children: tuple[Condition, ...], path: str) -> None:
        self.name = name
        self.children = children
        self.path = path

    def parameter(self) -> tuple[str, str]:
        return f"{self.path}{self.name}", self._list()

    def inside(self) -> str:
        return self.name + self._list()

    def _list(self) -> str:
        return f"({','.join(child.inside() for child in self.children)})"

    @property
    def embedded(self) -> bool:
        return bool(self.path)


def split_path(column: str) -> tuple[str, str]:
    """The embedded tables before a column's name, with the dot behind them, and the rest; quotes are respected."""
    if "." not in column:
        return "", column
    end = at = 0
    inside = False
    while at < len(column):
        character = column[at]
        if inside and character == "\\":
            at += 1
        elif character == '"':
            inside = not inside
        elif not inside and character == ".":
            end = at + 1
        elif not inside and column.startswith("->", at):
            break  # what follows are keys of a JSON value
        at += 1
    return column[:end], column[end:]


def outside_quotes(column: str) -> str:
    """What of a column's name is not in quotes, and so means what it says."""
    return re.sub(r'"(?:[^"\\]|\\.)*"', "", column, flags=re.DOTALL)


def why_of(error: Exception) -> str:
    """Why an argument is refused whose use raised ``error``. The text of one that is not ours may be the value's."""
    if isinstance(error, InvalidRequestError):
        return error.message
    return f"an argument cannot be used: it raised {type(error).__name__}"


def remembered(function: Callable[P, Condition]) -> Callable[P, Condition]:
    """``function``, which may raise, as one that returns what it would raise."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Condition:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - a value's own code may raise anything, where its text is asked for
            return Refused(why_of(error))

    return cast("Callable[P, Condition]", call)


# The steps


@remembered
def eq(column: str, value: Any) -> Condition:
    """``column`` equals ``value``; ``None`` finds null."""
    return _condition(column, "eq", value)


@remembered
def neq(column: str, value: Any) -> Condition:
    """``column`` is another than ``value``; ``None`` finds what is not null."""
    return _condition(column, "neq", value)


@remembered
def gt(column: str, value: Any) -> Condition:
    """``column`` is greater than ``value``."""
    return _condition(column, "gt", value)


@remembered
def gte(column: str, value: Any) -> Condition:
    """``column`` is ``value`` or greater."""
    return _condition(column, "gte", value)


@remembered
def lt(column: str, value: Any) -> Condition:
    """``column`` is less than ``value``."""
    return _condition(column, "lt", value)


@remembered
def lte(column: str, value: Any) -> Condition:
    """``column`` is ``value`` or less."""
    return _condition(column, "lte", value)


@remembered
def like(column: str, pattern: str) -> Condition:
    """``column`` matches ``pattern``: ``%`` (or ``*``) for any text, ``_`` for one character; :func:`escape_like`."""
    return _condition(column, "like", pattern)


@remembered
def ilike(column: str, pattern: str) -> Condition:
    """As :func:`like`, in any case."""
    return _condition(column, "ilike", pattern)


@remembered
def in_(column: str, values: Any) -> Condition:
    """``column`` is one of ``values``; none of nothing. ``None`` among them finds null."""
    return _condition(column, "in", values)


@remembered
def is_(column: str, value: Union[bool, str, None]) -> Condition:
    """``column`` is null (``None``), true, false, or ``"unknown"``."""
    return _condition(column, "is", value)


@remembered
def not_(column: str, op: str, value: Any) -> Condition:
    """The contrary of the operator ``op``, such as ``not_("role", "in", ["a", "b"])``."""
    return _condition(column, op, value, negated=True)


@remembered
def contains(column: str, value: Any) -> Condition:
    """An array or range ``column`` holds all of ``value``; a JSON one holds the mapping ``value``."""
    return _condition(column, "cs", value)


@remembered
def contained_by(column: str, value: Any) -> Condition:
    """All of an array, range or JSON ``column`` is within ``value``."""
    return _condition(column, "cd", value)


@remembered
def overlaps(column: str, value: Any) -> Condition:
    """An array or range ``column`` has something in common with ``value``."""
    return _condition(column, "ov", value)


@remembered
def filter(column: str, op: str, value: Any) -> Condition:
    """Any operator of PostgREST, perhaps behind ``not.``; text goes as it is, quotes and lists included."""
    negated = isinstance(op, str) and op.startswith("not.")
    bare = op[4:] if negated else op
    if not isinstance(value, str):
        return _condition(column, bare, value, negated)
    known = _operator(bare)
    values.name(column, "column")
    return Comparison(column, f"not.{known}" if negated else known, values.checked(value, "value"), verbatim=True)


@remembered
def or_(*conditions: Union[Condition, str]) -> Condition:
    """Any of ``conditions`` holds; text is PostgREST's own grammar, ``"age.gt.50,role.eq.admin"``."""
    return tree("or", conditions)


@remembered
def and_(*conditions: Union[Condition, str]) -> Condition:
    """All of ``conditions`` hold."""
    return tree("and", conditions)


@remembered
def not_or(*conditions: Union[Condition, str]) -> Condition:
    """None of ``conditions`` holds."""
    return tree("not.or", conditions)


@remembered
def not_and(*conditions: Union[Condition, str]) -> Condition:
    """Not all of ``conditions`` hold."""
    return tree("not.and", conditions)


def tree(name: str, conditions: tuple[Union[Condition, str], ...], on: str | None = None) -> Condition:
    """The conditions as one.

    :param on: the embedded table that they are about.
    :raises InvalidRequestError: if there are none, or one of them was refused.
    """
    if not conditions:
        raise InvalidRequestError(f"{name} needs at least one condition")
    path = "" if on is None else f"{values.name(on, 'on')}."
    made = tuple(_child(condition, name) for condition in conditions)
    only = made[0]
    if len(made) == 1 and isinstance(only, Tree) and name in ("or", "and"):  # and_(not_or(…)) is that alone
        return Tree(only.name, only.children, path)
    return Tree(name, made, path)


def _child(condition: Any, name: str) -> Condition:
    if isinstance(condition, Refused):
        raise InvalidRequestError(condition.why)
    if isinstance(condition, Condition):
        return condition
    if not isinstance(condition, str):
        raise InvalidRequestError(f"{name} takes conditions of `filters` or text, not {type(condition).__name__}")
    if not condition.strip():
        raise InvalidRequestError(f"a condition of {name} must not be empty")
    return Written(values.checked(condition, f"a condition of {name}"))


def _operator(operator: Any) -> str:
    if not isinstance(operator, str):
        raise InvalidRequestError(f"the operator must be a str, not {type(operator).__name__}")
    if operator in _USUAL:
        return operator
    known = _ALIASES.get(operator, operator)
    if not _OPERATOR.match(known):
        raise InvalidRequestError('the operator must be one of PostgREST\'s, such as "eq", "in" or "fts(english)"')
    return known


def _condition(column: str, operator: str, value: Any, negated: bool = False) -> Condition:
    known = _operator(operator)
    values.name(column, "column")
    denial = "not." if negated else ""
    if value is None and known in ("eq", "neq"):
        return Comparison(column, "is" if (known == "eq") is not negated else "not.is", "null")
    if known == "in":
        return _membership(column, value, negated)
    if known == "is":
        if not (value is None or isinstance(value, (bool, str))) or value not in _IS:
            raise InvalidRequestError(f'{column}: is_() takes None, True, False or "unknown" only')
        return Comparison(column, f"{denial}is", _IS[value])
    if known in _ARRAYS or known.endswith(("(any)", "(all)")):
        return Comparison(column, denial + known, values.array(value, column))
    return Comparison(column, denial + known, values.text_of(value, column))


def _membership(column: str, given: Any, negated: bool) -> Condition:
    items = values.elements(given, column)
    # Each once, so that a list that has to be sent in parts finds no row twice.
    once: dict[Any, str] = {}
    for item in items:
        if item is not None:
            once.setdefault(_same(item), values.text_of(item, column))
    texts = tuple(dict.fromkeys(once.values()))
    null = any(item is None for item in items)
    if null and not texts:
        return Comparison(column, "not.is" if negated else "is", "null")
    return Membership(column, texts, null, negated)


def _same(item: Any) -> Any:
    """What is equal for values that a numeric column takes for equal, such as 1 and 1.0."""
    if isinstance(item, (int, float, decimal.Decimal)) and not isinstance(item, (bool, enum.Enum)):
        return item
    return "", id(item)
