"""Reductions, scans along an axis, and selections: sum, argmax, cumsum, top-k."""

from tilewright.compiler.ir.core import Op, Value, op
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.types import DType, TensorType

KINDS = ("sum", "mean", "prod", "max", "min", "any", "all")


def _axes(self: Op, x: Value, axes: tuple[int, ...]) -> None:
    valid = all(0 <= a < x.rank for a in axes) and len(set(axes)) == len(axes)
    self.expect(valid, f"axes {axes} do not fit {x.type}")


@op("reduce")
class Reduce(Op):
    """`out[kept..] = kind of x over axes`; kept axes in order, reduced ones as size 1 if keepdims.

    kind: sum, mean, prod, max, min (of nothing: 0, NaN, 1, least and greatest value of the type;
    NaN wins in max and min), any, all (of bool). Sums of f16 and bf16 accumulate in f32.
    """

    x: Value
    kind: str
    axes: tuple[int, ...]
    keepdims: bool = True

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.kind in KINDS, f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        _axes(self, self.x, self.axes)
        logical = self.kind in ("any", "all")
        fits = (self.x.dtype == DType.BOOL) == logical
        self.expect(fits, f"{self.kind} of {self.x.type}")
        dims: list[Dim] = []
        for i, dim in enumerate(self.x.shape):
            if i not in self.axes:
                dims.append(dim)
            elif self.keepdims:
                dims.append(1)
        return (TensorType(self.x.dtype, tuple(dims)),)


@op("arg_reduce")
class ArgReduce(Op):
    """`out = i64 position of the max (or min) of x along axis`; the first, or the last if `last`.

    The axis is kept with size 1 if keepdims. NaN counts as the largest (smallest for min).
    """

    x: Value
    kind: str
    axis: int
    keepdims: bool = True
    last: bool = False

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.kind in ("max", "min"), f"kind {self.kind!r} is neither max nor min")
        _axes(self, self.x, (self.axis,))
        kept = (1,) if self.keepdims else ()
        shape = (*self.x.shape[: self.axis], *kept, *self.x.shape[self.axis + 1 :])
        return (TensorType(DType.I64, shape),)


@op("cumulate")
class Cumulate(Op):
    """`out[.., i, ..] = sum (prod) of x[.., j, ..] for j <= i` along axis.

    exclusive: j < i. reverse: from the end.
    """

    x: Value
    kind: str
    axis: int
    exclusive: bool = False
    reverse: bool = False

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.kind in ("sum", "prod"), f"kind {self.kind!r} is neither sum nor prod")
        _axes(self, self.x, (self.axis,))
        return (self.x.type,)


@op("top_k")
class TopK(Op):
    """`values, indices = the k largest (smallest) of x along axis`, sorted, ties by lower index.

    indices are i64. NaN counts as the largest.
    """

    x: Value
    k: Dim
    axis: int
    largest: bool = True

    def infer_types(self) -> tuple[TensorType, ...]:
        _axes(self, self.x, (self.axis,))
        shape = (*self.x.shape[: self.axis], self.k, *self.x.shape[self.axis + 1 :])
        return (TensorType(self.x.dtype, shape), TensorType(DType.I64, shape))
