"""Sizes and formulas of a program as Python functions, made once when it is opened.

A decoding loop has new sizes at every step: reading their text again and again would take longer
than the model's launches.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from tilewright.runtime.expressions import FUNCTIONS, ExpressionError

Size = int | str
Values = Sequence[int]
Evaluate = Callable[[Values], tuple[int, ...]]
_Part = int | Callable[[Values], int]
"""A subexpression: what it is, or how to get it from the values."""

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
    table = dict(names)
    parts = [size if isinstance(size, int) else _expression(size, table) for size in sizes]
    known = tuple([part if isinstance(part, int) else 0 for part in parts])
    asked = [(i, part) for i, part in enumerate(parts) if not isinstance(part, int)]
    if not asked:
        return lambda values: known

    def evaluate(values: Values) -> tuple[int, ...]:
        found = list(known)
        for i, part in asked:
            found[i] = part(values)
        return tuple(found)

    return evaluate


def _expression(text: str, names: Mapping[str, int]) -> _Part:
    """What `text` stands for; only what the grammar of `runtime.expressions` has may be in it."""
    if len(text) > _LONGEST:
        raise ExpressionError(f"an expression is longer than {_LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ExpressionError(f"{text[:60]!r} is no expression") from None
    try:
        return _part(tree, text, names)
    except RecursionError:
        raise ExpressionError(f"{text[:60]!r} is nested too deep") from None
    except ZeroDivisionError:
        raise ExpressionError(f"{text[:60]!r} divides by zero") from None


def _part(node: ast.expr, text: str, names: Mapping[str, int]) -> _Part:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise ExpressionError(f"{text[:60]!r} uses {node.id!r}, which has no value")
        return operator.itemgetter(names[node.id])
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _part(node.left, text, names), _part(node.right, text, names)
        return _combined(_OPERATORS[type(node.op)], [left, right])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _combined(operator.sub, [0, _part(node.operand, text, names)])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node, node.func.id, text, names)
    raise ExpressionError(f"{text[:60]!r} is no expression")


def _call(node: ast.Call, name: str, text: str, names: Mapping[str, int]) -> _Part:
    if name not in FUNCTIONS:
        raise ExpressionError(f"{text[:60]!r} calls unknown function {name!r}")
    arguments = [_part(argument, text, names) for argument in node.args]
    if len(arguments) == 1 and name in ("min", "max"):
        return arguments[0]
    if len(arguments) != 2 and (name not in ("min", "max") or not arguments):
        raise ExpressionError(f"{text[:60]!r}: {name} takes 2 values, not {len(arguments)}")
    return _combined(FUNCTIONS[name], arguments)


def _combined(function: Callable[..., int], parts: Sequence[_Part]) -> _Part:
    """The function of parts; what is known is not computed again."""
    if len(parts) == 2:
        left, right = parts
        if isinstance(left, int):
            if isinstance(right, int):
                return function(left, right)
            return _right(function, left, right)
        if isinstance(right, int):
            return lambda values: function(left(values), right)
        return lambda values: function(left(values), right(values))
    return lambda values: function(
        *[part if isinstance(part, int) else part(values) for part in parts]
    )


def _right(function: Callable[..., int], left: int, right: Callable[[Values], int]) -> _Part:
    return lambda values: function(left, right(values))
