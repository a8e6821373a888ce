"""Reductions of the rows of a product: with the product, which is then not stored, or behind it.

A product that nothing but a reduction of its rows reads is left to that reduction. The selection
then takes one of two ways: a kernel that reduces what it multiplies, or the product in memory and a
kernel that reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.backends.kernels import row_reduction
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.reduced_matmul import ReducedMatmulTask
from tilewright.backends.kernels.row_reduction import RowReductionSpec, RowReductionTask
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.lowering.choice import Way
from tilewright.backends.llvm.lowering.epilogues import fuse
from tilewright.backends.llvm.lowering.handing import read_by, settle
from tilewright.backends.llvm.lowering.packed import Matrix, choose_for, packed_matrix
from tilewright.backends.llvm.lowering.products import (
    Product,
    float_task,
    launch_product,
    rows_of,
)
from tilewright.backends.llvm.lowering.rules import lowers
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.backends.llvm.lowering.view import element_bytes
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.core import Graph, Op, users
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops.contraction import Contract, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.reduce import ReduceRows
from tilewright.compiler.ir.types import DType

OUT_OF_RANGE = "an index is out of range"


def reduced_products(graph: Graph) -> dict[Op, ReduceRows]:
    """The products that nothing reads but a reduction of their rows, and that reduction."""
    reductions = [op for op in graph.ops if isinstance(op, ReduceRows)]
    if not reductions:
        return {}
    used, block, outputs = users(graph.ops), set(graph.ops), set(graph.outputs)
    return {
        op.x.op: op
        for op in reductions
        if isinstance(op.x.op, Contract)
        and op.x.op in block
        and used[op.x] == [op]
        and op.x not in outputs
    }


def left_to_reduction(low: Lowering, op: Contract) -> bool:
    """Whether `op` waits for the reduction of its rows."""
    if op not in low.reduced or op in low.siblings:
        return False
    found = _product(low, op)
    if found is not None:
        low.waiting[op] = found
    return found is not None


def _product(low: Lowering, op: Contract) -> Product | None:
    """Rows times a constant matrix whose columns are the last axis; None for another product."""
    (ia, ib, out), sizes = axis_sizes(op.spec, op.a, op.b)
    rows, summed = [c for c in out if c in ia], [c for c in ia if c in ib]
    k, n = product(tuple(sizes[c] for c in summed)), sizes[out[-1]]
    floats = op.a.dtype == op.b.dtype == op.out.dtype == DType.F32
    columns = list(out) == [*rows, out[-1]] and out[-1] not in ia
    if not isinstance(op.b.op, Constant) or not floats or not columns:
        return None
    if not isinstance(k, int) or not isinstance(n, int) or not k or not n:
        return None
    fused = fuse(low, op.body, op.extras, tuple(range(op.out.rank)), len(rows))
    if fused is None:
        return None
    a = rows_of(low, op.a, tuple(ia.index(c) for c in rows + summed), len(rows))
    axes = tuple(ib.index(c) for c in [*summed, out[-1]])
    matrix = Matrix(((op.source, op.b.op.name),), axes, (k, n))
    return Product(a, matrix, float_task(low, matrix, fused.epilogue), fused)


@lowers(ReduceRows)
def reduce_rows(low: Lowering, op: ReduceRows) -> None:
    """By one of the two ways where the product waits, else of a matrix in memory."""
    columns = op.x.shape[-1]
    assert isinstance(columns, int), "the pass names rows of known length alone"
    count = op.count
    if op.ids is not None:
        width = op.ids.shape[-1]
        assert isinstance(width, int), "the pass names few ids alone"
        count = width
    reading = Reading(op.kind, count, op.last)
    made = op.x.op
    found = low.waiting.pop(made, None) if made is not None else None
    if found is None:
        kernel = _ask_matrix(low, op, columns, reading)
        _of_matrix(low, op, kernel, low.dense(op.x).at, columns)
        return
    assert isinstance(made, Contract)
    _of_product(low, op, made, found, reading)


def _of_product(
    low: Lowering, op: ReduceRows, made: Contract, found: Product, reading: Reading
) -> None:
    """The questions of both ways, and the launches of the one that is taken."""
    n = found.matrix.shape[1]
    questions = low.choices.questions
    first = len(questions)
    assert isinstance(found.task, MatmulTask)
    plain = choose_for(low, found.task, found.dims(n), found.matrix)
    assert plain is not None, "some family multiplies floats on every target"
    read_by(low, (found.a.view,))
    _ask_matrix(low, op, n, reading)
    ways: list[Way] = [(first, first + 1)]
    task = ReducedMatmulTask(found.task, reading)
    if choose_for(low, task, found.dims(n), found.matrix) is not None:
        read_by(low, (found.a.view,))
        ways.insert(0, (len(questions) - 1,))
    taken = low.choices.fork(ways)
    kernels = [low.choices.answer(n) for n in taken]
    if len(kernels) == 2:
        settled = settle(low, kernels[0], (found.a.view,), made.out, narrow=False)
        whole = low.buffer(DType.F32, made.out.shape, made.out.name or "t")
        launch_product(low, made, found, kernels[0], settled, whole.at, n)
        _of_matrix(low, op, kernels[1], whole.at, n)
        if len(ways) > 1:
            low.notes.append((op.source, f"{op.kind} of a product in memory: predicted faster"))
        return
    low.notes.append((op.source, f"{op.kind} of a product that is not stored: predicted faster"))
    _reduced(low, op, made, found, kernels[0], reading)


def _reduced(
    low: Lowering,
    op: ReduceRows,
    made: Contract,
    found: Product,
    chosen: Candidate,
    reading: Reading,
) -> None:
    """Two launches: what parts of rows leave, and what results of it."""
    family: KernelFamily = chosen.family
    k, n = found.matrix.shape
    settled = settle(low, chosen, (found.a.view,), made.out, narrow=False)
    spec, m = settled.spec, found.a.count
    place, size = packed_matrix(low, found.matrix, chosen)
    left = low.buffer(DType.F32, (spec.parts, m, reading.words), made.out.name or "t")
    dims = found.dims(n)
    low.launch(
        made,
        spec,
        (settled.operands[0].at, place, *found.fused.places, *_ids(low, op)),
        (left.at,),
        dims,
        formula(family.units(spec), dims),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        source=", ".join(s for s in (made.source, op.source) if s),
        flops=m * (2 * k * n),
        traffic=m * (k * element_bytes(settled.operands[0].dtype)) + (size + left.bytes),
    )
    together = RowReductionSpec(n, reading, spec.part)
    _launch(low, op, row_reduction.FAMILY, together, left.at, m, n)


def _ask_matrix(low: Lowering, op: ReduceRows, n: int, reading: Reading) -> Candidate:
    m = product(op.x.shape[:-1])
    kernel = low.choose(op, RowReductionTask(n, reading), (m, n))
    assert kernel is not None, "there is a kernel for every target"
    return kernel


def _of_matrix(low: Lowering, op: ReduceRows, kernel: Candidate, x: Place, n: int) -> None:
    m = product(op.x.shape[:-1])
    _launch(low, op, kernel.family, kernel.spec, x, m, n)


def _launch(
    low: Lowering,
    op: ReduceRows,
    family: KernelFamily,
    spec: RowReductionSpec,
    x: Place,
    m: Dim,
    n: int,
) -> None:
    dims: Sequence[Dim] = (m, n)
    results = [low.result(v) for v in op.results]
    read = 4 * m * (spec.parts * spec.reading.words if spec.part else n)
    low.launch(
        op,
        spec,
        (x, *_ids(low, op)),
        [v.at for v in results],
        dims,
        formula(family.units(spec), tuple(dims)),
        scratch=formula(family.scratch_bytes(spec), tuple(dims)),
        label=family.name,
        error=OUT_OF_RANGE,
        traffic=read + sum((v.bytes for v in results), 0),
    )


def _ids(low: Lowering, op: ReduceRows) -> tuple[Place, ...]:
    return () if op.ids is None else (low.dense(op.ids).at,)
