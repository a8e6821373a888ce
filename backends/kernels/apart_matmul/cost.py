"""Cost of the matmul with blocks of k apart."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.apart_matmul.spec import ApartMatmulSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.narrow_blocks import NARROW, TILES
from tilewright.backends.llvm.sparse_blocks import STRIP
from tilewright.backends.target import Target

WOVEN = 16
"""Products of f32 that take as long as weaving a block's lines, 8 shuffles of one port, and its
loads and stores."""

LOADS = 3
"""Loads of a block, in the time of 16 rows: two a cycle, as products."""

TURNED = 1.4
"""Conversions of an element of A that take as long as bringing it to lines of codes."""

LATENCY = 16
"""Products that take as long as those of 4 columns by one tile, each of which waits for the one
before it."""

ENDS = {NARROW: 90, STRIP: 200}
"""Products of f32 that take as long as beginning and storing the sums of 16 rows by a strip."""


def estimate(spec: ApartMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once. What is issued are products of the
    blocks that are there, as many as f32 ones take."""
    m = dims[0]
    weights = spec.packed_bytes
    tiles = -(-m // ROWS)
    calls = -(-tiles // TILES)
    if spec.wide == NARROW:
        slots = max(NARROW * tiles, LATENCY * calls) + calls * WOVEN
    else:
        slots = tiles * (STRIP + LOADS) + calls * WOVEN
    ends = spec.strips * tiles * ENDS[spec.wide]
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        issued=2 * target.lanes_f32 * (slots * spec.blocks + ends),
        weights=weights,
        passes=-(-m // spec.rows_per_unit),
        streamed=weights * calls + 4 * 64 * calls * spec.blocks,
        converted=int(TURNED * max(m, 1) * spec.k),
        epilogue=work.epilogue(spec.epilogue, m * spec.n) + 3 * m * spec.n,
        written=4 * m * spec.n,
        blocks=calls * spec.strips,
    )
