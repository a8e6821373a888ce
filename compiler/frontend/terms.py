"""Tensor arithmetic for importers: `(x - x.mean(axes)) * scale` instead of nested `ctx.emit` calls.

A `Term` pairs a value with the context that emits; every method emits primitive operations. Python
numbers become scalars of the term's element type.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.ir.core import Op, Region, Value
from tilewright.compiler.ir.dims import Dim, Shape
from tilewright.compiler.ir.ops import binary, contraction, leaf, nn, reduce, shape, unary
from tilewright.compiler.ir.types import DType, TensorType


class Term:
    """A value with operators; `value` is the IR value, every result is a new `Term`."""

    __slots__ = ("ctx", "value")

    def __init__(self, ctx: Import, value: Value) -> None:
        self.ctx, self.value = ctx, value

    @property
    def dims(self) -> Shape:
        return self.value.type.shape

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def rank(self) -> int:
        return len(self.value.type.shape)

    def emit(self, op: type[Op], **fields: Any) -> "Term":
        """`op(**fields)` as a term."""
        return Term(self.ctx, self.ctx.emit(op, **fields))

    def apply(self, op: type[Op], **fields: Any) -> "Term":
        """`op(x=self, **fields)`."""
        return self.emit(op, x=self.value, **fields)

    def like(self, other: "Term | Value | float | int | bool") -> Value:
        """`other` as an operand next to this term."""
        if isinstance(other, Term):
            return other.value
        if isinstance(other, Value):
            return other
        return self.ctx.scalar(other, self.dtype)

    def binary(self, op: type[Op], other: "Term | Value | float | int | bool") -> "Term":
        """`op(a=self, b=other)`, with symbolic dimensions unified."""
        a, b = self.ctx.broadcast(self.value, self.like(other))
        return self.emit(op, a=a, b=b)

    def __add__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Add, other)

    def __radd__(self, other: float | int) -> "Term":
        return self.binary(binary.Add, other)

    def __sub__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Sub, other)

    def __rsub__(self, other: float | int) -> "Term":
        return Term(self.ctx, self.like(other)).binary(binary.Sub, self)

    def __mul__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Mul, other)

    def __rmul__(self, other: float | int) -> "Term":
        return self.binary(binary.Mul, other)

    def __truediv__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Div, other)

    def __rtruediv__(self, other: float | int) -> "Term":
        return Term(self.ctx, self.like(other)).binary(binary.Div, self)

    def __mod__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Mod, other)

    def __pow__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Pow, other)

    def __neg__(self) -> "Term":
        return self.apply(unary.Neg)

    def __and__(self, other: "Term | Value") -> "Term":
        return self.binary(binary.And, other)

    def __or__(self, other: "Term | Value") -> "Term":
        return self.binary(binary.Or, other)

    def __invert__(self) -> "Term":
        return self.apply(unary.Not)

    def __lt__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Lt, other)

    def __le__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Le, other)

    def __gt__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Gt, other)

    def __ge__(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Ge, other)

    def equals(self, other: "Term | Value | float | int") -> "Term":
        """Elementwise `self == other`."""
        return self.binary(binary.Eq, other)

    def minimum(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Min, other)

    def maximum(self, other: "Term | Value | float | int") -> "Term":
        return self.binary(binary.Max, other)

    def clip(self, low: float | int, high: "Term | Value | float | int") -> "Term":
        """`min(max(self, low), high)`."""
        return self.maximum(low).minimum(high)

    def where(
        self, a: "Term | Value | float | int", b: "Term | Value | float | int", dtype: DType
    ) -> "Term":
        """`a where self (a bool) else b`; plain numbers take `dtype`."""
        sides = [
            self.like(v) if isinstance(v, Term | Value) else self.ctx.scalar(v, dtype)
            for v in (a, b)
        ]
        condition, left, right = self.ctx.broadcast(self.value, *sides)
        return self.emit(binary.Where, condition=condition, a=left, b=right)

    def exp(self) -> "Term":
        return self.apply(unary.Exp)

    def log(self) -> "Term":
        return self.apply(unary.Log)

    def sqrt(self) -> "Term":
        return self.apply(unary.Sqrt)

    def abs(self) -> "Term":
        return self.apply(unary.Abs)

    def floor(self) -> "Term":
        return self.apply(unary.Floor)

    def ceil(self) -> "Term":
        return self.apply(unary.Ceil)

    def round(self) -> "Term":
        """Nearest integer, halves to even."""
        return self.apply(unary.Round)

    def cast(self, dtype: DType, saturate: bool = True) -> "Term":
        """This term in `dtype`; itself when it already is."""
        if dtype == self.dtype:
            return self
        return self.apply(unary.Cast, dtype=dtype, saturate=saturate)

    def reduce(self, kind: str, axes: Sequence[int], keepdims: bool = True) -> "Term":
        """`kind` (sum, mean, max, ...) over `axes`."""
        positive = tuple(sorted(a % self.rank for a in axes))
        return self.apply(reduce.Reduce, kind=kind, axes=positive, keepdims=keepdims)

    def sum(self, axes: Sequence[int], keepdims: bool = True) -> "Term":
        return self.reduce("sum", axes, keepdims)

    def mean(self, axes: Sequence[int], keepdims: bool = True) -> "Term":
        return self.reduce("mean", axes, keepdims)

    def max(self, axes: Sequence[int], keepdims: bool = True) -> "Term":
        return self.reduce("max", axes, keepdims)

    def softmax(self, axis: int, log: bool = False) -> "Term":
        return self.apply(nn.Softmax, axis=axis % self.rank, log=log)

    def reshape(self, *dims: Dim) -> "Term":
        """The same elements in another shape; itself when it already has it."""
        return Term(self.ctx, self.ctx.reshape(self.value, dims))

    def transpose(self, *perm: int) -> "Term":
        """Axis j of the result is axis perm[j]; itself when nothing moves."""
        if perm == tuple(range(self.rank)):
            return self
        return self.apply(shape.Transpose, perm=perm)

    def broadcast(self, *dims: Dim) -> "Term":
        return self if dims == self.dims else self.apply(shape.Broadcast, shape=dims)

    def unsqueeze(self, *axes: int) -> "Term":
        """New axes of size 1 at positions `axes` of the result."""
        total = self.rank + len(axes)
        new = {a % total for a in axes}
        rest = iter(self.dims)
        return self.reshape(*(1 if i in new else next(rest) for i in range(total)))

    def squeeze(self, *axes: int) -> "Term":
        """Without `axes`, which have size 1."""
        gone = {a % self.rank for a in axes}
        return self.reshape(*(d for i, d in enumerate(self.dims) if i not in gone))

    def slice(self, axis: int, start: Dim, size: Dim, step: int = 1) -> "Term":
        """`size` positions start, start + step, ... along `axis`."""
        axis %= self.rank
        if (start, step) == (0, 1) and size == self.dims[axis]:
            return self
        starts: list[Dim] = [0] * self.rank
        steps = [1] * self.rank
        dims = list(self.dims)
        starts[axis], steps[axis], dims[axis] = start, step, size
        return self.apply(shape.Slice, starts=tuple(starts), steps=tuple(steps), shape=tuple(dims))

    def flip(self, axis: int) -> "Term":
        """The elements along `axis` in reverse order."""
        size = self.dims[axis % self.rank]
        return self.slice(axis, size - 1, size, -1)

    def split(self, axis: int, sizes: Sequence[Dim]) -> "list[Term]":
        """Consecutive pieces of `sizes` along `axis`."""
        pieces: list[Term] = []
        start: Dim = 0
        for size in sizes:
            pieces.append(self.slice(axis, start, size))
            start = start + size
        return pieces

    def pad(
        self,
        low: Sequence[Dim],
        high: Sequence[Dim],
        value: float | int | None = None,
        mode: str = "constant",
    ) -> "Term":
        """`shape.Pad`, with a number as the value; itself when nothing is padded."""
        if not any(d != 0 for d in (*low, *high)):
            return self
        fill = None if value is None else self.like(value)
        return self.apply(shape.Pad, value=fill, low=tuple(low), high=tuple(high), mode=mode)

    def gather(self, indices: "Term | Value", axis: int) -> "Term":
        return self.apply(shape.Gather, indices=self.like(indices), axis=axis % self.rank)

    def contract(self, spec: str, other: "Term | Value") -> "Term":
        """`contraction.Contract` of this term and `other`."""
        return self.emit(contraction.Contract, a=self.value, b=self.like(other), spec=spec)


def concat(parts: Sequence[Term], axis: int) -> Term:
    """The terms one after another along `axis`; the only one itself."""
    if len(parts) == 1:
        return parts[0]
    values = tuple(p.value for p in parts)
    return parts[0].emit(shape.Concat, parts=values, axis=axis % parts[0].rank)


def iota(ctx: Import, length: Dim, dtype: DType = DType.I64) -> Term:
    """0, 1, ..., length - 1."""
    return Term(ctx, ctx.emit(leaf.Iota, length=length, dtype=dtype))


def fill(ctx: Import, value: float | int | bool, dtype: DType, dims: Shape = ()) -> Term:
    """`value` in every element."""
    return Term(ctx, ctx.emit(leaf.Fill, value=value, type=TensorType(dtype, dims)))


def size_of(ctx: Import, dim: Dim, dtype: DType = DType.I64) -> Term:
    """A dimension as a scalar."""
    if isinstance(dim, int):
        return Term(ctx, ctx.scalar(dim, dtype))
    return Term(ctx, ctx.dim_value(dim)).cast(dtype)


def constant(ctx: Import, array: np.ndarray) -> Term:
    """A constant tensor."""
    return Term(ctx, ctx.constant(array))


def block(
    ctx: Import, types: Sequence[TensorType], build: "Callable[[list[Term]], Sequence[Term]]"
) -> Region:
    """A region with parameters of `types` whose results are those of `build(parameters)`."""
    params = tuple(Value(t) for t in types)
    outer, ctx.builder.ops = ctx.builder.ops, []
    try:
        results = build([Term(ctx, p) for p in params])
        return Region(params, tuple(ctx.builder.ops), tuple(r.value for r in results))
    finally:
        ctx.builder.ops = outer
