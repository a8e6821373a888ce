"""Rows for products by blocks of four k that lie anywhere, in bytes.

Where weights are pruned a k at a time, four k that follow each other are seldom all there, so the
four of a block are those next in its strip of columns, and rows are brought together for them. A
lies in lines, a line one k of 64 rows; a block's four lines are woven to quads of 64 rows, by 8
shuffles. For strips of 16 columns that is done first, and a strip's blocks, which then follow each
other, are multiplied as those of `sparse_blocks`. Blocks of 4 columns are woven while they are
multiplied, rows in the lanes as in `narrow_blocks`.

A line has the rows 16 t + 4 l + i of 64 at byte 16 l + 4 t + i, so that weaving, which stays
within 16 bytes, gives the rows of a tile t in their order. The line of k lies where the tile k mod
4 of the group of four tiles was, at place k / 4 (`place`): A is brought to lines where it is.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import I8, I32, I64, PTR, VOID, Code, Int, i64
from tilewright.backends.llvm.narrow_blocks import BLOCK, NARROW, TILES, quads, store
from tilewright.backends.llvm.sparse_blocks import GROUPS, LINE

_I16 = ir.IntType(16)
_LINES = ir.FunctionType(VOID, [PTR, I64, I64])
_WEAVE = ir.FunctionType(VOID, [PTR, PTR, I64, PTR, I64])
_NARROW = ir.FunctionType(VOID, [PTR, PTR, PTR, I64, PTR, PTR])


def steps_of(k: int) -> int:
    """Steps of a row of K bytes in 16 groups of four."""
    return -(-k // (4 * GROUPS))


def place(k: int, depth: int) -> int:
    """Number of the line of ``k`` among those of four tiles of rows, K = ``depth``."""
    return k % 4 * GROUPS * steps_of(depth) + k // 4


def emit_lines(code: Code, block: ir.Value, groups: Int, stride: int) -> None:
    """Bring ``groups`` groups of four turned tiles, ``stride`` bytes apart, to lines in place."""
    name = "tilewright_apart_lines"
    fn = code.module.globals.get(name)
    if fn is None:
        fn, inner = internal(code, _LINES, name)
        first, count, apart = fn.args
        with (
            inner.loop(0, count) as group,
            inner.loop(0, inner.div(apart, LINE)) as four,
        ):
            base = inner.at(first, inner.mul(group.index, inner.mul(apart, TILES)), I8)
            base = inner.at(base, inner.mul(four.index, LINE), I8)
            places = [inner.at(base, inner.mul(apart, t), I8) for t in range(TILES)]
            tiles = [_by_k(inner, inner.vload(p, ROWS, element=I32)) for p in places]
            for value, to in zip(_transposed(inner, tiles), places, strict=True):
                inner.vstore(value, to)
        inner.b.ret_void()
    code.b.call(fn, [block, i64(groups), i64(stride)])


def emit_woven(
    code: Code, a: ir.Value, tiles: Int, places: ir.Value, count: Int, out: ir.Value, stride: int
) -> None:
    """Rows of 1 to TILES ``tiles`` for ``count`` blocks of four u16 ``places`` each, to ``out``
    [block][16 rows][4 k], those of tiles ``stride`` bytes apart."""

    def some(size: int) -> None:
        tiles = next(p for p in (1, 2, 4) if p >= size)
        code.b.call(_weave(code, tiles), [a, places, i64(count), out, i64(stride)])

    code.switch(tiles, TILES, some)


def _weave(code: Code, tiles: int) -> ir.Function:
    name = f"tilewright_apart_woven_{tiles}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _WEAVE, name)
    a, places, count, out, stride = fn.args
    fn.args[3].add_attribute("noalias")
    with code.loop(0, count) as block:
        to = code.at(out, code.mul(block.index, LINE), I8)
        own = code.at(places, code.mul(block.index, 4), _I16)
        for t, value in enumerate(_woven(code, a, own)[:tiles]):
            code.vstore(value, code.at(to, code.mul(stride, t), I8))
    code.b.ret_void()
    return fn


def emit_apart(
    code: Code,
    a: ir.Value,
    tiles: Int,
    strip: tuple[ir.Value, ir.Value, ir.Value],
    begins: ir.Value,
    out: ir.Value,
) -> None:
    """Sums i32 of 1 to TILES ``tiles`` by a strip of 4 columns, its places, blocks and how many
    there are, to ``out`` [tile][16 rows][32]. begins: column sums i32 [4]: the shift of A is taken
    back."""

    def some(size: int) -> None:
        tiles = next(p for p in (1, 2, 4) if p >= size)
        code.b.call(_narrow(code, tiles), [a, *strip, begins, out])

    code.switch(tiles, TILES, some)


def _narrow(code: Code, tiles: int) -> ir.Function:
    name = f"tilewright_apart_blocks_{tiles}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _NARROW, name)
    a, places, blocks, count, begins, out = fn.args
    fn.args[5].add_attribute("noalias")
    shift = ir.Constant(I32, -128)
    totals = [code.load(code.at(begins, c, I32), I32) for c in range(NARROW)]
    starts = [code.splat(code.b.mul(total, shift), ROWS) for total in totals]
    with code.loop(0, count, 1, [s for s in starts for _ in range(tiles)]) as block:
        own = code.at(places, code.mul(block.index, 4), _I16)
        values = code.at(blocks, code.mul(block.index, BLOCK), I8)
        acc = list(block.carried)
        lefts = _woven(code, a, own)[:tiles]
        for c in range(NARROW):
            right = code.splat(code.load(code.at(values, c, I32), I32), ROWS)
            for t, left in enumerate(lefts):
                acc[c * tiles + t] = quads(code, acc[c * tiles + t], left, right)
        block.next = acc
    store(code, block.carried, out, tiles)
    code.b.ret_void()
    return fn


def _woven(code: Code, rows: ir.Value, places: ir.Value) -> list[ir.Value]:
    """Rows of a block's four k, [tile][16 rows][4 k]."""
    lines = []
    for i in range(4):
        where = code.b.zext(code.load(code.at(places, i, _I16), _I16), I64)
        lines.append(code.vload(code.at(rows, code.mul(where, LINE), I8), LINE, element=I8))
    a, b, c, d = lines
    pairs = [(_zipped(code, a, b, 1, up), _zipped(code, c, d, 1, up)) for up in (0, 1)]
    return [_zipped(code, *pair, 2, up) for pair in pairs for up in (0, 1)]


