"""Cost of the product with bitmaps on GPUs."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.bitmap_mma.spec import BitmapMmaSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm import formats as storage
from tilewright.backends.target import Target

PICOSECONDS = {8: 0.42, 16: 0.53, 32: 0.72, 64: 1.25}
"""Of a weight in a block of so many rows; `BEGINNING`: microseconds that come on top of them, and
`FILLING` where K is 4096 or more. Half of the weights on an H200 beside 2 us of a launch, K 4096, N
4096 and 14336, and 384 x 1024; 30 % of them take up to a seventh less."""

BEGINNING, FILLING = 0.85, 1.15


def estimate(spec: BitmapMmaSpec, dims: tuple[int, ...], _target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full-size extras once. Many rows read B once for every
    64 of them, from L2."""
    m, weights = dims[0], spec.packed_bytes
    a, c = storage.BYTES[spec.a], storage.BYTES[spec.c]
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=a * m * spec.k + (c + 4 * full) * m * spec.n + weights,
        unit="f16" if spec.element == "f16" else "bf16_tile",
        issued=2 * (-(-m // 8) * 8) * spec.k * spec.panels * 32,
        weights=weights,
        passes=-(-m // 64),
        converted=spec.k * spec.panels * 32 * -(-m // 64),
        epilogue=work.epilogue(spec.epilogue, m * spec.n),
        written=c * m * spec.n,
        nanoseconds=nanoseconds(spec, m),
    )


def nanoseconds(spec: BitmapMmaSpec, rows: int) -> int:
    """About how long products with ``rows`` rows take beside their bytes."""
    whole, rest = divmod(rows, 64)
    widths = [64] * whole + ([next(w for w in PICOSECONDS if rest <= w)] if rest else [])
    each = sum(PICOSECONDS[w] for w in widths)
    beginning = BEGINNING + FILLING * min(1.0, spec.k / 4096)
    return round(1000 * beginning + spec.k * spec.n * each / 1000)
