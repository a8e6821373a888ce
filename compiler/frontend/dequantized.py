"""Values that DequantizeLinear made of 8-bit ones, and products of them in integers.

(a - za) sa times (b - zb) sb is the exact product of the integers times sa sb, which is what QDQ
models mean: rounded once instead of once an operand and once a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.terms import Term, constant
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.types import DType

Multiply = Callable[[Import, Value, Value, Value | None, Value | None], Term]
"""(a - za)(b - zb) in i32 of a, b, za and zb."""

LONGEST = 2**31 // 255**2
"""Sums of so many products of differences of bytes stay within i32."""


@dataclass(frozen=True)
class Dequantized:
    """`(x - zero) * scale` with 8-bit x; `axis`: along which the parameters go, None for one."""

    x: Value
    scale: Value
    zero: Value | None
    axis: int | None


def remember(ctx: Import, made: Value, found: Dequantized) -> None:
    """`made` is `found`; nothing is kept of other types than 8-bit integers and f32."""
    if found.x.dtype in (DType.I8, DType.U8) and found.scale.dtype == made.dtype == DType.F32:
        ctx.dequantized[made] = found


def real(ctx: Import, found: Dequantized) -> Value:
    """The f32 value of `found`, which has one scale and zero point; remembered."""
    wide = Term(ctx, found.x).cast(DType.I32)
    if found.zero is not None:
        wide = wide - Term(ctx, found.zero).reshape().cast(DType.I32)
    made = (wide.cast(DType.F32) * Term(ctx, found.scale).reshape()).value
    remember(ctx, made, found)
    return made


@dataclass(frozen=True)
class Pair:
    """Operands of a product: `left` computed, with one scale; `right` constant."""

    left: Dequantized
    right: Dequantized
    weights: np.ndarray

    def scale(self, ctx: Import) -> Term:
        """Of the products: one, or one for each column of the right operand."""
        columns = Term(ctx, self.right.scale)
        if self.right.axis is None:
            columns = columns.reshape()
        return Term(ctx, self.left.scale).reshape() * columns


def pair(ctx: Import, a: Value, b: Value, column: int, terms: int) -> Pair | None:
    """The integers behind `a` and `b`, None if a product of `terms` terms cannot be taken of them.

    column: the axis of b along which it may have several scales.
    """
    left, right = ctx.dequantized.get(a), ctx.dequantized.get(b)
    if left is None or right is None or left.axis is not None or terms > LONGEST:
        return None
    weights = ctx.array(right.x)
    if weights is None or right.axis not in (None, column):
        return None
    return Pair(left, right, weights)


def matrix_product(
    ctx: Import, multiply: Multiply, a: Value, b: Value, transposed: bool = False
) -> Term | None:
    """The f32 product of a [.., k] and constant b [k, n] ([n, k] if `transposed`) by integers."""
    terms = b.shape[-1 if transposed else 0] if b.rank == 2 else None
    if a.rank < 2 or not isinstance(terms, int):
        return None
    found = pair(ctx, a, b, 0 if transposed else 1, terms)
    if found is None:
        return None
    right = found.right.x
    if transposed:
        right = constant(ctx, np.ascontiguousarray(found.weights.T)).value
    whole = multiply(ctx, found.left.x, right, found.left.zero, found.right.zero)
    return whole.cast(DType.F32) * found.scale(ctx)
