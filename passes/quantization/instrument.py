"""A graph that shows what its sites read, and lets their results be disturbed."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.quantization.sites import Site

READ, NOISE = "tilewright.read.{}", "tilewright.noise.{}"
"""Names of the outputs that show x of a site, and of the inputs that are added to its sums."""


def showing(graph: Graph, found: Sequence[Site]) -> Graph:
    """`graph` with the operand x of every site as a further output, `READ` with its number."""
    return graph.replace(
        outputs=(*graph.outputs, *(site.x for site in found)),
        output_names=(*graph.output_names, *(READ.format(i) for i in range(len(found)))),
    )


def disturbed(graph: Graph, found: Sequence[Site]) -> Graph:
    """`graph` with an input for every site, `NOISE` with its number, that is added to its sums
    before their epilogue, or to the rows that it looks up."""
    numbers: dict[Op, int] = {site.op: i for i, site in enumerate(found)}
    noises: list[Value] = []

    def noise(like: Value, number: int) -> Value:
        noises.append(Value(like.type, NOISE.format(number)))
        return noises[-1]

    def rule(op: Op, builder: Builder) -> Replacement:
        number = numbers.get(builder.original or op)
        if number is None:
            return None
        if isinstance(op, Gather):
            rows = builder.emit(Gather, x=op.x, indices=op.indices, axis=op.axis)
            return (builder.emit(Add, a=rows, b=noise(rows, number)),)
        assert isinstance(op, Contract)
        bare = builder.emit(Contract, a=op.a, b=op.b, spec=op.spec)
        total = builder.emit(Add, a=bare, b=noise(bare, number))
        if op.body is None:
            return (total,)
        return builder.emit_multi(Fused, inputs=(total, *op.extras), body=op.body)

    made = rewrite(graph, rule)
    return made.replace(inputs=(*made.inputs, *noises))
