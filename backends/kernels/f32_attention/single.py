"""Attention of one query: two matrix-vector products that read each row of K and V once.

Decoding is bound by those rows. Scores are dot products, summed along the lanes for as many keys at
once as a vector has lanes; outputs are sums over keys of rows of V times their weights.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_attention.job import Job
from tilewright.backends.kernels.f32_attention.softmax import HIDDEN
from tilewright.backends.kernels.f32_attention.spec import KEYS, Scratch
from tilewright.backends.llvm.across import across, all_lanes, greater
from tilewright.backends.llvm.builder import Code, Int, zeros
from tilewright.backends.llvm.exp2 import LOG2E, exp2_weight

Columns = list[tuple[int, ir.Value | None]]

_COLUMNS = 4
"""Vectors of the output that are summed at once, by two keys in turn: eight chains."""


def emit_single(code: Code, job: Job, keys: Int) -> None:
    """The only query of ``job``, which sees ``keys`` keys."""
    b, spec, layout = code.b, job.spec, Scratch.of(job.spec)
    lanes = code.target.lanes_f32
    query, scores, sums = (
        code.at(job.scratch, at) for at in (layout.queries, layout.scores, layout.sums)
    )
    factor = code.splat(spec.scale * LOG2E, lanes)
    for at, mask in _columns(code, spec.head_dim):
        value = b.fmul(code.vload(code.at(job.q, at), lanes, mask), factor)
        code.vstore(value, code.at(query, at))
    zero, hidden = code.splat(0.0, lanes), code.splat(HIDDEN, lanes)
    for at in range(0, spec.value_stride, lanes):
        code.vstore(zero, code.at(sums, at))
    with code.loop(0, keys, KEYS, [hidden, zero]) as tile:
        count = code.min(code.sub(keys, tile.index), KEYS)
        k = code.at(job.k, code.mul(tile.index, job.strides[1]))
        old = tile.carried[0]
        top = _scores(code, job, k, count, tile.index, query, scores)
        highest = greater(code)(all_lanes(code, top, greater(code)), old)
        base = b.select(b.fcmp_ordered("==", highest, hidden), zero, highest)
        rescale = exp2_weight(code, b.fsub(old, base))
        with code.loop(0, count, lanes, [b.fmul(tile.carried[1], rescale)]) as group:
            place = code.at(scores, group.index)
            weight = exp2_weight(code, b.fsub(code.vload(place, lanes), base))
            code.vstore(weight, place)
            group.next = [b.fadd(group.carried[0], weight)]
        v = code.at(job.v, code.mul(tile.index, job.strides[2]))
        _values(code, job, v, count, scores, sums, rescale)
        tile.next = [highest, group.carried[0]]
    total = all_lanes(code, tile.carried[1], b.fadd)
    empty = code.splat(code.cmp("==", job.keys, 0), lanes)
    inverse = b.fdiv(code.splat(1.0, lanes), b.select(empty, code.splat(1.0, lanes), total))
    if spec.masked_zero:
        inverse = b.select(b.fcmp_ordered("==", total, zero), zero, inverse)
    for at, mask in _columns(code, spec.value_dim):
        value = b.fmul(code.vload(code.at(sums, at), lanes), inverse)
        code.vstore(value, code.at(job.y, at), mask)


def _columns(code: Code, size: int) -> Columns:
    """Offsets of whole vectors over ``size`` elements and the mask of the last one if partial."""
    lanes = code.target.lanes_f32
    return [
        (at, None if at + lanes <= size else code.first_lanes(size - at, lanes))
        for at in range(0, size, lanes)
    ]


def _scores(
    code: Code, job: Job, k: ir.Value, count: Int, first: Int, query: ir.Value, scores: ir.Value
) -> ir.Value:
    """scores[count] = K q plus the mask, -inf up to a whole vector; the greatest of each lane."""
    b, lanes = code.b, code.target.lanes_f32
    hidden = code.splat(HIDDEN, lanes)
    with code.loop(0, count, lanes, [hidden]) as group:
        # Lanes without a key repeat the last one.
        rows = [
            code.at(
                k, code.mul(code.min(code.add(group.index, i), code.sub(count, 1)), job.strides[1])
            )
            for i in range(lanes)
        ]
        sums = [zeros(hidden.type)] * lanes

        def add(
            at: Int, mask: ir.Value | None, sums: list[ir.Value], rows: list[ir.Value] = rows
        ) -> list[ir.Value]:
            part = code.vload(code.at(query, at), lanes)
            taken = (code.vload(code.at(row, at), lanes, mask) for row in rows)
            return [code.fma(x, part, total) for x, total in zip(taken, sums, strict=True)]

        whole, rest = job.spec.head_dim // lanes * lanes, job.spec.head_dim % lanes
        with code.loop(0, whole, lanes, sums) as column:
            column.next = add(column.index, None, column.carried)
        sums = column.carried
        if rest:
            sums = add(whole, code.first_lanes(rest, lanes), sums)
        score = across(code, sums, b.fadd)
        left = code.sub(count, group.index)
        if job.mask is not None:
            score = b.fadd(score, job.mask.along(code, code.add(first, group.index), left))
        score = b.select(code.first_lanes(left, lanes), score, hidden)
        code.vstore(score, code.at(scores, group.index))
        group.next = [greater(code)(score, group.carried[0])]
    result: ir.Value = group.carried[0]
    return result


def _values(
    code: Code,
    job: Job,
    v: ir.Value,
    count: Int,
    weights: ir.Value,
    sums: ir.Value,
    rescale: ir.Value,
) -> None:
    """sums = sums * rescale + weights V."""
    b, lanes = code.b, code.target.lanes_f32
    columns = _columns(code, job.spec.value_dim)
    pairs = code.mul(code.div(count, 2), 2)
    for first in range(0, len(columns), _COLUMNS):
        block = columns[first : first + _COLUMNS]

        def add(key: Int, totals: list[ir.Value], block: Columns = block) -> list[ir.Value]:
            weight = code.splat(code.load(code.at(weights, key)), lanes)
            row = code.at(v, code.mul(key, job.strides[2]))
            taken = (code.vload(code.at(row, at), lanes, mask) for at, mask in block)
            return [code.fma(weight, x, t) for x, t in zip(taken, totals, strict=True)]

        start = [b.fmul(code.vload(code.at(sums, at), lanes), rescale) for at, _ in block]
        with code.loop(0, pairs, 2, [*start, *(zeros(x.type) for x in start)]) as key:
            even, odd = key.carried[: len(block)], key.carried[len(block) :]
            key.next = [*add(key.index, even), *add(code.add(key.index, 1), odd)]
        even, odd = key.carried[: len(block)], key.carried[len(block) :]
        with code.loop(pairs, count, 1, odd) as last:
            last.next = add(last.index, last.carried)
        for (at, _), x, y in zip(block, even, last.carried, strict=True):
            code.vstore(b.fadd(x, y), code.at(sums, at))
