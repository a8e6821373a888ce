"""Concatenations into a caller's output: parts are made in their place and not copied there.

A decoder returns the keys and values of all its layers as one stacked tensor. Each layer's, past
and new, are written once, straight into the output, and its attention reads them from there.
"""

from __future__ import annotations

from tilewright.backends.llvm.lowering.control import copy_into
from tilewright.backends.llvm.lowering.regions import single
from tilewright.backends.llvm.lowering.rules import lowers
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops.caches import EncodeRows
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.shape import Concat, Reshape

_ANYWHERE = Concat | EncodeRows | Fused
"""What makes its results at any place."""


def claim_parts(low: Lowering) -> None:
    """Give parts of a concatenation that is an output a place inside it, where that is one block.

    Only values whose kernels (regions) can write to any place; one use of a value as a part.
    """
    for value, index in list(low.outputs.items()):
        op = value.op
        if not isinstance(op, Concat) or any(d != 1 for d in value.shape[: op.axis]):
            continue
        offset: Dim = 0
        for part in op.parts:
            root = part
            while isinstance(root.op, Reshape):
                root = root.op.x
            size = product(part.shape)
            free = root not in low.outputs and root not in low.homes
            if free and isinstance(root.op, _ANYWHERE) and low.bound(size) == size:
                low.homes[root] = (index, offset)
            offset = offset + size


@lowers(Concat)
def concat(low: Lowering, op: Concat) -> None:
    """Copies the parts that are not where they belong; one kernel for all if none is."""
    roots = []
    for part in op.parts:
        while isinstance(part.op, Reshape):
            part = part.op.x
        roots.append(part)
    if op.out not in low.outputs or not any(_home(low, root) for root in roots):
        single(low, op)
        return
    target = low.result(op.out)
    at: Dim = 0
    for part in op.parts:
        starts = tuple(at if i == op.axis else 0 for i in range(part.rank))
        place = target.slice(starts, (1,) * part.rank, part.shape)
        if low.view(part).at != place.at:
            copy_into(low, part, place)
        at = at + part.shape[op.axis]


def _home(low: Lowering, value: Value) -> bool:
    return value in low.homes and low.depth == 0
