"""Product of 8-bit rows and columns with scales on Hopper: C[M, N] = epilogue(A[M, K] x B[K, N]).

B is in a format of 8 bits with a scale a column, integers (w8a8-sym) or E4M3FN (f8e4m3a8e4m3);
rows of A, f32 or bf16, are made codes of the same kind with a scale each by a launch before. Packed
B: columns one after the other, each filled up with zeros to 16 bytes, then their scales, f32.
N = 2, K = 3:

    column 0   b00 b10 b20  0 ... 0
    column 1   b01 b11 b21  0 ... 0
    scales     s0 s1

The code is that of `wgmma_matmul` with steps of 128 in K. Integers are summed in i32. Sums of E4M3
products, of which tensor cores keep fewer bits than f32 has, are added up in f32 proper after every
step, which takes the registers of a second tile. It has not run on a device yet.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.wgmma_scaled_matmul import (
    cases,
    cost,
    cuda,
    packing,
    reference,
    spec,
)
from tilewright.backends.kernels.wgmma_scaled_matmul.spec import WgmmaScaledMatmulSpec

FAMILY = KernelFamily(
    name="wgmma_scaled_matmul",
    op="contraction",
    emit=None,
    cuda=cuda.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=cuda.supports,
    candidates=spec.candidates,
    variants=spec.variants,
    layout=spec.layout,
    format=spec.name,
    stored=spec.stored,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "WgmmaScaledMatmulSpec"]
