"""Products whose rows are normalized: by the product's own kernel, or by a region behind it.

A product that nothing but a normalization of its rows reads is asked for in both ways. One kernel
that holds whole rows stores them normalized, once; the other way is the product in memory and the
region that reads it, whose price stands beside the fork (`choice.Region`). What the normalization
is comes from the graph: its axis, its vectors, its epsilon.
"""

from __future__ import annotations

from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.f16_matmul import HalfMatmulTask
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.kernels.wgmma_normed_matmul import NormedMatmulTask
from tilewright.backends.llvm.lowering.choice import Region
from tilewright.backends.llvm.lowering.epilogues import as_stored
from tilewright.backends.llvm.lowering.handing import halves, hand_on, read_by, settle
from tilewright.backends.llvm.lowering.packed import choose_for, packed_matrix
from tilewright.backends.llvm.lowering.products import Product
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.backends.llvm.lowering.unmade import Normalization, normalization
from tilewright.backends.llvm.lowering.view import element_bytes
from tilewright.compiler.ir.core import Graph, Op, users
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import DType


def normed_products(graph: Graph) -> dict[Op, Op]:
    """The products that nothing reads but a normalization of their last axis, and that one."""
    used, outputs = users(graph.ops), set(graph.outputs)
    found: dict[Op, Op] = {}
    for op in graph.ops:
        norm = normalization(op)
        made = norm.x.op if norm is not None else None
        if norm is None or not isinstance(made, Contract) or norm.x in outputs:
            continue
        constant = all(isinstance(v.op, Constant) for v in norm.vectors)
        if constant and used[norm.x] == [op] and norm.row == norm.x.shape[-1:]:
            found[made] = op
    return found


def with_norm(low: Lowering, op: Contract, found: Product) -> bool:
    """Launch `op` with the normalization behind it, if that is the way taken. The last question was
    about `op` alone, which is the other way."""
    if op not in low.normed or type(found.task) not in (MatmulTask, HalfMatmulTask):
        return False
    assert isinstance(found.task, MatmulTask)
    behind = low.normed[op]
    norm = normalization(behind)
    n = found.matrix.shape[1]
    if norm is None or norm.row != (n,):
        return False
    alone = len(low.choices.questions) - 1
    task = NormedMatmulTask(found.task, norm.norm)
    chosen = choose_for(low, task, found.dims(n), found.matrix)
    if chosen is None:
        return False
    read_by(low, (found.a.view,), found.fused.views)
    width = 2 * element_bytes(DType.F16 if halves(low) else op.out.dtype)
    region = Region(low.bound(found.a.count) * n, width, norm.norm.operations)
    # The region first: the lowering that asks shall see in which formats it reads the product.
    taken = low.choices.fork([(alone,), (alone + 1,)], [region, None])
    name = f"{norm.norm.kind} norm"
    if taken == (alone,):
        low.notes.append((op.source, f"{name} behind a product in memory: predicted faster"))
        return False
    low.notes.append((op.source, f"{name} by the kernel of the product: predicted faster"))
    _launch(low, op, behind, norm, found, chosen)
    low.normalized.add(behind)
    return True


def _launch(
    low: Lowering,
    op: Contract,
    behind: Op,
    norm: Normalization,
    found: Product,
    chosen: Candidate,
) -> None:
    (value,) = behind.results
    family, (k, n) = chosen.family, found.matrix.shape
    settled = settle(low, chosen, (found.a.view,), value)
    spec, places = as_stored(low, settled.spec, found.fused)
    (a,) = settled.operands
    place, size = packed_matrix(low, found.matrix, chosen)
    target = low.result(value, settled.dtype)
    m, dims = found.a.count, found.dims(n)
    low.launch(
        op,
        spec,
        (a.at, place, *places, *(low.view(v).at for v in norm.vectors)),
        (target.at,),
        dims,
        formula(family.units(spec), dims),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        source=", ".join(s for s in (op.source, behind.source) if s),
        flops=m * (2 * k * n),
        traffic=m * k * element_bytes(a.dtype) + target.bytes + (size + found.fused.traffic),
        inplace=found.fused.overwritten(2, settled.dtype),
    )
    hand_on(low, value, target, behind.source, operands=1, inplace=any(found.fused.aligned))
