"""Matmul with group-wise integer weights on GPUs: C[M, N] f32 = epilogue(A[M, K] x B[K, N]).

W4A16 and W8A16: B is s (q - z), codes of 4 or 8 bits (compiler.formats.integers); A is rounded to
bf16. q - z is exact in bf16, products are summed in f32 and multiplied by the scales there, so that
nothing but A and the sums is rounded. Formats that read A as 8-bit codes are read more precisely
than they say. Rows that are not finite may give NaN by 8-bit codes, whose halves are multiplied
apart. Packed B, in the order of the operands of mma.m16n8k16: cuda/device/fewrows.cuh.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.grouped_mma import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.grouped_mma.spec import GroupedMmaSpec

FAMILY = KernelFamily(
    name="grouped_mma",
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
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "GroupedMmaSpec"]
