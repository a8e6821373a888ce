"""8-bit matmul with a constant right-hand side: C[M, N] = epilogue(A[M, K] x B[K, N]), u8 or s8.

Packed B, bytes, for every CPU target alike: panels of 32 columns, in each K in steps of 64, in each
step 16 quads of k. Then, once a panel, i32 column sums and, with zero points, i32 zero points.
Digits are the order in memory, N = 40, K = 65:

    panel 0: columns 0..31                panel 1: columns 32..39, zeros above
    k=0    0  4  8 ... 124                k=0   4352 ...
    k=1    1  5  9 ... 125                ...
    k=2    2  6 10 ... 126
    k=3    3  7 11 ... 127
    k=4  128 132   ... 252
    ...
    k=64 2048      ... 2172
    k=65..127  zeros
    sums 4096 4100 ... 4220 (i32)         (zero points would be 4224 ...)

Bytes are s8; u8 weights are held less 128, with zero points less 128. An AMX tile is 16 quads by 16
columns (rows of 64 bytes, 128 apart); vpdpbusd multiplies a quad by 16 columns at once.

On GPUs (`cuda`) the same packed words are operands of mma.m16n8k32.

Everything up to the sums is exact modulo 2**32, on every instruction set: without VNNI bytes are
widened and multiplied by vpmaddwd, since vpmaddubsw saturates.

Measured on one core of a Sapphire Rapids virtual machine, interleaved with a bare loop (AMX: 2 x 2
tiles over packed operands of 128 x 384 x 384, 3210 GOP/s in runs that long, 3700 in longer ones;
VNNI: vpdpbusd in registers, 860): GOP/s, u8 x s8, with zero point, scale and bias to f32 but where
said otherwise:
  AMX         128x384x384 2040 (i32 out 2400), 128x384x1536 2400, 128x1536x384 2530,
              128x768x768 2770, 512x512x512 (i32) 2770
  AVX512-VNNI 128x384x384 602 (i32 out 636), 128x768x768 620, 512x512x512 (i32) 659
  AVX-VNNI    128x384x384 331
  AVX2        128x384x384 121 (f32_matmul: 80)
  few rows    1x1536x1536 at 46 GB/s of weights, 1x4096x4096 at 29, as L3 gives them
What AMX lacks to its loop is C: without the epilogue 128x384x1536 takes 45 us instead of 63, as
long as the loop, and its 768 KiB of f32 go to L2 at 4 cycles a vector.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.int8_matmul import (
    cases,
    cost,
    cuda,
    llvm,
    packing,
    reference,
    spec,
)
from tilewright.backends.kernels.int8_matmul.spec import Int8MatmulSpec, IntegerMatmulTask

FAMILY = KernelFamily(
    name="int8_matmul",
    op="contraction",
    emit=llvm.emit,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=llvm.supports,
    variants=spec.variants,
    candidates=spec.candidates,
    shaped=cases.odd,
    layout=spec.layout,
)

__all__ = ["FAMILY", "Int8MatmulSpec", "IntegerMatmulTask"]
