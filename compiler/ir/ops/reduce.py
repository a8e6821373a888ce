"""Reductions, scans along an axis, and selections: sum, argmax, cumsum, top-k."""

from tilewright.compiler.ir.core import Op, Value, op
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.types import DType, TensorType

ROWS = ("max", "argmax", "top", "log_sum_exp", "finite_log_sum_exp", "log_probability")
"""What `reduce_rows` makes of a row."""

MOST_OF_ROW = 64
"""Elements or ids of a row that it gives at most."""

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


@op("reduce_rows")
class ReduceRows(Op):
    """One of `ROWS` of every row along the last axis of x, f32, which is gone in the result.

    max: NaN if there is one. argmax: i64 position of the max, the first or the `last` one, NaN
    counting as the largest. top: the `count` largest in order with their positions i64 (two
    results [.., count]), ties by lower position, NaN the largest. log_sum_exp:
    `log(sum(exp(x - m))) + m`, m the max or 0 where that is infinite; finite_log_sum_exp: the
    same, NaN where the max is infinite. log_probability:
    `log_softmax(x)[.., ids[.., j]]`, [.., J]; ids i64, negative ones from the end.
    """

    x: Value
    ids: Value | None = None
    kind: str
    count: int = 1
    last: bool = False

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.kind in ROWS, f"kind {self.kind!r} is none of {', '.join(ROWS)}")
        self.expect(self.x.dtype == DType.F32 and self.x.rank > 0, f"rows of {self.x.type}")
        lead = self.x.shape[:-1]
        if self.kind == "log_probability":
            found = None if self.ids is None else self.ids.type
            fits = found is not None and found.dtype == DType.I64 and found.shape[:-1] == lead
            self.expect(fits, f"ids {found} do not fit {self.x.type}")
            assert found is not None
            return (TensorType(DType.F32, found.shape),)
        self.expect(self.ids is None, f"{self.kind} reads no ids")
        if self.kind == "top":
            shape = (*lead, self.count)
            return (TensorType(DType.F32, shape), TensorType(DType.I64, shape))
        return (TensorType(DType.I64 if self.kind == "argmax" else DType.F32, lead),)
