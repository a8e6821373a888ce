"""MatMul, Gemm and their integer forms: every one is a contraction."""

from collections.abc import Sequence

import numpy as np

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.dequantized import matrix_product
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, constant, size_of
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.types import DType

_BATCH = "abcdefghijlopqrstuvwxyz"
"""Letters of batch axes; k, m and n are the matrix axes."""


def contracted(ctx: Import, a: Value, b: Value) -> Value:
    """The numpy matmul of two tensors as one contraction.

    A batch axis of size 1 that is broadcast disappears from its operand, so that a letter of the
    spec has one size: a[B, M, K] @ b[K, N] is `amk,kn->amn`.
    """
    left = "mk" if a.rank > 1 else "k"
    right = "kn" if b.rank > 1 else "k"
    ka, kb = a.rank - len(left), b.rank - len(right)
    inner = ctx.unify(a.shape[-1], b.shape[-2] if b.rank > 1 else b.shape[-1], "the summed axis")
    count = max(ka, kb)
    letters = {"a": "", "b": "", "out": ""}
    shapes: dict[str, list[Dim]] = {"a": [], "b": []}
    for i in range(count):
        letter = _BATCH[i]
        da = a.shape[i - count + ka] if i >= count - ka else None
        db = b.shape[i - count + kb] if i >= count - kb else None
        if da is not None and db is not None and 1 not in (da, db):
            da = db = ctx.unify(da, db, "the batch axes")
        for key, dim, other in (("a", da, db), ("b", db, da)):
            if dim is not None and not (dim == 1 and other is not None and other != 1):
                letters[key] += letter
                shapes[key].append(dim)
        letters["out"] += letter
    rows = [a.shape[-2]] if a.rank > 1 else []
    columns = [b.shape[-1]] if b.rank > 1 else []
    a = _fitted(ctx, a, [*shapes["a"], *rows, inner])
    b = _fitted(ctx, b, [*shapes["b"], inner, *columns])
    out = letters["out"] + left[:-1] + right[1:]
    spec = f"{letters['a']}{left},{letters['b']}{right}->{out}"
    return ctx.emit(Contract, a=a, b=b, spec=spec)


def _fitted(ctx: Import, value: Value, shape: Sequence[Dim]) -> Value:
    if value.rank == len(shape):
        return ctx.relabel(value, shape, "matrix product")
    return ctx.reshape(value, shape)


@onnx_op("MatMul")
def _matmul(ctx: Import, node: Node) -> Value:
    a, b = node.input(0), node.input(1)
    if a.rank == 0 or b.rank == 0 or a.dtype != b.dtype:
        ctx.fail(node, "the operands must be matrices of one type", f"{a.type} and {b.type}")
    whole = matrix_product(ctx, integer_product, a, b)
    return contracted(ctx, a, b) if whole is None else whole.value


@onnx_op("Gemm")
def gemm(ctx: Import, node: Node) -> Value:
    """`alpha * A' B' + beta * C`."""
    a, b, c = node.input(0), node.input(1), node.maybe(2)
    if a.rank != 2 or b.rank != 2 or a.dtype != b.dtype:
        ctx.fail(node, "the operands must be matrices of one type", f"{a.type} and {b.type}")
    whole = None
    if not node.attr("transA", 0):
        whole = matrix_product(ctx, integer_product, a, b, bool(node.attr("transB", 0)))
    ia = "km" if node.attr("transA", 0) else "mk"
    ib = "nk" if node.attr("transB", 0) else "kn"
    inner = ctx.unify(a.shape[ia.index("k")], b.shape[ib.index("k")], "the summed axis")
    shape_a = [inner if x == "k" else d for x, d in zip(ia, a.shape, strict=True)]
    shape_b = [inner if x == "k" else d for x, d in zip(ib, b.shape, strict=True)]
    if whole is None:
        a, b = _fitted(ctx, a, shape_a), _fitted(ctx, b, shape_b)
        whole = Term(ctx, ctx.emit(Contract, a=a, b=b, spec=f"{ia},{ib}->mn"))
    out = whole
    out = _scaled(out, node.attr("alpha", 1.0))
    beta = node.attr("beta", 1.0)
    if c is not None and beta != 0:
        left, right = ctx.broadcast(out.value, c)
        out = Term(ctx, left) + _scaled(Term(ctx, right), beta)
    return out.value


def _scaled(term: Term, factor: float) -> Term:
    if factor == 1:
        return term
    if term.dtype.is_float:
        return term * factor
    if factor == int(factor):
        return term * int(factor)
    return (term.cast(DType.F64) * factor).cast(term.dtype)


@onnx_op("MatMulInteger")
def matmul_integer(ctx: Import, node: Node) -> Value:
    """8-bit operands with zero points, i32 result."""
    return integer_product(ctx, node.input(0), node.input(1), node.maybe(2), node.maybe(3)).value


def integer_product(ctx: Import, a: Value, b: Value, za: Value | None, zb: Value | None) -> Term:
    """(A - za)(B - zb) in i32 for 8-bit A and B; zero points as MatMulInteger takes them.

    (A - za)(B - zb) = A B - za sum_k B - zb sum_k A + K za zb, so that A and B stay 8-bit. A known
    u8 B is B - 128 as i8 with zero points less 128, which often are 0 then.
    """
    known, points = ctx.array(b), ctx.array(zb)
    if known is not None and points is not None and b.dtype == DType.U8 and points.any():
        b, zb = _less_128(ctx, known), _less_128(ctx, points)
    left, right = _zero_point(ctx, za, a, rows=True), _zero_point(ctx, zb, b, rows=False)
    if (left is None and right is None) or (a.rank > 1 and b.rank > 1):
        out = Term(ctx, contracted(ctx, a, b))
        if left is not None:
            out = out - left * _sums(ctx, b, -2)
        if right is not None:
            out = out - right * _sums(ctx, a, -1)
        if left is not None and right is not None:
            out = out + left * right * size_of(ctx, a.shape[-1], DType.I32)
        return out
    shifted_a, shifted_b = Term(ctx, a).cast(DType.I32), Term(ctx, b).cast(DType.I32)
    shifted_a = shifted_a if left is None else shifted_a - left
    shifted_b = shifted_b if right is None else shifted_b - right
    return Term(ctx, contracted(ctx, shifted_a.value, shifted_b.value))


def _sums(ctx: Import, x: Value, axis: int) -> Term:
    """Sums of 8-bit `x` along an axis in i32, which keeps size 1; computed here where `x` is known,
    whatever its size."""
    known = ctx.array(x)
    if known is None:
        return Term(ctx, x).cast(DType.I32).sum((axis,))
    return constant(ctx, known.sum(axis, dtype=np.int32, keepdims=True))


def _less_128(ctx: Import, array: np.ndarray) -> Value:
    """u8 values less 128 as an i8 constant."""
    return constant(ctx, (array.astype(np.int16) - 128).astype(np.int8)).value


def _zero_point(ctx: Import, value: Value | None, x: Value, rows: bool) -> Term | None:
    """The zero point of `x` as i32, shaped to broadcast against rows or columns; None when 0."""
    known = ctx.array(value)
    if value is None or (known is not None and not known.astype(int).any()):
        return None
    zero = Term(ctx, value).cast(DType.I32)
    if value.rank == 0 or value.type.elements == 1:
        return zero.reshape()
    if value.rank == 1 and x.rank > 1 and rows:
        return zero.reshape(value.shape[0], 1)
    return zero
