"""Cost of the batched f32 matmul."""

from __future__ import annotations

from math import prod

from tilewright.backends.kernels import work
from tilewright.backends.kernels.f32_bmm.spec import ROWS, BmmSpec
from tilewright.backends.kernels.family import Cost
from tilewright.backends.llvm.microkernel import PANEL, widest
from tilewright.backends.target import Target


def estimate(spec: BmmSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M K N operations a batch element; each operand once a batch element (an upper bound where
    it is broadcast)."""
    r = spec.batch_rank
    batch, (m, k, n) = prod(dims[:r]), dims[r : r + 3]
    full = work.full_extras(spec.epilogue)
    product, packed = work.Work(), 0
    for rows, times in work.row_blocks(m, ROWS):
        product += work.f32_product(target, rows, k, n) * times
        as_it_lies = not spec.transposed and rows <= widest(target).rows
        packed += times * k * (n % PANEL if as_it_lies else n)
    return Cost(
        flops=2 * batch * m * k * n,
        bytes=4 * batch * (m * k + k * n + (1 + full) * m * n),
        issued=batch * product.issued,
        streamed=batch * product.streamed,
        converted=batch * packed,
        epilogue=work.epilogue(spec.epilogue, batch * m * n),
        written=4 * batch * m * n,
        blocks=batch * product.blocks,
    )
