"""f32 matmul with a constant right-hand side: C[M, N] = epilogue(A[M, K] B[K, N]).

Packed B, for every CPU target alike (ISA variants of one artifact share the bytes); digits are
the order in memory, N = 40, K = 3 shown:

    panel 0: columns 0..31          panel 1: columns 32..39, zeros above
    k=0   0  1  2 ... 31            k=0   96  97 ... 103  0 ... 0
    k=1  32 33 34 ... 63            k=1  128 129 ... 135  0 ... 0
    k=2  64 65 66 ... 95            k=2  160 161 ... 167  0 ... 0

AVX-512 reads a panel row as two vectors, AVX2 as two halves of two, SSE as four quarters of two.

Measured by tools/bench_kernels.py on one core of a Sapphire Rapids virtual machine: best GFLOP/s,
and percent of a register FMA loop timed right after, by the medians (195 GFLOP/s alone, about 160
beside kernels; AVX2 103):
  AVX-512  128x384x384 172 (93 %), 128x384x1536 172 (97 %), with bias and GELU 163 (94 %),
           128x1536x384 165 (98 %), 128x768x768 169 (99 %), 128x1024x1024 161 (94 %),
           3136x64x256 with bias and ReLU 141 (83 %), 4 % more since its A stays in L1;
           1x1536x1536 and 4x1536x1536 at 30 GB/s
  AVX2     128x384x384 105 (99 %), 128x768x768 101 (107 %), 128x1024x1024 99 (109 %),
           3136x64x256 95 (96 %); 1x1536x1536 and 4x1536x1536 at 29 GB/s
With 42 MB of weights passing by from L3: 128x384x384 97 %, 128x3072x768 99 %, 16x512x1536 88 to
94 % of the rate with one matrix.

Against PyTorch 2.13 in turn, one thread (with bias): 128x384x384 1.18 times as fast, 128x384x1536
1.17, 128x1536x384 1.20, 512x512x512 1.13, 1x4096x4096 1.20.

Weights from DRAM, 340 MB in huge pages, one matrix after the other, AVX-512: 96 to 98 % of the rate
with one matrix (83 to 87 % if the next panel is not asked for), which is 97 % of a bare loop; AVX2
97 %. So little is left but to multiply less. Strassen's scheme, one level, has twice the error of
these sums over all (that of one chain), but not row by row: a row beside one a thousand times as
large is off by 3.5e-4 instead of 2.7e-7, and an infinity leaves its row. It is not used.

Register blocks in one run: 14x32 160, 12x32 158, 6x64 155, 7x64 140; AVX2 6x16 95, 4x16 82, 3x32
92. 14x32 reads B least often, and any M splits into blocks of 7 to 14 rows.
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
    candidates=spec.candidates,
    layout=spec.layout,
    strips=spec.strips,
    variants=spec.variants,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "MatmulSpec"]
