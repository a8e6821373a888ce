"""Product with a constant right-hand side on Hopper whose rows are normalized before they are
stored: C[M, N] = norm(epilogue(A[M, K] x B[K, N])) * scale + bias; layer or RMS norm.

Packed B: as in `wgmma_matmul`. A cluster of blocks has whole rows of C (N up to 8 blocks of 256
columns); blocks exchange the mean and the squared deviations of their piece of a row through
shared memory (`template.py`). So neither sums nor a second kernel reach memory. C is stored in as
many formats as somebody reads.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.wgmma_matmul.cuda import supports
from tilewright.backends.kernels.wgmma_matmul.packing import suits
from tilewright.backends.kernels.wgmma_normed_matmul import (
    cases,
    cost,
    cuda,
    packing,
    reference,
    spec,
    tiles,
)
from tilewright.backends.kernels.wgmma_normed_matmul.spec import (
    NormedMatmulTask,
    NormedTile,
    WgmmaNormedMatmulSpec,
)

FAMILY = KernelFamily(
    name="wgmma_normed_matmul",
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

__all__ = ["FAMILY", "NormedMatmulTask", "NormedTile", "WgmmaNormedMatmulSpec"]
