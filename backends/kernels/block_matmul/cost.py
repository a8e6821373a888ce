"""Cost of the matmul with blocks."""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.kernels.block_matmul.spec import BlockMatmulSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.narrow_blocks import NARROW, most_tiles
from tilewright.backends.llvm.sparse_blocks import STRIP, most_rows, native
from tilewright.backends.target import Target

OVERHEAD = 3
"""Loads of a block and its number, in the time of rows: two a cycle, as products."""

TURNED = {True: 1.2, False: 2.0}
"""Conversions of an element of A that take as long as bringing it to its form, codes or f32, and
turning it."""

SPREAD, LATENCY = 1.2, 12
"""Narrow blocks: products of f32 that take as long as one, whose values are spread over lanes; and
as one tile of 16 rows by a block, of which each product waits for the one before it."""

NEAR = 0.6
"""Share of the lines of A that narrow blocks do not find in L1."""

ENDS = 90
"""Products of f32 that take as long as turning and storing the sums of 16 rows by 4 columns."""

MISSED = 1.3
"""Products of f32 take so much longer: 16 rows of A are more than L1 holds beside wide blocks."""


def estimate(spec: BlockMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once. What is issued are products of the
    blocks that are there, as many as f32 ones take."""
    m = dims[0]
    weights = spec.packed_bytes
    own = native(target, spec.q)
    tiles = -(-m // ROWS)
    rows = tiles * ROWS if m > 8 else 1 << max(m - 1, 0).bit_length() if m else 0
    calls = -(-rows // most_rows(target))
    vectors = STRIP // target.lanes_f32
    parts = 1 if own else spec.q
    slots = parts * (vectors * rows + calls * (OVERHEAD + (vectors if not own else 0)))
    if spec.wide == NARROW:
        calls = -(-tiles // most_tiles(target))
        busy = max(NARROW * vectors * tiles, LATENCY * calls)
        slots = int(SPREAD * parts * (busy + calls * OVERHEAD))
        slots += -(-spec.strips * tiles * ENDS // max(spec.blocks, 1))
    lines = 4 * STRIP * tiles * spec.blocks
    streamed = weights * tiles + lines
    if spec.wide == NARROW:
        streamed = int(weights * calls + NEAR * lines)
    codes = own and spec.q == 4
    missed = 1 if codes or spec.wide == NARROW else MISSED
    full = work.full_extras(spec.epilogue)
    passes = -(-m // spec.rows_per_unit)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * (m * spec.k + (1 + full) * m * spec.n) + weights,
        issued=int(2 * target.lanes_f32 * slots * spec.blocks * missed),
        weights=weights,
        passes=passes,
        streamed=streamed,
        converted=int(TURNED[codes] * m * spec.k),
        epilogue=work.epilogue(spec.epilogue, m * spec.n) + (3 if spec.q == 4 else 1) * m * spec.n,
        written=4 * m * spec.n,
        blocks=calls * spec.strips,
    )
