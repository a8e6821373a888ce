"""Fourier transforms as contractions with tables of cosines, and mel filter banks."""

import numpy as np

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.tensors import element_type
from tilewright.compiler.frontend.terms import Term, concat, constant, iota, size_of
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops import contraction, shape, unary
from tilewright.compiler.ir.types import DType


def _angles(ctx: Import, rows: Dim, columns: Dim, length: Dim) -> tuple[Term, Term]:
    """cos and sin of 2 pi (j k mod length) / length, f64 [rows, columns]."""
    j, k = iota(ctx, rows).reshape(rows, 1), iota(ctx, columns)
    size = size_of(ctx, length)
    turn = ((j * k) % size).cast(DType.F64) / size.cast(DType.F64) * (2.0 * np.pi)
    return turn.apply(unary.Cos), turn.apply(unary.Sin)


def _table(
    ctx: Import, rows: Dim, columns: Dim, length: Dim, parts: int, inverse: bool, dtype: DType
) -> Term:
    """[rows, parts, columns, 2]: multiply and sum over rows and parts for the transform.

    parts is 1 for real input, 2 for real and imaginary; the inverse is divided by length.
    """
    if isinstance(rows, int) and isinstance(columns, int) and isinstance(length, int):
        return constant(ctx, known_table(rows, columns, length, parts, inverse).astype(dtype.numpy))
    cos, sin = _angles(ctx, rows, columns, length)
    if inverse:
        size = size_of(ctx, length, DType.F64)
        cos, sin = cos / size, -(sin / size)
    real = concat([cos.unsqueeze(-1), (-sin).unsqueeze(-1)], -1).unsqueeze(1)
    if parts == 1:
        return real.cast(dtype)
    imaginary = concat([sin.unsqueeze(-1), cos.unsqueeze(-1)], -1).unsqueeze(1)
    return concat([real, imaginary], 1).cast(dtype)


def known_table(rows: int, columns: int, length: int, parts: int, inverse: bool) -> np.ndarray:
    """`_table` of known sizes, f64 [rows, parts, columns, 2]."""
    turn = np.outer(np.arange(rows), np.arange(columns)) % length * (2.0 * np.pi / length)
    cos, sin = np.cos(turn), np.sin(turn)
    if inverse:
        cos, sin = cos / length, -sin / length
    real = np.stack([cos, -sin], -1)[:, None]
    return real if parts == 1 else np.concatenate([real, np.stack([sin, cos], -1)[:, None]], 1)


def _real_table(ctx: Import, bins: Dim, length: Dim, dtype: DType) -> Term:
    """[bins, 2, length, 1]: from the first half of a spectrum to the real signal."""
    cos, sin = _angles(ctx, bins, length, length)
    size = size_of(ctx, length)
    bin_index = iota(ctx, bins)
    # Bins other than the first and the middle one stand for their conjugate too.
    single = bin_index.equals(0) | (bin_index * 2).equals(size)
    weight = single.where(1.0, 2.0, DType.F64) / size.cast(DType.F64)
    weight = weight.reshape(bins, 1)
    both = [(cos * weight).reshape(bins, 1, length, 1), -(sin * weight).reshape(bins, 1, length, 1)]
    return concat(both, 1).cast(dtype)


@onnx_op("DFT")
def dft(ctx: Import, node: Node) -> Value:
    """x: [.., n, .., 1 or 2] -> the transform along axis, real and imaginary in the last axis.

    A given length cuts or zero-pads the signal. The inverse of a onesided spectrum is real.
    """
    x = Term(ctx, node.input(0))
    if node.opset < 20:
        axis = node.attr("axis", 1)
    else:
        axis = -2 if node.maybe(2) is None else ctx.number(node.maybe(2))
        if axis is None:
            ctx.fail(node, "axis must be known when the model is compiled")
    axis = node.axis(int(axis), x.rank)
    parts = x.dims[-1]
    if parts not in (1, 2) or axis == x.rank - 1:
        ctx.fail(node, f"the last axis of x holds 1 or 2 parts, found {x.value.type}, axis {axis}")
    inverse, onesided = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    given = x.dims[axis]
    length: Dim = given
    if node.maybe(1) is not None:
        sizes = ctx.dims_of(node.maybe(1))
        if sizes is None:
            ctx.fail(node, "dft_length must be known when the run starts")
        length = sizes[0]
    elif inverse and onesided:
        length = 2 * (given - 1)
    half = length // 2 + 1
    columns = half if onesided and not inverse else length
    want = ctx.declared((*x.dims[:axis], columns, *x.dims[axis + 1 : -1], 2), node.hint())
    columns = want[axis]
    if length != columns and not onesided:
        length = columns
    rows = half if inverse and onesided else length
    signal = _fitted(x, axis, rows)
    before, after = product(x.dims[:axis]), product(x.dims[axis + 1 : -1])
    flat = signal.reshape(before, rows, after, parts)
    if inverse and onesided:
        if parts == 1:
            flat = flat.pad([0] * 4, [0, 0, 0, 1], 0.0)
        table = _real_table(ctx, rows, columns, x.dtype)
    else:
        table = _table(ctx, rows, columns, length, int(parts), inverse, x.dtype)
    out = flat.contract("pjqc,jckd->pkqd", table)
    return out.reshape(*want[:-1], out.dims[-1]).value


