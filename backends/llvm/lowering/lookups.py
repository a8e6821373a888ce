"""Rows of constant tables under an error contract: which format the table is stored in."""

from __future__ import annotations

from tilewright.backends.kernels.row_lookup import LookupTask
from tilewright.backends.llvm.lowering.handing import hand_on
from tilewright.backends.llvm.lowering.packed import (
    OUT_OF_RANGE,
    Matrix,
    choose_for,
    packed_matrix,
    tied_tables,
)
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.compiler.ir.dims import as_int, product
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.types import DType


def look_up(low: Lowering, op: Gather) -> bool:
    """Lower a calibrated lookup to the kernel that was chosen for it; False for any other, which a
    region reads as it is."""
    constant = op.x.op
    if low.offers is None or low.depth or not isinstance(constant, Constant):
        return False
    table = op.axis == 0 and op.x.rank == 2 and op.x.dtype == DType.F32
    if not table or low.offers.squares(op.source, constant.name, "f32") is None:
        return False
    rows, width = (as_int(size) for size in op.x.shape)
    if not rows or not width:
        return False
    tied = constant.name in tied_tables(low.graph, low.target)
    task = LookupTask(rows, width, str(op.indices.dtype), tied)
    dims = (product(op.indices.shape),)
    # as a product x W^T arranges them
    matrix = Matrix(((op.source, constant.name),), (1, 0), (width, rows))
    chosen = choose_for(low, task, dims, matrix)
    if chosen is None:
        return False
    place, _ = packed_matrix(low, matrix, chosen)
    indices = low.dense(op.indices)
    target = low.result(op.out)
    family, spec = chosen.family, chosen.spec
    low.launch(
        op,
        spec,
        (indices.at, place),
        (target.at,),
        dims,
        formula(family.units(spec), dims),
        label=family.name,
        traffic=target.bytes + indices.bytes + dims[0] * spec.row_bytes,
        error=OUT_OF_RANGE,
    )
    hand_on(low, op.out, target, op.source)
    return True
