"""Matmul with group-wise integer weights: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]).

B is s (q - z) with codes q of 2, 3, 4, 5, 6 or 8 bits, a scale s (f16) and a zero-point z (u8) for
each group of 32, 64 or 128 (any multiple of 32) rows of each column: compiler.formats.integers.

Packed B, bytes, for every CPU target alike: panels of 32 columns. 4 bits, groups of 64, K = 100,
N = 40; each panel begins at a multiple of 64:

    panel 0: columns 0..31                          panel 1: columns 32..39, zeros above
      group 0, k = 0..63                            ...
        line 0, 128 bytes: four for each column;
          byte i of column n: q[i, n] | q[4 + i, n] << 4
        line 1: k = 8..15  ...  line 7: k = 56..63
        32 scales (f16)
      group 1, k = 64..127, zeros from 100 on
      zero-points: 32 of group 0, 32 of group 1

Of 2 bits with zero-points of half steps (compiler.formats.halves) these bytes are 2 z.

Lines of the other widths: backends.llvm.grouped_codes. A line of a group is 16 columns of four k as
vpdpbusd takes them, twice. 4.4 bits a weight are stored at 4 bits and groups of 64, 3.4 and 2.4 at
3 and 2. Codes of 5 and 6 bits have four of their bits in lines like these and the others in one or
two lines behind them.

Sliced codes (compiler.formats.sliced) lie in planes: the panels as above hold the bits of the
narrowest slice, planes of further bits follow behind all panels. Slices 8 and 4 of the same matrix:

    panel 0, panel 1, ..  upper halves of the codes, 4.4 bits a weight: all that slice 4 reads
    plane 1: panel 0, panel 1, ..  lines of the lower halves; slice 8 reads these beside the panels

Few rows (up to 8 with 8-bit activations, 4 with bf16) stream the codes once: `llvm.grouped_dots`.
More rows bring the panels of a unit to bf16 (f32 without AVX512-BF16) in scratch and multiply all
rows of a block with them. Those rows are then read as bf16, or f32, whatever the format says: more
precisely than 8-bit codes, so that the error of the format is an upper bound.

Rows that are not finite give NaN if they are few, and what f32 gives if they are many or on targets
without AVX512-BF16, where few rows of formats that read bf16 are widened too.

Measured on one core of a Sapphire Rapids virtual machine, weights from L3 (60 MB of them in turn),
groups of 64. One row: 1x512x1536 30 us at 4 bits with 8-bit activations (bf16_matmul 112),
1x2048x512 40 (153), 1x4096x4096 600 (2230), that is 14 to 15 GB/s of codes, as fast as bf16_matmul
reads its weights: memory is the bound. 2 bits take two thirds, 8 bits 1.8 times as long. What
matters little is how far ahead codes are asked for: 512 bytes to 6 KiB are within 15 %.
128 rows take 1.1 to 1.25 times as long as bf16_matmul: widening a panel, 2.5 instructions a weight
and vector, is not overlapped with the tiles.
A decode step of a model of 16 million weights at 128 past tokens: 0.94 ms (ONNX Runtime with
MatMulNBits of 4 bits 2.82); its prefill of 128 tokens 7.4 ms (48.1).
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.grouped_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.grouped_matmul.spec import GroupedMatmulSpec

FAMILY = KernelFamily(
    name="grouped_matmul",
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
    format=spec.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "GroupedMatmulSpec"]
