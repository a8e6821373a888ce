"""The whole lowering: operations in order, outputs in place, memory shared where legal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilewright.backends.kernels.candidates import allowed
from tilewright.backends.llvm import irregular
from tilewright.backends.llvm.lowering import fallback
from tilewright.backends.llvm.lowering.choice import Answers, Question
from tilewright.backends.llvm.lowering.control import copy_into
from tilewright.backends.llvm.lowering.packed import kept_tied, tied_tables
from tilewright.backends.llvm.lowering.pricing import fastest
from tilewright.backends.llvm.lowering.rules import rules
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.view import View, dense_strides
from tilewright.backends.llvm.program import Place
from tilewright.backends.target import Target
from tilewright.compiler.errors import VerifyError
from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Reshape

Decide = Callable[[Sequence[Question]], Answers]
"""Takes all questions of a graph and answers all of them."""


def lower(
    graph: Graph, target: Target, max_error: float | None = None, decide: Decide | None = None
) -> Lowering:
    """The program of `graph` on `target`, with its packed weights.

    max_error: the relative L2 error that outputs may have; None for float32-faithful ones. decide:
    what chooses among kernels; without it each operation takes the one predicted fastest.
    """
    error = allowed(max_error)
    tables = tied_tables(graph)
    low = _lower(Lowering(graph, target, error), tables)
    if all(len(q.candidates) == 1 for q in low.choices.questions):
        return low
    answers = (decide or fastest(target, graph.symbols))(low.choices.questions)
    tables = kept_tied(tables, low.choices.questions, answers)
    return _lower(Lowering(graph, target, error, answers), tables)


def _lower(low: Lowering, tied: frozenset[str]) -> Lowering:
    graph = low.graph
    for index, value in enumerate(graph.inputs):
        place = Place("input", index)
        low.views[value] = View(place, value.dtype, value.shape, dense_strides(value.shape))
    low.tied = tied
    _claim_outputs(low)
    lower_ops(low, graph.ops)
    for index, value in enumerate(graph.outputs):
        place = Place("output", index)
        target_view = View(place, value.dtype, value.shape, dense_strides(value.shape))
        if low.view(value).at != target_view.at:
            copy_into(low, value, target_view)
    return low


def lower_ops(low: Lowering, ops: tuple[Op, ...]) -> None:
    """Lower `ops` into the current list of steps."""
    table = rules()
    for op in ops:
        rule = table.get(type(op))
        if rule is not None:
            rule(low, op)
        elif irregular.supports(op):
            fallback.lower_plain(low, op)
        else:
            raise VerifyError("lowering", f"no rule for {op.opname} ({op.source})")


def _claim_outputs(low: Lowering) -> None:
    """Let the operation behind each output write straight into the caller's memory."""
    taken: set[Value] = set()
    for index, value in enumerate(low.graph.outputs):
        root = value
        while isinstance(root.op, Reshape):
            root = root.op.x
        if root.op is None or isinstance(root.op, Constant) or root in taken:
            continue
        taken.add(root)
        low.outputs[root] = index
