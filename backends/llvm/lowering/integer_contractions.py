"""Contractions and convolutions of 8-bit integers: what their kernels are asked for."""

from __future__ import annotations

import dataclasses
from math import prod

import numpy as np

from tilewright.backends.kernels.int8_conv import IntegerConvTask
from tilewright.backends.kernels.int8_matmul import IntegerMatmulTask
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.lowering import fallback
from tilewright.backends.llvm.lowering.epilogues import fuse
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import as_int, product
from tilewright.compiler.ir.ops.contraction import Conv
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Pad
from tilewright.compiler.ir.types import DType

NAMES = {DType.U8: "u8", DType.I8: "s8", DType.I32: "i32", DType.F32: "f32"}
"""Element types as the specs of kernels call them."""


def multiplies(a: Value, b: Value) -> bool:
    """Whether a contraction of `a` and `b` is a product of 8-bit integers."""
    small = (DType.U8, DType.I8)
    return a.dtype in small and b.dtype in small


def task(x: Value, w: Value, k: int, n: int, epilogue: Epilogue, out: DType) -> IntegerMatmulTask:
    """`x` [.., k] times constant `w` [k, n] in i32, through `epilogue` to `out`."""
    return IntegerMatmulTask(k, n, NAMES[x.dtype], NAMES[w.dtype], NAMES[out], epilogue)


def conv(low: Lowering, op: Conv) -> None:
    """The kernel for constant filters, where there is one, and the loop nest otherwise."""
    if not _by_kernel(low, op):
        if op.body is None:
            fallback.lower_plain(low, op if op.fill is None else _padded(low, op))
            return
        bare = dataclasses.replace(op, extras=(), body=None)
        conv(low, bare)
        fallback.lower_body(low, op, bare.out)


def _padded(low: Lowering, op: Conv) -> Conv:
    """The same convolution of a padded x, which is made first: for loop nests, which know zero
    alone."""
    low_pads, high_pads = (0, *op.pads_low, 0), (0, *op.pads_high, 0)
    pad = Pad(x=op.x, value=op.fill, low=low_pads, high=high_pads, source=op.source)
    fallback.lower_plain(low, pad)
    none = (0,) * len(op.strides)
    bare = dataclasses.replace(op, x=pad.out, fill=None, pads_low=none, pads_high=none)
    low.stand_in(bare.out, op.out)
    return bare


def _by_kernel(low: Lowering, op: Conv) -> bool:
    known = all(isinstance(d, int) and d > 0 for d in op.w.shape)
    fused = fuse(low, op.body, op.extras, tuple(range(op.out.rank)), op.out.rank - 1)
    if fused is None or not known or not isinstance(op.w.op, Constant):
        return False
    *taps, depth, outputs = (as_int(d) for d in op.w.shape)
    wanted = IntegerConvTask(
        channels=depth * op.groups,
        out_channels=outputs,
        kernel=tuple(taps),
        strides=op.strides,
        pads=op.pads_low,
        dilations=op.dilations,
        groups=op.groups,
        epilogue=fused.epilogue,
        a=NAMES[op.x.dtype],
        b=NAMES[op.w.dtype],
        out=NAMES[op.out.dtype],
        fill=op.fill is not None,
    )
    dims = (op.x.shape[0], *op.x.shape[1:-1], *op.out.shape[1:-1], outputs, *fused.strides)
    name = op.w.op.name
    chosen = low.choose(op, wanted, dims, name, op.groups)
    if chosen is None:
        return False
    family, spec, layout = chosen.family, chosen.spec, chosen.layout
    assert layout is not None

    def load() -> np.ndarray:
        assert family.pack is not None
        filters = low.graph.weights.array(name)
        last = filters.ndim - 1
        return family.pack(filters.transpose(last, last - 1, *range(last - 1)), spec)

    key = (layout.name, low.graph.weights[name].hash(), op.groups)
    place = low.weight(key, name, layout.bytes, load)
    given = () if op.fill is None else (low.dense(op.fill).at,)
    x, y = low.dense(op.x), low.result(op.out)
    low.launch(
        op,
        spec,
        (x.at, place, *given, *fused.places),
        (y.at,),
        dims,
        formula(family.units(spec), dims),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        flops=product(op.out.shape[:-1]) * (2 * prod(taps) * depth * outputs),
        traffic=x.bytes + y.bytes + layout.bytes + fused.traffic,
        inplace=tuple((0, 2 + len(given) + i) for i, same in enumerate(fused.aligned) if same),
    )
    return True
