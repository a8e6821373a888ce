"""Constants of integer codes that a model dequantizes block by block."""

from __future__ import annotations

from functools import partial

import numpy as np

from tilewright.compiler.formats.blocks import BITS, Blocks
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.frontend.context import Import
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import Coded, Weight


def unpacked(raw: np.ndarray, bits: int) -> np.ndarray:
    """Codes u8 [.., n * 8 / bits] of bytes [.., n], lowest bits first."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * bits
    split = (raw[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return split.reshape(*raw.shape[:-1], -1)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """The inverse of `unpacked`; the last axis fills whole bytes."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * bits
    split = codes.reshape(*codes.shape[:-1], -1, 8 // bits) << shifts
    found: np.ndarray = np.bitwise_or.reduce(split, axis=-1)
    return found


def format_of(bits: int, group: int, scales: np.ndarray, zeros: np.ndarray) -> Blocks:
    """The narrowest format of these scales and zero points, f32."""
    kind = "f32"
    if (zeros == 2 ** (bits - 1)).all():
        kind = ""
    elif (zeros == np.rint(zeros)).all() and zeros.min() >= 0 and zeros.max() < 256:
        kind = "u8"
    with np.errstate(over="ignore"):
        half = bool((scales.astype(np.float16).astype(np.float32) == scales).all())
    return Blocks(bits, group, kind, half)


def coded_constant(
    ctx: Import,
    form: Blocks,
    codes: np.ndarray,
    scales: np.ndarray,
    zeros: np.ndarray,
    *,
    axis: int,
    level: int = 0,
) -> Value:
    """The f32 constant of two axes that codes u8 stand for; `axis`: along which blocks lie.

    codes, scales and zeros (f32) as they lie in the model; only the codes are kept, values are
    decoded whenever they are read. level: how kernels may read what is multiplied (ir.weights).
    """
    name = ctx.builder.weights.fresh("codes", ctx.builder.added)
    load = partial(_encoded, codes, scales, zeros, axis)
    shape = TensorType(DType.F32, codes.shape)
    ctx.builder.added[name] = Weight(
        shape, partial(_decoded, form, load, axis), Coded(form, axis, load, level)
    )
    return ctx.emit(Constant, name=name, type=shape)


def dequantized_constant(
    ctx: Import, x: Value, scale: Value, zero: Value | None, axis: int, block: Dim
) -> Value | None:
    """DequantizeLinear of a constant matrix of integers, as a constant of codes; None for others.

    What has one scale, or one for each position of `axis` (block 0), only if it has less than 8
    bits: products of bytes have kernels of their own.
    """
    if x.rank != 2 or scale.dtype != DType.F32 or not x.dtype.is_int or x.dtype.bits not in BITS:
        return None
    if not isinstance(block, int) or block % 16 or (x.dtype.bits == 8 and not block):
        return None
    raw, scales, points = ctx.array(x), ctx.array(scale), ctx.array(zero)
    if raw is None or scales is None or (zero is not None and points is None):
        return None
    if scales.ndim < 2:
        # Columns are summed over the other axis; a single scale goes with either.
        columns = axis if scales.size > 1 else 1
        shape = [1, 1]
        shape[columns] = raw.shape[columns]
        axis = 1 - columns
        scales = np.broadcast_to(scales.reshape(-1), (shape[columns],)).reshape(shape)
        points = None if points is None else np.broadcast_to(points.reshape(-1), scales.size)
    shift = 2 ** (x.dtype.bits - 1) if x.dtype.kind == "int" else 0
    low = np.zeros(scales.shape, np.int32) if points is None else points.astype(np.int32)
    zeros = (low.reshape(scales.shape) + shift).astype(np.float32)
    codes = (raw.astype(np.int16) + shift).astype(np.uint8)
    form = format_of(x.dtype.bits, block, scales, zeros)
    return coded_constant(ctx, form, codes, scales.astype(np.float32), zeros, axis=axis)


def _encoded(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray, axis: int) -> Encoded:
    parts = {"codes": codes, "scales": scales, "zeros": zeros}
    if axis == 1:
        parts = {name: array.T for name, array in parts.items()}
    k, n = parts["codes"].shape
    return Encoded((k, n), parts)


def _decoded(form: Blocks, load: partial[Encoded], axis: int) -> np.ndarray:
    found = form.decode(load())
    return found.T if axis == 1 else found
