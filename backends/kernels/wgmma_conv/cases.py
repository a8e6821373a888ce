"""Launches on which the convolution is tested: those of f32_conv in one group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.kernels.f32_conv import cases as f32
from tilewright.backends.kernels.f32_conv import odd
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.wgmma_conv.packing import pack, unpack
from tilewright.backends.kernels.wgmma_conv.spec import WgmmaConvSpec
from tilewright.backends.kernels.wgmma_matmul.packing import TYPES
from tilewright.backends.kernels.wgmma_matmul.spec import Tile, start

SMALL = Tile(64, 64, 4, 1)
WAYS = (
    (1, "bf16", "f32", "f32"),
    (1, "bf16", "bf16", "bf16"),
    (1, "f16", "f32", "f32"),
    (6, "bf16", "f32", "f32"),
    (3, "bf16", "f32", "f32"),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = []
    for i, (spec, sizes) in enumerate(f32.CONVS):
        if spec.groups == 1:
            out.append(_case(spec, sizes, *WAYS[i % len(WAYS)], special=i % 3 == 1))
            fused = ConvSpec(**{**vars(spec), "epilogue": f32.RESIDUAL})
            out.append(_case(fused, sizes, *WAYS[(i + 1) % len(WAYS)]))
    for way in WAYS:
        out.append(_case(f32.conv(64, 70, (3, 3), 2, 1), (2, 19, 21), *way))
        out.append(_case(f32.conv(40, 64, (1, 1), 1, 0), (3, 9, 7), *way))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Those of f32_conv over all channels."""
    spec = odd.odd_spec(n, k, grouped=False)
    sizes, out = odd.odd_sizes(spec, m)
    if spec.groups != 1:
        return ()
    return (_case(spec, sizes, *WAYS[0], special=odd.special(m), out=out),)


def _case(
    spec: ConvSpec,
    sizes: tuple[int, ...],
    products: int,
    element: str,
    a: str,
    c: str,
    special: bool = False,
    out: tuple[int, ...] | None = None,
) -> Case:
    tile = start(products) if products > 1 else SMALL
    ours = WgmmaConvSpec(**vars(spec), products=products, element=element, a=a, c=c, tile=tile)
    x, weights = f32.operands(spec, sizes)
    weights = unpack(pack(weights, ours), ours).astype(np.float32)
    x = f32.with_extremes(x) if special else x
    with np.errstate(all="ignore"):
        x = x.astype(TYPES[a])
        exact = x.astype(np.float64)
        if products == 1:
            exact = x.astype(TYPES[element]).astype(np.float64)
        exact = np.where(np.abs(exact) > 3.3961776e38, np.copysign(np.inf, exact), exact)
        made = f32.conv_case(
            ours,
            x,
            weights,
            pack(weights, ours),
            rtol={1: 2e-5, 3: 1.5e-4, 6: 2e-5}[products] + (2**-8 if c == "bf16" else 0.0),
            atol=4e-4,
            exact=exact,
            note=f"-{element}{products}-{a}-{c}{'-inf' * special}",
            out=out,
        )
    return replace(made, results=tuple(r.astype(TYPES[c]) for r in made.results))
