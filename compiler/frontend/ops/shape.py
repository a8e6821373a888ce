"""Operators that change the shape: Reshape, Squeeze, Expand, Tile, Concat, Split, ..."""

from collections.abc import Sequence

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.dim_logic import is_zero, larger, negative, too_long
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.runtime_axes import candidates
from tilewright.compiler.frontend.terms import Term
from tilewright.compiler.frontend.unify import cancelled
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, ceildiv, dmax, floordiv, mod, product, symbols
from tilewright.compiler.ir.ops.shape import Broadcast, Concat, Transpose


def from_values(ctx: Import, dim: Dim) -> bool:
    """Whether `dim` depends on the elements of an integer input."""
    return any(ctx.symbols[s].source[0] == "value" for s in symbols(dim))


def shape_of(ctx: Import, node: Node, value: Value, what: str) -> list[Dim]:
    """The elements of a shape operand; the declared output shape when they are not known."""
    found = ctx.dims_of(value)
    if found is not None:
        return found
    hint = node.hint()
    if hint is not None and hint.static is not None and len(hint.static) == value.shape[0]:
        return list(hint.static)
    advice = "make it a constant, or an integer input of the model"
    ctx.fail(node, f"the {what} is computed from data", f"{what}: {value.type}", advice)


def _quotient(total: Dim, rest: Dim) -> Dim:
    top, bottom = cancelled(total, rest)
    if bottom == 0:
        return 0
    return floordiv(top, bottom)


@onnx_op("Reshape")
def reshape(ctx: Import, node: Node) -> Value:
    """The new shape is an attribute before opset 5; -1 is inferred, 0 copies unless allowzero."""
    x = node.input(0)
    want: Sequence[Dim]
    if node.maybe(1) is None:
        want = node.attr("shape")
    else:
        want = shape_of(ctx, node, node.input(1), "new shape")
    if sum(1 for d in want if d == -1) > 1:
        ctx.fail(node, "more than one dimension is -1", f"shape {list(map(str, want))}")
    copy = not node.attr("allowzero", 0)
    read = [i for i, d in enumerate(want) if not isinstance(d, int) and from_values(ctx, d)]
    # Sizes that run-time integers decide may be -1 or 0. Where that gets too complicated they must
    # be sizes: others then fail the check of the number of elements.
    special = read if len(read) <= 4 else []
    shape = ctx.declared(_new_shape(x, want, copy, special), node.hint())
    if special and any(too_long(d) for d in shape):
        shape = ctx.declared(_new_shape(x, want, copy, []), node.hint())
    return ctx.reshape(x, shape)


def _new_shape(x: Value, want: Sequence[Dim], copy: bool, special: Sequence[int]) -> list[Dim]:
    """The shape that `want` means; the dimensions at `special` may turn out as -1 or 0."""
    known: list[Dim] = []
    for i, dim in enumerate(want):
        same: Dim = x.shape[i] if i < x.rank else 0
        if i in special:
            kept = dim * (1 - negative(dim)) + (is_zero(dim) * same if copy else 0)
            known.append(negative(dim) + kept)
        elif dim == -1:
            known.append(1)
        else:
            known.append(same if dim == 0 and copy and i < x.rank else dim)
    rest = _quotient(x.type.elements, product(tuple(known)))
    out: list[Dim] = []
    for i, (dim, size) in enumerate(zip(want, known, strict=True)):
        if i in special:
            out.append(size + negative(dim) * (rest - 1))
        else:
            out.append(rest if dim == -1 else size)
    return out


@onnx_op("Flatten")
def _flatten(ctx: Import, node: Node) -> Value:
    x, axis = node.input(0), node.attr("axis", 1)
    axis = x.rank if axis == x.rank else node.axis(axis, x.rank) if x.rank else 0
    return ctx.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


@onnx_op("Transpose")
def _transpose(ctx: Import, node: Node) -> Value:
    x = node.input(0)
    perm = node.axes(node.attr("perm", tuple(reversed(range(x.rank)))), x.rank)
    if perm == tuple(range(x.rank)):
        return x
    return ctx.emit(Transpose, x=x, perm=perm)


