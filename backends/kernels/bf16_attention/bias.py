"""What is added to scores before the softmax, 32 keys at a time: mask, horizon, end of the keys.

In units of log2 e. Tiles of scores start from it, so adding it costs no instruction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.builder import F32, I8, I32, Code, Int, zeros
from tilewright.backends.llvm.exp2 import LOG2E

_LANES = 16
_LOWEST = float(np.finfo(np.float32).min)
_HIDDEN = float("-inf")


@dataclass(frozen=True)
class Mask:
    """The mask of one block of queries: element (query, key) is at start + q sq + k sk."""

    base: ir.Value
    start: Int
    query_stride: ir.Value
    key_stride: ir.Value
    additive: bool

    @property
    def element(self) -> ir.Type:
        return F32 if self.additive else I8


@dataclass(frozen=True)
class Bias:
    """Rows of 32 for a step of keys: a pointer and the bytes from query to query (0: one row)."""

    rows: ir.Value
    stride: ir.Value


def emit_bias(
    code: Code,
    first: Int,
    keys: Int,
    queries: Int,
    mask: Mask | None,
    horizon: Int | None,
    room: ir.Value,
    zero_line: ir.Value,
) -> Bias:
    """The bias of the keys ``first`` .. ``first + 32``, of which those from ``keys`` on are hidden.

    ``horizon``: the last key that query 0 sees. ``room``: 32 x 32 f32 of scratch.
    """
    b = code.b
    ends = code.cmp(">", code.add(first, STEP), keys)
    single = ends if mask is None else ir.Constant(ir.IntType(1), 1)
    many = ir.Constant(ir.IntType(1), 0)
    if mask is not None:
        many = b.or_(many, code.cmp("!=", mask.query_stride, 0))
    if horizon is not None:
        many = b.or_(many, code.cmp("<", horizon, code.add(first, STEP - 1)))
    needed = b.or_(single, many)
    rows = code.select(many, queries, code.select(needed, 1, 0))
    with code.loop(0, rows) as row:
        line = code.at(room, code.mul(row.index, STEP))
        for half in (0, _LANES):
            key = code.add(first, half)
            value = code.splat(0.0, _LANES)
            inside = code.first_lanes(code.sub(keys, key), _LANES)
            if mask is not None:
                value = _taken(code, mask, row.index, key, keys, inside)
            visible = inside
            if horizon is not None:
                seen = code.sub(code.add(code.add(horizon, row.index), 1), key)
                visible = b.and_(visible, code.first_lanes(seen, _LANES))
            code.vstore(b.select(visible, value, code.splat(_HIDDEN, _LANES)), code.at(line, half))
    return Bias(b.select(needed, room, zero_line), code.select(many, 4 * STEP, 0))


def _taken(code: Code, mask: Mask, query: Int, key: Int, keys: Int, inside: ir.Value) -> ir.Value:
    """16 elements of the mask, from ``key`` on, as f32 to be added."""
    b, element = code.b, mask.element
    at = code.add(mask.start, code.mul(query, mask.query_stride))
    source = code.at(mask.base, at, element)
    kind = ir.VectorType(element, _LANES)
    with code.either(code.cmp("==", mask.key_stride, 1)) as (dense, strided):
        with dense:
            near = code.vload(code.at(source, key, element), _LANES, inside, element)
            near_block = b.block
        with strided:
            # Lanes beyond the end repeat the last key, to stay inside the mask.
            last = code.sub(keys, 1)
            far = zeros(kind)
            for i in range(_LANES):
                place = code.mul(code.min(code.add(key, i), last), mask.key_stride)
                one = code.load(code.at(source, place, element), element)
                far = b.insert_element(far, one, ir.Constant(I32, i))
            far_block = b.block
    taken = b.phi(kind)
    taken.add_incoming(near, near_block)
    taken.add_incoming(far, far_block)
    hidden = code.splat(_HIDDEN, _LANES)
    if not mask.additive:
        return b.select(b.icmp_unsigned("!=", taken, zeros(kind)), code.splat(0.0, _LANES), hidden)
    scaled = b.fmul(taken, code.splat(LOG2E, _LANES))
    # The lowest finite number hides keys too, but a row of nothing else has equal weights.
    lowest = code.splat(_LOWEST, _LANES)
    scaled = b.select(b.fcmp_ordered("<", scaled, lowest), lowest, scaled)
    return b.select(b.fcmp_ordered("==", taken, hidden), hidden, scaled)
