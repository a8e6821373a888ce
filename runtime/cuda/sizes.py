"""Sizes and formulas of a program as Python functions, made once when it is opened.

A decoding loop has new sizes at every step: reading their text again and again would take longer
than the model's launches. Text comes from files, so nothing of it is run: it becomes parts of known
kinds, and the functions are compiled from syntax trees that are built of those.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from tilewright.runtime.expressions import FUNCTIONS, ExpressionError

Size = int | str
Values = Sequence[int]
Evaluate = Callable[[Values], tuple[int, ...]]
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
    ast.Mod: "%",
}
_NODES = {sign: kind for kind, sign in _OPERATORS.items()}
_SIGNS = {"mul": "*", "floordiv": "//", "mod": "%"}
_LONGEST = 100_000
_DEEPEST = 16
"""Levels of an expression that are one statement."""
_AT: dict[str, Any] = {"lineno": 1, "col_offset": 0}


def compiled(sizes: Sequence[Size], names: Mapping[str, int]) -> Evaluate:
    """A function from values, in the order that `names` gives, to the values of `sizes`.

    Raises ExpressionError for text that is no expression of `runtime.expressions` or that uses
    another name; the function raises ZeroDivisionError.
    """
    return _function(tuple(sizes), tuple(names.items()))


def check(size: Size, names: Collection[str]) -> None:
    """Raise ExpressionError for text that is no expression, or one of other names."""
    if isinstance(size, str):
        _check(size, tuple(names))


@lru_cache(maxsize=4096)
def _check(text: str, names: tuple[str, ...]) -> None:
    made = Formulas(1)
    made.size(text, {name: made.argument(0, i) for i, name in enumerate(names)})


@lru_cache(maxsize=4096)  # the layers of a model repeat each other
def _function(sizes: tuple[Size, ...], names: tuple[tuple[str, int], ...]) -> Evaluate:
    made = Formulas(1)
    known = {name: made.argument(0, position) for name, position in names}
    return made.function([made.size(size, known) for size in sizes])


class Formulas:
    """Expressions as parts, of which equal ones are computed once.

    A part is known by its number. It is a constant, an element of one of the `arguments` sequences
    that the function gets, or an operation on two parts.
    """

    def __init__(self, arguments: int) -> None:
        self._arguments = arguments
        self._parts: dict[tuple[Any, ...], int] = {}
        self._known: dict[tuple[str, tuple[int, ...]], int] = {}

    def _part(self, *what: Any) -> int:
        return self._parts.setdefault(what, len(self._parts))

    def constant(self, value: int) -> int:
        """A number that is known."""
        return self._part("constant", value)

    def argument(self, which: int, position: int) -> int:
        """An element of an argument."""
        return self._part("argument", which, position)

    def operation(self, sign: str, a: int, b: int) -> int:
        """Two parts joined by ``+ - * // %``, ``min`` or ``max``."""
        return self._part(sign, a, b)

    def size(self, size: Size, names: Mapping[str, int]) -> int:
        """A size whose names stand for these parts. Raises ExpressionError."""
        if isinstance(size, int):
            return self.constant(size)
        key = size, tuple(names.values())
        if key not in self._known:
            try:
                self._known[key] = self._node(_tree(size), size, names)
            except RecursionError:
                raise ExpressionError(f"{size[:60]!r} is nested too deep") from None
        return self._known[key]

    def _node(self, node: ast.expr, text: str, names: Mapping[str, int]) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return self.constant(node.value)
        if isinstance(node, ast.Name):
            if node.id not in names:
                raise ExpressionError(f"{text[:60]!r} uses {node.id!r}, which has no value")
            return names[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = (self._node(side, text, names) for side in (node.left, node.right))
            return self.operation(_OPERATORS[type(node.op)], left, right)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._negative(self._node(node.operand, text, names))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node, node.func.id, text, names)
        raise ExpressionError(f"{text[:60]!r} is no expression")

    def _negative(self, part: int) -> int:
        return self.operation("-", self.constant(0), part)

    def _call(self, node: ast.Call, name: str, text: str, names: Mapping[str, int]) -> int:
        if name not in FUNCTIONS:
            raise ExpressionError(f"{text[:60]!r} calls unknown function {name!r}")
        first, *others = [self._node(argument, text, names) for argument in node.args] or [-1]
        if first < 0 or (len(others) != 1 and name not in ("min", "max")):
            count = len(node.args)
            raise ExpressionError(f"{text[:60]!r}: {name} takes 2 values, not {count}")
        if name == "ceildiv":
            return self._negative(self.operation("//", self._negative(first), others[0]))
        for other in others:
            first = self.operation(_SIGNS.get(name, name), first, other)
        return first

    def function(self, results: Sequence[int]) -> Callable[..., tuple[int, ...]]:
        """From the arguments to the values of the parts `results`; raises ZeroDivisionError."""
        kinds = list(self._parts)
        needed = _needed(kinds, results)
        uses = Counter(results)
        for number in needed:
            if not _leaf(kinds[number]):
                uses.update(kinds[number][1:])
        found: dict[int, tuple[ast.expr, int]] = {}
        body: list[ast.stmt] = []
        for number in needed:
            what = kinds[number]
            made, depth = _expression(what, found)
            if what[0] != "constant" and (uses[number] > 1 or depth >= _DEEPEST):
                body.append(ast.Assign([ast.Name(f"x{number}", ast.Store(), **_AT)], made, **_AT))
                made, depth = ast.Name(f"x{number}", ast.Load(), **_AT), 0
            found[number] = made, depth
        values = ast.Tuple([found[number][0] for number in results], ast.Load(), **_AT)
        body.append(ast.Return(values, **_AT))
        names = ", ".join(f"a{i}" for i in range(self._arguments))
        whole = ast.parse(f"def evaluate({names}): pass")
        (function,) = whole.body
        assert isinstance(function, ast.FunctionDef)
        function.body = body
        scope: dict[str, Any] = {"__builtins__": {}, "min": min, "max": max}
        exec(compile(whole, "<sizes>", "exec"), scope)  # of parts alone
        evaluate: Callable[..., tuple[int, ...]] = scope["evaluate"]
        return evaluate


