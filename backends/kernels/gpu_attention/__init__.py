"""Fused attention on GPUs: softmax(scale Q K^T + mask) V without a score matrix in memory."""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.gpu_attention import cases, cost, cuda, reference, spec
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec

FAMILY = KernelFamily(
    name="gpu_attention",
    op="attention",
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
    stored=spec.stored,
)

__all__ = ["FAMILY", "GpuAttentionSpec"]
