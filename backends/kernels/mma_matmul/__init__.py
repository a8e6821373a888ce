"""Matmul in f16 or bf16 on GPUs with a constant right-hand side: C[M, N] f32 = epilogue(A x B).

By mma.m16n8k16, for every GPU from sm_80 on: A is rounded, products are exact and summed in f32.
B is streamed in the order of mma's operands (cuda/device/fewrows.cuh), once for every 64 rows: made
for up to 64 rows, for which it is as fast as memory; many rows are for kernels with larger tiles.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.mma_matmul import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.mma_matmul.spec import MmaMatmulSpec

FAMILY = KernelFamily(
    name="mma_matmul",
    op="contraction",
    emit=None,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    layout=spec.layout,
    shaped=cases.shaped,
    suits=packing.suits,
)

__all__ = ["FAMILY", "MmaMatmulSpec"]
