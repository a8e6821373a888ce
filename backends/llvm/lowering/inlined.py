"""Gathers of rows that the one region that reads them loads by itself."""

from __future__ import annotations

from tilewright.backends.target import Target
from tilewright.compiler.ir.core import Graph, Op, users
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.shape import Gather


def inlined_gathers(graph: Graph, target: Target) -> frozenset[Op]:
    """Of a graph for a GPU, where a launch costs more than what a region loads through indices.

    The region must be the only reader, have more operations than one, and walk over the elements
    of the gathered rows, whose last axis lies as in the table.
    """
    if not target.gpu:
        return frozenset()
    used, block, outputs = users(graph.ops), set(graph.ops), set(graph.outputs)

    def inlined(op: Op) -> bool:
        if not isinstance(op, Gather) or op.axis == op.x.rank - 1 or op.out in outputs:
            return False
        readers = set(used.get(op.out, []))
        if len(readers) != 1 or not readers <= block:
            return False
        (reader,) = readers
        return (
            isinstance(reader, Fused)
            and len(reader.body.ops) > 1
            and any(value.shape == op.out.shape for value in reader.results)
        )

    return frozenset(op for op in graph.ops if inlined(op))
