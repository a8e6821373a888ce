"""8-bit product with a constant right-hand side on Hopper: C[M, N] = epilogue(A[M, K] x B[K, N]).

Packed B, u8 or s8: columns of B one after the other, each filled up with zeros to 16 bytes (the
stride that the tensor memory accelerator asks for). N = 2, K = 3:

    column 0   b00 b10 b20  0 ... 0
    column 1   b01 b11 b21  0 ... 0

The code is that of `wgmma_matmul` with steps of 128 in K and sums in i32, which wrap. Signed and
unsigned operands are multiplied as they are, so neither needs an offset. A in f32 is made u8 in the
workspace first; so are rows that the accelerator cannot read.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.wgmma_int8_matmul import (
    cases,
    cost,
    cuda,
    packing,
    reference,
    spec,
)
from tilewright.backends.kernels.wgmma_int8_matmul.spec import WgmmaInt8MatmulSpec

FAMILY = KernelFamily(
    name="wgmma_int8_matmul",
    op="contraction",
    emit=None,
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
    shaped=cases.shaped,
    cuda=cuda.emit,
)

__all__ = ["FAMILY", "WgmmaInt8MatmulSpec"]
