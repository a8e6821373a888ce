"""Matmul of integer weights by rows in 8-bit codes on GPUs: C[M, N] = epilogue(A[M, K] x B[K, N]).

W4A8 and W8A8: B is s (q - z), codes of 4 or 8 bits; rows of A are made 8-bit codes by a launch
before, with a scale of each block or row (compiler.formats.activations.Int8), beside the sums of a
step's codes, through which zero points go. Codes are multiplied as they are, sums of a step are
exact and multiplied by both scales in f32. Packed B is that of grouped_mma, so that selection may
take either family over the same bytes: cuda/device/fewparts.cuh, fewcodes.cuh.

Of 4096 weights of 4 bits in groups of 128 a warp issues 320 instructions for 8 rows, 410 for 16,
510 for 32 and 740 for 64, where grouped_mma takes 280, 325, 410 and 560: widening codes falls away
and there are half as many multiplications, but each sum of a group needs four more instructions
(zero point, conversion, two scales). It is for where multiplications are the limit, and for results
that are what a format says on all targets. It has not run on a device yet.

Bit planes (ABQ-LLM, arXiv 2408.08554) are not here. An mma.m16n8k256 of single bits, which both
sm_80 and sm_90a have as one machine instruction (BMMA), does 8 times the products of mma.m16n8k32
by 8-bit codes, so planes need the product of both numbers of bits to be less than 8: codes of 4
bits by rows of 8 are 32 pairs of planes, 32 instructions for 4096 weights and 8 rows where 8 do
here, codes of 2 bits and ternary ones 16. Only 1 bit by less than 8, or 2 by 3 or less, would gain,
and all formats have rows of 8 bits or more. Bytes, which are the limit up to 16 rows, are the same
in planes. The rate of BMMA was not measured.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.grouped_imma import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.grouped_imma.spec import GroupedImmaSpec

FAMILY = KernelFamily(
    name="grouped_imma",
    op="contraction",
    emit=None,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.name,
    stored=spec.stored,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "GroupedImmaSpec"]
