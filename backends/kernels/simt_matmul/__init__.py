"""f32 matmul on GPUs with a constant right-hand side: C[M, N] = epilogue(A[M, K] B[K, N]).

f32-faithful: FFMA in a fixed order. Packed B is that of f32_matmul or, where B has only f16
numbers, of f16_matmul, so that artifacts for CPUs and GPUs hold it once.

Which function runs is decided by M at run time; the others are not launched:

    rows 1..4     `few`     streams B once (cuda.stream), a block for 8 to 32 columns
    rows 5..16    `some`    the same with more rows in registers
    above         `large`, `middle`, `small`   tiles (cuda.simt), the largest that fills the device

Measured on an H200, f32, launches one after the other in a CUDA graph over copies of B beyond the
L2; us, in brackets cuBLAS in f32: 1x4096x4096 19.4 (23.5), 1x14336x4096 59.5 (63.8), 1x4096x14336
56.8 (57.6), 80 to 96 % of the bytes' time; 16x4096x4096 35.8 (49.9), 128x384x384 8.1 (7.8),
4096x1536x384 154 (121), 4096x4096x4096 4114 (2729), 33 TFLOP/s.
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
