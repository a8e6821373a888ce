"""LLVM emitter of attention over caches in codes (online softmax, arXiv 2205.14135)."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.cached_attention.codes import Codes
from tilewright.backends.kernels.cached_attention.products import emit_scores, emit_values
from tilewright.backends.kernels.cached_attention.spec import (
    KEYS,
    QUERIES,
    ROWS,
    CachedAttentionSpec,
    Scratch,
    rows,
)
from tilewright.backends.kernels.f32_attention.softmax import HIDDEN, Mask
from tilewright.backends.llvm.across import all_lanes, greater
from tilewright.backends.llvm.builder import F32, I8, Code, Int, zeros
from tilewright.backends.llvm.exp2 import LOG2E, exp2_weight
from tilewright.backends.llvm.frame import Frame
from tilewright.backends.llvm.hadamard import rotate
from tilewright.backends.target import Target

OFFSET = 7.5
"""By how much codes of 4 bits lie above what they stand for."""


@dataclass(frozen=True)
class Row:
    """A query in one head: its operands, whether it is there at all, and the last key it sees."""

    q: ir.Value
    y: ir.Value
    real: ir.Value
    horizon: Int | None
    mask: Mask | None


@dataclass(frozen=True)
class Heads:
    """Keys and values that a unit's rows share: codes, scales, and how many keys there are."""

    k: ir.Value
    k_step: Int
    k_scale: ir.Value
    v: ir.Value
    v_step: Int
    v_scale: ir.Value
    keys: Int


