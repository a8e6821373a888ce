"""Slice, Pad and the block rearrangements."""

from collections.abc import Sequence

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.dim_logic import (
    decided,
    larger,
    negative,
    select,
    smaller,
)
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.runtime_axes import normalized, scattered
from tilewright.compiler.frontend.terms import Term, concat, iota
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, ceildiv
from tilewright.compiler.ir.ops.control import Guard
from tilewright.compiler.ir.ops.shape import DynamicSlice, GatherNd, Pad, Slice
from tilewright.compiler.ir.types import DType

_FAR = 2**31 - 1
"""Exporters write this or the greatest i64 for `to the end`."""


def _ints(ctx: Import, node: Node, index: int, name: str) -> list[Dim] | None:
    """An attribute of old opsets or operand `index` as dimensions; None when absent."""
    if name in node.attrs:
        return list(node.attr(name))
    value = node.maybe(index)
    if value is None:
        return None
    found = ctx.dims_of(value)
    if found is None:
        hint = f"make the {name} a constant, or an integer input of the model"
        ctx.fail(node, f"the {name} are computed from data", f"{name}: {value.type}", hint)
    return found


def _clamped(ctx: Import, at: Dim, dim: Dim, low: int, high: Dim) -> Dim:
    """A Slice bound in the range low..high, negative ones counted from the end of `dim`."""
    if isinstance(at, int) and at >= _FAR:
        return high
    if isinstance(at, int) and at <= -_FAR:
        return low
    placed = select(decided(negative, at, ctx.bounds_of), at + dim, at)
    return smaller(larger(placed, low, ctx.bounds_of), high, ctx.bounds_of)


def _forward(ctx: Import, start: Dim, end: Dim, step: Dim, dim: Dim) -> tuple[Dim, Dim]:
    """First position and count for a positive step."""
    first = _clamped(ctx, start, dim, 0, dim)
    last = _clamped(ctx, end, dim, 0, dim)
    return first, larger(ceildiv(last - first, step), 0, ctx.bounds_of)


def _backward(ctx: Import, start: Dim, end: Dim, step: Dim, dim: Dim) -> tuple[Dim, Dim]:
    """First position and count for a negative step of size `step`."""
    first = _clamped(ctx, start, dim, 0, dim - 1)
    last = _clamped(ctx, end, dim, -1, dim - 1)
    return first, larger(ceildiv(first - last, step), 0, ctx.bounds_of)


def _at_data(ctx: Import, node: Node) -> Value | None:
    """A Slice whose starts are computed from data while its length is not, as `x[i : i + 1]`.

    The starts must not be negative; a run-time check says so.
    """
    x, starts, ends = node.input(0), node.maybe(1), node.maybe(2)
    if starts is None or ends is None or ctx.dims_of(starts) is not None:
        return None
    sizes = ctx.differences(ends, starts)
    axes = ctx.ints(node.maybe(3)) if node.maybe(3) is not None else tuple(range(starts.rank))
    steps = ctx.ints(node.maybe(4))
    if sizes is None or axes is None or (steps is not None and any(s != 1 for s in steps)):
        return None
    places = node.axes(axes, x.rank)
    shape = list(x.shape)
    for axis, count in zip(places, sizes, strict=True):
        shape[axis] = count
    given = Term(ctx, ctx.cast(starts, DType.I64))
    zero = ctx.shape_tensor([0])
    where: list[Value] = [zero] * x.rank
    for k, axis in enumerate(places):
        where[axis] = given.slice(0, k, 1).value
    at = Term(ctx, concat([Term(ctx, v) for v in where], 0).value)
    room = Term(ctx, ctx.shape_tensor([d - n for d, n in zip(x.shape, shape, strict=True)]))
    message = f"{node.where}: the slice reaches outside the tensor"
    inside = ((at >= 0) & (at <= room)).value
    checked = ctx.emit(Guard, x=at.value, condition=inside, message=message)
    by = ctx.shape_tensor([1] * x.rank)
    return ctx.emit(DynamicSlice, x=x, starts=checked, steps=by, shape=tuple(shape))


