"""Conv, ConvTranspose and the integer convolutions, brought to the channels-last `conv`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.dequantized import pair
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, constant
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, ceildiv, dmax
from tilewright.compiler.ir.ops import contraction, shape
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True)
class Window:
    """How a kernel moves over the spatial axes: one entry per axis."""

    taps: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    low: tuple[Dim, ...]
    high: tuple[Dim, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """The positions from the first to the last tap, inclusive."""
        pairs = zip(self.taps, self.dilations, strict=True)
        return tuple((k - 1) * d + 1 for k, d in pairs)


def read_window(ctx: Import, node: Node, spatial: Sequence[Dim], taps: Sequence[Dim]) -> Window:
    """The window of a convolution or pooling node over axes of sizes `spatial`.

    Raises through `ctx.fail` when the kernel size is not known or the attributes do not fit.
    """
    rank = len(spatial)
    known = tuple(t for t in taps if isinstance(t, int))
    if len(known) != rank:
        text = ", ".join(map(str, taps))
        ctx.fail(node, f"the kernel size [{text}] must be known and have {rank} entries")
    strides = tuple(node.attr("strides", None) or [1] * rank)
    dilations = tuple(node.attr("dilations", None) or [1] * rank)
    pads = list(node.attr("pads", None) or [0] * (2 * rank))
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        ctx.fail(node, f"strides, dilations and pads must fit {rank} spatial axes")
    low: tuple[Dim, ...] = tuple(pads[:rank])
    high: tuple[Dim, ...] = tuple(pads[rank:])
    auto = node.attr("auto_pad", "NOTSET")
    if auto == "VALID":
        low = high = (0,) * rank
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        reach = Window(known, strides, dilations, low, high).reach
        totals: list[Dim] = []
        for size, stride, span in zip(spatial, strides, reach, strict=True):
            total = (ceildiv(size, stride) - 1) * stride + span - size
            totals.append(dmax(total, 0))
        small = tuple(t // 2 for t in totals)
        large = tuple(t - s for t, s in zip(totals, small, strict=True))
        low, high = (small, large) if auto == "SAME_UPPER" else (large, small)
    return Window(known, strides, dilations, low, high)


def channels_last(x: Term) -> Term:
    """[N, C, spatial..] -> [N, spatial.., C]."""
    return x.transpose(0, *range(2, x.rank), 1)


def channels_first(x: Term) -> Term:
    """[N, spatial.., C] -> [N, C, spatial..]."""
    return x.transpose(0, x.rank - 1, *range(1, x.rank - 1))


def arranged(ctx: Import, value: Value, perm: Sequence[int]) -> Term:
    """`value` with its axes permuted: a new constant when its elements are known."""
    array = ctx.array(value)
    if array is not None:
        return constant(ctx, array.transpose(perm))
    return Term(ctx, value).transpose(*perm)


def convolve(x: Term, w: Term, window: Window, groups: int, fill: Value | None = None) -> Term:
    """`conv` of channels-last x and [taps.., C, groups*O] w; pads of any kind, which count as the
    scalar `fill` or as zero."""
    pads = (*window.low, *window.high)
    if all(isinstance(p, int) and p >= 0 for p in pads):
        low = tuple(p for p in window.low if isinstance(p, int))
        high = tuple(p for p in window.high if isinstance(p, int))
    else:
        before, after = (0, *window.low, 0), (0, *window.high, 0)
        x = x.apply(shape.Pad, value=fill, low=before, high=after, mode="constant")
        low = high = (0,) * len(window.low)
    return x.emit(
        contraction.Conv,
        x=x.value,
        w=w.value,
        fill=fill if any((*low, *high)) else None,
        strides=window.strides,
        pads_low=low,
        pads_high=high,
        dilations=window.dilations,
        groups=groups,
    )


def checked(ctx: Import, node: Node, x: Value, w: Value, transposed: bool = False) -> Value:
    """x [N, g*C, spatial..] with the channels that w [O, C, ..] (transposed: [g*C, O, ..]) takes.

    Refuses ranks that do not fit each other, channels that differ are unified.
    """
    if not 3 <= x.rank <= 5 or w.rank != x.rank:
        ctx.fail(node, f"convolutions have 1 to 3 spatial axes, found x {x.type} and w {w.type}")
    channels = w.shape[0] if transposed else w.shape[1] * node.attr("group", 1)
    dims = (x.shape[0], channels, *x.shape[2:])
    return ctx.relabel(x, dims, "the channels of x and the weights")


@onnx_op("Conv")
def conv(ctx: Import, node: Node) -> Value:
    """x: [N, g*C, spatial..], w: [g*O, C, taps..] -> [N, g*O, spatial'..]."""
    w, bias = node.input(1), node.maybe(2)
    x = checked(ctx, node, node.input(0), w)
    out = _dequantized(ctx, node, w)
    if out is None:
        window = read_window(ctx, node, x.shape[2:], w.shape[2:])
        weights = arranged(ctx, w, (*range(2, w.rank), 1, 0))
        out = convolve(channels_last(Term(ctx, x)), weights, window, node.attr("group", 1))
    if bias is not None:
        out = out + bias
    return channels_first(out).value


def _dequantized(ctx: Import, node: Node, w: Value) -> Term | None:
    """The convolution of what DequantizeLinear made, by integers; channels last."""
    size = w.type.elements
    if not isinstance(size, int) or not size:
        return None
    found = pair(ctx, node.input(0), w, 0, size // int(w.shape[0]))
    if found is None:
        return None
    left, right = found.left, found.right
    x = checked(ctx, node, left.x, right.x)
    whole = convolve_integers(ctx, node, x, right.x, left.zero, right.zero)
    return whole.cast(DType.F32) * found.scale(ctx)


@onnx_op("ConvInteger")
def conv_integer(ctx: Import, node: Node) -> Value:
    """`conv(x - x_zero, w - w_zero)` in i32; pads count as x_zero, i.e. as zero after it."""
    w = node.input(1)
    x = checked(ctx, node, node.input(0), w)
    return channels_first(convolve_integers(ctx, node, x, w, node.maybe(2), node.maybe(3))).value


def convolve_integers(
    ctx: Import, node: Node, x: Value, w: Value, x_zero: Value | None, w_zero: Value | None
) -> Term:
    """`conv(x - x_zero, w - w_zero)` in i32, channels last, of 8-bit x and w.

    Where w is known and stays 8-bit less its zero point, so does x: pads count as its zero point,
    channels are padded to a multiple of 4, and conv(x - z, w) = conv(x, w) - z sum(w).
    """
    window = read_window(ctx, node, x.shape[2:], w.shape[2:])
    groups = node.attr("group", 1)
    perm = (*range(2, w.rank), 1, 0)
    weights = shift_integers(ctx, w, w_zero, 0).value
    known = ctx.array(weights)
    kind = None if known is None else _byte_type(known)
    if known is None or kind is None:
        image = channels_last(shift_integers(ctx, x, x_zero, None))
        return convolve(image, arranged(ctx, weights, perm), window, groups)
    missing = -known.shape[1] % 4 if groups == 1 else 0
    filters = np.pad(known, [(0, 0), (0, missing), *[(0, 0)] * len(window.taps)])
    small = constant(ctx, filters.astype(kind).transpose(perm))
    zero = None if x_zero is None else Term(ctx, x_zero).reshape()
    image = channels_last(Term(ctx, x))
    if missing:
        none = (0,) * (x.rank - 1)
        image = image.pad((*none, 0), (*none, missing))
    out = convolve(image, small, window, groups, None if zero is None else zero.value)
    if zero is None:
        return out
    sums = known.sum(tuple(range(1, known.ndim)), dtype=np.int32)
    return out - zero.cast(DType.I32) * constant(ctx, sums)


def _byte_type(values: np.ndarray) -> type[np.int8] | type[np.uint8] | None:
    """The 8-bit type that holds all of `values`, i8 if both do; None when neither does."""
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if low >= -128 and high <= 127:
        return np.int8
    return np.uint8 if low >= 0 and high <= 255 else None


def shift_integers(ctx: Import, x: Value, zero: Value | None, axis: int | None) -> Term:
    """`x - zero` in i32; a zero point with one entry per position of `axis` follows that axis."""
    known, shift = ctx.array(x), ctx.array(zero)
    if known is not None and (zero is None or shift is not None):
        wide_array = known.astype(np.int32)
        if shift is not None:
            follows = shift.size > 1 and axis is not None
            dims = tuple(-1 if i == axis else 1 for i in range(x.rank)) if follows else ()
            wide_array = wide_array - shift.astype(np.int32).reshape(dims)
        return constant(ctx, wide_array)
    wide = Term(ctx, x).cast(DType.I32)
    if zero is None:
        return wide
    points = Term(ctx, zero).cast(DType.I32)
    if points.rank == 1 and axis is not None and points.dims[0] != 1:
        points = points.reshape(*(points.dims[0] if i == axis else 1 for i in range(x.rank)))
    elif points.rank:
        points = points.reshape()
    return wide - points


@onnx_op("ConvTranspose")
def conv_transpose(ctx: Import, node: Node) -> Value:
    """x: [N, g*C, spatial..], w: [g*C, O, taps..] -> [N, g*O, spatial'..].

    Zeros are put between the elements of x and a convolution with the mirrored kernel follows. A
    kernel that does not overlap itself (taps = strides, no pads) is one contraction.
    """
    w, bias = node.input(1), node.maybe(2)
    x = checked(ctx, node, node.input(0), w, transposed=True)
    spatial = x.shape[2:]
    window, extra = _transposed_window(ctx, node, spatial, w.shape[2:])
    groups = node.attr("group", 1)
    inner = channels_last(Term(ctx, x))
    plain = window.taps == window.strides and set(window.dilations) == {1}
    unpadded = not any(p != 0 for p in (*window.low, *window.high, *extra))
    if groups == 1 and plain and unpadded:
        out = _disjoint(inner, Term(ctx, w), window)
    else:
        out = _inserted(ctx, inner, w, window, extra, groups)
    if bias is not None:
        out = out + bias
    return channels_first(out).value


def _transposed_window(
    ctx: Import, node: Node, spatial: Sequence[Dim], taps: Sequence[Dim]
) -> tuple[Window, tuple[int, ...]]:
    """The window (low and high: elements cut from the full result) and the output padding."""
    rank = len(spatial)
    known = tuple(t for t in taps if isinstance(t, int))
    if len(known) != rank:
        ctx.fail(node, f"the kernel size [{', '.join(map(str, taps))}] must be known")
    strides = tuple(node.attr("strides", None) or [1] * rank)
    dilations = tuple(node.attr("dilations", None) or [1] * rank)
    extra = tuple(node.attr("output_padding", None) or [0] * rank)
    pads = list(node.attr("pads", None) or [0] * (2 * rank))
    auto = node.attr("auto_pad", "NOTSET")
    wanted = node.attr("output_shape", None)
    window = Window(known, strides, dilations, tuple(pads[:rank]), tuple(pads[rank:]))
    if auto == "VALID":
        window = Window(known, strides, dilations, (0,) * rank, (0,) * rank)
    if wanted is None and auto not in ("SAME_UPPER", "SAME_LOWER"):
        return window, extra
    low: list[Dim] = []
    high: list[Dim] = []
    for i in range(rank):
        size = wanted[-rank:][i] if wanted else spatial[i] * strides[i]
        total = (spatial[i] - 1) * strides[i] + extra[i] + window.reach[i] - size
        less = total // 2
        more = total - less
        low.append(less if auto == "SAME_UPPER" else more)
        high.append(more if auto == "SAME_UPPER" else less)
    return Window(known, strides, dilations, tuple(low), tuple(high)), extra


def _disjoint(x: Term, w: Term, window: Window) -> Term:
    """Every input element makes its own block of the output: [N, s.., C] -> [N, s*t.., O]."""
    rank = len(window.taps)
    places, taps = "xyz"[:rank], "ijk"[:rank]
    mixed = "".join(p + t for p, t in zip(places, taps, strict=True))
    blocks = x.contract(f"n{places}c,co{taps}->n{mixed}o", w)
    sizes = [d * k for d, k in zip(x.dims[1:-1], window.taps, strict=True)]
    return blocks.reshape(x.dims[0], *sizes, w.dims[1])


def _inserted(
    ctx: Import, x: Term, w: Value, window: Window, extra: Sequence[int], groups: int
) -> Term:
    rank = len(window.taps)
    batch, *spatial, channels = x.dims
    gaps = [s - 1 for s in window.strides]
    if any(gaps):
        split = [d for size in spatial for d in (size, 1)]
        spread = x.reshape(batch, *split, channels)
        high = [0, *(g for gap in gaps for g in (0, gap)), 0]
        spread = spread.pad([0] * len(high), high)
        sizes = [d * s for d, s in zip(spatial, window.strides, strict=True)]
        x = spread.reshape(batch, *sizes, channels)
    low = tuple(r - 1 - p for r, p in zip(window.reach, window.low, strict=True))
    high_pads = tuple(
        r - 1 - p + e - g for r, p, e, g in zip(window.reach, window.high, extra, gaps, strict=True)
    )
    moved = Window(window.taps, (1,) * rank, window.dilations, low, high_pads)
    return convolve(x, _mirrored(ctx, w, groups), moved, groups)


def _mirrored(ctx: Import, w: Value, groups: int) -> Term:
    """[g*C, O, taps..] -> [mirrored taps.., C, g*O]."""
    total, out, *taps = w.shape
    rank = len(taps)
    perm = (*range(3, 3 + rank), 1, 0, 2)
    array = ctx.array(w)
    if array is not None:
        flipped = array[(slice(None), slice(None), *(slice(None, None, -1) for _ in taps))]
        split = flipped.reshape(groups, total // groups, out, *taps)
        moved = split.transpose(perm)
        return constant(ctx, moved.reshape(*taps, total // groups, groups * out))
    term = Term(ctx, w)
    for axis in range(2, 2 + rank):
        term = term.flip(axis)
    term = term.reshape(groups, total // groups, out, *taps).transpose(*perm)
    return term.reshape(*taps, total // groups, groups * out)
