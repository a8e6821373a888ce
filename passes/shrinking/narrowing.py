"""A graph with fewer hidden channels."""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.dims import as_int
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.rewrite import Builder
from tilewright.passes.shrinking.ladders import Ladder, Rung, as_array
from tilewright.passes.structure.channels import Read, fields_of, narrowed


def shrunk(graph: Graph, chosen: Mapping[Ladder, Rung]) -> Graph:
    """`graph` with the channels of the chosen rungs alone, and the weights that make up for the
    others: smaller dense weights in all products of each."""
    return narrowed(
        graph, {ladder.channels: (rung.keep, _reading(rung)) for ladder, rung in chosen.items()}
    )


def _reading(rung: Rung) -> Read:
    def read(op: Contract | Conv, x: Value, builder: Builder) -> Value:
        names = ("a", "b") if isinstance(op, Contract) else ("x", "w")
        fields = fields_of(op)
        before = fields[names[1]]
        array = as_array(op, rung.weights, [as_int(size) for size in before.shape])
        fields[names[0]] = x
        fields[names[1]] = builder.constant(array, f"{before.op.name}.shrunk")
        return builder.emit(type(op), **fields)

    return read
