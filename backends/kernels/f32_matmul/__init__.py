"""f32 matmul with a constant right-hand side: C[M, N] = epilogue(A[M, K] B[K, N]).

Packed B, for every CPU target alike (ISA variants of one artifact share the bytes); digits are
the order in memory, N = 40, K = 3 shown:

    panel 0: columns 0..31          panel 1: columns 32..39, zeros above
    k=0   0  1  2 ... 31            k=0   96  97 ... 103  0 ... 0
    k=1  32 33 34 ... 63            k=1  128 129 ... 135  0 ... 0
    k=2  64 65 66 ... 95            k=2  160 161 ... 167  0 ... 0

AVX-512 reads a panel row as two vectors, AVX2 as two halves of two, SSE as four quarters of two.
Measured on one core of a Sapphire Rapids virtual machine (GFLOP/s; best of 9 rounds, register FMA
loop 210, its frequency above what kernels with loads hold: 184 right after one):
  AVX-512  128x384x384 161, 128x384x1536 161, with bias and GELU 151, 128x1024x1024 158,
           3136x64x256 with bias and ReLU 143; 1x1536x1536 at 26 GB/s, 1x4096x4096 at 25 GB/s
  AVX2     128x384x384 99, 128x768x768 97, 3136x64x256 91 (FMA loop 111)
  SSE      128x384x384 32 (multiply-add loop 38)
Register blocks alone, K = 384: 14x32 172, 13x32 172, 12x32 171, 6x64 171; 14x32 needs the fewest
reads of B and any M splits into blocks of 8 to 14 rows. A packed by columns gives 180, but a
unit's few panels do not pay for the packing.
"""

from tilewright.backends.kernels.f32_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f32_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
)

__all__ = ["FAMILY", "MatmulSpec"]
