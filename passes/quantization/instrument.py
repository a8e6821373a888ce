"""A graph that shows what its sites read, and lets their results be disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from tilewright.compiler.ir.core import Graph, Op, Symbol, Value
from tilewright.compiler.ir.dims import sym, symbols
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.shape import Gather, Pad, Slice
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.compiler.ir.types import TensorType
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
    before their epilogue, or to the rows that it looks up.

    Where data decide how many rows there are (those that chose an expert), the input has a symbol
    of its own for them. Rows beyond it are not disturbed: other disturbances, as of a router, may
    have made more of them than there were.
    """
    numbers: dict[Op, int] = {site.op: i for i, site in enumerate(found)}
    noises: list[Value] = []
    own: dict[str, Symbol] = {}

    def noise(like: Value, number: int, builder: Builder) -> Value:
        name, shape = NOISE.format(number), list(like.shape)
        for axis, dim in enumerate(shape):
            if any(graph.symbols[symbol].source[0] == "data" for symbol in symbols(dim)):
                shape[axis] = sym(f"{name}.{axis}")
                source = ("shape", len(graph.inputs) + len(noises), axis)
                own[f"{name}.{axis}"] = Symbol(0, None, source)
        noises.append(Value(TensorType(like.dtype, tuple(shape)), name))
        if noises[-1].shape == like.shape:
            return noises[-1]
        none, steps = (0,) * like.rank, (1,) * like.rank
        more = tuple(0 if a == b else b for a, b in zip(shape, like.shape, strict=True))
        enough = builder.emit(Pad, x=noises[-1], low=none, high=more)
        return builder.emit(Slice, x=enough, starts=none, steps=steps, shape=like.shape)

    def rule(op: Op, builder: Builder) -> Replacement:
        number = numbers.get(builder.original or op)
        if number is None:
            return None
        if isinstance(op, Gather):
            rows = builder.emit(Gather, x=op.x, indices=op.indices, axis=op.axis)
            return (builder.emit(Add, a=rows, b=noise(rows, number, builder)),)
        assert isinstance(op, Contract | Conv)
        (bare,) = builder.emit_multi(type(op), **_operands(op))
        total = builder.emit(Add, a=bare, b=noise(bare, number, builder))
        if op.body is None:
            return (total,)
        return builder.emit_multi(Fused, inputs=(total, *op.extras), body=op.body)

    made = rewrite(graph, rule)
    return made.replace(inputs=(*made.inputs, *noises), symbols={**made.symbols, **own})


def _operands(op: Contract | Conv) -> dict[str, Any]:
    """What makes the same operation without an epilogue."""
    own = {f.name: getattr(op, f.name) for f in fields(op) if f.init}
    return {name: value for name, value in own.items() if name not in ("extras", "body")}
