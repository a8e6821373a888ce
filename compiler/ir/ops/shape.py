"""Operations that move elements without computing: reshape, transpose, slice, pad, gather, ..."""

from tilewright.compiler.ir.core import Op, Value, op
from tilewright.compiler.ir.dims import Dim, Shape, product
from tilewright.compiler.ir.ops.binary import broadcast_shapes
from tilewright.compiler.ir.types import DType, TensorType


@op("reshape")
class Reshape(Op):
    """`out = x with another shape`, row-major order kept."""

    x: Value
    shape: Shape

    def infer_types(self) -> tuple[TensorType, ...]:
        have, want = self.x.type.elements, product(self.shape)
        self.expect(have == want, f"{self.x.type} has {have} elements, the new shape {want}")
        return (TensorType(self.x.dtype, self.shape),)


@op("transpose")
class Transpose(Op):
    """`out[i_perm[0], i_perm[1], ...] = x[i_0, i_1, ...]`: axis j of out is axis perm[j] of x."""

    x: Value
    perm: tuple[int, ...]

    def infer_types(self) -> tuple[TensorType, ...]:
        valid = sorted(self.perm) == list(range(self.x.rank))
        self.expect(valid, f"perm {self.perm} is no permutation of the axes of {self.x.type}")
        return (TensorType(self.x.dtype, tuple(self.x.shape[p] for p in self.perm)),)


@op("broadcast")
class Broadcast(Op):
    """`out = x repeated along axes of size 1 and new leading axes` to `shape` (numpy rules)."""

    x: Value
    shape: Shape

    def infer_types(self) -> tuple[TensorType, ...]:
        fits = broadcast_shapes(self.x.shape, self.shape) == self.shape
        self.expect(fits, f"{self.x.type} does not broadcast to {self.shape}")
        return (TensorType(self.x.dtype, self.shape),)


@op("slice")
class Slice(Op):
    """`out[i, ...] = x[starts[0] + i * steps[0], ...]` with out's `shape`.

    Steps may be negative.
    """

    x: Value
    starts: Shape
    steps: tuple[int, ...]
    shape: Shape

    def infer_types(self) -> tuple[TensorType, ...]:
        lengths = {len(self.starts), len(self.steps), len(self.shape), self.x.rank}
        self.expect(len(lengths) == 1, f"starts, steps and shape need {self.x.rank} entries each")
        self.expect(0 not in self.steps, "a step is 0")
        return (TensorType(self.x.dtype, self.shape),)


@op("dynamic_slice")
class DynamicSlice(Op):
    """`out[i, ...] = x[clamp(starts[0]) + i * steps[0], ...]`; starts, steps are i64[rank] tensors.

    The values of starts are clamped so that every element read exists.
    """

    x: Value
    starts: Value
    steps: Value
    shape: Shape

    def infer_types(self) -> tuple[TensorType, ...]:
        want = TensorType(DType.I64, (self.x.rank,))
        self.expect(self.starts.type == want, f"starts must be {want}, found {self.starts.type}")
        self.expect(self.steps.type == want, f"steps must be {want}, found {self.steps.type}")
        return (TensorType(self.x.dtype, self.shape),)


@op("pad")
class Pad(Op):
    """`out = x with low[i] elements before and high[i] after along axis i` (negative removes).

    mode: `constant` (the scalar tensor `value`, or 0), `edge`, `reflect` (without the border
    element) or `wrap`.
    """

    x: Value
    value: Value | None = None
    low: Shape
    high: Shape
    mode: str = "constant"

    def infer_types(self) -> tuple[TensorType, ...]:
        known = ("constant", "edge", "reflect", "wrap")
        self.expect(self.mode in known, f"mode {self.mode!r} is none of {', '.join(known)}")
        self.expect(
            len(self.low) == len(self.high) == self.x.rank, "low and high need one per axis"
        )
        if self.value is not None:
            want = TensorType(self.x.dtype, ())
            self.expect(self.value.type == want, f"value must be {want}, found {self.value.type}")
        dims = zip(self.x.shape, self.low, self.high, strict=True)
        return (TensorType(self.x.dtype, tuple(d + lo + hi for d, lo, hi in dims)),)


