"""Launches on which the convolution in f16 or bf16 is tested: those of f32_conv, rounded."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_conv import cases as f32
from tilewright.backends.kernels.f32_conv import odd
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.mma_conv.packing import pack
from tilewright.backends.kernels.mma_conv.spec import MmaConvSpec
from tilewright.backends.kernels.mma_matmul.packing import TYPES


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = []
    for i, (spec, sizes) in enumerate(f32.CONVS):
        if not spec.depthwise:
            out += [_case(spec, sizes, d, special=i % 4 == 1) for d in TYPES]
            out.append(_case(_fused(spec), sizes, "bf16"))
    out.append(_case(f32.conv(5, 130, (3, 3), 1, 1), (2, 41, 43), "bf16"))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Those of f32_conv over all channels or in groups."""
    spec = odd.odd_spec(n, k, grouped=m % 2 == 1)
    sizes, out = odd.odd_sizes(spec, m)
    if spec.depthwise:
        return ()
    return (_case(spec, sizes, "bf16", special=odd.special(m), out=out),)


def _fused(spec: ConvSpec) -> ConvSpec:
    return ConvSpec(**{**vars(spec), "epilogue": f32.RESIDUAL})


def _case(
    spec: ConvSpec,
    sizes: tuple[int, ...],
    dtype: str,
    special: bool = False,
    out: tuple[int, ...] | None = None,
) -> Case:
    ours = MmaConvSpec(**vars(spec), dtype=dtype)
    x, weights = f32.operands(spec, sizes)
    weights = weights.astype(TYPES[dtype]).astype(np.float32)
    x = f32.with_extremes(x) if special else x
    with np.errstate(all="ignore"):
        exact = x.astype(TYPES[dtype]).astype(np.float64)
        packed = pack(weights, ours)
        return f32.conv_case(
            ours,
            x,
            weights,
            packed,
            rtol=2e-5,
            atol=2e-4,
            exact=exact,
            note=f"-{dtype}{'-inf' * special}",
            out=out,
        )
