"""f32 matmul with a constant right-hand side: C[M, N] = epilogue(A[M, K] B[K, N]).

Packed B, for every CPU target alike (ISA variants of one artifact share the bytes); digits are
the order in memory, N = 40, K = 3 shown:

    panel 0: columns 0..31          panel 1: columns 32..39, zeros above
    k=0   0  1  2 ... 31            k=0   96  97 ... 103  0 ... 0
    k=1  32 33 34 ... 63            k=1  128 129 ... 135  0 ... 0
    k=2  64 65 66 ... 95            k=2  160 161 ... 167  0 ... 0

AVX-512 reads a panel row as two vectors, AVX2 as two halves of two, SSE as four quarters of two.

Measured by tools/bench_kernels.py on one core of a Sapphire Rapids virtual machine: GFLOP/s, and
percent of a register FMA loop timed right after (about 194; AVX2 110):
  AVX-512  128x384x384 166 (85 %), 128x384x1536 169 (87 %), with bias and GELU 155 (81 %),
           128x768x768 170 (89 %), 3136x64x256 with bias and ReLU 152 (80 %);
           1x1536x1536 at 29 GB/s, 1x4096x4096 at 30 GB/s
  AVX2     128x384x384 103 (92 %), 128x768x768 102 (93 %), 3136x64x256 97 (92 %)
Register blocks alone at K = 64, in one run with the loop at 185: 14x32 170, 13x32 169, 12x32 169,
6x64 174. 14x32 reads B least often, and any M splits into blocks of 8 to 14 rows. A stored by
columns gives 177, but the few panels of a unit do not pay for packing it.
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
    variants=spec.variants,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "MatmulSpec"]
