"""Launches on which attention with bf16 products is tested: those of f32 attention."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.bf16_attention.spec import Bf16AttentionSpec
from tilewright.backends.kernels.f32_attention.cases import launches
from tilewright.backends.kernels.family import Case

TOLERANCE = {1: 1e-2, 3: 1e-4, 6: 1e-4}
"""Products -> error of a result, absolute and relative."""

SPREAD = {1: 0.5, 3: 1.0, 6: 3.0}
"""Products -> size of operands. Scores of large ones would make their rounding errors weights."""

EVERY = {1: 1, 3: 4, 6: 2}
"""Products -> which launches. What differs between them are the operands' planes."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test; short tiles of keys, so that there are several."""
    out = []
    for products, tolerance in TOLERANCE.items():
        for case in launches(SPREAD[products])[:: EVERY[products]]:
            keys = 64 if products == 3 else 256
            spec = Bf16AttentionSpec(**vars(case.spec), products=products, keys=keys)
            out.append(
                replace(
                    case,
                    spec=spec,
                    label=f"{case.label}-p{products}",
                    rtol=tolerance,
                    atol=tolerance,
                )
            )
    return tuple(out)