def _axes_operand(ctx: Import, node: Node, index: int) -> tuple[int, ...] | Value | None:
    """The axes from the attribute or operand `index`: numbers, a run-time value, or absent."""
    if "axes" in node.attrs:
        return tuple(node.attr("axes"))
    value = node.maybe(index)
    return value if value is None else ctx.ints(value) if ctx.ints(value) is not None else value


@onnx_op("Squeeze")
def _squeeze(ctx: Import, node: Node) -> Value:
    x, axes = node.input(0), _axes_operand(ctx, node, 1)
    if isinstance(axes, Value):
        want = _declared(ctx, node)

        def fits(chosen: tuple[int, ...]) -> bool:
            return tuple(d for i, d in enumerate(x.shape) if i not in chosen) == want

        candidates(ctx, node, axes, x.rank, fits)
        return ctx.reshape(x, want)
    if axes is None:
        axes = tuple(i for i, d in enumerate(x.shape) if d == 1)
    gone = node.axes(axes, x.rank)
    for axis in gone:
        if x.shape[axis] != 1:
            ctx.unify(x.shape[axis], 1, f"the squeezed axis {axis}")
    return ctx.reshape(x, [d for i, d in enumerate(x.shape) if i not in gone])


@onnx_op("Unsqueeze")
def _unsqueeze(ctx: Import, node: Node) -> Value:
    x, axes = node.input(0), _axes_operand(ctx, node, 1)
    if isinstance(axes, Value):
        want = _declared(ctx, node)

        def fits(chosen: tuple[int, ...]) -> bool:
            ones = all(want[i] == 1 for i in chosen)
            return ones and tuple(d for i, d in enumerate(want) if i not in chosen) == x.shape

        candidates(ctx, node, axes, len(want), fits)
        return ctx.reshape(x, want)
    if axes is None:
        ctx.fail(node, "the axes are missing")
    new = node.axes(axes, x.rank + len(axes))
    rest = iter(x.shape)
    return ctx.reshape(x, [1 if i in new else next(rest) for i in range(x.rank + len(axes))])


def _declared(ctx: Import, node: Node) -> tuple[int, ...]:
    hint = node.hint()
    if hint is None or hint.static is None:
        advice = "make the axes a constant of the model, or declare the output shape"
        ctx.fail(node, "the axes are only known at run time", "", advice)
    return hint.static


@onnx_op("Expand")
def _expand(ctx: Import, node: Node) -> Value:
    x = node.input(0)
    want = shape_of(ctx, node, node.input(1), "target shape")
    rank = max(x.rank, len(want))
    have: list[Dim] = [*(1,) * (rank - x.rank), *x.shape]
    want = [*(1,) * (rank - len(want)), *want]
    out: list[Dim] = []
    for dim, target in zip(have, want, strict=True):
        if target in (1, dim) or dim == 1:
            out.append(target if dim == 1 else dim)
        elif from_values(ctx, target):
            message = f"{node.where}: {dim} does not broadcast to {target}"
            ctx.constrain((target - 1) * (target - dim), 0, message)
            out.append(dim)
        else:
            out.append(ctx.unify(dim, target, "the expanded shape"))
    shape = ctx.declared(out, node.hint())
    aligned = have[rank - x.rank :]
    sizes = [1 if d == 1 else o for d, o in zip(aligned, shape[rank - x.rank :], strict=True)]
    x = ctx.relabel(x, sizes, "the expanded shape")
    return x if x.shape == shape else ctx.emit(Broadcast, x=x, shape=shape)


def tiled(ctx: Import, x: Value, repeats: Sequence[Dim]) -> Value:
    """`x` repeated `repeats[i]` times along axis i."""
    if all(r == 1 for r in repeats):
        return x
    spread: list[Dim] = []
    target: list[Dim] = []
    for dim, count in zip(x.shape, repeats, strict=True):
        if count != 1:
            spread.append(1)
            target.append(count)
        spread.append(dim)
        target.append(dim)
    wide = ctx.emit(Broadcast, x=ctx.reshape(x, spread), shape=tuple(target))
    shape = [d * r for d, r in zip(x.shape, repeats, strict=True)]
    return ctx.reshape(wide, shape)


