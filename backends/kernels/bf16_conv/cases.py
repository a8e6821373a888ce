"""Launches on which the bf16 convolution is tested: the f32 ones, without the depthwise."""

from __future__ import annotations

from dataclasses import fields, replace
from types import ModuleType

import numpy as np

from tilewright.backends.kernels.bf16_conv import packing
from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec
from tilewright.backends.kernels.bf16_matmul.cases import TOLERANCE
from tilewright.backends.kernels.bf16_matmul.packing import round_to_bf16, widen
from tilewright.backends.kernels.f32_conv import cases as f32
from tilewright.backends.kernels.f32_conv import odd
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case

# More pixels than a unit has rows, in two images.
LARGE = (f32.conv(6, 37, (3, 3), 1, 1), (2, 13, 11))


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    convs = [*(c for c in f32.CONVS if not c[0].depthwise), LARGE]
    plain = [bf16_case(Bf16ConvSpec, spec, sizes, 1) for spec, sizes in convs]
    fused = [
        bf16_case(Bf16ConvSpec, replace(s, epilogue=f32.RESIDUAL), sizes, 1)
        for s, sizes in convs[1::3]
    ]
    split = [
        bf16_case(Bf16ConvSpec, spec, sizes, products)
        for spec, sizes in convs[1:7:2]
        for products in (3, 6)
    ]
    spec, sizes = convs[4]
    extreme = [bf16_case(Bf16ConvSpec, spec, sizes, p, extreme=True) for p in (1, 6)]
    return (*plain, *fused, *split, *extreme)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """By turns of m one product and six, a filter over all channels and one in groups."""
    base = odd.odd_spec(n, k, grouped=m % 3 == 1)
    if base.depthwise:
        base = odd.odd_spec(n, k)
    return (odd_case(Bf16ConvSpec, base, m),)


def odd_case(
    kind: type[Bf16ConvSpec], base: ConvSpec, m: int, packing: ModuleType = packing
) -> Case:
    """As bf16_case, of ``m`` output pixels."""
    sizes, out = odd.odd_sizes(base, m)
    products = 6 if m % 4 > 1 else 1
    return bf16_case(kind, base, sizes, products, packing, extreme=odd.special(m), out=out)


def bf16_case(
    kind: type[Bf16ConvSpec],
    base: ConvSpec,
    sizes: tuple[int, ...],
    products: int,
    packing: ModuleType = packing,
    *,
    extreme: bool = False,
    out: tuple[int, ...] | None = None,
) -> Case:
    """A launch of ``base`` as a spec of class ``kind``, with that many products, filters packed
    by ``packing``; ``extreme``: with inputs that are not finite; ``out`` as in conv_case."""
    spec = kind(**{f.name: getattr(base, f.name) for f in fields(base)}, products=products)
    x, weights = f32.operands(spec, sizes)
    x = f32.with_extremes(x) if extreme else x
    # What the packed form stands for, so that unpacking gives it back.
    weights = packing.unpack(packing.pack(weights, spec), spec).astype(np.float32)
    return f32.conv_case(
        spec,
        x,
        weights,
        packing.pack(weights, spec),
        rtol=TOLERANCE[products],
        atol=TOLERANCE[products] * 5,
        exact=widen(round_to_bf16(x)) if products == 1 else None,
        note=f"-p{products}{'-inf' * extreme}",
        out=out,
    )