def emit(module: ir.Module, spec: CachedAttentionSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code, begin, end, scratch = frame.code, frame.begin, frame.end, frame.scratch
    p = [frame.dim(i) for i in range(25 if spec.mask else 21)]
    pointers = [frame.pointer(i) for i in range(7 if spec.mask else 6)]
    blocks = code.ceildiv(p[2], QUERIES)
    shared = code.div(p[1], spec.group)

    with code.loop(begin, end) as unit:
        block, of_all = code.rem(unit.index, blocks), code.div(unit.index, blocks)
        head, batch = code.rem(of_all, shared), code.div(of_all, shared)
        first = code.mul(block, QUERIES)
        count = code.mul(code.min(code.sub(p[2], first), QUERIES), spec.group)

        def at(
            which: int,
            strides: list[ir.Value],
            element: ir.Type,
            head: Int = head,
            batch: Int = batch,
        ) -> ir.Value:
            place = code.add(code.mul(batch, strides[0]), code.mul(head, strides[1]))
            return code.at(pointers[which], place, element)

        heads = Heads(
            at(1, p[8:10], I8), p[10], at(2, p[11:13], F32),
            at(3, p[13:15], I8), p[15], at(4, p[16:18], F32), p[3],
        )  # fmt: skip

        def row(
            index: Int, head: Int = head, batch: Int = batch, first: Int = first, count: Int = count
        ) -> Row:
            # Rows beyond the last one repeat it and are not stored.
            kept = code.min(index, code.sub(count, 1))
            query = code.add(first, code.div(kept, spec.group))
            own = code.add(code.mul(head, spec.group), code.rem(kept, spec.group))

            def of(pointer: ir.Value, strides: list[ir.Value]) -> ir.Value:
                place = code.add(code.mul(batch, strides[0]), code.mul(own, strides[1]))
                return code.at(pointer, code.add(place, code.mul(query, strides[2])))

            mask = None
            if spec.mask is not None:
                start = code.add(code.mul(batch, p[21]), code.mul(own, p[22]))
                start = code.add(start, code.mul(query, p[23]))
                mask = Mask(pointers[5], start, p[23], p[24], spec.mask == "f32")
            return Row(
                of(pointers[0], p[5:8]),
                of(pointers[-1], p[18:21]),
                code.cmp("<", index, count),
                code.add(query, p[4]) if spec.causal else None,
                mask,
            )

        def by_rows(size: int, count: Int = count) -> None:
            with code.loop(0, count, size) as number:
                some = [row(code.add(number.index, i)) for i in range(size)]
                _block(code, spec, some, heads, scratch)

        most = _most_rows(target)
        narrow = min(rows(spec.group), most)
        if narrow == most:
            by_rows(most)
        else:
            with code.either(code.cmp("==", p[2], 1)) as (one, more):
                with one:
                    by_rows(narrow)
                with more:
                    by_rows(most)
    return frame.close()


def _most_rows(target: Target) -> int:
    """Sums of 4 keys and so many rows stay in registers, with the vectors that are multiplied."""
    return ROWS if target.vector_regs >= 32 else ROWS - 1


def _block(
    code: Code, spec: CachedAttentionSpec, some: list[Row], heads: Heads, scratch: ir.Value
) -> None:
    b, lanes, layout = code.b, code.target.lanes_f32, Scratch.of(spec)
    number = range(len(some))
    k_codes, v_codes = Codes(spec.made, spec.head_dim), Codes(spec.made, spec.value_dim)
    queries, scores, sums = (
        [code.at(scratch, code.add(start, i * size)) for i in number]
        for start, size in (
            (layout.queries, spec.stride(spec.head_dim)),
            (layout.scores, KEYS),
            (layout.sums, spec.stride(spec.value_dim)),
        )
    )
    zero, hidden = code.splat(0.0, lanes), code.splat(HIDDEN, lanes)
    above = [_query(code, spec, row, place) for row, place in zip(some, queries, strict=True)]
    for place in sums:
        for at in range(0, spec.stride(spec.value_dim) // lanes * lanes, lanes):
            code.vstore(zero, code.at(place, at))
    last = some[-1].horizon
    visible: Int = heads.keys
    if last is not None:
        visible = code.max(code.min(heads.keys, code.add(last, 1)), 0)
    # Of each row: the highest score, in all lanes; the sum of weights and of weights times scales,
    # a part in each lane.
    carried = [x for _ in number for x in (hidden, zero, zero)]
    with code.loop(0, visible, KEYS, carried) as tile:
        count = code.min(code.sub(visible, tile.index), KEYS)
        k = code.at(heads.k, code.mul(tile.index, heads.k_step), I8)
        v = code.at(heads.v, code.mul(tile.index, heads.v_step), I8)
        k_scale, v_scale = (code.at(place, tile.index) for place in (heads.k_scale, heads.v_scale))
        emit_scores(code, k_codes, k, heads.k_step, count, queries, above, scores)
        rescale = []
        for i, row in enumerate(some):
            old, total, scaled = tile.carried[3 * i : 3 * i + 3]
            top = _finish_scores(code, row, scores[i], k_scale, count, tile.index)
            highest = greater(code)(all_lanes(code, top, greater(code)), old)
            base = b.select(b.fcmp_ordered("==", highest, hidden), zero, highest)
            factor = exp2_weight(code, b.fsub(old, base))
            rescale.append(factor)
            start = [b.fmul(total, factor), b.fmul(scaled, factor)]
            with code.loop(0, count, lanes, start) as group:
                place = code.at(scores[i], group.index)
                left = code.first_lanes(code.sub(count, group.index), lanes)
                weight = exp2_weight(code, b.fsub(code.vload(place, lanes), base))
                value = b.fmul(weight, code.vload(code.at(v_scale, group.index), lanes, left))
                code.vstore(value, place)
                group.next = [
                    b.fadd(group.carried[0], weight), b.fadd(group.carried[1], value)
                ]  # fmt: skip
            tile.next[3 * i : 3 * i + 3] = [highest, *group.carried]
        emit_values(code, v_codes, v, heads.v_step, count, scores, sums, rescale)
    for i, row in enumerate(some):
        total, scaled = (all_lanes(code, x, b.fadd) for x in tile.carried[3 * i + 1 : 3 * i + 3])
        with code.when(row.real):
            _store(code, spec, heads, row, sums[i], total, scaled)


def _query(code: Code, spec: CachedAttentionSpec, row: Row, place: ir.Value) -> ir.Value:
    """Writes the query to ``place``, scaled, rotated and with zeros behind; how much its product
    with codes lies above that with what they stand for, in all lanes."""
    b, lanes = code.b, code.target.lanes_f32
    made = spec.made
    factor = code.splat(spec.scale * LOG2E, lanes)
    size = spec.head_dim
    vectors = [
        code.vload(
            code.at(row.q, at),
            lanes,
            None if at + lanes <= size else code.first_lanes(size - at, lanes),
        )
        for at in range(0, size, lanes)
    ]
    vectors = [b.fmul(v, factor) for v in rotate(code, vectors, made.block(size))]
    zero = zeros(vectors[0].type)
    whole = spec.stride(size) // lanes
    for i in range(whole):
        code.vstore(vectors[i] if i < len(vectors) else zero, code.at(place, i * lanes))
    if made.bits == 8:
        return zero
    total = zero
    for v in vectors:
        total = b.fadd(total, v)
    return b.fmul(all_lanes(code, total, b.fadd), code.splat(OFFSET, lanes))


def _finish_scores(
    code: Code, row: Row, scores: ir.Value, scales: ir.Value, count: Int, first: Int
) -> ir.Value:
    """Scores times the scales of keys plus the mask, -inf for hidden keys and up to a whole vector;
    the greatest of each lane."""
    b, lanes = code.b, code.target.lanes_f32
    hidden = code.splat(HIDDEN, lanes)
    with code.loop(0, count, lanes, [hidden]) as group:
        left = code.sub(count, group.index)
        there = code.first_lanes(left, lanes)
        place = code.at(scores, group.index)
        scale = code.vload(code.at(scales, group.index), lanes, there)
        score = b.fmul(code.vload(place, lanes), scale)
        key = code.add(first, group.index)
        if row.mask is not None:
            score = b.fadd(score, row.mask.along(code, key, left))
        if row.horizon is not None:
            seen = code.first_lanes(code.add(code.sub(row.horizon, key), 1), lanes)
            there = b.and_(there, seen)
        score = b.select(there, score, hidden)
        code.vstore(score, place)
        group.next = [greater(code)(score, group.carried[0])]
    result: ir.Value = group.carried[0]
    return result


def _store(
    code: Code,
    spec: CachedAttentionSpec,
    heads: Heads,
    row: Row,
    sums: ir.Value,
    total: ir.Value,
    scaled: ir.Value,
) -> None:
    """The output row: sums over the total of weights, without what lies above codes' values."""
    b, lanes, size = code.b, code.target.lanes_f32, spec.value_dim
    one, zero = code.splat(1.0, lanes), code.splat(0.0, lanes)
    empty = code.splat(code.cmp("==", heads.keys, 0), lanes)
    inverse = b.fdiv(one, b.select(empty, one, total))
    if spec.masked_zero:
        inverse = b.select(b.fcmp_ordered("==", total, zero), zero, inverse)
    vectors = [code.vload(code.at(sums, at), lanes) for at in range(0, size, lanes)]
    if spec.made.bits == 4:
        above = b.fmul(scaled, code.splat(OFFSET, lanes))
        vectors = [b.fsub(v, above) for v in vectors]
    vectors = rotate(code, [b.fmul(v, inverse) for v in vectors], spec.made.block(size))
    for i, value in enumerate(vectors):
        left = size - i * lanes
        mask = None if left >= lanes else code.first_lanes(left, lanes)
        code.vstore(value, code.at(row.y, i * lanes), mask)
