"""Blocks of 16 or 32 queries by 32 columns: AMX tiles, or dot products of pairs."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.bf16_attention.spec import PLANE_BYTES
from tilewright.backends.llvm import amx, bf16
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I32, I64, PTR, VOID, Code, Int, i64

_LANES = bf16.LANES
_PAIR_BYTES = STEP * 4
_DOT_ROWS = 8
_KIND = ir.FunctionType(VOID, [PTR, I64, PTR, I64, PTR, I64, PTR, I64, I64])


def emit_product(
    code: Code,
    tiles: Int,
    products: int,
    a: ir.Value,
    a_tile: Int,
    b: ir.Value,
    count: Int,
    start: ir.Value,
    start_row: Int,
    c: ir.Value,
    c_row: Int,
    c_tile: Int,
) -> None:
    """C = start + A B for ``tiles`` (1 or 2) tiles of 16 rows, ``count`` steps of 32.

    A [tile][step][plane][16 rows][32], tiles ``a_tile`` bytes apart; B [step][plane][16 pairs]
    [32 columns][2]; ``start`` and C f32 rows of 32, ``start_row`` and ``c_row`` bytes apart, tiles
    of C ``c_tile``.
    """
    args = [i64(x) for x in (a, a_tile, b, count, start, start_row, c, c_row, c_tile)]
    with code.either(code.cmp(">", tiles, 1)) as (two, one):
        with two:
            code.b.call(_block(code, 2, products), args)
        with one:
            code.b.call(_block(code, 1, products), args)


def _block(code: Code, tiles: int, products: int) -> ir.Function:
    name = f"tilewright_attention_{tiles * ROWS}x{STEP}x{products}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, inner = internal(code, _KIND, name)
    (_tiles if amx.has_bf16(code.target) else _dots)(inner, fn, tiles, products)
    inner.b.ret_void()
    return fn


def _tiles(code: Code, fn: ir.Function, tiles: int, products: int) -> None:
    a, a_tile, b, count, start, start_row, c, c_row, c_tile = fn.args
    planes = bf16.PLANES[products]
    for i in range(tiles):
        row = code.at(start, code.mul(start_row, i * ROWS), I8)
        for j in range(2):
            amx.load(code, 2 * i + j, code.at(row, j * ROW_BYTES, I8), start_row)
    with code.loop(0, count) as step:
        at_a = code.at(a, code.mul(step.index, planes * TILE_BYTES), I8)
        at_b = code.at(b, code.mul(step.index, planes * PLANE_BYTES), I8)
        held: tuple[int, int] = (-1, -1)
        for pair in bf16.ORDER[products]:
            plane_a = code.at(at_a, pair[0] * TILE_BYTES, I8)
            plane_b = code.at(at_b, pair[1] * PLANE_BYTES, I8)
            for j in range(2):
                if pair[1] != held[1]:
                    amx.load(code, 6 + j, code.at(plane_b, j * ROW_BYTES, I8), _PAIR_BYTES)
                for i in range(tiles):
                    if j == 0 and pair[0] != held[0]:
                        amx.load(code, 4 + i, code.at(plane_a, code.mul(a_tile, i), I8), ROW_BYTES)
                    amx.multiply_bf16(code, 2 * i + j, 4 + i, 6 + j)
            held = pair
    for i in range(tiles):
        row = code.at(c, code.mul(c_tile, i), I8)
        for j in range(2):
            amx.store(code, 2 * i + j, code.at(row, j * ROW_BYTES, I8), c_row)


def _dots(code: Code, fn: ir.Function, tiles: int, products: int) -> None:
    a, a_tile, b, count, start, start_row, c, c_row, c_tile = fn.args
    planes = bf16.PLANES[products]
    with code.loop(0, tiles * ROWS, _DOT_ROWS) as group:
        tile, inside = code.div(group.index, ROWS), code.rem(group.index, ROWS)
        line = code.add(code.mul(tile, a_tile), code.mul(inside, ROW_BYTES))
        left = code.at(a, line, I8)
        source = code.at(start, code.mul(group.index, start_row), I8)
        target = code.add(code.mul(tile, c_tile), code.mul(inside, c_row))
        sums = [
            code.vload(code.at(code.at(source, code.mul(start_row, r), I8), v * _LANES), _LANES)
            for r in range(_DOT_ROWS)
            for v in range(2)
        ]
        with code.loop(0, count, 1, sums) as step:
            at_a = code.at(left, code.mul(step.index, planes * TILE_BYTES), I8)
            at_b = code.at(b, code.mul(step.index, planes * PLANE_BYTES), I8)
            with code.loop(0, STEP // 2, 1, step.carried) as pair:
                out = list(pair.carried)
                for plane_a, plane_b in bf16.ORDER[products]:
                    of_a = code.at(
                        at_a, code.add(code.mul(pair.index, 4), plane_a * TILE_BYTES), I8
                    )
                    of_b = code.mul(pair.index, _PAIR_BYTES)
                    row_b = code.at(at_b, code.add(of_b, plane_b * PLANE_BYTES), I8)
                    taken = [
                        code.vload(code.at(row_b, v * ROW_BYTES, I8), _LANES, element=I32)
                        for v in range(2)
                    ]
                    for r in range(_DOT_ROWS):
                        word = code.load(code.at(of_a, r * ROW_BYTES, I8), I32)
                        both = code.splat(word, _LANES)
                        for v in range(2):
                            out[2 * r + v] = bf16.dot(code, out[2 * r + v], both, taken[v])
                    # Keeps LLVM from holding operands of several products, which would spill.
                    code.b.fence("seq_cst", "singlethread")
                pair.next = out
            step.next = pair.carried
        for r in range(_DOT_ROWS):
            row = code.at(c, code.add(target, code.mul(c_row, r)), I8)
            for v in range(2):
                code.vstore(step.carried[2 * r + v], code.at(row, v * _LANES))