@op("concat")
class Concat(Op):
    """`out = parts one after another along axis`; all other dimensions are equal."""

    parts: tuple[Value, ...]
    axis: int

    def infer_types(self) -> tuple[TensorType, ...]:
        first = self.parts[0]
        self.expect(0 <= self.axis < first.rank, f"axis {self.axis} is outside {first.type}")
        total: Dim = 0
        for part in self.parts:
            rest = [d for i, d in enumerate(part.shape) if i != self.axis]
            want = [d for i, d in enumerate(first.shape) if i != self.axis]
            same = part.dtype == first.dtype and part.rank == first.rank and rest == want
            self.expect(same, f"{part.type} does not fit {first.type} along axis {self.axis}")
            total = total + part.shape[self.axis]
        shape = (*first.shape[: self.axis], total, *first.shape[self.axis + 1 :])
        return (TensorType(first.dtype, shape),)


def _index(self: Op, indices: Value) -> None:
    fits = indices.dtype in (DType.I64, DType.I32)
    self.expect(fits, f"indices must be i64 or i32, found {indices.type}")


@op("gather")
class Gather(Op):
    """`out[a.., i.., b..] = x[a.., indices[i..], b..]` at `axis`; negative indices from the end.

    An index out of range stops the run with a data error.
    """

    x: Value
    indices: Value
    axis: int

    def infer_types(self) -> tuple[TensorType, ...]:
        _index(self, self.indices)
        self.expect(0 <= self.axis < self.x.rank, f"axis {self.axis} is outside {self.x.type}")
        s = self.x.shape
        shape = (*s[: self.axis], *self.indices.shape, *s[self.axis + 1 :])
        return (TensorType(self.x.dtype, shape),)


@op("gather_elements")
class GatherElements(Op):
    """`out[i, j, ..] = x[i, indices[i, j, ..], ..]` with the index at `axis`.

    Negative indices count from the end.
    """

    x: Value
    indices: Value
    axis: int

    def infer_types(self) -> tuple[TensorType, ...]:
        _index(self, self.indices)
        self.expect(self.indices.rank == self.x.rank, "indices must have the rank of x")
        return (TensorType(self.x.dtype, self.indices.shape),)


@op("gather_nd")
class GatherNd(Op):
    """`out[b.., i.., r..] = x[b.., indices[b.., i.., :], r..]`: index tuples in the last axis.

    The first `batch_dims` axes of x and indices go together.
    """

    x: Value
    indices: Value
    batch_dims: int = 0

    def infer_types(self) -> tuple[TensorType, ...]:
        _index(self, self.indices)
        depth = self.indices.shape[-1]
        self.expect(isinstance(depth, int), "the last dimension of indices must be known")
        rest = self.x.shape[self.batch_dims + int(depth) :]
        return (TensorType(self.x.dtype, (*self.indices.shape[:-1], *rest)),)


_REDUCTIONS = ("none", "add", "mul", "min", "max")


@op("scatter_elements")
class ScatterElements(Op):
    """`out = x; out[i, indices[i, j, ..], ..] (reduction)= updates[i, j, ..]` at `axis`.

    Updates apply in row-major order.
    """

    x: Value
    indices: Value
    updates: Value
    axis: int
    reduction: str = "none"

    def infer_types(self) -> tuple[TensorType, ...]:
        _index(self, self.indices)
        self.expect(self.reduction in _REDUCTIONS, f"reduction {self.reduction!r} is unknown")
        same = self.indices.shape == self.updates.shape and self.updates.dtype == self.x.dtype
        self.expect(same, f"updates {self.updates.type} do not fit indices {self.indices.type}")
        return (self.x.type,)


@op("scatter_nd")
class ScatterNd(Op):
    """`out = x; out[indices[i.., :], r..] (reduction)= updates[i.., r..]`, row-major in i."""

    x: Value
    indices: Value
    updates: Value
    reduction: str = "none"

    def infer_types(self) -> tuple[TensorType, ...]:
        _index(self, self.indices)
        self.expect(self.reduction in _REDUCTIONS, f"reduction {self.reduction!r} is unknown")
        depth = self.indices.shape[-1]
        self.expect(isinstance(depth, int), "the last dimension of indices must be known")
        want = (*self.indices.shape[:-1], *self.x.shape[int(depth) :])
        self.expect(self.updates.shape == want, f"updates must have shape {want}")
        return (self.x.type,)
