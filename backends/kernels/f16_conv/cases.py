"""Launches on which the f16 convolution is tested: the f32 ones, without the depthwise."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from tilewright.backends.kernels.f16_conv.packing import pack
from tilewright.backends.kernels.f16_conv.spec import F16ConvSpec
from tilewright.backends.kernels.f32_conv import cases as f32
from tilewright.backends.kernels.f32_conv import odd
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case

CONVS = tuple(c for c in f32.CONVS if not c[0].depthwise)
LARGE = (f32.conv(6, 37, (3, 3), 1, 1), (2, 13, 11))


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test: those that every target can run."""
    plain = [half_case(spec, sizes) for spec, sizes in (*CONVS, LARGE)]
    fused = [half_case(replace(s, epilogue=f32.RESIDUAL), sizes) for s, sizes in CONVS[1::3]]
    return (*plain, *fused, *(half_case(*CONVS[i], extreme=True) for i in (1, 3, 6)))


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """By turns of m a filter over all channels and one in groups."""
    base = odd.odd_spec(n, k, grouped=m % 3 == 1)
    if base.depthwise:
        base = odd.odd_spec(n, k)
    sizes, out = odd.odd_sizes(base, m)
    return (half_case(base, sizes, extreme=odd.special(m), out=out),)


def half_case(
    base: ConvSpec,
    sizes: tuple[int, ...],
    chain: int = 0,
    *,
    extreme: bool = False,
    out: tuple[int, ...] | None = None,
) -> Case:
    """A launch of ``base`` with that ``chain``; ``extreme``: with inputs that are not finite, and
    filters with subnormal f16 numbers; ``out`` as in conv_case."""
    given = {f.name: getattr(base, f.name) for f in fields(base)}
    spec = F16ConvSpec(**given, chain=chain)
    x, weights = f32.operands(spec, sizes)
    x = f32.with_extremes(x) if extreme else x
    weights = weights.astype(np.float16).astype(np.float32)
    if extreme:
        weights.reshape(-1)[::7] = np.float32(np.float16(6e-8))
    # With chains, X is rounded, and so are sums of up to that many products.
    with np.errstate(over="ignore"):
        exact = x.astype(np.float16).astype(np.float32) if chain else None
    return f32.conv_case(
        spec,
        x,
        weights,
        pack(weights, spec),
        rtol=4e-3 if chain else 2e-5,
        atol=4e-3 * spec.k**0.5 if chain else 1e-4,
        exact=exact,
        note=f"{f'-chain{chain}' if chain else ''}{'-inf' * extreme}",
        out=out,
    )
