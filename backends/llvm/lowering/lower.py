"""The whole lowering: operations in order, outputs in place, memory shared where legal."""

from __future__ import annotations

from tilewright.backends.kernels import f32_matmul
from tilewright.backends.kernels.candidates import CLASSES, allowed
from tilewright.backends.llvm import irregular
from tilewright.backends.llvm.lowering import fallback
from tilewright.backends.llvm.lowering.choice import Question
from tilewright.backends.llvm.lowering.concats import claim_parts
from tilewright.backends.llvm.lowering.control import copy_into
from tilewright.backends.llvm.lowering.inlined import inlined_gathers
from tilewright.backends.llvm.lowering.normed_products import normed_products
from tilewright.backends.llvm.lowering.offers import Offers
from tilewright.backends.llvm.lowering.packed import tied_tables
from tilewright.backends.llvm.lowering.row_reductions import reduced_products
from tilewright.backends.llvm.lowering.rules import rules
from tilewright.backends.llvm.lowering.select import Selecting, select
from tilewright.backends.llvm.lowering.siblings import siblings
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.view import View, dense_strides
from tilewright.backends.llvm.program import Place
from tilewright.backends.target import Target
from tilewright.compiler.errors import VerifyError
from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Reshape
from tilewright.compiler.ir.types import DType


def lower(
    graph: Graph, target: Target, max_error: float | None = None, how: Selecting | None = None
) -> Lowering:
    """The program of `graph` on `target`, with its packed weights.

    max_error: the relative L2 error that outputs may have; None for outputs faithful to their type.
    how: to select among kernels; without it each operation takes the one predicted fastest.
    """
    offers = how.offers if how is not None else None
    error = max(allowed(max_error), _hidden(graph)) if offers is None else CLASSES[-1]
    tables = tied_tables(graph, target)
    permitted = max_error or 0.0
    low = _lower(Lowering(graph, target, error, offers=offers, permitted=permitted), tables)
    if not low.choices.questions:
        return low
    selection = select(low, how or Selecting())
    # Other layouts do not hold the rows that an exact lookup needs.
    wanted = selection.layouts()
    kept = frozenset(t for t in tables if f32_matmul.spec.LAYOUT in wanted.get(t, ()))
    launched = low.choices.launched
    same = launched == list(selection.launched) and all(
        q.candidate(selection.answers) is q.candidates[0] for q in launched
    )
    formats = selection.formats()
    if not same or kept != tables or formats:
        again = Lowering(graph, target, error, selection.answers, formats, offers, permitted)
        low = _lower(again, kept)
    low.selection = selection
    return low


def questions(graph: Graph, target: Target, offers: Offers) -> list[Question]:
    """What the lowering of `graph` asks where everything is offered: nothing is selected."""
    low = Lowering(graph, target, CLASSES[-1], offers=offers)
    return _lower(low, tied_tables(graph, target)).choices.questions


def _hidden(graph: Graph) -> float:
    """The accuracy class of kernels whose error the rounding of the outputs hides: half a unit in
    the last place of f16 is 2.4e-4 to 4.9e-4."""
    floats = {v.dtype for v in graph.outputs if v.dtype.is_float}
    return 1e-5 if floats == {DType.F16} else 0.0


def _lower(low: Lowering, tied: frozenset[str]) -> Lowering:
    graph = low.graph
    for index, value in enumerate(graph.inputs):
        place = Place("input", index)
        low.views[value] = View(place, value.dtype, value.shape, dense_strides(value.shape))
    low.tied, low.siblings = tied, siblings(graph)
    low.reduced, low.normed = reduced_products(graph), normed_products(graph)
    low.inlined = inlined_gathers(graph, low.target)
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
    claim_parts(low)
