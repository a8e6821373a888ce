"""Masking and the running softmax over one tile of transposed scores."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.builder import F32, I8, I32, I64, Code, Int, i64
from tilewright.backends.llvm.emit.llvm_arith import LlvmArith
from tilewright.backends.llvm.vecmath_exp import exp_nonpositive

Pair = tuple[list[ir.Value], list[ir.Value]]


@dataclass(frozen=True)
class Mask:
    """The mask of one block of queries: element (query, key) is at start + q sq + k sk."""

    base: ir.Value
    start: Int
    query_stride: ir.Value
    key_stride: ir.Value
    additive: bool


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
    """Replace scores [count][width] by exp(score - highest); returns the new (highest, total).

    Also stores, a query each, the factor exp(old highest - new highest) that rescales earlier sums.
    """
    b, lanes = code.b, code.target.lanes_f32
    old_highest, old_total = running
    vectors = len(old_highest)
    width = vectors * lanes
    hidden = code.splat(float("-inf"), lanes)

    if mask is not None:
        _apply_mask(code, scores, count, first_key, width, mask, queries)
    with code.loop(0, count, 1, old_highest) as key:
        row = code.at(scores, code.mul(key.index, width))
        for v in range(vectors):
            at = code.at(row, v * lanes)
            score = code.vload(at, lanes)
            if horizon is not None:
                # Visible: key <= horizon + query.
                ahead = code.sub(code.add(first_key, key.index), horizon)
                ids = ir.Constant(ir.VectorType(I64, lanes), [v * lanes + i for i in range(lanes)])
                visible = b.icmp_signed(">=", ids, code.splat(i64(ahead), lanes))
                score = b.select(visible, score, hidden)
                code.vstore(score, at)
            above = b.fcmp_ordered(">", score, key.carried[v])
            key.next[v] = b.select(above, score, key.carried[v])
    highest = key.carried
    # While every key is hidden the highest is -inf; -inf - 0 keeps exp at 0 where -inf + inf
    # would give NaN before a later tile shows a key.
    base = [b.select(b.fcmp_ordered("==", h, hidden), code.splat(0.0, lanes), h) for h in highest]
    rescale = [_exp(code, b.fsub(old, h)) for old, h in zip(old_highest, base, strict=True)]
    for v, factor in enumerate(rescale):
        code.vstore(factor, code.at(factors, v * lanes))
    start = [b.fmul(t, f) for t, f in zip(old_total, rescale, strict=True)]
    with code.loop(0, count, 1, start) as key:
        row = code.at(scores, code.mul(key.index, width))
        for v in range(vectors):
            at = code.at(row, v * lanes)
            weight = _exp(code, b.fsub(code.vload(at, lanes), base[v]))
            code.vstore(weight, at)
            key.next[v] = b.fadd(key.carried[v], weight)
    return list(highest), list(key.carried)


def _apply_mask(
    code: Code,
    scores: ir.Value,
    count: Int,
    first_key: Int,
    width: int,
    mask: Mask,
    queries: Int,
) -> None:
    b, lanes = code.b, code.target.lanes_f32
    element = F32 if mask.additive else I8
    hidden = code.splat(float("-inf"), lanes)

    def combine(at: ir.Value, taken: ir.Value) -> None:
        score = code.vload(at, lanes)
        if mask.additive:
            score = b.fadd(score, taken)
        else:
            zero = ir.Constant(taken.type, None)
            score = b.select(b.icmp_unsigned("!=", taken, zero), score, hidden)
        code.vstore(score, at)

    with code.loop(0, count) as key:
        row = code.at(scores, code.mul(key.index, width))
        column = code.mul(code.add(first_key, key.index), mask.key_stride)
        source = code.at(mask.base, code.add(mask.start, column), element)
        # A padding mask is the same for all queries: one broadcast.
        with code.either(code.cmp("==", mask.query_stride, 0)) as (shared, separate):
            with shared:
                taken = code.splat(code.load(source, element), lanes)
                for v in range(0, width, lanes):
                    combine(code.at(row, v), taken)
            with separate, code.loop(0, width, lanes) as part:
                taken = ir.Constant(ir.VectorType(element, lanes), None)
                for i in range(lanes):
                    # Lanes without a query repeat the last one, to stay inside the mask.
                    query = code.min(code.add(part.index, i), code.sub(queries, 1))
                    at = code.at(source, code.mul(query, mask.query_stride), element)
                    taken = b.insert_element(taken, code.load(at, element), ir.Constant(I32, i))
                combine(code.at(row, part.index), taken)


def _exp(code: Code, x: ir.Value) -> ir.Value:
    """e^x for x <= 0."""
    result: ir.Value = exp_nonpositive(LlvmArith(code.b, code.target.fma), x)
    return result
