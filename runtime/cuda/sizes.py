"""Sizes and formulas of a program as Python functions, compiled once when it is opened.

A decoding loop has new sizes at every step: evaluating their text again and again would take longer
than the model's launches.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from tilewright.runtime.expressions import FUNCTIONS, ExpressionError

Size = int | str
Values = Sequence[int]
Evaluate = Callable[[Values], tuple[int, ...]]

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)
_LONGEST = 100_000
_ARGUMENT = "v"


def compiled(sizes: Sequence[Size], names: Mapping[str, int]) -> Evaluate:
    """A function from values, in the order that `names` gives, to the values of `sizes`.

    Raises ExpressionError for text that is no expression of `runtime.expressions` or that uses
    another name; the function raises ZeroDivisionError.
    """
    return _function(tuple(sizes), tuple(names.items()))


@lru_cache(maxsize=4096)  # the layers of a model repeat each other
def _function(sizes: tuple[Size, ...], names: tuple[tuple[str, int], ...]) -> Evaluate:
    if all(isinstance(size, int) for size in sizes):
        known = tuple(int(size) for size in sizes)
        return lambda values: known
    table = dict(names)
    elements = [
        ast.Constant(size) if isinstance(size, int) else _expression(size, table) for size in sizes
    ]
    body = ast.Tuple(elements, ast.Load())
    arguments = ast.arguments([], [ast.arg(_ARGUMENT)], None, [], [], None, [])
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, body)))
    scope = {"__builtins__": {}, **FUNCTIONS}
    function: Evaluate = eval(compile(tree, "<sizes>", "eval"), scope)
    return function


def _expression(text: str, names: Mapping[str, int]) -> ast.expr:
    """The tree of `text`; only what the grammar of `runtime.expressions` has may be in it."""
    if len(text) > _LONGEST:
        raise ExpressionError(f"an expression is longer than {_LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ExpressionError(f"{text[:60]!r} is no expression") from None
    try:
        return _checked(tree, text, names)
    except RecursionError:
        raise ExpressionError(f"{text[:60]!r} is nested too deep") from None


def _checked(node: ast.expr, text: str, names: Mapping[str, int]) -> ast.expr:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise ExpressionError(f"{text[:60]!r} uses {node.id!r}, which has no value")
        place = ast.Constant(names[node.id])
        return ast.Subscript(ast.Name(_ARGUMENT, ast.Load()), place, ast.Load())
    if isinstance(node, ast.BinOp) and isinstance(node.op, _OPERATORS):
        left, right = _checked(node.left, text, names), _checked(node.right, text, names)
        return ast.BinOp(left, node.op, right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return ast.UnaryOp(node.op, _checked(node.operand, text, names))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node, node.func.id, text, names)
    raise ExpressionError(f"{text[:60]!r} is no expression")


def _call(node: ast.Call, name: str, text: str, names: Mapping[str, int]) -> ast.expr:
    if name not in FUNCTIONS:
        raise ExpressionError(f"{text[:60]!r} calls unknown function {name!r}")
    arguments = [_checked(argument, text, names) for argument in node.args]
    if len(arguments) == 1 and name in ("min", "max"):
        return arguments[0]
    if len(arguments) != 2 and (name not in ("min", "max") or not arguments):
        raise ExpressionError(f"{text[:60]!r}: {name} takes 2 values, not {len(arguments)}")
    return ast.Call(ast.Name(name, ast.Load()), arguments, [])
