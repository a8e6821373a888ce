"""f32 matmul on GPUs with a constant right-hand side: C[M, N] = epilogue(A[M, K] B[K, N]).

f32-faithful: FFMA in a fixed order. Packed B is that of f32_matmul or, where B has only f16
numbers, of f16_matmul, so that artifacts for CPUs and GPUs hold it once.

Which function runs is decided by M at run time; the others are not launched:

    rows 1..4     `few`     streams B once (cuda.stream), a block for 8 to 32 columns
    rows 5..16    `some`    the same with more rows in registers
    above         `large`, `middle`, `small`   tiles (cuda.simt), the largest that fills the device
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.simt_matmul import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.simt_matmul.spec import SimtMatmulSpec

FAMILY = KernelFamily(
    name="simt_matmul",
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
)

__all__ = ["FAMILY", "SimtMatmulSpec"]
