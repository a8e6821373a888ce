"""Product with a constant right-hand side on Hopper: C[M, N] = epilogue(A[M, K] x B[K, N]).

Packed B, u16 bits of bf16 or f16: columns of B one after the other, each filled up with zeros to 16
bytes (the stride that the tensor memory accelerator asks for), plane by plane. N = 3, K = 5:

    plane 0   column 0   b00 b10 b20 b30 b40  0  0  0
              column 1   b01 b11 b21 b31 b41  0  0  0
              column 2   b02 b12 b22 b32 b42  0  0  0
    plane 1   ...        what plane 0 has rounded off

A launch is up to three functions: `_convert` brings A into the element type where it has another
(or lies so that the accelerator cannot read it), rows filled up to 16 bytes, in the workspace; the
product itself (`template.py`); `_reduce` adds up parts of K in their order.

``products`` trades time for accuracy: 1; 3 of two bf16 numbers for each operand, a0 b0 + a0 b1 +
a1 b0; 6 of three, down to a1 b1, a0 b2, a2 b0. With more than one, sums of 64 elements leave the
tensor cores, which cut off what they add, and are added up in f32; of six products those of 32 of
a0 b0, so that what is cut off does not add up over layers (0.5 to 5.5 % more time). Measured on
an H200, relative L2 errors of random normal operands and times beside cuBLAS in f32 (without
TF32), A converted:

                         f32 error     6 products            3 products
    128 x 384 x 1536       2.5e-7      1.0e-7   1.5 x        4.4e-6   1.8 x as fast
    1024 x 1024 x 1024     5.7e-7      1.1e-7   2.6 x        4.4e-6   4.3 x
    4096 x 4096 x 4096     1.2e-6      1.7e-7   2.3 x        4.5e-6   4.0 x
    8192 x 8192 x 8192     1.6e-6      2.2e-7   2.2 x        4.4e-6   4.2 x

One product in bf16 beside cuBLAS: benchmarks/README.md, `gpu/`. There is no kernel of
TF32, which has 10 bits of a mantissa at half the rate of bf16, where three products have 16 at a
third; and none of fp8, for which no class of errors is wide enough.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.wgmma_matmul import (
    cases,
    cost,
    cuda,
    packing,
    reference,
    spec,
    tiles,
)
from tilewright.backends.kernels.wgmma_matmul.spec import Tile, WgmmaMatmulSpec

FAMILY = KernelFamily(
    name="wgmma_matmul",
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
    variants=tiles.variants,
    layout=spec.layout,
    shaped=cases.shaped,
    accuracy=spec.accuracy,
    stored=spec.stored,
    suits=packing.suits,
    cuda=cuda.emit,
)

__all__ = ["FAMILY", "Tile", "WgmmaMatmulSpec"]