def _zipped(code: Code, x: ir.Value, y: ir.Value, size: int, upper: int) -> ir.Value:
    """In every 16 bytes the lower or upper halves of x and y, ``size`` bytes of each in turn."""
    order = []
    for lane in range(0, LINE, 16):
        for i in range(lane + 8 * upper, lane + 8 * upper + 8, size):
            order += [*range(i, i + size), *range(LINE + i, LINE + i + size)]
    return code.b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, LINE), order))


def _by_k(code: Code, rows: ir.Value) -> ir.Value:
    """[16 rows][4 k] -> in every 16 bytes [4 k][4 rows]."""
    order = [
        lane + 4 * row + k for lane in range(0, LINE, 16) for k in range(4) for row in range(4)
    ]
    mask = ir.Constant(ir.VectorType(I32, LINE), order)
    value = code.b.bitcast(rows, ir.VectorType(I8, LINE))
    return code.b.bitcast(code.b.shuffle_vector(value, value, mask), rows.type)


def _transposed(code: Code, vectors: list[ir.Value]) -> list[ir.Value]:
    """Of four vectors of i32 the four of every four lanes, turned."""

    def mixed(x: ir.Value, y: ir.Value, *order: int) -> ir.Value:
        picked = [
            lane + i if i < 4 else ROWS + lane + i - 4 for lane in range(0, ROWS, 4) for i in order
        ]
        return code.b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, ROWS), picked))

    a, b, c, d = vectors
    pairs = [(mixed(a, b, *o), mixed(c, d, *o)) for o in ((0, 4, 1, 5), (2, 6, 3, 7))]
    return [mixed(*pair, *o) for pair in pairs for o in ((0, 1, 4, 5), (2, 3, 6, 7))]
