"""One launch of a product of rows with a constant matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.f16_matmul import HalfMatmulTask
from tilewright.backends.kernels.int8_matmul import IntegerMatmulTask
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.lowering.codes import coded_task
from tilewright.backends.llvm.lowering.epilogues import FusedEpilogue, as_rows, as_stored
from tilewright.backends.llvm.lowering.handing import Settled
from tilewright.backends.llvm.lowering.packed import Matrix, packed_matrix
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.backends.llvm.lowering.view import View, element_bytes
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.contraction import Contract


@dataclass(frozen=True)
class Rows:
    """A tensor seen as a matrix of `count` rows, ``stride`` elements apart."""

    view: View
    count: Dim
    stride: Dim


@dataclass(frozen=True)
class Product:
    """Rows times a matrix, with an epilogue."""

    a: Rows
    matrix: Matrix
    task: MatmulTask | IntegerMatmulTask
    fused: FusedEpilogue

    def dims(self, stride: int) -> tuple[Dim, ...]:
        """Of its launch; stride: of the rows of its result."""
        return (self.a.count, self.a.stride, stride, *self.fused.strides)


def rows_of(low: Lowering, x: Value, order: Sequence[int], outer: int) -> Rows:
    """`x` with its axes in `order` as a matrix of its first `outer` axes by the others, copied if
    need be."""
    view = low.stored(x).transpose(tuple(order))
    seen = as_rows(view, outer)
    if seen is None:
        view = low.make_dense(low.view(x).transpose(tuple(order)))
        seen = as_rows(view, outer)
        assert seen is not None
    return Rows(view, seen[0], seen[1])


def float_task(low: Lowering, matrix: Matrix, epilogue: Epilogue) -> MatmulTask:
    """What is asked of kernels, by what is known of the weights."""
    codes = matrix.codes(low)
    if codes and all(matrix.axes == (c.axis, 1 - c.axis) for c in codes):
        tasks = {coded_task(low, matrix.shape, epilogue, coded) for coded in codes}
        if len(tasks) == 1:
            return tasks.pop()
    halves = all(low.graph.weights[name].halves for name in matrix.names)
    return (HalfMatmulTask if halves else MatmulTask)(*matrix.shape, epilogue)


def launch_product(
    low: Lowering,
    op: Contract,
    found: Product,
    chosen: Candidate,
    settled: Settled,
    target: Place,
    stride: int,
    columns: tuple[int, int] | None = None,
) -> None:
    """Launch a product as it was settled, with the rows of its result ``stride`` apart.

    columns: begin <= i < end of those that it writes, where other launches write the others.
    """
    family, fused = chosen.family, found.fused
    spec, places = as_stored(low, settled.spec, fused)
    (a,) = settled.operands
    place, size = packed_matrix(low, found.matrix, chosen)
    (k, n), m, dims = found.matrix.shape, found.a.count, found.dims(stride)
    low.launch(
        op,
        spec,
        (a.at, place, *places, *settled.further),
        (target,),
        dims,
        formula(family.units(spec), dims),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        source=", ".join(source for source, _ in found.matrix.parts if source),
        flops=m * (2 * k * n),
        traffic=m * (k * element_bytes(a.dtype) + n * element_bytes(settled.dtype))
        + (size + fused.traffic),
        inplace=fused.overwritten(2, settled.dtype),
        columns=columns,
    )
