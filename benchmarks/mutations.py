"""What a mutant is: a module's source with one small thing changed in it. Text in, text out; nothing is run here."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import Dict, Iterator, List, NamedTuple, Tuple

COMPARED = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
CALCULATED = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "/"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}
TESTED = (ast.Compare, ast.BoolOp, ast.UnaryOp)
"""Conditions whose own operators are changed; others are turned round as a whole."""


class Mutant(NamedTuple):
    """One change.

    :ivar name: the function that it is in, what stood there and what stands there now; the same after lines moved.
    :ivar place: that function alone; ``module`` or a class for what importing runs.
    :ivar line: where, counted from 1.
    :ivar source: the whole module.
    """

    name: str
    place: str
    line: int
    source: str


Edit = Tuple[int, int, str]
"""From byte, to byte, and the text in between from now on."""


class _Finder:
    def __init__(self, source: str) -> None:
        self.data = source.encode()
        self.tree = ast.parse(source)
        self._starts = [0]
        for line in self.data.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def start(self, node: ast.AST) -> int:
        return self._starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]

    def end(self, node: ast.AST) -> int:
        return self._starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        return self.data[self.start(node) : self.end(node)].decode()

    def whole(self, node: ast.AST, text: str) -> Edit:
        return self.start(node), self.end(node), text

    def between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> Iterator[Edit]:
        """The operator between two operands, whatever brackets stand around them."""
        begin = self.end(left)
        gap = self.data[begin : self.start(right)].decode()
        found = re.search(r"\s+".join(map(re.escape, old.split())), gap)
        if found is not None:
            yield begin + found.start(), begin + found.end(), new

    # Walking

    def edits(self) -> Iterator[Tuple[str, Edit]]:
        yield from self._body(self.tree.body, "module")

    def _body(self, body: List[ast.stmt], place: str) -> Iterator[Tuple[str, Edit]]:
        for statement in body:
            yield from self._statement(statement, place)

    def _statement(self, node: ast.stmt, place: str) -> Iterator[Tuple[str, Edit]]:
        inner = place
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = node.name if place == "module" else f"{place}.{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from self._body(node.body, inner)
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for default in [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]:
                yield from ((inner, edit) for edit in self._expression(default))
            yield from self._body(node.body, inner)
            return
        yield from ((place, edit) for edit in self._own(node, place))
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                yield from self._statement(child, place)
            elif isinstance(child, ast.ExceptHandler):
                yield from ((place, edit) for edit in self._handler(child))
                yield from self._body(child.body, place)
            elif isinstance(child, ast.expr) and not self._spared(node, child, place):
                yield from ((place, edit) for edit in self._expression(child))
            elif isinstance(child, ast.withitem):
                yield from ((place, edit) for edit in self._expression(child.context_expr))

    @staticmethod
    def _spared(statement: ast.stmt, child: ast.expr, place: str) -> bool:
        """What is no code: docstrings, annotations, lists of names, names of types."""
        if isinstance(statement, ast.Expr):
            return isinstance(child, ast.Constant)
        if isinstance(statement, ast.AnnAssign):
            return child is statement.annotation
        return place == "module" and (
            isinstance(statement, ast.If)
            or (
                isinstance(statement, ast.Assign)
                and (isinstance(statement.value, ast.Subscript) or ast.unparse(statement.targets[0]) == "__all__")
            )
        )

    # Statements

    def _own(self, node: ast.stmt, place: str) -> Iterator[Edit]:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            simple = isinstance(target, (ast.Name, ast.Attribute))
            constant = node.value is None or isinstance(node.value, ast.Constant)
            if simple and not constant and node.value is not None and not self._spared(node, node.value, place):
                yield self.whole(node.value, "None")
        elif isinstance(node, ast.AugAssign):
            old, new = CALCULATED[type(node.op)]
            yield from self.between(node.target, node.value, old + "=", new + "=")
            yield from self.between(node.target, node.value, old + "=", "=")
        elif isinstance(node, ast.Return):
            if node.value is not None and not isinstance(node.value, ast.Constant):
                yield self.whole(node.value, "None")
        elif isinstance(node, (ast.Raise, ast.Delete)) or (
            isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        ):
            yield self.whole(node, "pass")
        elif isinstance(node, ast.Break):
            yield self.whole(node, "continue")
        elif isinstance(node, ast.Continue):
            yield self.whole(node, "break")
        elif isinstance(node, (ast.If, ast.While)) and place != "module":
            yield from self._condition(node.test)

    def _handler(self, node: ast.ExceptHandler) -> Iterator[Edit]:
        if isinstance(node.type, ast.Tuple):
            for one in node.type.elts:
                rest = ", ".join(self.text(other) for other in node.type.elts if other is not one)
                yield self.whole(node.type, f"({rest},)")

    # Expressions

    def _condition(self, test: ast.expr) -> Iterator[Edit]:
        if not isinstance(test, TESTED) and not isinstance(test, ast.Constant):
            yield self.whole(test, f"not ({self.text(test)})")

    def _expression(self, node: ast.expr) -> Iterator[Edit]:
        if isinstance(node, ast.JoinedStr):
            yield self.whole(node, '"XX"')
            return  # where its parts stand differs from one interpreter to the next
        if isinstance(node, ast.Constant):
            yield from self._constant(node)
        elif isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            for operator, left, right in zip(node.ops, operands, operands[1:]):
                yield from self.between(left, right, *COMPARED[type(operator)])
        elif isinstance(node, ast.BoolOp):
            old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in zip(node.values, node.values[1:]):
                yield from self.between(left, right, old, new)
        elif isinstance(node, ast.BinOp):
            yield from self.between(node.left, node.right, *CALCULATED[type(node.op)])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            yield self.start(node), self.start(node.operand), ""
        elif isinstance(node, ast.IfExp):
            yield from self._condition(node.test)
        elif isinstance(node, ast.Call):
            yield from self._arguments(node)
        elif isinstance(node, ast.Lambda):
            yield self.whole(node.body, "None")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                yield from self._expression(child)
            elif isinstance(child, ast.keyword):
                yield from self._expression(child.value)
            elif isinstance(child, ast.comprehension):
                yield from self._expression(child.iter)
                for test in child.ifs:
                    yield from self._condition(test)
                    yield from self._expression(test)

    def _arguments(self, node: ast.Call) -> Iterator[Edit]:
        for argument in node.args:
            if not isinstance(argument, (ast.Constant, ast.JoinedStr, ast.Starred)):
                yield self.whole(argument, "None")
        written = [*node.args, *node.keywords]
        for at, keyword in enumerate(written):
            if not isinstance(keyword, ast.keyword) or keyword.arg is None:
                continue
            begin = self.end(written[at - 1]) if at else self.start(keyword)
            end = self.end(keyword)
            if not at and len(written) > 1:
                end = self.start(written[1])
            yield begin, end, ""

    def _constant(self, node: ast.Constant) -> Iterator[Edit]:
        value = node.value
        if isinstance(value, bool):
            yield self.whole(node, str(not value))
        elif isinstance(value, (int, float)):
            yield self.whole(node, repr(value + 1))
        elif isinstance(value, (str, bytes)):
            yield self.whole(node, repr(value[:0] + ("XX" if isinstance(value, str) else b"XX") + value))  # type: ignore[operator]


def mutants(source: str) -> List[Mutant]:
    """Every mutant of the module ``source``, from top to bottom; those that do not compile are none."""
    finder = _Finder(source)
    seen: Counter[str] = Counter()
    found: Dict[str, Mutant] = {}
    for place, (begin, end, text) in sorted(finder.edits(), key=lambda one: one[1][:2]):
        data = finder.data
        changed = (data[:begin] + text.encode() + data[end:]).decode()
        line = data.count(b"\n", 0, begin) + 1
        # What stands around it tells one `+` from the next, and moves along when lines are added above.
        first, last = data.rfind(b"\n", 0, begin) + 1, data.find(b"\n", end)
        before = " ".join(data[first:last].decode().split())
        after = " ".join((data[first:begin].decode() + text + data[end:last].decode()).split())
        try:
            compile(changed, "<mutant>", "exec")
        except (SyntaxError, ValueError):
            continue
        name = f"{place}: {before} => {after}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" ({seen[name]})"
        if changed != source and all(changed != other.source for other in found.values()):
            found[name] = Mutant(name, place, line, changed)
    return list(found.values())
