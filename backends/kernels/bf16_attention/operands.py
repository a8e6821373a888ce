"""Brings Q, K and V of one head into bf16 tiles in scratch: rounded, or split into planes.

    Q    [query tile of 16][depth step][plane][16 queries][32 sizes], scaled
    K^T  [32 keys][depth step][plane][16 pairs of sizes][32 keys][2]
    V    [32 sizes][32 keys][plane][16 pairs of keys][32 sizes][2]

What lies beyond a dimension's end is zero, except queries.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from tilewright.backends.kernels.bf16_attention.spec import PLANE_BYTES, Bf16AttentionSpec
from tilewright.backends.llvm import bf16, formats
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.builder import I8, I32, Code, Int, zeros
from tilewright.backends.llvm.exp2 import LOG2E

_LANES = bf16.LANES
_WORDS = ir.VectorType(I32, _LANES)
_CONCATENATE = list(range(2 * _LANES))
_INTERLEAVE = [i // 2 + i % 2 * _LANES for i in range(2 * _LANES)]


def emit_queries(
    code: Code, spec: Bf16AttentionSpec, q: ir.Value, stride: Int, count: Int, out: ir.Value
) -> None:
    """``count`` queries times scale and log2 e, so that weights are powers of 2."""
    factor = code.splat(spec.scale * LOG2E, _LANES)
    with code.loop(0, count) as row:
        tile = code.mul(code.div(row.index, ROWS), spec.depth * spec.planes * TILE_BYTES)
        line = code.add(tile, code.mul(code.rem(row.index, ROWS), ROW_BYTES))
        element = formats.ELEMENT[spec.q]
        source = code.at(q, code.mul(row.index, stride), element)

        def step(index: Int, width: int, source: ir.Value = source, line: Int = line) -> None:
            place = code.at(source, code.mul(index, STEP), element)
            halves = _halves(code, place, width, spec.q)
            scaled = [code.b.fmul(half, factor) for half in halves]
            at = code.add(line, code.mul(index, spec.planes * TILE_BYTES))
            for plane, words in enumerate(_join(code, scaled, spec.planes, _CONCATENATE)):
                code.vstore(words, code.at(out, code.add(at, plane * TILE_BYTES), I8))

        _each_step(code, spec.head_dim, step)


def emit_keys(
    code: Code, spec: Bf16AttentionSpec, k: ir.Value, stride: Int, keys: Int, out: ir.Value
) -> None:
    """All keys of a head, transposed by pairs of sizes."""

    def sixteen(first: Int, whole: bool) -> None:
        panel = code.mul(code.div(first, STEP), spec.key_panel_bytes)
        to = code.at(out, code.add(panel, code.mul(code.rem(first, STEP), 4)), I8)

        def step(index: Int, width: int) -> None:
            rows: list[list[ir.Value]] = []
            for i in range(_LANES):
                key = code.add(first, i)
                element = formats.ELEMENT[spec.k]
                source = code.at(k, code.mul(key, stride), element)
                source = code.at(source, code.mul(index, STEP), element)
                valid = width if whole else code.select(code.cmp("<", key, keys), width, 0)
                halves = _halves(code, source, valid, spec.k)
                rows.append(_join(code, halves, spec.planes, _CONCATENATE))
            base = code.mul(index, spec.planes * PLANE_BYTES)
            for plane in range(spec.planes):
                turned = code.transpose([row[plane] for row in rows])
                for pair, words in enumerate(turned):
                    at = code.add(base, plane * PLANE_BYTES + pair * 4 * STEP)
                    code.vstore(words, code.at(to, at, I8))

        _each_step(code, spec.head_dim, step)

    end = code.round_up(keys, STEP)
    with code.loop(0, end, _LANES) as group:
        full = code.cmp("<=", code.add(group.index, _LANES), keys)
        with code.either(full) as (whole, partial):
            with whole:
                sixteen(group.index, True)
            with partial:
                sixteen(group.index, False)


def emit_values(
    code: Code, spec: Bf16AttentionSpec, v: ir.Value, stride: Int, keys: Int, out: ir.Value
) -> None:
    """All values of a head, two keys side by side."""
    planes = spec.planes
    across = code.mul(code.ceildiv(keys, STEP), planes * PLANE_BYTES)
    end = code.round_up(keys, STEP)
    with code.loop(0, end, 2) as pair:
        element = formats.ELEMENT[spec.v]
        rows = [code.at(v, code.mul(code.add(pair.index, i), stride), element) for i in range(2)]
        step = code.mul(code.div(pair.index, STEP), planes * PLANE_BYTES)
        line = code.mul(code.div(code.rem(pair.index, STEP), 2), 4 * STEP)
        to = code.at(out, code.add(step, line), I8)

        def panel(
            index: Int,
            width: int,
            whole: bool,
            rows: list[ir.Value] = rows,
            first: Int = pair.index,
            to: ir.Value = to,
        ) -> None:
            taken = []
            for i, row in enumerate(rows):
                inside = code.cmp("<", code.add(first, i), keys)
                valid = width if whole else code.select(inside, width, 0)
                place = code.at(row, code.mul(index, STEP), element)
                taken.append(_halves(code, place, valid, spec.v))
            target = code.at(to, code.mul(index, across), I8)
            for half in range(2):
                both = [taken[0][half], taken[1][half]]
                for plane, words in enumerate(_join(code, both, planes, _INTERLEAVE)):
                    at = plane * PLANE_BYTES + half * ROW_BYTES
                    code.vstore(words, code.at(target, at, I8))

        with code.either(code.cmp("<", code.add(pair.index, 1), keys)) as (whole, partial):
            with whole:
                _each_step(code, spec.value_dim, lambda i, w: panel(i, w, True))
            with partial:
                _each_step(code, spec.value_dim, lambda i, w: panel(i, w, False))


def _each_step(code: Code, size: int, emit: Callable[[Int, int], None]) -> None:
    """``emit(step, width)`` for steps of 32 over ``size``; the last one may be narrower."""
    whole, rest = size // STEP, size % STEP
    with code.loop(0, whole) as step:
        emit(step.index, STEP)
    if rest:
        emit(whole, rest)


def _halves(code: Code, source: ir.Value, width: Int, stored: str) -> list[ir.Value]:
    """32 elements as two vectors of f32, zero from ``width`` on; reads no further."""
    out = []
    for at in (0, _LANES):
        whole = isinstance(width, int) and width >= at + _LANES
        mask = None if whole else code.first_lanes(code.sub(width, at), _LANES)
        place = code.at(source, at, formats.ELEMENT[stored])
        out.append(formats.load(code, place, mask, stored))
    return out


def _join(code: Code, pair: list[ir.Value], planes: int, order: list[int]) -> list[ir.Value]:
    """Two vectors of f32 as 16 words of two bf16, one vector a plane."""
    if planes == 1:
        words = bf16.pack(code, *pair)
        if order is _CONCATENATE:
            return [words]
        shorts = ir.VectorType(ir.IntType(16), 2 * _LANES)
        picked = code.b.shuffle_vector(
            code.b.bitcast(words, shorts),
            zeros(shorts),
            ir.Constant(ir.VectorType(I32, 2 * _LANES), order),
        )
        return [code.b.bitcast(picked, _WORDS)]
    parts = zip(*(bf16.split(code, value, planes) for value in pair), strict=True)
    picks = ir.Constant(ir.VectorType(I32, len(order)), order)
    return [code.b.bitcast(code.b.shuffle_vector(x, y, picks), _WORDS) for x, y in parts]
