"""Channels of an intermediate value that nothing reads, or that are constant, are not computed."""

from __future__ import annotations

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.binary import Add, Mul
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.rewrite import Builder, with_operands
from tilewright.compiler.ir.types import TensorType
from tilewright.passes.evaluation import evaluator
from tilewright.passes.prices import never_slower
from tilewright.passes.registry import graph_pass
from tilewright.passes.rewrites import Rewrite, record
from tilewright.passes.structure.channels import (
    Channels,
    Read,
    fields_of,
    hidden_channels,
    in_result,
    made_by,
    narrowed,
    summed,
    taken,
    varies,
    weight_of,
)


@graph_pass
def remove_dead_channels(graph: Graph) -> Graph:
    """Make the value between products narrower: without channels whose rows of the next weights are
    zero, and without those that zero columns of the weights before make constant.

        h = relu(contract(x, w1) + b1)           h' = relu(contract(x, w1[:, keep]) + b1[keep])
        y = contract(h, w2)                ->    y  = contract(h', w2[keep]) + constants * w2

    Products of several operands (gates) are narrowed together. Zero times infinity counts as zero.

    Requires: nothing.
    Ensures: between products that only elementwise operations connect, no channel is dead.
    Leaves alone: values that are read in another way (normalizations, residuals, outputs), whose
        channels belong to others; constant channels in front of padded convolutions, unless zero;
        what prices say would be slower.
    """
    while (after := _once(graph)) is not graph:  # what is narrower may read fewer channels itself
        graph = after
    return graph


def _once(graph: Graph) -> Graph:
    plans = {}
    for channels in hidden_channels(graph):
        keep, constants = _planned(channels, graph)
        if len(keep) < channels.size:
            plans[channels] = keep, _reading(keep, constants)
    return narrowed(graph, plans) if plans else graph


def _planned(channels: Channels, graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """The channels to keep, by number, and what the others are, f64, 0 where it does not matter."""
    value, axis, size = channels.value, channels.axis, channels.size
    read = np.zeros(size, bool)
    for op in channels.readers:
        read |= _live_rows(op, graph)
    known, constants = _constant_channels(value, axis, size, graph)
    if any(isinstance(op, Conv) and any((*op.pads_low, *op.pads_high)) for op in channels.readers):
        known &= constants == 0
    keep = np.flatnonzero(read & ~known)
    keep = keep if len(keep) else np.array([0])  # an axis of nothing is no product
    constants = np.where(known, constants, 0.0)
    constants[keep] = 0.0
    if len(keep) == size:
        return keep, constants
    slower = not all(_pays(channels, op, keep, graph) for op in channels.products)
    text = f"{len(keep)} of {size} channels" + (" would be slower" if slower else "")
    dead = f"dead lines: {size - len(keep)} of {size} channels"
    record(Rewrite(channels.source, channels.weight, dead, not slower, text))
    return (np.arange(size) if slower else keep), constants


def _pays(channels: Channels, op: Contract | Conv, keep: np.ndarray, graph: Graph) -> bool:
    """Whether a product that reads or makes fewer channels is predicted to be no slower, as
    convolutions never are. Without some columns the blocks of zeros of others need not be aligned
    any more, so weights are looked at."""
    if isinstance(op, Conv):
        return True
    weights = graph.weights.array(weight_of(op))
    if weights.ndim != 2:
        return never_slower(channels.times(op, len(keep)), channels.times(op, channels.size))
    axis = summed(op) if op in channels.readers else made_by(op, channels.axis)
    assert axis is not None
    matrices = (np.take(weights, keep, axis), weights)
    new, old = (channels.times_of(op, w if summed(op) == 0 else w.T) for w in matrices)
    return never_slower(new, old)


def _live_rows(op: Op, graph: Graph) -> np.ndarray:
    """Which channels of its operand a product multiplies with something: bool [size]."""
    weights = graph.weights.array(weight_of(op))
    axis = summed(op)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    return np.asarray((weights != 0).any(axis=others))


def _constant_channels(
    value: Value, axis: int, size: int, graph: Graph
) -> tuple[np.ndarray, np.ndarray]:
    """Channels with one number everywhere: bool [size], and the numbers, f64 [size]."""
    op = value.op
    none = np.zeros(size, bool), np.zeros(size)
    if isinstance(op, Contract | Conv):
        at = made_by(op, axis)
        weights = graph.weights.array(weight_of(op))
        others = tuple(i for i in range(weights.ndim) if i != at)
        return np.asarray(~(weights != 0).any(axis=others)), np.zeros(size)
    assert op is not None
    known, numbers = [], []
    for operand in op.operands:
        if isinstance(operand.op, Constant | Fill):
            array = _along(operand, axis, size, graph)
            if array is None:
                return none
            known.append(np.ones(size, bool))
            numbers.append(array)
        elif varies(operand, axis, size):
            mask, values = _constant_channels(operand, axis, size, graph)
            known.append(mask)
            numbers.append(values.astype(operand.dtype.numpy))
        else:
            return none
    zero = np.zeros(size, bool)
    if isinstance(op, Mul):  # whatever the other factor is
        for mask, values in zip(known, numbers, strict=True):
            zero |= mask & (values == 0)
    mask, evaluate = np.logical_and.reduce(known), evaluator()
    if evaluate is None or not mask.any():
        return zero, np.zeros(size)
    made = np.asarray(evaluate(_on_channels(op, numbers), numbers)[0], np.float64)
    mask &= np.isfinite(made)
    return mask | zero, np.where(zero, 0.0, made)


def _on_channels(op: Op, arrays: list[np.ndarray]) -> Op:
    """The same operation on the channels alone, whose sizes are known."""
    types = (TensorType(v.dtype, a.shape) for v, a in zip(op.operands, arrays, strict=True))
    return with_operands(op, dict(zip(op.operands, map(Value, types), strict=True)), {})


def _along(value: Value, axis: int, size: int, graph: Graph) -> np.ndarray | None:
    """A constant that varies along the channels alone, as [size] or [1]."""
    if isinstance(value.op, Fill):
        return np.full(1, value.op.value, value.dtype.numpy)
    assert isinstance(value.op, Constant)
    array = graph.weights.array(value.op.name)
    if array.size == 1:
        return array.reshape(1)
    own = value.rank >= -axis and array.shape[axis] == size == array.size
    return array.reshape(-1) if own else None


def _reading(keep: np.ndarray, constants: np.ndarray) -> Read:
    """The product with what is left, and what the constant channels add to all of its rows."""

    def read(op: Contract | Conv, x: Value, builder: Builder) -> Value:
        fields, axis = fields_of(op), summed(op)
        names = ("a", "b") if isinstance(op, Contract) else ("x", "w")
        weights = builder.array(fields[names[1]])
        assert weights is not None
        fields[names[0]] = x
        fields[names[1]] = taken(fields[names[1]], axis, keep, builder)
        y = builder.emit(type(op), **fields)
        if not constants.any():
            return y
        added = np.tensordot(constants, np.moveaxis(weights.astype(np.float64), axis, 0), 1)
        if isinstance(op, Conv):
            added = added.sum(axis=tuple(range(added.ndim - 1)))
        else:
            added = in_result(op, added, axis)
        return builder.emit(Add, a=y, b=builder.constant(added.astype(np.float32), "dead"))

    return read
