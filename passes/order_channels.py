"""Channels between products in the order in which zeros of weights are blocks."""

from __future__ import annotations

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.rewrite import Builder
from tilewright.passes.prices import Times, never_slower, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.rewrites import Rewrite, record
from tilewright.passes.structure.channels import (
    Channels,
    Read,
    fields_of,
    hidden_channels,
    made_by,
    narrowed,
    summed,
    taken,
    weight_of,
)

WIDE = 16
"""Channels of a block."""

MOST = 0.5
"""Share of weights other than zero beyond which there are no blocks to be had."""

FEWER = 0.8
"""Share of the blocks that has to be left."""

LARGEST = 1 << 33
"""Bits that are compared at most: of all pairs of channels."""


@graph_pass
def order_channels(graph: Graph) -> Graph:
    """Put channels that are made of the same inputs next to each other, so that what is zero of
    their weights is blocks of WIDE channels, which kernels leave out (SMaT, github.com/spcl/smat).

        h = relu(contract(x, w1))         h' = relu(contract(x, w1[:, order]))
        y = contract(h, w2)         ->    y  = contract(h', w2[order])

    The next channel is the one that adds least to the inputs of those before it in its block.

    Requires: nothing.
    Ensures: blocks are not fewer in the other order, or some product would be slower.
    Leaves alone: channels that products of other operands than matrices make or read, weights with
        few zeros, matrices so large that comparing their channels would take long.
    """
    plans = {}
    for channels in hidden_channels(graph):
        order = _planned(channels, graph)
        if order is not None:
            plans[channels] = order, _reading(order)
    return narrowed(graph, plans) if plans else graph


def _planned(channels: Channels, graph: Graph) -> np.ndarray | None:
    matrices: dict[Contract, tuple[np.ndarray, int]] = {}
    for op in channels.products:
        if not isinstance(op, Contract):
            return None
        weights = graph.weights.array(weight_of(op))
        axis = summed(op) if op in channels.readers else made_by(op, channels.axis)
        if weights.ndim != 2 or axis is None:
            return None
        matrices[op] = weights, axis
    made = [w if axis else w.T for op, (w, axis) in matrices.items() if op not in channels.readers]
    inputs = np.concatenate([w != 0 for w in made]).T if made else np.zeros((0, 0), bool)
    if not inputs.size or inputs.mean() > MOST or len(inputs) * inputs.size > LARGEST:
        return None
    order = clustered(inputs)
    before, after = _blocks(inputs), _blocks(inputs[order])
    if after > FEWER * before:
        return None
    new, old = (
        together(*(_times(channels, op, *matrices[op], which) for op in matrices))
        for which in (order, np.arange(channels.size))
    )
    faster = never_slower(new, old) and sum(new) < sum(old)
    text = f"{after} of {before} blocks" + ("" if faster else " would not be faster")
    record(Rewrite(channels.source, channels.weight, "zeros in other channels", faster, text))
    return order if faster else None


def _times(
    channels: Channels, op: Contract, weights: np.ndarray, axis: int, order: np.ndarray
) -> Times:
    moved = np.take(weights, order, axis)
    return channels.times_of(op, moved if summed(op) == 0 else moved.T)


def clustered(inputs: np.ndarray) -> np.ndarray:
    """An order of rows of bool [n, k], WIDE at a time: the first that is left, then always the one
    that adds least to what is true of these; of equal ones the first."""
    bits = np.packbits(inputs, axis=1)
    ones = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
    left = np.arange(len(bits))
    order: list[int] = []
    while len(left):
        union = np.zeros(bits.shape[1], np.uint8)
        for _ in range(min(WIDE, len(left))):
            added = ones[bits[left] & ~union].sum(axis=1) if union.any() else np.zeros(len(left))
            at = int(np.argmin(added))
            order.append(int(left[at]))
            union |= bits[left[at]]
            left = np.delete(left, at)
    return np.array(order)


def _blocks(inputs: np.ndarray) -> int:
    """Of WIDE rows by one column of bool [n, k] that have something in them."""
    return sum(int(inputs[i : i + WIDE].any(axis=0).sum()) for i in range(0, len(inputs), WIDE))


def _reading(order: np.ndarray) -> Read:
    """The product with its rows in another order."""

    def read(op: Contract | Conv, x: Value, builder: Builder) -> Value:
        fields = fields_of(op)
        fields["a"], fields["b"] = x, taken(fields["b"], summed(op), order, builder)
        return builder.emit(type(op), **fields)

    return read
