"""Sampling images at computed positions: GridSample, AffineGrid, DeformConv, RoiAlign."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.ops.convolution import channels_last, read_window
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, concat, fill, iota, size_of
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops import control, shape
from tilewright.compiler.ir.types import DType, TensorType


@dataclass(frozen=True)
class Tap:
    """One neighbour along one axis: its index (i64, always valid) and its weight.

    A weight of None is one everywhere.
    """

    index: Term
    weight: Term | None


def blend(x: Term, axes: Sequence[Sequence[Tap]]) -> Term:
    """x: [B, spatial.., C] and for every spatial axis taps over [B, P] -> [B, P, C].

    The sum over all combinations of taps of the product of their weights times the element of x.
    """
    batch, *spatial, channels = x.dims
    flat = x.reshape(batch, product(tuple(spatial)), channels)
    out: Term | None = None
    for taps in itertools.product(*axes):
        index, weight = taps[0].index, taps[0].weight
        for tap, size in zip(taps[1:], spatial[1:], strict=True):
            index = index * size_of(x.ctx, size) + tap.index
            if tap.weight is not None:
                weight = tap.weight if weight is None else weight * tap.weight
        picked = flat.apply(shape.GatherNd, indices=index.unsqueeze(-1).value, batch_dims=1)
        if weight is not None:
            picked = picked * weight.cast(x.dtype).unsqueeze(-1)
        out = picked if out is None else out + picked
    assert out is not None
    return out


@dataclass(frozen=True)
class Border:
    """What lies outside an axis of `size` elements: zeros, the border repeated, or a mirror."""

    size: Dim
    padding: str
    align_corners: bool

    def mirrored(self, place: Term) -> Term:
        """`place` reflected at the borders until it is inside."""
        size = size_of(place.ctx, self.size, place.dtype)
        low = 0.0 if self.align_corners else -0.5
        high = size + (-1.0 if self.align_corners else -0.5)
        length = high - low
        safe = length.maximum(1e-6)
        below, above = (place < low), (place > high)
        distance = below.where(low - place, (place - high).maximum(0.0), place.dtype)
        turns = (distance / safe).floor()
        rest = distance - turns * length
        even = (turns - (turns / 2.0).floor() * 2.0).equals(0.0)
        near, far = rest + low, high - rest
        from_low = even.where(near, far, place.dtype)
        from_high = even.where(far, near, place.dtype)
        return below.where(from_low, above.where(from_high, place, place.dtype), place.dtype)

    def folded(self, place: Term) -> Term:
        """A position brought inside, as far as the padding mode moves positions.

        Between the border of the image and the middle of its first element nothing moves, which
        matters to cubic weights.
        """
        if self.padding == "border":
            margin = 0.0 if self.align_corners else 0.5
            last = self.last(place)
            outside = (place < -margin) | (place > last + margin)
            return outside.where(place.clip(0.0, last), place, place.dtype)
        return self.mirrored(place) if self.padding == "reflection" else place

    def last(self, place: Term) -> Term:
        """The last index, in the type of `place`."""
        return size_of(place.ctx, self.size, place.dtype) - 1.0

    def tap(self, place: Term, weight: Term | None) -> Tap:
        """The neighbour at the whole-numbered `place`."""
        last = self.last(place)
        if self.padding == "zeros":
            inside = (place >= 0.0) & (place <= last)
            share = inside.cast(place.dtype)
            weight = share if weight is None else weight * share
        elif self.padding == "reflection":
            place = self.mirrored(place)
        return Tap(place.clip(0.0, last).cast(DType.I64), weight)


def cubic_weights(share: Term, a: float = -0.75) -> list[Term]:
    """The weights of the four neighbours at -1, 0, 1, 2 (Keys, 1981)."""
    out = []
    for offset in (-1.0, 0.0, 1.0, 2.0):
        d = (share - offset).abs()
        if offset in (0.0, 1.0):
            out.append(((a + 2.0) * d - (a + 3.0)) * d * d + 1.0)
        else:
            out.append(((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a)
    return out


def _taps(place: Term, mode: str, border: Border) -> list[Tap]:
    if mode == "nearest":
        return [border.tap(border.folded(place.round()), None)]
    place = border.folded(place)
    base = place.floor()
    share = place - base
    if mode == "linear":
        return [border.tap(base, 1.0 - share), border.tap(base + 1.0, share)]
    offsets = (-1.0, 0.0, 1.0, 2.0)
    pairs = zip(offsets, cubic_weights(share), strict=True)
    return [border.tap(base + offset, weight) for offset, weight in pairs]


@onnx_op("GridSample")
def grid_sample(ctx: Import, node: Node) -> Value:
    """x: [N, C, spatial..], grid: [N, out.., axes] in -1..1, last axis first -> [N, C, out..]."""
    x, grid = Term(ctx, node.input(0)), Term(ctx, node.input(1))
    names = {"bilinear": "linear", "bicubic": "cubic"}
    mode = names.get(node.attr("mode", "linear"), node.attr("mode", "linear"))
    padding = node.attr("padding_mode", "zeros")
    corners = bool(node.attr("align_corners", 0))
    spatial = x.dims[2:]
    places = grid.dims[1:-1]
    flat = grid.reshape(grid.dims[0], product(places), len(spatial))
    if flat.dtype.bits < 32:
        flat = flat.cast(DType.F32)
    axes = []
    for i, size in enumerate(spatial):
        unit = flat.slice(2, len(spatial) - 1 - i, 1).squeeze(2)
        length = size_of(ctx, size, flat.dtype)
        if corners:
            place = (unit + 1.0) / 2.0 * (length - 1.0)
        else:
            place = ((unit + 1.0) * length - 1.0) / 2.0
        axes.append(_taps(place, mode, Border(size, padding, corners)))
    image = channels_last(x)
    batch = ctx.unify(image.dims[0], flat.dims[0], "the batch of x and grid")
    out = blend(image, axes).reshape(batch, *places, x.dims[1])
    return out.transpose(0, out.rank - 1, *range(1, out.rank - 1)).value


@onnx_op("AffineGrid")
def affine_grid(ctx: Import, node: Node) -> Value:
    """theta: [N, 2, 3] or [N, 3, 4], size: [N, C, spatial..] -> grid [N, spatial.., axes]."""
    theta = Term(ctx, node.input(0))
    sizes = ctx.dims_of(node.input(1))
    if sizes is None:
        ctx.fail(node, "size must be known when the run starts")
    hint = node.hint()
    declared = ctx.declared((theta.dims[0], *sizes[2:], theta.dims[1]), hint)
    spatial = declared[1:-1]
    corners = bool(node.attr("align_corners", 0))
    rows: list[Term] = []
    for i in reversed(range(len(spatial))):
        length = size_of(ctx, spatial[i], theta.dtype)
        index = iota(ctx, spatial[i], DType.I64).cast(theta.dtype)
        if corners:
            unit = index * 2.0 / (length - 1.0).maximum(1.0) - 1.0
        else:
            unit = (index * 2.0 + 1.0) / length - 1.0
        ones = (1,) * (len(spatial) - 1 - i)
        rows.append(unit.reshape(spatial[i], *ones).broadcast(*spatial).unsqueeze(-1))
    rows.append(fill(ctx, 1.0, theta.dtype, (*spatial, 1)))
    points = concat(rows, -1).reshape(product(spatial), len(spatial) + 1)
    dims = (theta.dims[0], len(spatial), len(spatial) + 1)
    theta = Term(ctx, ctx.relabel(theta.value, dims, "the sides of theta"))
    return theta.contract("nac,pc->npa", points).reshape(*declared).value


@onnx_op("DeformConv")
def deform_conv(ctx: Import, node: Node) -> Value:
    """A 2-D convolution whose taps are moved by offsets and scaled by a mask.

    x: [N, g*C, H, W], w: [g*O, C, kh, kw], offset: [N, og*kh*kw*2, H', W'] -> [N, g*O, H', W'].
    """
    x, w, offset = (Term(ctx, node.input(i)) for i in range(3))
    bias, mask = node.maybe(3), node.maybe(4)
    if x.rank != 4:
        ctx.fail(node, f"only 2-D images are supported, found x {x.value.type}")
    window = read_window(ctx, node, x.dims[2:], w.dims[2:])
    groups, moved = node.attr("group", 1), node.attr("offset_group", 1)
    batch, total, *spatial = x.dims
    high, wide = offset.dims[2:]
    taps = window.taps[0] * window.taps[1]
    count = taps * high * wide
    parts = offset.reshape(batch * moved, taps, 2, high, wide)
    axes = []
    for i in range(2):
        steps = iota(ctx, window.taps[i]) * window.dilations[i]
        ticks = iota(ctx, (high, wide)[i]) * window.strides[i] - size_of(ctx, window.low[i])
        steps = (
            steps.reshape(window.taps[0], 1, 1, 1)
            if i == 0
            else steps.reshape(1, window.taps[1], 1, 1)
        )
        ticks = ticks.reshape(high, 1) if i == 0 else ticks.reshape(1, wide)
        start = (steps + ticks).cast(x.dtype).broadcast(*window.taps, high, wide)
        place = parts.slice(2, i, 1).squeeze(2) + start.reshape(taps, high, wide)
        border = Border(spatial[i], "zeros", True)
        axes.append(_taps(place.reshape(batch * moved, count), "linear", border))
    image = x.reshape(batch * moved, total // moved, *spatial)
    values = blend(channels_last(image), axes)
    if mask is not None:
        values = values * Term(ctx, mask).reshape(batch * moved, count, 1)
    values = values.reshape(batch, moved, taps, high * wide, total // moved)
    values = values.transpose(0, 1, 4, 2, 3)
    values = values.reshape(batch, groups, total // groups, taps, high * wide)
    kernels = w.reshape(groups, w.dims[0] // groups, w.dims[1], taps)
    out = values.contract("ngckp,gock->ngop", kernels).reshape(batch, w.dims[0], high, wide)
    if bias is not None:
        out = out + Term(ctx, bias).reshape(w.dims[0], 1, 1)
    return out.value


@onnx_op("RoiAlign")
def roi_align(ctx: Import, node: Node) -> Value:
    """x: [N, C, H, W], rois: [R, 4], batch: [R] -> [R, C, height, width], by bilinear samples.

    The number of samples may depend on the data, so this is an operation of its own.
    """
    x, rois, batch = (node.input(i) for i in range(3))
    mode = "half_pixel" if node.opset >= 16 else "output_half_pixel"
    height, width = int(node.attr("output_height", 1)), int(node.attr("output_width", 1))
    indices = ctx.cast(batch, DType.I64)
    return ctx.emit(
        control.Custom,
        inputs=(x, rois, indices),
        kind="roi_align",
        types=(TensorType(x.dtype, (rois.shape[0], x.shape[1], height, width)),),
        params=(
            ("mode", str(node.attr("mode", "avg"))),
            ("half_pixel", node.attr("coordinate_transformation_mode", mode) == "half_pixel"),
            ("sampling_ratio", int(node.attr("sampling_ratio", 0))),
            ("spatial_scale", float(node.attr("spatial_scale", 1.0))),
        ),
    )
