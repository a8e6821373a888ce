"""Matmul on GPUs by a constant that a quantized model stores as codes (formats/blocks.py): C[M, N]
f32 = epilogue(A B), B[k, n] = s[g, n] (q[k, n] - z[g, n]), codes q of 4 or 8 bits.

Nothing is rounded but products and sums: A is made up of three parts in bf16, which are columns of
one mma, q - z is exact in bf16, and sums of groups are multiplied by the scales in f32. Packed B is
that of grouped_mma (cuda/device/fewrows.cuh), with scales of f16 or f32.
"""

from tilewright.backends.kernels.coded_mma import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.coded_mma.spec import CodedMmaSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="coded_mma",
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
    shaped=cases.shaped,
    codes=True,
)

__all__ = ["FAMILY", "CodedMmaSpec"]
