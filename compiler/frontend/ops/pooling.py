"""Pooling over windows and over whole images."""

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.ops.convolution import (
    Window,
    channels_first,
    channels_last,
    read_window,
)
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, fill, iota, size_of
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, ceildiv, dmin, product
from tilewright.compiler.ir.ops import nn, shape
from tilewright.compiler.ir.types import DType


def _output_sizes(window: Window, spatial: tuple[Dim, ...], ceil_mode: bool) -> tuple[Dim, ...]:
    """The number of windows along every axis.

    In ceil mode a window that would start in the padding after the image does not count.
    """
    sizes: list[Dim] = []
    axes = zip(spatial, window.reach, window.strides, window.low, window.high, strict=True)
    for size, reach, stride, low, high in axes:
        room = size + low + high - reach
        if ceil_mode:
            sizes.append(dmin(ceildiv(room, stride) + 1, ceildiv(size + low, stride)))
        else:
            sizes.append(room // stride + 1)
    return tuple(sizes)


class _Pooling:
    """What the pooling nodes share: the window, the channels-last image and the result sizes."""

    def __init__(self, ctx: Import, node: Node) -> None:
        self.ctx = ctx
        source = node.input(0)
        if not 3 <= source.rank <= 5:
            ctx.fail(node, f"pooling has 1 to 3 spatial axes, found x {source.type}")
        self.source = source
        spatial = source.shape[2:]
        self.window = read_window(ctx, node, spatial, node.attr("kernel_shape", ()))
        self.sizes = _output_sizes(self.window, spatial, bool(node.attr("ceil_mode", 0)))
        if node.attr("auto_pad", "NOTSET").startswith("SAME"):
            strides = self.window.strides
            self.sizes = tuple(ceildiv(d, s) for d, s in zip(spatial, strides, strict=True))
        self.x = channels_last(Term(ctx, source))

    @property
    def fixed(self) -> bool:
        """Whether the pads are plain numbers."""
        return all(isinstance(p, int) for p in (*self.window.low, *self.window.high))

    def geometry(self) -> dict[str, tuple[Dim, ...]]:
        w = self.window
        return {
            "window": w.taps,
            "strides": w.strides,
            "pads_low": w.low,
            "pads_high": w.high,
            "dilations": w.dilations,
            "shape": self.sizes,
        }

    def padded(self, value: float | int) -> None:
        """Make the pads part of the image, for pads that depend on symbolic dimensions."""
        w = self.window
        none = (0,) * len(w.taps)
        self.x = self.x.pad((0, *w.low, 0), (0, *w.high, 0), value)
        self.window = Window(w.taps, w.strides, w.dilations, none, none)


@onnx_op("MaxPool")
def max_pool(ctx: Import, node: Node) -> tuple[Value, ...]:
    """x: [N, C, spatial..] -> the maxima, and their flat positions in x when asked for."""
    pool = _Pooling(ctx, node)
    wants_indices = node.n_outputs > 1
    if not pool.fixed:
        if wants_indices:
            ctx.fail(node, "Indices with SAME padding need known spatial sizes")
        pool.padded(_lowest(pool.x.dtype))
    best = pool.x.apply(nn.Pool, kind="max", **pool.geometry())
    if not wants_indices:
        return (channels_first(best).value,)
    where = pool.x.apply(
        nn.MaxPoolIndices, column_major=bool(node.attr("storage_order", 0)), **pool.geometry()
    )
    return channels_first(best).value, channels_first(where).value


def _lowest(dtype: DType) -> float | int:
    if dtype.is_float:
        return float("-inf")
    return 0 if dtype.kind == "uint" else -(2 ** (dtype.bits - 1))


@onnx_op("AveragePool")
def average_pool(ctx: Import, node: Node) -> Value:
    """x: [N, C, spatial..] -> the mean of every window, with or without the padding."""
    pool = _Pooling(ctx, node)
    count_pad = bool(node.attr("count_include_pad", 0))
    if pool.fixed:
        out = pool.x.apply(nn.Pool, kind="mean", count_pad=count_pad, **pool.geometry())
        return channels_first(out).value
    ones = fill(ctx, 1, pool.x.dtype, (1, *pool.x.dims[1:-1], 1))
    low, high = (0, *pool.window.low, 0), (0, *pool.window.high, 0)
    pool.padded(0)
    out = pool.x.apply(nn.Pool, kind="mean", **pool.geometry())
    if not count_pad:
        share = ones.pad(low, high, 0).apply(nn.Pool, kind="mean", **pool.geometry())
        out = out / share
    return channels_first(out).value


@onnx_op("LpPool")
def lp_pool(ctx: Import, node: Node) -> Value:
    """x: [N, C, spatial..] -> (sum |x|^p)^(1/p) of every window."""
    pool = _Pooling(ctx, node)
    if not pool.fixed:
        pool.padded(0)
    out = pool.x.apply(nn.Pool, kind="lp", p=int(node.attr("p", 2)), **pool.geometry())
    return channels_first(out).value


def _global(ctx: Import, node: Node) -> tuple[Term, tuple[int, ...]]:
    x = node.input(0)
    return Term(ctx, x), tuple(range(2, x.rank))


@onnx_op("GlobalAveragePool")
def global_average_pool(ctx: Import, node: Node) -> Value:
    """The mean over all spatial axes, kept with size 1."""
    x, axes = _global(ctx, node)
    return x.mean(axes).value


@onnx_op("GlobalMaxPool")
def global_max_pool(ctx: Import, node: Node) -> Value:
    """The maximum over all spatial axes, kept with size 1."""
    x, axes = _global(ctx, node)
    return x.max(axes).value


@onnx_op("GlobalLpPool")
def global_lp_pool(ctx: Import, node: Node) -> Value:
    """(sum |x|^p)^(1/p) over all spatial axes, kept with size 1."""
    x, axes = _global(ctx, node)
    p = int(node.attr("p", 2))
    if p == 1:
        return x.abs().sum(axes).value
    if p == 2:
        return (x * x).sum(axes).sqrt().value
    return ((x.abs() ** float(p)).sum(axes) ** (1.0 / p)).value


@onnx_op("MaxUnpool")
def max_unpool(ctx: Import, node: Node) -> Value:
    """x, indices: [N, C, spatial..] -> zeros with every x at its flat position.

    The positions count in the image that the window implies; `output_shape` pads that image.
    """
    x, indices = node.input(0), node.input(1)
    window = read_window(ctx, node, x.shape[2:], node.attr("kernel_shape", ()))
    spatial = tuple(
        (size - 1) * stride + reach - low - high
        for size, stride, reach, low, high in zip(
            x.shape[2:], window.strides, window.reach, window.low, window.high, strict=True
        )
    )
    dims = (*x.shape[:2], *spatial)
    flat = fill(ctx, 0, x.dtype, (product(dims),))
    out = flat.apply(
        shape.ScatterElements,
        indices=Term(ctx, indices).reshape(product(x.shape)).value,
        updates=Term(ctx, x).reshape(product(x.shape)).value,
        axis=0,
    ).reshape(*dims)
    wanted = node.maybe(2)
    if wanted is not None:
        sizes = ctx.dims_of(wanted)
        if sizes is None:
            ctx.fail(node, "output_shape must be known when the model is compiled")
        out = out.pad((0,) * len(dims), [w - d for w, d in zip(sizes, dims, strict=True)], 0)
    return out.value


@onnx_op("LRN")
def lrn(ctx: Import, node: Node) -> Value:
    """`x / (bias + alpha / size * sum of x**2 over size neighbouring channels) ** beta`."""
    source = node.input(0)
    size = int(node.attr("size"))
    x = Term(ctx, source).reshape(*source.shape[:2], product(source.shape[2:]))
    before = (size - 1) // 2
    mean = (x * x).apply(
        nn.Pool,
        kind="mean",
        window=(size,),
        strides=(1,),
        pads_low=(before,),
        pads_high=(size - 1 - before,),
        dilations=(1,),
        shape=(source.shape[1],),
        count_pad=True,
    )
    base = mean * float(node.attr("alpha", 1e-4)) + float(node.attr("bias", 1.0))
    return (x / base ** float(node.attr("beta", 0.75))).reshape(*source.shape).value


@onnx_op("Col2Im")
def col2im(ctx: Import, node: Node) -> Value:
    """columns: [N, C * prod(block), L], image_shape, block_shape -> [N, C, image..].

    Every column element is added to its position in the image; one position more takes those
    that fall into the padding.
    """
    columns = Term(ctx, node.input(0))
    image, block = ctx.dims_of(node.input(1)), ctx.dims_of(node.input(2))
    if image is None or block is None:
        ctx.fail(node, "image_shape and block_shape must be known when the run starts")
    batch, rows, count = columns.dims
    want = (batch, rows // product(tuple(block)), *image)
    _, channels, *sizes = ctx.declared(want, node.hint())
    rank = len(sizes)
    pads = node.attr("pads", None) or (0,) * (2 * rank)
    strides = node.attr("strides", None) or (1,) * rank
    dilations = node.attr("dilations", None) or (1,) * rank
    taps = rows // channels
    tap, place = iota(ctx, taps).reshape(taps, 1), iota(ctx, count)
    flat: Term | None = None
    inside: Term | None = None
    scale = Term(ctx, ctx.scalar(1, DType.I64))
    for i in reversed(range(rank)):
        reach = (block[i] - 1) * dilations[i] + 1
        windows = (sizes[i] + pads[i] + pads[rank + i] - reach) // strides[i] + 1
        kernel, steps, size = (size_of(ctx, d) for d in (block[i], windows, sizes[i]))
        at = (tap % kernel) * dilations[i] + (place % steps) * strides[i] - pads[i]
        tap, place = tap / kernel, place / steps
        valid = (at >= 0) & (at < size)
        inside = valid if inside is None else inside & valid
        flat = at * scale if flat is None else flat + at * scale
        scale = scale * size
    assert flat is not None
    assert inside is not None
    area = product(tuple(sizes))
    index = inside.where(flat, size_of(ctx, area), DType.I64).reshape(taps * count, 1)
    split = columns.reshape(batch * channels, taps * count).transpose(1, 0)
    zeros = fill(ctx, 0, columns.dtype, (area + 1, batch * channels))
    out = zeros.apply(shape.ScatterNd, indices=index.value, updates=split.value, reduction="add")
    out = out.slice(0, 0, area).transpose(1, 0)
    return out.reshape(batch, channels, *sizes).value
