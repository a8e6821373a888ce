"""Matmul with weights on lattices: C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]).

Every vector of 8 weights of a column is s L (q - middle), L the 8 by 8 basis of its group of 128
rows, s a scale (f16) of the group and column: compiler.formats.lattice.

Packed B, bytes, for every CPU target alike: codes and scales in panels as grouped_matmul packs
groups of 128 without zero-points. Behind all panels, at a multiple of 64, the bases: for each group
8 rows of 16 f32, row i being L[i, 0..7] twice.

The rows of A are multiplied with the bases, 8 operations an element, and then with the integers:
the panels are brought to bf16 (f32 without AVX512-BF16) in scratch, as those of grouped_matmul are.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.lattice_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.lattice_matmul.spec import LatticeMatmulSpec

FAMILY = KernelFamily(
    name="lattice_matmul",
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
    format=spec.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "LatticeMatmulSpec"]