def _fitted(x: Term, axis: int, size: Dim) -> Term:
    """x cut or padded with zeros to `size` along axis."""
    if x.dims[axis] == size:
        return x
    high: list[Dim] = [0] * x.rank
    high[axis] = size - x.dims[axis]
    return x.pad([0] * x.rank, high, 0.0)


@onnx_op("STFT")
def stft(ctx: Import, node: Node) -> Value:
    """signal: [B, n, 1 or 2] -> [B, frames, bins, 2]: transforms of windowed frames.

    With known sizes it is one strided convolution with window times cosines.
    """
    signal, step = Term(ctx, node.input(0)), ctx.dims_of(node.input(1))
    window, length = node.maybe(2), ctx.dims_of(node.maybe(3))
    if signal.rank == 2:
        signal = signal.unsqueeze(-1)
    parts = signal.dims[2]
    if step is None or not isinstance(parts, int):
        ctx.fail(node, "frame_step must be known when the run starts")
    size: Dim = signal.dims[1]
    if window is not None:
        size = window.shape[0]
    elif length is not None:
        size = length[0]
    bins = size // 2 + 1 if node.attr("onesided", 1) else size
    frames = (signal.dims[1] - size) // step[0] + 1
    batch, frames, bins, _ = ctx.declared((signal.dims[0], frames, bins, 2), node.hint())
    table = _table(ctx, size, bins, size, parts, False, signal.dtype)
    if window is not None:
        table = table * Term(ctx, window).reshape(size, 1, 1, 1)
    if isinstance(step[0], int) and isinstance(size, int):
        out = signal.apply(
            contraction.Conv,
            w=table.reshape(size, parts, bins * 2).value,
            strides=(step[0],),
            pads_low=(0,),
            pads_high=(0,),
            dilations=(1,),
        )
        return out.reshape(batch, frames, bins, 2).value
    start = iota(ctx, frames) * size_of(ctx, step[0])
    index = start.reshape(frames, 1) + iota(ctx, size)
    pieces = signal.apply(shape.Gather, indices=index.value, axis=1)
    return pieces.contract("bfjc,jckd->bfkd", table).value


@onnx_op("MelWeightMatrix")
def mel_weight_matrix(ctx: Import, node: Node) -> Value:
    """A [dft_length / 2 + 1, bins] filter bank of triangles; all inputs must be known."""
    numbers = [ctx.number(node.input(i)) for i in range(5)]
    if any(n is None for n in numbers):
        ctx.fail(node, "all inputs must be known when the model is compiled")
    bins, length, rate = (int(n) for n in numbers[:3])
    low, high = (2595.0 * np.log10(1.0 + n / 700.0) for n in numbers[3:])
    mel = np.arange(bins + 2) * ((high - low) / (bins + 2)) + low
    hertz = 700.0 * (np.power(10.0, mel / 2595.0) - 1.0)
    edges = ((length + 1) * hertz // rate).astype(np.int64)
    out = np.zeros((length // 2 + 1, bins))
    for i in range(bins):
        left, middle, right = edges[i : i + 3]
        if middle == left:
            out[middle, i] = 1.0
        else:
            rising = np.arange(left, middle + 1)
            out[rising, i] = (rising - left) / (middle - left)
        falling = np.arange(middle, right)
        if right > middle:
            out[falling, i] = (right - falling) / (right - middle)
    dtype = element_type(node.attr("output_datatype", 1), node.where)
    return ctx.constant(out.astype(dtype.numpy))
