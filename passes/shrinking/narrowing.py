"""A graph whose dimensions are smaller."""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.dims import as_int
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.rewrite import Builder
from tilewright.passes.shrinking.head_ladders import HeadLadder, HeadRung
from tilewright.passes.shrinking.heads import value_heads, with_bases
from tilewright.passes.shrinking.ladders import ChannelLadder, ChannelRung, as_array
from tilewright.passes.shrinking.rotation import rotated
from tilewright.passes.shrinking.rungs import Ladder, Rung
from tilewright.passes.shrinking.stream_ladders import StreamLadder, StreamRung
from tilewright.passes.shrinking.streams import streams
from tilewright.passes.structure.channels import Read, fields_of, narrowed


def shrunk(graph: Graph, chosen: Mapping[Ladder, Rung]) -> Graph:
    """`graph` with the dimensions of the chosen rungs, and the weights that make up for what is
    left out: smaller dense weights in all products that have them."""
    plans = {
        ladder.channels: (rung.keep, _reading(rung))
        for ladder, rung in chosen.items()
        if isinstance(ladder, ChannelLadder) and isinstance(rung, ChannelRung)
    }
    if plans:
        graph = narrowed(graph, plans)
    every = value_heads(graph)
    turned = {
        every[ladder.place]: rung.bases
        for ladder, rung in chosen.items()
        if isinstance(ladder, HeadLadder) and isinstance(rung, HeadRung)
    }
    if turned:
        graph = with_bases(graph, turned)
    for ladder, rung in chosen.items():
        if isinstance(ladder, StreamLadder) and isinstance(rung, StreamRung):
            graph = rotated(graph, streams(graph)[ladder.place], rung.basis)
    return graph


def _reading(rung: ChannelRung) -> Read:
    def read(op: Contract | Conv, x: Value, builder: Builder) -> Value:
        names = ("a", "b") if isinstance(op, Contract) else ("x", "w")
        fields = fields_of(op)
        before = fields[names[1]]
        array = as_array(op, rung.weights, [as_int(size) for size in before.shape])
        fields[names[0]] = x
        fields[names[1]] = builder.constant(array, f"{before.op.name}.shrunk")
        return builder.emit(type(op), **fields)

    return read
