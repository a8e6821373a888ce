"""Sizes and formulas of a program as Python functions, made once when it is opened.

A decoding loop has new sizes at every step: reading their text again and again would take longer
than the model's launches.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from tilewright.runtime.expressions import FUNCTIONS, ExpressionError

Size = int | str
Values = Sequence[int]
Evaluate = Callable[[Values], tuple[int, ...]]
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_LONGEST = 100_000


def compiled(sizes: Sequence[Size], names: Mapping[str, int]) -> Evaluate:
    """A function from values, in the order that `names` gives, to the values of `sizes`.

    Raises ExpressionError for text that is no expression of `runtime.expressions` or that uses
    another name; the function raises ZeroDivisionError.
    """
    return _function(tuple(sizes), tuple(names.items()))


@lru_cache(maxsize=4096)  # the layers of a model repeat each other
def _function(sizes: tuple[Size, ...], names: tuple[tuple[str, int], ...]) -> Evaluate:
    code = _Code(dict(names))
    results = [code.constant(s) if isinstance(s, int) else code.expression(s) for s in sizes]
    return code.function(results)


class _Code:
    """Expressions as steps on a list of numbers; what occurs twice is computed once.

    A part is ("constant", value), ("name", position) or (function, part, part), by its number.
    """

    def __init__(self, names: Mapping[str, int]) -> None:
        self.names = names
        self.parts: dict[tuple[object, ...], int] = {}

    def _part(self, *what: object) -> int:
        return self.parts.setdefault(what, len(self.parts))

    def constant(self, value: int) -> int:
        """The number of a part that is known."""
        return self._part("constant", value)

    def function(self, results: Sequence[int]) -> Evaluate:
        """From values to the values of the parts with these numbers."""
        kinds: dict[int, Any] = {number: what for what, number in self.parts.items()}
        loads = [n for n, what in kinds.items() if what[0] == "name"]
        constants = [n for n, what in kinds.items() if what[0] == "constant"]
        steps = [n for n in kinds if not isinstance(kinds[n][0], str)]
        at = {number: i for i, number in enumerate([*loads, *constants, *steps])}
        wanted = [at[number] for number in results]
        known = [kinds[number][1] for number in constants]
        positions = [kinds[number][1] for number in loads]
        rows = [(kinds[n][0], at[kinds[n][1]], at[kinds[n][2]]) for n in steps]
        if not loads and not steps:
            fixed: tuple[int, ...] = tuple([known[i] for i in wanted])
            return lambda values: fixed

        def evaluate(values: Values) -> tuple[int, ...]:
            found = [values[i] for i in positions]
            found += known
            append = found.append
            for function, a, b in rows:
                append(function(found[a], found[b]))
            return tuple([found[i] for i in wanted])

        return evaluate

    def expression(self, text: str) -> int:
        """The number of what `text` stands for."""
        if len(text) > _LONGEST:
            raise ExpressionError(f"an expression is longer than {_LONGEST} characters")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise ExpressionError(f"{text[:60]!r} is no expression") from None
        try:
            return self._node(tree, text)
        except RecursionError:
            raise ExpressionError(f"{text[:60]!r} is nested too deep") from None

    def _node(self, node: ast.expr, text: str) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return self.constant(node.value)
        if isinstance(node, ast.Name):
            if node.id not in self.names:
                raise ExpressionError(f"{text[:60]!r} uses {node.id!r}, which has no value")
            return self._part("name", self.names[node.id])
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = self._node(node.left, text), self._node(node.right, text)
            return self._part(_OPERATORS[type(node.op)], left, right)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._part(operator.sub, self.constant(0), self._node(node.operand, text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node, node.func.id, text)
        raise ExpressionError(f"{text[:60]!r} is no expression")

    def _call(self, node: ast.Call, name: str, text: str) -> int:
        if name not in FUNCTIONS:
            raise ExpressionError(f"{text[:60]!r} calls unknown function {name!r}")
        first, *others = [self._node(argument, text) for argument in node.args] or [-1]
        if first < 0 or (len(others) != 1 and name not in ("min", "max")):
            count = len(node.args)
            raise ExpressionError(f"{text[:60]!r}: {name} takes 2 values, not {count}")
        for other in others:
            first = self._part(FUNCTIONS[name], first, other)
        return first
