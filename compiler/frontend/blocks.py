"""Constants of integer codes that a model dequantizes block by block."""

from __future__ import annotations

from functools import partial

import numpy as np

from tilewright.compiler.formats.blocks import Blocks
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.frontend.context import Import
from tilewright.compiler.ir.core import Value
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


def _encoded(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray, axis: int) -> Encoded:
    parts = {"codes": codes, "scales": scales, "zeros": zeros}
    if axis == 1:
        parts = {name: array.T for name, array in parts.items()}
    k, n = parts["codes"].shape
    return Encoded((k, n), parts)


def _decoded(form: Blocks, load: partial[Encoded], axis: int) -> np.ndarray:
    found = form.decode(load())
    return found.T if axis == 1 else found
