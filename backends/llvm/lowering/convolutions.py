"""Convolutions: the channels-last kernel for constant f32 weights, the loop nest for the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from functools import partial
from math import prod

import numpy as np

from tilewright.backends.kernels.bf16_conv.rounding import balanced
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.f16_conv import HalfConvTask
from tilewright.backends.kernels.f16_matmul import HalfMatmulTask
from tilewright.backends.kernels.tasks import ConvTask, MatmulTask
from tilewright.backends.llvm.lowering import fallback, integer_contractions
from tilewright.backends.llvm.lowering.epilogues import fuse
from tilewright.backends.llvm.lowering.handing import hand_on, read_by, settle
from tilewright.backends.llvm.lowering.rules import lowers
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.dims import as_int, product
from tilewright.compiler.ir.ops.contraction import Conv
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import DType


@lowers(Conv)
def conv(low: Lowering, op: Conv) -> None:
    """x is [N, spatial.., C], w [taps.., C / groups, O]."""
    if integer_contractions.multiplies(op.x, op.w):
        integer_contractions.conv(low, op)
        return
    if not _supported(low, op):
        fallback.lower_with_body(low, op)
        return
    rank = op.x.rank - 2
    perm = tuple(range(op.out.rank))
    fused = fuse(low, op.body, op.extras, perm, op.out.rank - 1)
    if fused is None:
        bare = dataclasses.replace(op, extras=(), body=None)
        conv(low, bare)
        fallback.lower_body(low, op, bare.out)
        return
    *taps, _, out_channels = (as_int(d) for d in op.w.shape)
    pixels = product(op.out.shape[:-1])
    sizes = (op.x.shape[0], *op.x.shape[1:-1], *op.out.shape[1:-1])
    task: MatmulTask | ConvTask
    assert isinstance(op.w.op, Constant)
    halves = low.graph.weights[op.w.op.name].halves
    if _pointwise(op):
        # The matmul of pixels by channels, which has more kernels.
        matmul = HalfMatmulTask if halves else MatmulTask
        task = matmul(as_int(op.x.shape[-1]), out_channels, fused.epilogue)
        dims = (pixels, task.k, out_channels, *fused.strides)
    else:
        convolution = HalfConvTask if halves else ConvTask
        task = convolution(
            channels=as_int(op.x.shape[-1]),
            out_channels=out_channels,
            kernel=tuple(taps),
            strides=op.strides,
            pads=op.pads_low,
            dilations=op.dilations,
            groups=op.groups,
            epilogue=fused.epilogue,
        )
        dims = (*sizes, out_channels, *fused.strides)
    chosen = low.choose(op, task, dims, op.w.op.name, op.groups)
    if chosen is None:
        fallback.lower_with_body(low, op)
        return
    view = low.stored(op.x)
    views = (view if view.dense else low.dense(op.x),)
    read_by(low, views)
    settled = settle(low, chosen, views, op.out)
    family, spec = chosen.family, settled.spec
    place = _packed(low, op, chosen, matrix=isinstance(task, MatmulTask))
    (x,), y = settled.operands, low.result(op.out, settled.dtype)
    first = 2
    low.launch(
        op,
        spec,
        (x.at, place[0], *fused.places),
        (y.at,),
        dims,
        formula(family.units(spec), dims),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        flops=pixels * (2 * prod(taps) * as_int(op.w.shape[-2]) * out_channels),
        traffic=x.bytes + y.bytes + place[1] + fused.traffic,
        inplace=fused.overwritten(first, y.dtype),
    )
    hand_on(low, op.out, y, op.source, operands=1, inplace=any(fused.aligned))
    assert len(sizes) == 1 + 2 * rank


def _supported(low: Lowering, op: Conv) -> bool:
    known = all(isinstance(d, int) and d > 0 for d in op.w.shape)
    return op.x.dtype == DType.F32 and known and isinstance(op.w.op, Constant)


def _pointwise(op: Conv) -> bool:
    """Whether every output pixel is the product of one input pixel and the filters."""
    ones = (1,) * (op.x.rank - 2)
    plain = op.w.shape[:-2] == ones and tuple(op.strides) == ones and op.groups == 1
    return plain and op.x.shape[:-1] == op.out.shape[:-1] and not any(op.pads_low)


def _packed(low: Lowering, op: Conv, kernel: Candidate, *, matrix: bool) -> tuple[Place, int]:
    """The filters in the order of the kernel, as a ``matrix`` [C, O] or by taps; their bytes."""
    assert isinstance(op.w.op, Constant)
    pack, layout = kernel.family.pack, kernel.layout
    assert pack is not None
    assert layout is not None
    name = op.w.op.name
    key: tuple[Hashable, ...] = (layout.name, low.graph.weights[name].hash(), op.groups)
    if kernel.format and low.offers is not None:
        encoded = low.offers.encoded(op.source, name, kernel.format)
        coded = partial(pack, encoded, kernel.spec)
        return low.weight((*key, encoded), name, layout.bytes, coded), layout.bytes

    def load() -> np.ndarray:
        weights = low.graph.weights.array(name)
        last = weights.ndim - 1
        if getattr(kernel.spec, "products", 0) == 1:
            weights = balanced(weights.reshape(-1, weights.shape[-1]).T).T.reshape(weights.shape)
        if matrix:
            return kernel.pack(weights.reshape(weights.shape[-2:]))
        return kernel.pack(weights.transpose(last, last - 1, *range(last - 1)))

    return low.weight(key, name, layout.bytes, load), layout.bytes
