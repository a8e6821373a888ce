"""Launches on which the f32 convolution on GPUs is tested: those of f32_conv, and one that fills
large tiles."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.f32_conv import cases as f32
from tilewright.backends.kernels.f32_conv import odd
from tilewright.backends.kernels.f32_conv.packing import pack
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.simt_conv.spec import SimtConvSpec


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    spec = replace(f32.conv(5, 130, (3, 3), 1, 1), epilogue=f32.RESIDUAL)
    large = []
    for sizes in ((2, 41, 43), (4, 60, 61)):
        x, weights = f32.operands(spec, sizes)
        packed = pack(weights, spec)
        large.append(f32.conv_case(spec, x, weights, packed, rtol=2e-5, atol=1e-4))
    return tuple(_ours(case) for case in (*f32.cases(), *large))


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Those of f32_conv."""
    return tuple(_ours(case) for case in odd.shaped(m, n, k))


def _ours(case: Case) -> Case:
    return replace(case, spec=SimtConvSpec(**vars(case.spec)))