@onnx_op("Slice")
def _slice(ctx: Import, node: Node) -> Value:
    x = node.input(0)
    found = _at_data(ctx, node)
    if found is not None:
        return found
    starts, ends = _ints(ctx, node, 1, "starts"), _ints(ctx, node, 2, "ends")
    axes, steps = _ints(ctx, node, 3, "axes"), _ints(ctx, node, 4, "steps")
    if starts is None or ends is None or len(starts) != len(ends):
        ctx.fail(node, "starts and ends must have one entry per sliced axis")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(axes) == len(steps) <= x.rank:
        ctx.fail(
            node, "axes and steps must fit starts", f"{len(axes)}, {len(steps)}, {len(starts)}"
        )
    places = [normalized(a, x.rank) for a in axes]
    if any(isinstance(a, int) and not 0 <= a < x.rank for a in places):
        ctx.fail(node, "an axis is out of range", f"axes {list(map(str, axes))} of {x.type}")
    all_starts = scattered(places, starts, [0] * x.rank)
    all_ends = scattered(places, ends, x.shape)
    all_steps = scattered(places, steps, [1] * x.rank)
    first: list[Dim] = []
    counts: list[Dim] = []
    untouched = set(range(x.rank)) - {a for a in places if isinstance(a, int)}
    if not all(isinstance(a, int) for a in places):
        untouched = set()
    for i, dim in enumerate(x.shape):
        step = all_steps[i]
        position: Dim
        count: Dim
        if i in untouched:
            position, count = 0, dim
        elif isinstance(step, int):
            if step == 0:
                ctx.fail(node, "a step is 0")
            walk = _forward if step > 0 else _backward
            position, count = walk(ctx, all_starts[i], all_ends[i], abs(step), dim)
        else:
            up = _forward(ctx, all_starts[i], all_ends[i], larger(step, 1, ctx.bounds_of), dim)
            down = _backward(ctx, all_starts[i], all_ends[i], larger(-step, 1, ctx.bounds_of), dim)
            back = negative(step)
            position, count = select(back, down[0], up[0]), select(back, down[1], up[1])
        first.append(position)
        counts.append(count)
    shape = ctx.declared(counts, node.hint())
    numbers = tuple(s for s in all_steps if isinstance(s, int))
    if len(numbers) == x.rank:
        if shape == x.shape and all(s == 1 for s in numbers):
            return x
        return ctx.emit(Slice, x=x, starts=tuple(first), steps=numbers, shape=shape)
    where, by = ctx.shape_tensor(first), ctx.shape_tensor(all_steps)
    return ctx.emit(DynamicSlice, x=x, starts=where, steps=by, shape=shape)


@onnx_op("Pad")
def pad(ctx: Import, node: Node) -> Value:
    """The pads are an attribute before opset 11, the axes an operand since opset 18."""
    x = node.input(0)
    name = "paddings" if "paddings" in node.attrs else "pads"
    pads, axes = _ints(ctx, node, 1, name), _ints(ctx, node, 3, "axes")
    axes = list(range(x.rank)) if axes is None else axes
    if pads is None or len(pads) != 2 * len(axes):
        ctx.fail(node, "two pads per axis are needed", f"axes {list(map(str, axes))} of {x.type}")
    places = [normalized(a, x.rank) for a in axes]
    if any(isinstance(a, int) and not 0 <= a < x.rank for a in places):
        ctx.fail(node, "an axis is out of range", f"axes {list(map(str, axes))} of {x.type}")
    low = scattered(places, pads[: len(axes)], [0] * x.rank)
    high = scattered(places, pads[len(axes) :], [0] * x.rank)
    mode, value = node.attr("mode", "constant"), None
    if mode == "constant" and node.maybe(2) is not None:
        value = ctx.reshape(node.input(2), ())
    elif mode == "constant" and node.attr("value", 0.0) != 0 and node.opset < 11:
        value = ctx.scalar(node.attr("value"), x.dtype)
    if all(p == 0 for p in (*low, *high)):
        return x
    return ctx.emit(Pad, x=x, value=value, low=tuple(low), high=tuple(high), mode=mode)


def _blocks(
    ctx: Import, x: Value, spread: Sequence[Dim], perm: Sequence[int], out: Sequence[Dim]
) -> Value:
    return Term(ctx, x).reshape(*spread).transpose(*perm).reshape(*out).value


@onnx_op("DepthToSpace")
def _depth_to_space(ctx: Import, node: Node) -> Value:
    x, b = node.input(0), node.attr("blocksize")
    n, c, h, w = x.shape
    left = c // (b * b)
    if node.attr("mode", "DCR") == "DCR":
        spread: tuple[Dim, ...] = (n, b, b, left, h, w)
        perm = (0, 3, 4, 1, 5, 2)
    else:
        spread, perm = (n, left, b, b, h, w), (0, 1, 4, 2, 5, 3)
    return _blocks(ctx, x, spread, perm, (n, left, h * b, w * b))


@onnx_op("SpaceToDepth")
def _space_to_depth(ctx: Import, node: Node) -> Value:
    x, b = node.input(0), node.attr("blocksize")
    n, c, h, w = x.shape
    spread = (n, c, h // b, b, w // b, b)
    perm = (0, 1, 3, 5, 2, 4) if node.attr("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return _blocks(ctx, x, spread, perm, (n, c * b * b, h // b, w // b))


@onnx_op("ReverseSequence")
def reverse_sequence(ctx: Import, node: Node) -> Value:
    """Position t of batch entry b comes from `lens[b] - 1 - t` while t < lens[b]."""
    x, lens = Term(ctx, node.input(0)), Term(ctx, node.input(1))
    batch, time = node.attr("batch_axis", 1), node.attr("time_axis", 0)
    first = x if (batch, time) == (0, 1) else x.transpose(1, 0, *range(2, x.rank))
    size = first.dims[1]
    t, count = iota(ctx, size).reshape(1, size), lens.reshape(lens.dims[0], 1)
    t, count = (Term(ctx, v) for v in ctx.broadcast(t.value, count.value))
    index = (t < count).where(count - 1 - t, t, DType.I64)
    pairs = index.reshape(*index.dims, 1)
    out = first.apply(GatherNd, indices=pairs.value, batch_dims=1)
    return (out if (batch, time) == (0, 1) else out.transpose(1, 0, *range(2, x.rank))).value
