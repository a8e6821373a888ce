"""Spec of the batched f32 matmul of two activations, and its division into units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.tasks import BatchedMatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, INDEX_STRIDES, Epilogue
from tilewright.backends.llvm.gemm import TILE_BYTES
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

ROWS = 128
"""Rows of one unit: packing B costs about 3 % of multiplying 128 rows with it; with 64 rows and
four panels a unit 12 x 128 x 128 x 64 and 128 x 384 x 384 are 6 % slower."""

PANELS = 2
"""Panels of one unit."""


@dataclass(frozen=True)
class BmmSpec:
    """C[b.., M, N] = epilogue(A[b.., M, K] B[b.., K, N]), f32, ``batch_rank`` batch axes.

    ``transposed``: B is stored [b.., N, K]. Innermost axes of A, B and C are dense.

    Args: A, B, the epilogue's extras, then C.
    Dims, with r = batch_rank: p0..p(r-1) = batch sizes, then M, K, N; then for A, B, C in turn
    r batch strides and one row stride (of B: between rows as stored), in elements; then for each
    extra r batch strides, and its row stride if it is ``col`` or ``full``. Broadcast is stride 0.
    """

    batch_rank: int = 1
    transposed: bool = False
    epilogue: Epilogue = IDENTITY

    @property
    def matrix_dim(self) -> int:
        """Position of M in dims; K and N follow."""
        return self.batch_rank

    def strides_dim(self, operand: int) -> int:
        """Position of the first batch stride of A (0), B (1) or C (2)."""
        return self.batch_rank + 3 + operand * (self.batch_rank + 1)

    def extra_dim(self, extra: int) -> int:
        """Position of the first batch stride of an extra."""
        before = self.epilogue.extras[:extra]
        return self.strides_dim(3) + sum(
            self.batch_rank + len(INDEX_STRIDES[e.index]) for e in before
        )


def units(spec: BmmSpec) -> str:
    """Number of work units, a formula over the dims."""
    m, n = spec.matrix_dim, spec.matrix_dim + 2
    batch = "".join(f"p{i} * " for i in range(spec.batch_rank))
    return f"{batch}ceildiv(p{m}, {ROWS}) * ceildiv(p{n}, {PANELS * PANEL})"


def scratch_bytes(spec: BmmSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims."""
    # One packed panel, written in blocks of at most 16 k.
    return f"{TILE_BYTES} + (p{spec.matrix_dim + 1} + 16) * {4 * PANEL}"


def candidates(task: Any, _target: Target) -> tuple[BmmSpec, ...]:
    """The spec of a batched product of two activations."""
    return (BmmSpec(**vars(task)),) if isinstance(task, BatchedMatmulTask) else ()
