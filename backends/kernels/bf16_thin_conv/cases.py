"""Launches on which the bf16 convolution for few channels is tested."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.bf16_conv.cases import bf16_case, odd_case
from tilewright.backends.kernels.bf16_thin_conv import packing
from tilewright.backends.kernels.bf16_thin_conv.spec import Bf16ThinConvSpec
from tilewright.backends.kernels.f32_conv.cases import RESIDUAL, conv
from tilewright.backends.kernels.f32_conv.odd import odd_spec
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case

CONVS = (
    (conv(3, 20, (7, 7), 2, 3), (1, 23, 19)),
    (conv(3, 33, (3, 3), 1, 1), (2, 29, 31)),
    (conv(3, 33, (3, 3)), (1, 9, 31)),
    (conv(1, 1, (3, 3), 1, 1), (1, 4, 4)),
    (conv(9, 9, (3, 3), 1, 1), (1, 1, 1)),
    (conv(16, 40, (5, 5), 2, 2), (1, 11, 9)),
    (conv(7, 9, (5,), 1, 2), (2, 13)),
    (conv(70, 6, (3,), 3, 2), (1, 40)),
    (replace(conv(5, 7, (3, 2), 1, 0), pads=(2, 4), strides=(1, 2), dilations=(2, 1)), (1, 6, 9)),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    plain = [_case(spec, sizes, 1) for spec, sizes in CONVS]
    fused = [_case(replace(s, epilogue=RESIDUAL), sizes, 1) for s, sizes in CONVS[::3]]
    split = [_case(spec, sizes, products) for spec, sizes in CONVS[:3] for products in (3, 6)]
    extreme = [
        _case(spec, sizes, products, extreme=True)
        for (spec, sizes), products in zip(CONVS[1:6:4], (1, 6), strict=True)
    ]
    return (*plain, *fused, *split, *extreme)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """By turns of m one product and six."""
    base = odd_spec(n, k, rank=2, thin=True)
    return (odd_case(Bf16ThinConvSpec, base, m, packing),)


def _case(spec: ConvSpec, sizes: tuple[int, ...], products: int, *, extreme: bool = False) -> Case:
    return bf16_case(Bf16ThinConvSpec, spec, sizes, products, packing, extreme=extreme)
