"""Product of few rows with a constant right-hand side on Hopper: C[M, N] = epilogue(A x B).

Packed B: as in `wgmma_matmul`. Tensor cores have 64 rows of their left operand at least; here these
are columns of B, which do not depend on the launch before and are in shared memory when it ends,
and rows of A, which do, are the right operand: 16 or 32 of them instead of 64 are half or a quarter
of what a launch of few rows waits for.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.wgmma_matmul.cuda import supports
from tilewright.backends.kernels.wgmma_matmul.packing import suits
from tilewright.backends.kernels.wgmma_turned_matmul import (
    cases,
    cost,
    cuda,
    packing,
    reference,
    spec,
    tiles,
)
from tilewright.backends.kernels.wgmma_turned_matmul.spec import TurnedTile, WgmmaTurnedMatmulSpec

FAMILY = KernelFamily(
    name="wgmma_turned_matmul",
    op="contraction",
    emit=None,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=supports,
    candidates=spec.candidates,
    variants=tiles.variants,
    layout=spec.layout,
    shaped=cases.shaped,
    accuracy=spec.accuracy,
    stored=spec.stored,
    suits=suits,
    cuda=cuda.emit,
)

__all__ = ["FAMILY", "TurnedTile", "WgmmaTurnedMatmulSpec"]
