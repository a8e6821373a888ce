"""Product with a constant right-hand side on Hopper whose rows are normalized before they are
stored: C[M, N] = norm(epilogue(A[M, K] x B[K, N])) * scale + bias; layer or RMS norm.

Packed B: as in `wgmma_matmul`. Two ways, between which prices decide (`tiles.py` has figures):

* A cluster of blocks has whole rows of C (`template.py`; N up to 8 blocks of 256 columns). Blocks
  exchange the mean and the squared deviations of their piece of a row through shared memory, so
  that sums never reach memory: one launch, for few rows of short K.
* Parts of K over all of the device, then a block for each row that adds up the parts, applies the
  epilogue and normalizes (`apart.py`): for few rows of longer K, which need the parts anyway.

MiniLM on one text takes 100.3 us instead of 107.8, BERT 296.0 instead of 301.8 (an H200).

Statistics are f32 sums of the f32 values that the epilogue makes, the mean first, then squared
deviations from it, in an order that depends on nothing but the tile.
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
