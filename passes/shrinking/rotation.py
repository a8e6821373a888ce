"""A residual stream in the basis of its principal components, of which the last are left out.

With Q [d, d'] of orthonormal columns, what makes the stream is multiplied by Q, and what reads it
by Q^T. Norms lose their vectors to the products behind them; RMS norm of x Q is RMS norm of x times
Q if nothing is left out, and layer norm is RMS norm of what has no mean. One Q for all blocks, so
that no residual needs a product of its own.

Ashkboos et al., SliceGPT, arXiv 2401.15024.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import numpy as np

from tilewright.compiler.ir.core import Graph, Op
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.nn import LayerNorm, RmsNorm
from tilewright.compiler.ir.rewrite import Builder, Replacement, Rule, rewrite
from tilewright.passes.remove_dead_code import remove_dead_code
from tilewright.passes.shrinking.rungs import stored_as
from tilewright.passes.shrinking.streams import Norm, Stream, streams
from tilewright.passes.structure.channels import fields_of, in_result, made_by, summed


def principal(graph: Graph, stream: Stream, rows: Mapping[Norm, np.ndarray]) -> np.ndarray:
    """The directions of a stream as its norms leave it, those of greatest energy first: f64 [d, d].

    rows: some of every norm's results, f32 [.., d].
    """
    gram = np.zeros((stream.size, stream.size))
    for norm, _ in stream.norms:
        scale, bias = vectors(graph, norm, stream.size)
        live = scale != 0
        x = np.zeros(rows[norm].shape)
        x[:, live] = (rows[norm] - bias)[:, live] / scale[live]
        gram += x.T @ x / max(len(x), 1)
    return np.ascontiguousarray(np.linalg.eigh(gram)[1][:, ::-1])


def rotated(graph: Graph, stream: Stream, basis: np.ndarray) -> Graph:
    """`graph` with a stream in another basis: f64 [d, d'] of orthonormal columns."""
    place = [s.norms[0][0] for s in streams(graph)].index(stream.norms[0][0])
    apart = rewrite(graph, _own_constants(stream))
    return remove_dead_code(rewrite(apart, _Rotation(apart, streams(apart)[place], basis)))


def _own_constants(stream: Stream) -> Rule:
    """Constants of a stream's operations that nothing else reads."""
    ops = {*stream.lookups, *stream.makers, *stream.adds, *stream.readers}

    def rule(op: Op, builder: Builder) -> Replacement:
        if builder.original not in ops:
            return None
        fields = fields_of(op)
        for name in op.operand_fields:
            array = None if isinstance(fields[name], tuple) else builder.array(fields[name])
            if array is not None:
                fields[name] = builder.constant(array, f"{fields[name].op.name}.rotated")
        return builder.emit_multi(type(op), **fields)

    return rule


class _Rotation:
    """The rule that rewrites what makes and what reads a stream, whose constants are its own."""

    def __init__(self, graph: Graph, stream: Stream, basis: np.ndarray) -> None:
        self.graph, self.basis = graph, basis
        # Without its mean, which layer norms would take off.
        self.made = basis - basis.mean(axis=0) if stream.centred else basis
        self.behind: dict[Op, Norm] = {op: norm for norm, ops in stream.norms for op in ops}
        self.norms = {norm for norm, _ in stream.norms}
        # Axes of constants on which the stream's channels are made, and on which they are read.
        self.makes: dict[Op | None, int] = {op.x.op: 1 for op in stream.lookups}
        for maker in stream.makers:
            axis = made_by(maker, -1)
            assert axis is not None
            self.makes[maker.b.op] = axis
        for add in stream.adds:
            self.makes |= {v.op: v.rank - 1 for v in (add.a, add.b) if isinstance(v.op, Constant)}
        self.reads: dict[Op | None, Contract] = {op.b.op: op for op in stream.readers}

    def __call__(self, op: Op, builder: Builder) -> Replacement:
        original = builder.original
        d, kept = self.basis.shape
        if isinstance(op, Constant) and (original in self.makes or original in self.reads):
            return (builder.constant(self._constant(op), op.name),)
        if isinstance(op, Norm) and original in self.norms:
            # The mean is of d' squares instead of d.
            return (builder.emit(RmsNorm, x=op.x, axis=op.axis, eps=op.eps * d / kept),)
        if isinstance(op, Contract) and isinstance(original, Contract) and original in self.behind:
            _, bias = vectors(self.graph, self.behind[original], d)
            if bias.any():
                y = builder.emit(Contract, **fields_of(op))
                shift = in_result(original, self._made(original.b.op) @ bias, summed(original))
                return (builder.emit(Add, a=y, b=builder.constant(shift.astype(np.float32))),)
        return None

    def _constant(self, op: Constant) -> np.ndarray:
        """A constant in the other basis, f32; of f16 numbers where it is."""
        d, kept = self.basis.shape
        found = self._made(op)
        reader = self.reads.get(op)
        if reader is not None:
            scale, _ = vectors(self.graph, self.behind[reader], d)
            found = np.moveaxis((found * scale) @ self.basis * sqrt(d / kept), -1, summed(reader))
        return stored_as(found, self.graph.weights[op.name])

    def _made(self, op: Op | None) -> np.ndarray:
        """A constant, f64, as what makes the stream has it, an axis that is summed last."""
        assert isinstance(op, Constant)
        found = self.graph.weights.array(op.name).astype(np.float64)
        if op in self.makes:
            axis = self.makes[op]
            found = np.moveaxis(np.moveaxis(found, axis, -1) @ self.made, -1, axis)
        return np.moveaxis(found, summed(self.reads[op]), -1) if op in self.reads else found


def vectors(graph: Graph, norm: Norm, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias of a norm, f64 [d]."""
    found = []
    for value, none in (
        (norm.scale, 1.0),
        (norm.bias if isinstance(norm, LayerNorm) else None, 0.0),
    ):
        if value is None:
            found.append(np.full(d, none))
        else:
            assert isinstance(value.op, Constant)
            array = graph.weights.array(value.op.name).astype(np.float64)
            found.append(np.broadcast_to(array.reshape(-1), d))
    return found[0], found[1]
