"""Masking and the running softmax over one tile of transposed scores [key][query].

Scores and masks are in units of log2 e, so that weights are powers of 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from tilewright.backends.llvm.across import greater
from tilewright.backends.llvm.builder import F32, I8, I32, I64, Code, Int, i64, zeros
from tilewright.backends.llvm.exp2 import LOG2E, exp2_weight

Pair = tuple[list[ir.Value], list[ir.Value]]

HIDDEN = float("-inf")
_LOWEST = float(np.finfo(np.float32).min)
_TOGETHER = 4
"""Keys whose maxima are taken before they meet the running one, a chain of 4 cycles a step."""


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

    def row(self, code: Code, query: Int) -> ir.Value:
        """The element of a query and key 0."""
        at = code.add(self.start, code.mul(query, self.query_stride))
        return code.at(self.base, at, self.element)

    def bias(self, code: Code, taken: ir.Value) -> ir.Value:
        """What is added to scores for elements of the mask, of a vector or one alone.

        The lowest finite number hides keys too, but a row of nothing else has equal weights.
        """
        b = code.b
        lanes = taken.type.count if isinstance(taken.type, ir.VectorType) else 0

        def number(value: float) -> ir.Value:
            return code.splat(value, lanes) if lanes else ir.Constant(F32, value)

        if not self.additive:
            seen = b.icmp_unsigned("!=", taken, ir.Constant(taken.type, None))
            return b.select(seen, number(0.0), number(HIDDEN))
        scaled = b.fmul(taken, number(LOG2E))
        scaled = b.select(b.fcmp_ordered("<", scaled, number(_LOWEST)), number(_LOWEST), scaled)
        return b.select(b.fcmp_ordered("==", taken, number(HIDDEN)), number(HIDDEN), scaled)

    def along(self, code: Code, key: Int, left: Int) -> ir.Value:
        """What is added to the scores of query 0 with a vector of keys, of which ``left`` exist."""
        lanes = code.target.lanes_f32
        row = self.row(code, 0)
        dense = code.b.and_(code.cmp("==", self.key_stride, 1), code.cmp(">=", left, lanes))
        with code.either(dense) as (near, far):
            with near:
                one = code.vload(code.at(row, key, self.element), lanes, None, self.element)
                near_block = code.b.block
            with far:
                two = zeros(one.type)
                for i in range(lanes):
                    kept = code.add(key, code.min(i, code.sub(left, 1)))
                    at = code.at(row, code.mul(kept, self.key_stride), self.element)
                    taken = code.load(at, self.element)
                    two = code.b.insert_element(two, taken, ir.Constant(I32, i))
                far_block = code.b.block
        phi = code.b.phi(one.type)
        phi.add_incoming(one, near_block)
        phi.add_incoming(two, far_block)
        return self.bias(code, phi)


def emit_softmax(
    code: Code,
    scores: ir.Value,
    count: Int,
    first_key: Int,
    running: Pair,
    factors: ir.Value,
    mask: Mask | None,
    horizon: Int | None,
    queries: Int,
) -> Pair:
    """Replace scores [count][width] by 2^(score - highest); returns the new (highest, total).

    Also stores, a query each, the factor 2^(old highest - new highest) that rescales earlier sums.
    """
    b, lanes = code.b, code.target.lanes_f32
    old_highest, old_total = running
    vectors = len(old_highest)
    width = vectors * lanes
    hidden = code.splat(HIDDEN, lanes)

    if mask is not None:
        _apply_mask(code, scores, count, first_key, width, mask, queries)
    if horizon is not None:
        _apply_horizon(code, scores, count, code.sub(first_key, horizon), vectors)
    highest = _highest(code, scores, count, old_highest)
    # While every key is hidden the highest is -inf; -inf - 0 keeps weights at 0 where -inf + inf
    # would give NaN before a later tile shows a key.
    base = [b.select(b.fcmp_ordered("==", h, hidden), code.splat(0.0, lanes), h) for h in highest]
    rescale = [exp2_weight(code, b.fsub(old, h)) for old, h in zip(old_highest, base, strict=True)]
    for v, factor in enumerate(rescale):
        code.vstore(factor, code.at(factors, v * lanes))
    start = [b.fmul(t, f) for t, f in zip(old_total, rescale, strict=True)]
    with code.loop(0, count, 1, start) as key:
        row = code.at(scores, code.mul(key.index, width))
        for v in range(vectors):
            at = code.at(row, v * lanes)
            weight = exp2_weight(code, b.fsub(code.vload(at, lanes), base[v]))
            code.vstore(weight, at)
            key.next[v] = b.fadd(key.carried[v], weight)
    return list(highest), list(key.carried)


def _highest(code: Code, scores: ir.Value, count: Int, start: Sequence[ir.Value]) -> list[ir.Value]:
    """The greatest score of every query."""
    lanes, higher = code.target.lanes_f32, greater(code)
    width = len(start) * lanes

    def rows(first: Int, several: int, v: int) -> ir.Value:
        at = code.at(scores, code.add(code.mul(first, width), v * lanes))
        found = [code.vload(code.at(at, i * width), lanes) for i in range(several)]
        while len(found) > 1:
            found = [higher(*found[i : i + 2]) for i in range(0, len(found), 2)]
        return found[0]

    whole = code.mul(code.div(count, _TOGETHER), _TOGETHER)
    now = list(start)
    for begin, end, several in ((0, whole, _TOGETHER), (whole, count, 1)):
        with code.loop(begin, end, several, now) as key:
            for v in range(len(start)):
                key.next[v] = higher(rows(key.index, several, v), key.carried[v])
        now = key.carried
    return now


def _apply_horizon(code: Code, scores: ir.Value, count: Int, ahead: Int, vectors: int) -> None:
    """Hide key j of the tile from the queries below ``ahead`` + j."""
    lanes = code.target.lanes_f32
    width = vectors * lanes
    # The keys before are seen by all.
    with code.loop(code.max(code.sub(1, ahead), 0), count) as key:
        row = code.at(scores, code.mul(key.index, width))
        first = code.splat(i64(code.add(ahead, key.index)), lanes)
        for v in range(vectors):
            ids = ir.Constant(ir.VectorType(I64, lanes), [v * lanes + i for i in range(lanes)])
            at = code.at(row, v * lanes)
            visible = code.b.icmp_signed(">=", ids, first)
            score = code.b.select(visible, code.vload(at, lanes), code.splat(HIDDEN, lanes))
            code.vstore(score, at)


def _apply_mask(
    code: Code,
    scores: ir.Value,
    count: Int,
    first_key: Int,
    width: int,
    mask: Mask,
    queries: Int,
) -> None:
    lanes = code.target.lanes_f32

    def add(at: ir.Value, bias: ir.Value) -> None:
        code.vstore(code.b.fadd(code.vload(at, lanes), bias), at)

    first = code.mul(first_key, mask.key_stride)
    # A padding mask is the same for all queries: one broadcast.
    with code.either(code.cmp("==", mask.query_stride, 0)) as (shared, separate):
        with shared:
            source = code.at(mask.row(code, 0), first, mask.element)
            with code.loop(0, count) as key:
                at = code.at(source, code.mul(key.index, mask.key_stride), mask.element)
                bias = code.splat(mask.bias(code, code.load(at, mask.element)), lanes)
                for v in range(0, width, lanes):
                    add(code.at(code.at(scores, code.mul(key.index, width)), v), bias)
        with separate:
            dense = code.cmp("==", mask.key_stride, 1)
            whole = code.select(dense, code.mul(code.div(count, lanes), lanes), 0)
            with code.loop(0, whole, lanes) as group, code.loop(0, width, lanes) as part:
                keys = code.add(group.index, first)
                rows = _square(code, mask, keys, part.index, queries)
                for i, bias in enumerate(rows):
                    at = code.add(code.mul(code.add(group.index, i), width), part.index)
                    add(code.at(scores, at), bias)
            with code.loop(whole, count) as key, code.loop(0, width, lanes) as part:
                at = code.add(first, code.mul(key.index, mask.key_stride))
                bias = _gathered(code, mask, at, part.index, queries)
                row = code.at(scores, code.mul(key.index, width))
                add(code.at(row, part.index), bias)


def _square(code: Code, mask: Mask, at: Int, first: Int, queries: Int) -> list[ir.Value]:
    """Vectors over queries from ``first`` on, one a key, of as many keys as a vector has lanes."""
    lanes = code.target.lanes_f32
    rows = []
    for i in range(lanes):
        # Lanes without a query repeat the last one, to stay inside the mask.
        row = mask.row(code, code.min(code.add(first, i), code.sub(queries, 1)))
        taken = code.vload(code.at(row, at, mask.element), lanes, None, mask.element)
        rows.append(mask.bias(code, taken))
    return code.transpose(rows)


def _gathered(code: Code, mask: Mask, at: Int, first: Int, queries: Int) -> ir.Value:
    """The same of one key, element by element."""
    lanes = code.target.lanes_f32
    taken = zeros(ir.VectorType(mask.element, lanes))
    for i in range(lanes):
        row = mask.row(code, code.min(code.add(first, i), code.sub(queries, 1)))
        one = code.load(code.at(row, at, mask.element), mask.element)
        taken = code.b.insert_element(taken, one, ir.Constant(I32, i))
    return mask.bias(code, taken)
