"""Cost of the matmul with a correction."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels import work
from tilewright.backends.kernels.bf16_matmul import cost as bf16
from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.grouped_matmul import cost as grouped
from tilewright.backends.kernels.repaired_matmul.spec import RepairedMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY
from tilewright.backends.target import Target


def estimate(spec: RepairedMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """That of grouped_matmul and of both factors; the correction is written to L2 and read again
    for each block of rows."""
    m = dims[0]
    base = replace(spec.base, epilogue=spec.epilogue)
    total = grouped.estimate(base, dims, target)
    weights = spec.base_bytes + spec.factors.bytes
    blocks = work.row_blocks(m, spec.rows_per_unit)
    for rows, times in blocks:
        left = bf16.estimate(spec.factors.left, (rows, spec.k, spec.rank), target)
        right = bf16.estimate(spec.right, (rows, spec.rank, spec.n), target)
        total = replace(
            total,
            flops=total.flops + times * (left.flops + right.flops),
            issued=total.issued + times * (left.issued + right.issued),
            streamed=total.streamed + times * (left.streamed + right.streamed + 8 * rows * spec.n),
            converted=total.converted + times * (left.converted + right.converted),
            blocks=total.blocks + times * (left.blocks + right.blocks),
        )
    return replace(
        total,
        bytes=total.bytes - total.weights + weights,
        weights=weights,
        passes=sum(times for _, times in blocks),
        epilogue=total.epilogue + work.epilogue(IDENTITY, m * spec.n) + 2 * m * spec.n,
    )
