"""bf16 matmul with a constant right-hand side: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]).

Packed B, u16 bits of bf16, for every CPU target alike: panels of 32 columns, in each K in steps of
32, in each step the planes, in each plane 16 pairs of rows. Digits are the order in memory of
plane 0, N = 40, K = 33 with one plane shown:

    panel 0: columns 0..31                panel 1: columns 32..39, zeros above
    k=0    0  2  4 ...  62                k=0   2048 2050 ... 2062  0 ... 0
    k=1    1  3  5 ...  63                k=1   2049 2051 ... 2063  0 ... 0
    k=2   64 66 68 ... 126                k=2   2112 ...
    ...                                   ...
    k=32 1024 1026 ... 1086               k=32  3072 ...
    k=33..63  zeros                       k=33..63  zeros

An AMX tile is 16 such pairs by 16 columns (rows of 64 bytes, 128 apart); AVX-512 multiplies a pair
of rows by 16 columns at once. A is converted a block of rows at a time into scratch (see
backends.llvm.bf16_block), once a thread, and products are summed in f32.

``products`` trades time for accuracy; relative L2 errors of random normal operands:
    1   one bf16 each         2.3e-3 at any K
    3   two each, a0 b0 + a0 b1 + a1 b0                4.4e-6
    6   three each, down to a1 b1, a0 b2 and a2 b0     1.6e-7 at K = 384, 3.1e-7 at 1536,
                                                       5.0e-7 at 4096 (f32: 2.5e-7 to 3.0e-7)
A may lie in bf16, so that tiles are loaded from it where K is whole steps of 32 and panels are few;
C may be written so.
With ``norm`` rows of A are normalized while they are converted (llvm.normalization).
No chains of K are needed on AMX: a multiplication adds its 32 products to each other first.

Not as in f32: subnormal operands, parts and results count as zero, so values below 2**-110 lose
the lower parts of a split; values from 0x1.ffp127 on are infinite. NaN and infinity come out as in
f32, but infinity times infinity with more than one product is NaN.

Epilogues run between the tile instructions of the next block (backends.llvm.bf16_pipeline), and the
next panels, up to four at once, are asked for into L2.

Measured on one core of a Sapphire Rapids virtual machine, beside a loop of 2 x 2 tiles over
operands in L1 (1900 GFLOP/s then) and PyTorch 2.13 in bf16 (oneDNN, weights not packed before), one
call each in turn. With A and C in f32 against PyTorch on f32 (it converts both ways), in bf16
against bf16:
  128x384x384 4.6 and 3.5 times as fast, 128x384x1536 2.7 and 2.4, 128x1536x384 2.5 and 2.1,
  512x512x512 2.6 and 1.8
GFLOP/s of these four, called again and again, in f32 1370, 1282, 1008, 1359, in bf16 1425, 1576,
1302, 1702 (69 to 90 % of the loop). What is left: the conversion of A (10 % in f32), writing C to
where L2 does not have it, and rows of A, which pass through L1 and push panels out of it. Since
then K from 1024 on goes in slices that stay there: 128x1536x384 in 0.88 to 0.94 of the time.
With weights from memory (200 MB of them in turn) products take 1.3 to 1.5 times as long as a loop
that only reads the weights, those with 64 rows 1.05 to 1.1 times, those with one row as long.
With more products and 36 rows or more
split_matmul is as fast and reads two thirds of the bytes.
"""

from tilewright.backends.kernels.bf16_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bf16_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=llvm.supports,
    candidates=spec.candidates,
    layout=spec.layout,
    strips=spec.strips,
    shaped=cases.shaped,
    accuracy=spec.accuracy,
    stored=spec.stored,
    normed=spec.normed,
)

__all__ = ["FAMILY", "Bf16MatmulSpec"]
