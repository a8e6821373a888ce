"""The two products with codes: for each row of a block, dot products with rows of K, and sums of
rows of V times weights. A vector of codes is widened once and used for all rows."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.cached_attention.codes import Codes
from tilewright.backends.llvm.across import across
from tilewright.backends.llvm.builder import I8, Code, Int, zeros

_TOGETHER = 4
"""Keys whose sums are in registers at once."""

_SUMS = {32: 16, 16: 8}
"""Registers of the target -> output vectors that are summed at once."""


def emit_scores(
    code: Code,
    codes: Codes,
    k: ir.Value,
    step: Int,
    count: Int,
    queries: list[ir.Value],
    above: list[ir.Value],
    scores: list[ir.Value],
) -> None:
    """scores[row][key] = codes of the key times the query less ``above``, in units of the key's
    scale. Up to a whole vector the last key is repeated."""
    b, lanes = code.b, code.target.lanes_f32
    last = code.sub(count, 1)
    rounds = lanes // _TOGETHER
    with code.loop(0, count, lanes) as group:
        partial: list[list[ir.Value]] = [[] for _ in queries]
        for first in range(rounds):
            # The keys that the steps of a sum across lanes bring together first.
            keys = [
                code.at(k, code.mul(code.min(code.add(group.index, i), last), step), I8)
                for i in range(first, lanes, rounds)
            ]
            sums = _dots(code, codes, keys, queries)
            for row, found in zip(partial, sums, strict=True):
                row.append(across(code, found, b.fadd, lanes // 2))
        for row, less, place in zip(partial, above, scores, strict=True):
            total = across(code, row, b.fadd)
            code.vstore(b.fsub(total, less), code.at(place, group.index))


def _dots(
    code: Code, codes: Codes, keys: list[ir.Value], queries: list[ir.Value]
) -> list[list[ir.Value]]:
    """By query and key, vectors whose lanes sum to their product."""
    lanes = code.target.lanes_f32
    sums = [zeros(code.vector(lanes))] * (len(keys) * len(queries))

    def add(at: Int, size: int, now: list[ir.Value]) -> list[ir.Value]:
        loaded = [codes.load(code, key, at, size) for key in keys]
        out = list(now)
        for part, place in enumerate(codes.places(code, at)):
            for i, query in enumerate(queries):
                factor = code.vload(code.at(query, place), lanes)
                for j in range(len(keys)):
                    one = i * len(keys) + j
                    out[one] = code.fma(loaded[j][part], factor, out[one])
        return out

    whole, rest = codes.bytes // lanes * lanes, codes.bytes % lanes
    with code.loop(0, whole, lanes, sums) as chunk:
        chunk.next = add(chunk.index, lanes, chunk.carried)
    sums = chunk.carried
    if rest:
        sums = add(whole, rest, sums)
    return [sums[i : i + len(keys)] for i in range(0, len(sums), len(keys))]


def emit_values(
    code: Code,
    codes: Codes,
    v: ir.Value,
    step: Int,
    count: Int,
    weights: list[ir.Value],
    sums: list[ir.Value],
    rescale: list[ir.Value],
) -> None:
    """sums[row] = sums[row] * rescale[row] + weights[row] times codes of V."""
    b, lanes = code.b, code.target.lanes_f32
    parts = len(codes.places(code, 0))
    most = max(1, _SUMS[32 if code.target.vector_regs >= 32 else 16] // (len(sums) * parts))
    chunks = list(codes.chunks(lanes))
    for first in range(0, len(chunks), most):
        block = chunks[first : first + most]
        places = [
            (code.at(row, place), factor, _mask(code, size))
            for row, factor in zip(sums, rescale, strict=True)
            for at, size in block
            for place in codes.places(code, at)
        ]

        def add(
            key: Int, totals: list[ir.Value], block: list[tuple[int, int]] = block
        ) -> list[ir.Value]:
            row = code.at(v, code.mul(key, step), I8)
            found = [x for at, size in block for x in codes.load(code, row, at, size)]
            out = []
            for i, place in enumerate(weights):
                weight = code.splat(code.load(code.at(place, key)), lanes)
                own = totals[i * len(found) : (i + 1) * len(found)]
                out += [code.fma(weight, x, t) for x, t in zip(found, own, strict=True)]
            return out

        start = [b.fmul(code.vload(place, lanes), factor) for place, factor, _ in places]
        # Few sums take turns, so that one waits less for the one before.
        turns = 2 if len(start) <= 6 else 1
        whole = code.mul(code.div(count, turns), turns)
        zero = zeros(code.vector(lanes))
        carried = [*start, *[zero] * ((turns - 1) * len(start))]
        with code.loop(0, whole, turns, carried) as key:
            for turn in range(turns):
                own = slice(turn * len(start), (turn + 1) * len(start))
                key.next[own] = add(code.add(key.index, turn), key.carried[own])
        totals = key.carried[: len(start)]
        if turns > 1:
            with code.loop(whole, count, 1, totals) as single:
                single.next = add(single.index, single.carried)
            others = key.carried[len(start) :]
            totals = [b.fadd(x, y) for x, y in zip(single.carried, others, strict=True)]
        for (place, _, mask), total in zip(places, totals, strict=True):
            code.vstore(total, place, mask)


def _mask(code: Code, size: int) -> ir.Value | None:
    lanes = code.target.lanes_f32
    return None if size == lanes else code.first_lanes(size, lanes)
