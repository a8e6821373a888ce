"""Constants of 8-bit floats that a model brings to f32."""

from __future__ import annotations

from functools import partial

import numpy as np

from tilewright.compiler.formats.activations import Exact
from tilewright.compiler.formats.float8 import Float8
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.frontend.context import Import
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import Coded, Weight

KINDS = {DType.F8E4M3FN: "e4m3", DType.F8E5M2: "e5m2"}


def float8_constant(
    ctx: Import,
    x: Value,
    scale: Value | None = None,
    zero: Value | None = None,
    axis: int = 1,
    block: Dim = 0,
) -> Value | None:
    """DequantizeLinear (Cast without a scale) of a constant matrix of finite 8-bit floats, as an
    f32 constant that remembers them; None for others.

    The scale is a single one or one for each position of `axis`, over whose columns is summed.
    """
    if x.rank != 2 or x.dtype not in KINDS or block != 0:
        return None
    raw, scales = ctx.array(x), np.ones(1, np.float32)
    if scale is not None:
        known = ctx.array(scale)
        if known is None or scale.dtype != DType.F32 or known.ndim > 1:
            return None
        scales = known.reshape(-1)
    points = ctx.array(zero) if zero is not None else np.zeros(1)
    if raw is None or points is None or points.astype(np.float32).any():
        return None
    if not np.isfinite(raw.astype(np.float32)).all():
        return None
    columns = axis if scales.size > 1 else 1
    codes = np.ascontiguousarray(raw).view(np.uint8)
    across = np.broadcast_to(scales, raw.shape[columns])
    form = Float8(KINDS[x.dtype], Exact())
    load = partial(_encoded, codes, across, 1 - columns)
    name = ctx.builder.weights.fresh("floats", ctx.builder.added)
    shape = TensorType(DType.F32, codes.shape)
    ctx.builder.added[name] = Weight(
        shape, partial(_decoded, form, load, 1 - columns), Coded(form, 1 - columns, load)
    )
    return ctx.emit(Constant, name=name, type=shape)


def _encoded(codes: np.ndarray, scales: np.ndarray, axis: int) -> Encoded:
    turned = codes.T if axis == 1 else codes
    return Encoded((turned.shape[0], turned.shape[1]), {"codes": turned, "scales": scales[None]})


def _decoded(form: Float8, load: partial[Encoded], axis: int) -> np.ndarray:
    found = form.decode(load())
    return found.T if axis == 1 else found
