"""Batched matmul of two activations in f16 or bf16 on GPUs: C[b.., M, N] f32 = epilogue(A x B).

By mma.m16n8k16, for every GPU from sm_80 on: A and B are rounded on their way into shared memory,
products are exact and summed in f32 (cuda/device/mmatile.cuh). Nothing is packed; B may lie
transposed.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.mma_bmm import cases, cost, cuda, reference, spec
from tilewright.backends.kernels.mma_bmm.spec import MmaBmmSpec

FAMILY = KernelFamily(
    name="mma_bmm",
    op="contraction",
    emit=None,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "MmaBmmSpec"]
