"""Cost of the matmul with weights on lattices."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels import work
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.grouped_matmul.cost import many, unit
from tilewright.backends.kernels.lattice_matmul.spec import LatticeMatmulSpec
from tilewright.backends.kernels.work import Work
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target
from tilewright.compiler.formats.lattice import SIZE


def estimate(spec: LatticeMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations; A, packed B, C and full extras once. B is widened once for each block of
    rows, the rows of A are multiplied with the bases."""
    m, inner = dims[0], replace(spec.inner, epilogue=spec.epilogue)
    product, passes = Work(), 0
    for rows, times in work.row_blocks(m, inner.rows_per_unit):
        product += many(inner, target, rows) * times
        passes += times
    full = work.full_extras(spec.epilogue)
    return Cost(
        flops=2 * m * spec.k * spec.n,
        bytes=4 * m * spec.k + 4 * (1 + full) * m * spec.n + spec.packed_bytes,
        unit=unit(inner, target, min(m, inner.rows_per_unit), few=False),
        issued=product.issued,
        weights=spec.packed_bytes,
        passes=passes,
        streamed=product.streamed,
        converted=m * spec.k + passes * spec.panel.depth * inner.panels * PANEL,
        epilogue=work.epilogue(spec.epilogue, m * spec.n) + 2 * SIZE * m * spec.k,
        written=4 * m * spec.n,
        blocks=product.blocks,
    )
