"""Batched f32 matmul of two activations on GPUs: C[b.., M, N] = epilogue(A[b.., M, K] B[b.., K, N])

f32-faithful: FFMA in a fixed order (cuda.simt). Nothing is packed; B may lie transposed. Which tile
runs, 128 x 128, 64 x 64 or 32 x 32, is decided by the shape at run time.
"""

from tilewright.backends.kernels.f32_bmm import reference
from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.simt_bmm import cases, cost, cuda, spec
from tilewright.backends.kernels.simt_bmm.spec import SimtBmmSpec

FAMILY = KernelFamily(
    name="simt_bmm",
    op="contraction",
    emit=None,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    candidates=spec.candidates,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "SimtBmmSpec"]