@onnx_op("Tile", since=6)
def _tile(ctx: Import, node: Node) -> Value:
    x = node.input(0)
    repeats = ctx.dims_of(node.input(1))
    if repeats is None:
        hint = "make the repeats a constant, or an integer input of the model"
        ctx.fail(node, "the repeats are computed from data", f"{node.input(1).type}", hint)
    if len(repeats) != x.rank:
        ctx.fail(node, "one repeat per axis is needed", f"{len(repeats)} for {x.type}")
    clamped = [larger(r, 0, ctx.bounds_of) for r in repeats]
    return tiled(ctx, x, clamped)


@onnx_op("Tile")
def tile_one_axis(ctx: Import, node: Node) -> Value:
    """Opset 1: operands (input, tiles, axis)."""
    x = node.input(0)
    count, axis = ctx.dims_of(node.input(1)), ctx.number(node.input(2))
    if count is None or axis is None:
        ctx.fail(node, "tiles and axis must be constants")
    at = node.axis(int(axis), x.rank)
    return tiled(ctx, x, [count[0] if i == at else 1 for i in range(x.rank)])


@onnx_op("Concat")
def concat(ctx: Import, node: Node) -> Value:
    """Before opset 4 the axis is 1 when absent."""
    parts = node.all_inputs()
    axis = node.axis(node.attr("axis", 1), parts[0].rank)
    if len(parts) == 1:
        return parts[0]
    if len({p.rank for p in parts}) > 1:
        ctx.fail(node, "the ranks differ", ", ".join(str(p.type) for p in parts))
    common = list(parts[0].shape)
    for part in parts[1:]:
        for i, dim in enumerate(part.shape):
            if i != axis:
                common[i] = ctx.unify(common[i], dim, "concatenation")
    same = []
    for part in parts:
        want = [
            d if i == axis else c for i, (d, c) in enumerate(zip(part.shape, common, strict=True))
        ]
        same.append(ctx.relabel(part, want, "concatenation"))
    return ctx.emit(Concat, parts=tuple(same), axis=axis)


def split_sizes(ctx: Import, node: Node, dim: Dim) -> list[Dim]:
    """The sizes of the pieces along the split axis of size `dim`."""
    sizes: list[Dim] | None = None
    if "split" in node.attrs:
        sizes = list(node.attr("split"))
    elif node.maybe(1) is not None:
        sizes = ctx.dims_of(node.input(1))
        if sizes is None:
            hint = "make the sizes a constant, or an integer input of the model"
            ctx.fail(node, "the split sizes are computed from data", "", hint)
    if sizes is not None:
        total: Dim = 0
        for size in sizes:
            total = total + size
        if not ctx.is_data(total - dim):
            ctx.constrain(total, dim, f"{node.where}: the split sizes must add up to the axis")
        return sizes
    count = node.attr("num_outputs", node.n_outputs)
    if node.opset < 18 or mod(dim, count) == 0:
        if mod(dim, count) != 0:
            ctx.constrain(mod(dim, count), 0, f"{node.where}: the axis must divide evenly")
        return [floordiv(dim, count)] * count
    size = ceildiv(dim, count)
    if isinstance(dim, int) and isinstance(size, int):
        return [max(0, min(size, dim - size * i)) for i in range(count)]
    return [*[size] * (count - 1), dmax(0, dim - size * (count - 1))]


@onnx_op("Split")
def _split(ctx: Import, node: Node) -> tuple[Value, ...]:
    x = node.input(0)
    axis = node.axis(node.attr("axis", 0), x.rank)
    return tuple(t.value for t in Term(ctx, x).split(axis, split_sizes(ctx, node, x.shape[axis])))


@onnx_op("Shape")
def _shape(ctx: Import, node: Node) -> Value:
    x = node.input(0)
    return ctx.shape_tensor(x.shape[slice(node.attr("start", 0), node.attr("end", None))])


@onnx_op("Size")
def _size(ctx: Import, node: Node) -> Value:
    return ctx.dim_value(node.input(0).type.elements)
