"""Launches on which attention with bf16 products is tested: those of f32 attention."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.bf16_attention.spec import Bf16AttentionSpec
from tilewright.backends.kernels.bf16_matmul.cases import TYPES
from tilewright.backends.kernels.f32_attention.cases import launches
from tilewright.backends.kernels.f32_attention.cases import shaped as odd
from tilewright.backends.kernels.family import Case

TOLERANCE = {1: 1e-2, 3: 1e-4, 6: 1e-4}
"""Products -> error of a result, absolute and relative."""

SPREAD = {1: 0.5, 3: 1.0, 6: 3.0}
"""Products -> size of operands. Scores of large ones would make their rounding errors weights."""

FORMATS = (("bf16",) * 4, ("f32", "bf16", "f32", "f32"), ("bf16", "f32", "bf16", "bf16"))
"""Of Q, K, V and Y, by turns."""

EVERY = {1: 1, 3: 4, 6: 2}
"""Products -> which launches. What differs between them are the operands' planes."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test; short tiles of keys, so that there are several."""
    f32 = tuple(
        _with_products(case, products)
        for products in TOLERANCE
        for case in launches(SPREAD[products])[:: EVERY[products]]
    )
    handed = tuple(
        _handed_on(_with_products(case, 1), *FORMATS[i % len(FORMATS)])
        for i, case in enumerate(launches(SPREAD[1])[::2])
    )
    return (*f32, *handed)


def _handed_on(case: Case, q: str, k: str, v: str, y: str) -> Case:
    """``case`` of one product with operands and result in these formats."""
    (result,) = case.results
    operands = (a.astype(TYPES[x]) for a, x in zip(case.args[:3], (q, k, v), strict=True))
    return replace(
        case,
        spec=replace(case.spec, q=q, k=k, v=v, y=y),
        label=f"{case.label}-{q}-{k}-{v}-{y}",
        args=(*operands, *case.args[3:]),
        results=(result.astype(TYPES[y]),),
        rtol=1.5 * case.rtol,
        atol=1.5 * case.atol,
    )


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """As f32 attention; by turns of k one product, three and six."""
    products = (1, 3, 6)[k % 3]
    return tuple(_with_products(c, products) for c in odd(m, n, k, SPREAD[products]))


def _with_products(case: Case, products: int) -> Case:
    """``case`` of f32 attention with that many."""
    keys = 64 if products == 3 else 256
    return replace(
        case,
        spec=Bf16AttentionSpec(**vars(case.spec), products=products, keys=keys),
        label=f"{case.label}-p{products}",
        rtol=TOLERANCE[products],
        atol=TOLERANCE[products],
    )
