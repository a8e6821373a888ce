"""Dimension expressions: sizes and strides of a region in terms of its run-time parameters.

A `Dim` is an int, ``("p", i)`` (parameter i), or ``(op, a, b)`` with op one of
``+ - * // % min max``; all plain tuples, so that specs hash and pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.backends.llvm.emit.emit import Emit, Index, Int

Dim = int | tuple[Any, ...]
OPERATORS = ("+", "-", "*", "//", "%", "min", "max")


def param(index: int) -> Dim:
    """Dimension parameter ``index``."""
    return ("p", index)


def add(a: Dim, b: Dim) -> Dim:
    """a + b"""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if a == 0:
        return b
    return a if b == 0 else ("+", a, b)


def sub(a: Dim, b: Dim) -> Dim:
    """a - b"""
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    return a if b == 0 else ("-", a, b)


def mul(a: Dim, b: Dim) -> Dim:
    """a * b"""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if a == 0 or b == 0:
        return 0
    if a == 1:
        return b
    return a if b == 1 else ("*", a, b)


def floordiv(a: Dim, b: Dim) -> Dim:
    """a // b; b is positive."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    return a if b == 1 else ("//", a, b)


def ceildiv(a: Dim, b: Dim) -> Dim:
    """a / b rounded up; b is positive."""
    return floordiv(add(a, sub(b, 1)), b)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of both."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    return ("max", a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of both."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return ("min", a, b)


def product(dims: Sequence[Dim]) -> Dim:
    """The product of all, 1 for none."""
    total: Dim = 1
    for dim in dims:
        total = mul(total, dim)
    return total


def row_major(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """Strides, in elements, of a contiguous tensor of ``shape``."""
    strides: list[Dim] = []
    step: Dim = 1
    for dim in reversed(shape):
        strides.append(step)
        step = mul(dim, step)
    return tuple(reversed(strides))


def evaluate(dim: Dim, values: Sequence[int]) -> int:
    """Value of ``dim`` for parameter values ``values``."""
    if isinstance(dim, int):
        return dim
    if dim[0] == "p":
        return values[dim[1]]
    a, b = evaluate(dim[1], values), evaluate(dim[2], values)
    match dim[0]:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "//":
            return a // b
        case "%":
            return a % b
        case "min":
            return min(a, b)
        case "max":
            return max(a, b)
    raise ValueError(f"unknown operator in dimension: {dim[0]!r}; known: {', '.join(OPERATORS)}")


def text(dim: Dim) -> str:
    """``dim`` as a Python expression over p0, p1, ..."""
    if isinstance(dim, int):
        return str(dim)
    if dim[0] == "p":
        return f"p{dim[1]}"
    a, b = text(dim[1]), text(dim[2])
    return f"{dim[0]}({a}, {b})" if dim[0] in ("min", "max") else f"({a} {dim[0]} {b})"


def emit(dim: Dim, e: Emit) -> Int:
    """Code that computes ``dim``; all intermediate values are non-negative."""
    if isinstance(dim, int):
        return dim
    if dim[0] == "p":
        return e.dim(dim[1])
    ix = Index(e)
    operation = {
        "+": ix.add, "-": ix.sub, "*": ix.mul, "//": ix.div, "%": ix.rem,
        "min": ix.min, "max": ix.max,
    }[dim[0]]  # fmt: skip
    return operation(emit(dim[1], e), emit(dim[2], e))


def canonical(dim: Dim) -> frozenset[tuple[tuple[Any, ...], int]]:
    """Polynomial normal form: a set of (sorted atoms, coefficient). Equal forms, equal values."""
    return frozenset(_terms(dim).items())


def equal(a: Dim, b: Dim) -> bool:
    """Whether ``a`` and ``b`` are equal for all parameter values, as far as algebra shows it."""
    return canonical(a) == canonical(b)


def _terms(dim: Dim) -> dict[tuple[Any, ...], int]:
    if isinstance(dim, int):
        return {(): dim} if dim else {}
    if dim[0] in ("+", "-"):
        total = dict(_terms(dim[1]))
        sign = 1 if dim[0] == "+" else -1
        for atoms, k in _terms(dim[2]).items():
            total[atoms] = total.get(atoms, 0) + sign * k
        return {atoms: k for atoms, k in total.items() if k}
    if dim[0] == "*":
        total = {}
        for left, k in _terms(dim[1]).items():
            for right, n in _terms(dim[2]).items():
                atoms = tuple(sorted((*left, *right), key=repr))
                total[atoms] = total.get(atoms, 0) + k * n
        return {atoms: k for atoms, k in total.items() if k}
    if dim[0] == "p":
        return {(dim,): 1}
    return {((dim[0], canonical(dim[1]), canonical(dim[2])),): 1}
