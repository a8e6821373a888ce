"""A graph that shows what its sites read, and lets their results be disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract, Conv
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
        assert isinstance(op, Contract | Conv)
        (bare,) = builder.emit_multi(type(op), **_operands(op))
        total = builder.emit(Add, a=bare, b=noise(bare, number))
        if op.body is None:
            return (total,)
        return builder.emit_multi(Fused, inputs=(total, *op.extras), body=op.body)

    made = rewrite(graph, rule)
    return made.replace(inputs=(*made.inputs, *noises))


def _operands(op: Contract | Conv) -> dict[str, Any]:
    """What makes the same operation without an epilogue."""
    own = {f.name: getattr(op, f.name) for f in fields(op) if f.init}
    return {name: value for name, value in own.items() if name not in ("extras", "body")}
