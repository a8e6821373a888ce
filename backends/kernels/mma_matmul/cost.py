"""Cost of the matmul in f16 or bf16 on GPUs."""

from __future__ import annotations

from tilewright.backends.cuda import fewshapes
from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.mma_matmul.spec import MmaMatmulSpec
from tilewright.backends.target import Target


def estimate(spec: MmaMatmulSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once. Many rows read B once for every
    64 of them, from L2."""
    m, weights = dims[0], spec.weights.bytes
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        unit="f16" if spec.dtype == "f16" else "bf16_tile",
        issued=2 * (-(-m // 8) * 8) * spec.k * spec.weights.panels * 32,
        weights=weights,
        passes=-(-m // 64),
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=4 * m * spec.n,
        nanoseconds=_nanoseconds(m, spec),
    )


FITTED = 128
"""Panels up to which the fit of `_nanoseconds` holds."""

WHOLE, START = 1.2, 4000
"""K 4096, N 65536: 167 us with 64 rows, 650 with 256 (an H200). With 128 rows that are rounded
before, K 384 takes 6.3 to 7.1 us with N from 384 to 1536, and K 1536 6.9 with N 384."""


def _nanoseconds(m: int, spec: MmaMatmulSpec) -> int:
    """Fitted to an H200, K and N from 384 to 4096 with 1 to 512 rows, to 30 % mostly: a pass of 64
    rows takes so long for each k, and few panels share k among blocks. More panels, and where that
    is less: START and WHOLE times as long as weights of four bits take."""
    panels = spec.weights.panels
    whole = START + WHOLE * fewshapes.nanoseconds(spec.weights, m)
    if panels > FITTED:
        return round(whole)
    step = 3.5 if panels <= 32 else 6.7
    passes = 0.4 + 1.6 * m / 64 if m <= 64 else 1 - (-m // 64)
    return round(min(whole, spec.k * step * passes))
