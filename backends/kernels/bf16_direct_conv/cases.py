"""Launches on which the direct bf16 convolution is tested."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.bf16_conv.cases import bf16_case, odd_case
from tilewright.backends.kernels.bf16_direct_conv.spec import Bf16DirectConvSpec
from tilewright.backends.kernels.bf16_matmul.cases import TYPES
from tilewright.backends.kernels.f32_conv.cases import RESIDUAL, conv
from tilewright.backends.kernels.f32_conv.odd import odd_spec
from tilewright.backends.kernels.family import Case

CONVS = (
    (conv(32, 33, (3, 3), 1, 1), (2, 9, 7)),
    (conv(64, 40, (3, 3), 2, 1), (1, 14, 15)),
    (conv(32, 70, (1, 1), 2), (2, 5, 7)),
    (conv(32, 6, (3, 3), 1, 2, 2), (1, 8, 9)),
    (conv(96, 18, (3, 3), 2, 1, 1, 3), (1, 9, 9)),
    (conv(32, 9, (5,), 1, 2), (2, 13)),
    (conv(32, 9, (4,), 3, 2, 2), (1, 40)),
    (conv(128, 5, (3, 3), 1, 1), (1, 1, 1)),
    (replace(conv(32, 7, (3, 2), 1, 0), pads=(2, 0), strides=(1, 2)), (1, 6, 9)),
    (replace(conv(32, 7, (2, 5), 1, 0), pads=(1, 4), dilations=(3, 1)), (1, 9, 3)),
    (conv(64, 37, (3, 3), 1, 1), (1, 47, 50)),
    (conv(32, 32, (3, 3), 4, 7), (1, 3, 2)),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    plain = [bf16_case(Bf16DirectConvSpec, spec, sizes, 1) for spec, sizes in CONVS]
    fused = [
        bf16_case(Bf16DirectConvSpec, replace(s, epilogue=RESIDUAL), sizes, 1)
        for s, sizes in CONVS[::3]
    ]
    split = [
        bf16_case(Bf16DirectConvSpec, spec, sizes, products)
        for spec, sizes in CONVS[1:5:2]
        for products in (3, 6)
    ]
    extreme = [
        bf16_case(Bf16DirectConvSpec, spec, sizes, products, extreme=True)
        for (spec, sizes), products in zip(CONVS[:5:2], (1, 3, 6), strict=True)
    ]
    handed = [
        _handed_on(case, x, y)
        for case in (*plain[::2], fused[0], extreme[0])
        for x, y in (("bf16", "f32"), ("f32", "bf16"), ("bf16", "bf16"))
    ]
    return (*plain, *fused, *split, *extreme, *handed)


def _handed_on(case: Case, x: str, y: str) -> Case:
    """The same launch with X and Y in other formats: what it reads it would round so itself."""
    (result,) = case.results
    return replace(
        case,
        label=f"{case.label}-{x}-{y}",
        spec=replace(case.spec, x=x, y=y),
        args=(case.args[0].astype(TYPES[x]), *case.args[1:]),
        results=(result.astype(TYPES[y]),),
        rtol=case.rtol + (2**-8 if y == "bf16" else 0),
    )


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """``k`` taps of 32 channels, or of 64; by turns of m one product and six, and groups."""
    base = odd_spec(n, k, channels=32 + k % 2 * 32, grouped=m % 3 == 1, rank=2)
    return (odd_case(Bf16DirectConvSpec, base, m),)
