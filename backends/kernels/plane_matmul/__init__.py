"""Matmul with weights in bit planes: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]), B of 1 to 4
bits: binary coding (compiler.formats.planes), or integers by group (compiler.formats.integers).

Packed B, bytes, for every CPU target alike: panels of 32 columns. Two planes, groups of 64,
K = 100, N = 40; each panel begins at a multiple of 64:

    panel 0: columns 0..31                          panel 1: columns 32..39, zeros above
      block 0, k = 0..63                            ...
        plane 0
          line 0, 32 bytes, bit j of each is k = j, 1 for +:
            column 0, column 16, column 1, column 17, ... column 15, column 31
          line 1: k = 8..15  ...  line 7: k = 56..63
        plane 1
      block 1, k = 64..127, zeros from 100 on
      scales of group 0: 32 of plane 0, 32 of plane 1; of group 1
      zero-points of group 0, of group 1 (integers only)

A scale is an f16, an f32 where a column has one group, or the exponent of a power of two, one byte;
integers have one f16 for all planes (backends.llvm.plane_codes).

Few rows, 16 to 8 of 1 to 4 planes, look up sums of four activations of 8 bits, exactly, without a
multiplication: `backends.llvm.plane_dots`. The time is that of so many planes, whatever the scales.
More rows bring panels to bf16 or f32 in scratch and are read as bf16 or f32 themselves, more
precisely than the format says; where targets have no bf16 products, a variant looks all rows up.

Measured on one core of a Sapphire Rapids virtual machine, a row by 4096 x 4096: 108 us a plane (1
plane 2.6 MB, 2 planes 182 us, 4 planes 350), with AVX2 140, 230 and 500; grouped_matmul takes 170
and 310 for 2 and 4 bits with VNNI, 590 for either with AVX2. Rows do not share anything but codes
in L1: four take four times as long, where dot products take twice. 16 rows by 1024 x 1024 with
AVX2: 150 us by one plane, 226 by two, 323 in f32, 277 by 8-bit weights.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.plane_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.plane_matmul.spec import PlaneMatmulSpec

FAMILY = KernelFamily(
    name="plane_matmul",
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
    variants=spec.variants,
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "PlaneMatmulSpec"]
