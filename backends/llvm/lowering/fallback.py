"""The general path: loop-nest kernels over dense operands, for whatever has no faster kernel."""

from __future__ import annotations

import dataclasses

from tilewright.backends.llvm import irregular
from tilewright.backends.llvm.lowering.rules import rules
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.dims import symbols
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.control import Fused


def lower_plain(low: Lowering, op: Op) -> None:
    """One loop-nest kernel for `op`, its operands made dense."""
    made = irregular.lower(op)
    spec, units = made.fine if made.fine and low.target.gpu else (made.spec, made.units)
    operands = [low.dense(v) for v in made.operands]
    results = [low.result(v) for v in op.results]
    low.launch(
        op,
        spec,
        [v.at for v in operands],
        [v.at for v in results],
        made.dims,
        units,
        label=op.opname,
        scratch=made.scratch_bytes,
        error=made.error or f"{op.opname} failed",
        counts=[name for dim in made.counts for name in symbols(dim)],
        inplace=made.inplace,
        traffic=sum((v.bytes for v in [*operands, *results]), 0),
    )


def lower_with_body(low: Lowering, op: Contract | Conv) -> None:
    """The bare contraction, then its epilogue as a kernel of its own."""
    if op.body is None:
        lower_plain(low, op)
        return
    bare = dataclasses.replace(op, body=None, extras=())
    lower_plain(low, bare)
    lower_body(low, op, bare.out)


def lower_body(low: Lowering, op: Contract | Conv, result: Value) -> None:
    """The epilogue of `op`, applied to `result`, as a fused operation."""
    assert op.body is not None
    fused = Fused(inputs=(result, *op.extras), body=op.body, source=op.source)
    low.stand_in(fused.out, op.out)
    rules()[Fused](low, fused)
