"""Reductions of rows: maximum, its position, the largest, log of the sum of exponentials, and
logarithms of probabilities at given positions. Of a matrix, or of what parts of its rows have left
(reduced_matmul), which is brought together in the order of columns."""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.row_reduction import cases, cost, cuda, llvm, reference, spec
from tilewright.backends.kernels.row_reduction.spec import RowReductionSpec, RowReductionTask

FAMILY = KernelFamily(
    name="row_reduction",
    op="reduction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    candidates=spec.candidates,
    cuda=cuda.kernel,
)

__all__ = ["FAMILY", "RowReductionSpec", "RowReductionTask"]
