"""Looking at graphs backwards from an operation: literals, factors, producers."""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.dims import Shape
from tilewright.compiler.ir.ops.binary import Add, Div, Mul, Pow
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.ops.reduce import Reduce
from tilewright.compiler.ir.ops.shape import Broadcast, Reshape, Transpose
from tilewright.compiler.ir.ops.unary import Neg, Reciprocal, Sqrt
from tilewright.compiler.ir.rewrite import Builder

T = TypeVar("T", bound=Op)


def made_by(value: Value, cls: type[T]) -> T | None:
    """The operation that made `value` if it is a `cls`."""
    return value.op if isinstance(value.op, cls) else None


def splat(builder: Builder, value: Value) -> Any:
    """The number that every element of `value` has, None when it is not a known constant.

    Sees through reshapes and broadcasts of constants with one element.
    """
    op = value.op
    while isinstance(op, Reshape | Broadcast):
        op = op.x.op
    if isinstance(op, Fill):
        return op.value
    if isinstance(op, Constant) and op.type.elements == 1:
        return builder.array(op.out).reshape(-1)[0].item()  # type: ignore[union-attr]
    return None


def number(builder: Builder, value: Value) -> float | None:
    """`splat` as a float; None for booleans too."""
    found = splat(builder, value)
    return None if found is None or isinstance(found, bool) else float(found)


def close(a: float | None, b: float) -> bool:
    """Equal up to the rounding of a float32 literal."""
    return a is not None and abs(a - b) <= 2e-6 * abs(b)


def sides(op: Any) -> Iterator[tuple[Value, Value]]:
    """Both orders of the operands of a commutative operation."""
    yield op.a, op.b
    yield op.b, op.a


def factors(
    builder: Builder, value: Value, whole: Value | None = None
) -> tuple[float, list[Value]]:
    """`value` as `coefficient * product of values`, through mul, div by a number, neg, x**2, x**3.

    `whole` is not taken apart even when it is a product itself.
    """
    op = value.op
    if value is whole:
        return 1.0, [value]
    if isinstance(op, Mul):
        ca, va = factors(builder, op.a, whole)
        cb, vb = factors(builder, op.b, whole)
        return ca * cb, va + vb
    if isinstance(op, Div):
        divisor = number(builder, op.b)
        if divisor:
            c, v = factors(builder, op.a, whole)
            return c / divisor, v
    if isinstance(op, Neg):
        c, v = factors(builder, op.x, whole)
        return -c, v
    if isinstance(op, Pow) and number(builder, op.b) in (2.0, 3.0):
        c, v = factors(builder, op.a, whole)
        times = int(number(builder, op.b) or 0)
        return c**times, v * times
    literal = number(builder, value)
    if literal is not None:
        return literal, []
    return 1.0, [value]


def plus(builder: Builder, value: Value) -> tuple[Value, float] | None:
    """`(x, c)` when `value` is `x + c` with a number c."""
    op = made_by(value, Add)
    if op is None:
        return None
    for x, other in sides(op):
        c = number(builder, other)
        if c is not None:
            return x, c
    return None


def inverse_sqrt(builder: Builder, value: Value) -> Value | None:
    """`v` when `value` is `1 / sqrt(v)` in one of its spellings."""
    op = value.op
    if isinstance(op, Reciprocal):
        root = made_by(op.x, Sqrt)
        return root.x if root else None
    if isinstance(op, Div) and number(builder, op.a) == 1.0:
        root = made_by(op.b, Sqrt)
        return root.x if root else None
    if isinstance(op, Sqrt):
        inverse = made_by(op.x, Reciprocal)
        return inverse.x if inverse else None
    if isinstance(op, Pow) and number(builder, op.b) == -0.5:
        return op.a
    return None


def is_square(builder: Builder, value: Value, of: Value) -> bool:
    """True when `value` is `of * of`."""
    op = value.op
    if isinstance(op, Pow):
        return op.a is of and number(builder, op.b) == 2.0
    return isinstance(op, Mul) and op.a is of and op.b is of


def suffix_mean(value: Value) -> tuple[Value, int] | None:
    """`(x, axis)` when `value` is the mean of x, with kept axes, over the axes from `axis` on."""
    op = made_by(value, Reduce)
    if op is None or op.kind != "mean" or not op.keepdims or not op.axes:
        return None
    axes = sorted(op.axes)
    if axes != list(range(axes[0], op.x.rank)):
        return None
    return op.x, axes[0]


def fits_suffix(value: Value, shape: Shape, axis: int) -> bool:
    """True when `value` varies only along the axes of `shape` from `axis` on, or not at all."""
    offset = len(shape) - value.rank
    if offset < 0:
        return False
    return all(
        dim == shape[offset + i] if offset + i >= axis and dim != 1 else dim == 1
        for i, dim in enumerate(value.shape)
    )


def constant_array(builder: Builder, value: Value) -> np.ndarray | None:
    """The elements of a constant, through reshapes of it; fills are materialised."""
    op = value.op
    if isinstance(op, Reshape):
        inner = constant_array(builder, op.x)
        fixed = [d for d in op.shape if isinstance(d, int)]
        return inner.reshape(fixed) if inner is not None and len(fixed) == len(op.shape) else None
    if isinstance(op, Fill):
        fixed = [d for d in op.type.shape if isinstance(d, int)]
        if len(fixed) != op.type.rank:
            return None
        return np.full(fixed, op.value, op.type.dtype.numpy)
    return builder.array(value)


def below_transposes(value: Value, letters: str) -> tuple[Value, str]:
    """The source of `value` through transposes, and `letters` (one per axis) in its order."""
    while isinstance(value.op, Transpose):
        # Axis j of value is axis perm[j] of the source.
        order = sorted(range(len(letters)), key=value.op.perm.__getitem__)
        letters = "".join(letters[j] for j in order)
        value = value.op.x
    return value, letters