@lru_cache(maxsize=4096)
def _tree(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ExpressionError(f"an expression is longer than {_LONGEST} characters")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ExpressionError(f"{text[:60]!r} is no expression") from None


def _leaf(what: tuple[Any, ...]) -> bool:
    return what[0] in ("constant", "argument")


def _needed(kinds: Sequence[tuple[Any, ...]], results: Sequence[int]) -> list[int]:
    """The parts that `results` are made of, each after what it is made of."""
    found, todo = set(results), list(set(results))
    while todo:
        what = kinds[todo.pop()]
        if not _leaf(what):
            new = set(what[1:]) - found
            found |= new
            todo += new
    return sorted(found)


def _expression(
    what: tuple[Any, ...], found: Mapping[int, tuple[ast.expr, int]]
) -> tuple[ast.expr, int]:
    """A part, and how many levels of operations it has."""
    kind, *rest = what
    if kind == "constant":
        return ast.Constant(rest[0], **_AT), 0
    if kind == "argument":
        which, position = rest
        sequence = ast.Name(f"a{which}", ast.Load(), **_AT)
        at = ast.Constant(position, **_AT)
        return ast.Subscript(sequence, at, ast.Load(), **_AT), 0
    (left, a), (right, b) = (found[number] for number in rest)
    depth = 1 + max(a, b)
    if kind in ("min", "max"):
        function = ast.Name(kind, ast.Load(), **_AT)
        return ast.Call(function, [left, right], [], **_AT), depth
    return ast.BinOp(left, _NODES[kind](), right, **_AT), depth
