"""Both products, 16 or 32 queries by 32 columns at a time: AMX tiles, or dot products of pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from tilewright.backends.kernels.bf16_attention.spec import (
    PLANE_BYTES,
    SCORE_BYTES,
    Bf16AttentionSpec,
)
from tilewright.backends.llvm import amx, bf16
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I32, I64, PTR, VOID, Code, Int, i64

_LANES = bf16.LANES
_PAIR_BYTES = STEP * 4
_LINE = STEP * 4
_DOT_ROWS = 8
_SCORES = ir.FunctionType(VOID, [PTR, PTR, PTR, I64, I64, PTR])
_BLOCK = ir.FunctionType(VOID, [PTR, I64, PTR, I64, PTR, I64, I64, PTR, I64, I64])


def emit_scores(
    code: Code,
    spec: Bf16AttentionSpec,
    tiles: Int,
    queries: ir.Value,
    keys: ir.Value,
    rows: ir.Value,
    shared: Int,
    steps: Int,
    scores: ir.Value,
) -> None:
    """scores[tile][step][16][32] = bias + Q K^T for ``tiles`` (1 or 2) tiles and ``steps`` of keys.

    The bias of the first ``shared`` steps is a row for all queries, ``rows``[step][32]; the others
    find theirs in ``scores``.
    """

    def run(count: int) -> None:
        if amx.has_bf16(code.target):
            args = [queries, keys, rows, i64(shared), i64(steps), scores]
            code.b.call(_score_tiles(code, spec, count), args)
            return
        with code.loop(0, steps) as step:
            c = code.at(scores, code.mul(step.index, SCORE_BYTES), I8)
            start, stride = _bias(code, rows, shared, step.index, c)
            _call_block(
                code,
                count,
                spec.products,
                (queries, spec.query_tile_bytes),
                (code.at(keys, code.mul(step.index, spec.key_panel_bytes), I8), spec.depth),
                (start, stride, code.select(code.cmp("<", step.index, shared), 0, spec.span)),
                (c, _LINE, spec.span),
            )

    _by_tiles(code, tiles, run)


def emit_sums(
    code: Code,
    spec: Bf16AttentionSpec,
    tiles: Int,
    weights: ir.Value,
    values: ir.Value,
    steps: Int,
    zeros: ir.Value,
    later: ir.Value,
    sums: ir.Value,
) -> None:
    """One panel of sums[32][sizes] (+)= weights V; added where ``later``. ``zeros``: a line."""
    row = 4 * spec.value_stride
    start = code.b.select(later, sums, zeros)
    stride = code.select(later, row, 0)
    a_tile = spec.keys // STEP * spec.planes * TILE_BYTES

    def run(count: int) -> None:
        _call_block(
            code,
            count,
            spec.products,
            (weights, a_tile),
            (values, steps),
            (start, stride, code.mul(stride, ROWS)),
            (sums, row, ROWS * row),
        )

    _by_tiles(code, tiles, run)


def _by_tiles(code: Code, tiles: Int, run: Callable[[int], None]) -> None:
    with code.either(code.cmp(">", tiles, 1)) as (two, one):
        with two:
            run(2)
        with one:
            run(1)


def _bias(code: Code, rows: ir.Value, shared: Int, step: Int, c: ir.Value) -> tuple[ir.Value, Int]:
    """Where the bias of a step is, and the bytes from row to row."""
    one = code.cmp("<", step, shared)
    line = code.at(rows, code.mul(step, _LINE), I8)
    return code.b.select(one, line, c), code.select(one, 0, _LINE)


def _score_tiles(code: Code, spec: Bf16AttentionSpec, tiles: int) -> ir.Function:
    """Tiles of two halves of 16 keys take turns: one is stored while the other is summed, since a
    product of few sizes is short beside the time that a sum takes to be ready. Measured at
    head_dim 32: 39 ns a step where storing all four at its end takes 50."""
    name = f"tilewright_scores_{tiles}x{spec.depth}x{spec.products}_{spec.keys}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _SCORES, name)
    queries, keys, rows, shared, steps, scores = fn.args
    # Q stays in registers where it fits.
    held = spec.depth == 1 and spec.planes == 1
    if held:
        _load_queries(code, spec, tiles, queries)

    def store(half: int, c: ir.Value) -> None:
        for i in range(tiles):
            place = code.at(c, i * spec.span + half * ROW_BYTES, I8)
            amx.store(code, 2 * half + i, place, _LINE)

    with code.loop(0, steps, 1, [scores]) as step:
        c = code.at(scores, code.mul(step.index, SCORE_BYTES), I8)
        b = code.at(keys, code.mul(step.index, spec.key_panel_bytes), I8)
        start, stride = _bias(code, rows, shared, step.index, c)
        apart = code.select(code.cmp("<", step.index, shared), 0, spec.span)
        for half in range(2):
            sums = [2 * half + i for i in range(tiles)]
            for i, tile in enumerate(sums):
                place = code.at(start, code.add(code.mul(apart, i), half * ROW_BYTES), I8)
                amx.load(code, tile, place, stride)
            if held:
                amx.load(code, 6 + half, code.at(b, half * ROW_BYTES, I8), _PAIR_BYTES)
                for i, tile in enumerate(sums):
                    amx.multiply_bf16(code, tile, 4 + i, 6 + half)
            else:
                with code.loop(0, spec.depth) as depth:
                    a_at = code.mul(depth.index, spec.planes * TILE_BYTES)
                    b_at = code.mul(depth.index, spec.planes * PLANE_BYTES)
                    left = [
                        code.at(queries, code.add(a_at, i * spec.query_tile_bytes), I8)
                        for i in range(tiles)
                    ]
                    right = code.at(b, code.add(b_at, half * ROW_BYTES), I8)
                    _multiply(code, spec.products, left, [right], [[t] for t in sums])
            if half == 0:
                with code.when(code.cmp(">", step.index, 0)):
                    store(1, step.carried[0])
            else:
                store(0, c)
        step.next = [c]
    store(1, step.carried[0])
    code.b.ret_void()
    return fn


def _load_queries(code: Code, spec: Bf16AttentionSpec, tiles: int, queries: ir.Value) -> None:
    for i in range(tiles):
        amx.load(code, 4 + i, code.at(queries, i * spec.query_tile_bytes, I8), ROW_BYTES)


def _multiply(
    code: Code,
    products: int,
    left: Sequence[ir.Value],
    right: Sequence[ir.Value],
    sums: Sequence[Sequence[int]],
) -> None:
    """sums[i][j] += left[i] right[j] for one step of all planes, in registers 4 to 7."""
    held: tuple[int, int] = (-1, -1)
    for pair in bf16.ORDER[products]:
        for j, b in enumerate(right):
            if pair[1] != held[1]:
                amx.load(code, 6 + j, code.at(b, pair[1] * PLANE_BYTES, I8), _PAIR_BYTES)
            for i, a in enumerate(left):
                if j == 0 and pair[0] != held[0]:
                    amx.load(code, 4 + i, code.at(a, pair[0] * TILE_BYTES, I8), ROW_BYTES)
                amx.multiply_bf16(code, sums[i][j], 4 + i, 6 + j)
        held = pair


def _call_block(
    code: Code,
    tiles: int,
    products: int,
    a: tuple[ir.Value, Int],
    b: tuple[ir.Value, Int],
    start: tuple[ir.Value, Int, Int],
    c: tuple[ir.Value, Int, Int],
) -> None:
    """C = start + A B: A [tile][step][plane][16 rows][32] and the bytes between tiles; B [step]
    [plane][16 pairs][32 columns][2] and its steps; f32 ``start`` and C with the bytes between rows
    and between tiles."""
    name = f"tilewright_attention_{tiles * ROWS}x{STEP}x{products}"
    fn = code.module.globals.get(name)
    if fn is None:
        fn, inner = internal(code, _BLOCK, name)
        (_tiles if amx.has_bf16(code.target) else _dots)(inner, fn, tiles, products)
        inner.b.ret_void()
    code.b.call(fn, [i64(x) for x in (*a, *b, *start, *c)])


def _tiles(code: Code, fn: ir.Function, tiles: int, products: int) -> None:
    a, a_tile, b, count, start, start_row, start_tile, c, c_row, c_tile = fn.args
    planes = bf16.PLANES[products]
    for i in range(tiles):
        row = code.at(start, code.mul(start_tile, i), I8)
        for j in range(2):
            amx.load(code, 2 * i + j, code.at(row, j * ROW_BYTES, I8), start_row)
    with code.loop(0, count) as step:
        at_a = code.at(a, code.mul(step.index, planes * TILE_BYTES), I8)
        at_b = code.at(b, code.mul(step.index, planes * PLANE_BYTES), I8)
        left = [code.at(at_a, code.mul(a_tile, i), I8) for i in range(tiles)]
        right = [code.at(at_b, j * ROW_BYTES, I8) for j in range(2)]
        sums = [[2 * i + j for j in range(2)] for i in range(tiles)]
        _multiply(code, products, left, right, sums)
    for i in range(tiles):
        row = code.at(c, code.mul(c_tile, i), I8)
        for j in range(2):
            amx.store(code, 2 * i + j, code.at(row, j * ROW_BYTES, I8), c_row)


def _dots(code: Code, fn: ir.Function, tiles: int, products: int) -> None:
    a, a_tile, b, count, start, start_row, start_tile, c, c_row, c_tile = fn.args
    planes = bf16.PLANES[products]
    with code.loop(0, tiles * ROWS, _DOT_ROWS) as group:
        tile, inside = code.div(group.index, ROWS), code.rem(group.index, ROWS)
        left = code.at(a, code.add(code.mul(tile, a_tile), code.mul(inside, ROW_BYTES)), I8)
        source = code.at(
            start, code.add(code.mul(tile, start_tile), code.mul(inside, start_row)), I8
        )
        target = code.at(c, code.add(code.mul(tile, c_tile), code.mul(inside, c_row)), I8)
        sums = [
            code.vload(code.at(code.at(source, code.mul(start_row, r), I8), v * _LANES), _LANES)
            for r in range(_DOT_ROWS)
            for v in range(2)
        ]
        with code.loop(0, count, 1, sums) as step:
            at_a = code.at(left, code.mul(step.index, planes * TILE_BYTES), I8)
            at_b = code.at(b, code.mul(step.index, planes * PLANE_BYTES), I8)
            with code.loop(0, STEP // 2, 1, step.carried) as pair:
                of_a = code.at(at_a, code.mul(pair.index, 4), I8)
                of_b = code.at(at_b, code.mul(pair.index, _PAIR_BYTES), I8)
                pair.next = _dot_pair(code, products, of_a, of_b, pair.carried)
            step.next = pair.carried
        for r in range(_DOT_ROWS):
            row = code.at(target, code.mul(c_row, r), I8)
            for v in range(2):
                code.vstore(step.carried[2 * r + v], code.at(row, v * _LANES))


def _dot_pair(
    code: Code, products: int, a: ir.Value, b: ir.Value, sums: Sequence[ir.Value]
) -> list[ir.Value]:
    out = list(sums)
    for plane_a, plane_b in bf16.ORDER[products]:
        taken = [
            code.vload(code.at(b, plane_b * PLANE_BYTES + v * ROW_BYTES, I8), _LANES, element=I32)
            for v in range(2)
        ]
        for r in range(_DOT_ROWS):
            word = code.load(code.at(a, plane_a * TILE_BYTES + r * ROW_BYTES, I8), I32)
            both = code.splat(word, _LANES)
            for v in range(2):
                out[2 * r + v] = bf16.dot(code, out[2 * r + v], both, taken[v])
        # Keeps LLVM from holding operands of several products, which would spill.
        code.b.fence("seq_cst", "singlethread")
    return out
