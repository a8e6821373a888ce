"""Products of rows by blocks of 4 columns and q k, of which only those that are kept are there.

As `sparse_blocks`, with rows in the lanes: a line of A turned, 16 rows of a group of k, meets one
column of a block in every lane. Strips have 4 columns. Several tiles of 16 rows pass a strip at
once, so that its values are spread over lanes once for all of them; sums are turned at its end.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.amx import ROWS
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import F32, I8, I32, I64, PTR, VOID, Code, Int, i64, zeros
from tilewright.backends.llvm.microkernel import CHAIN, PANEL
from tilewright.backends.llvm.sparse_blocks import LINE, native
from tilewright.backends.target import Target

NARROW = 4
"""Columns of a block."""

TILES = 4
"""Tiles of rows that pass a strip at once, at most."""

BLOCK = 4 * NARROW
"""Bytes of a block."""

HOLD = NARROW * TILES * LINE
"""Bytes of scratch for sums before they are turned."""

_I16 = ir.IntType(16)
_KIND = ir.FunctionType(VOID, [PTR, I64, PTR, PTR, I64, PTR, PTR, PTR])

Strip = tuple[ir.Value, ir.Value, ir.Value]


def most_tiles(target: Target) -> int:
    """Tiles whose sums stay in registers."""
    return TILES if target.lanes_f32 == 16 else 1


def emit_narrow(
    code: Code,
    q: int,
    a: ir.Value,
    stride: Int,
    tiles: Int,
    strip: Strip,
    begins: ir.Value,
    out: ir.Value,
    hold: ir.Value,
) -> None:
    """Sums of 1 to TILES ``tiles`` of turned rows, ``stride`` bytes apart, by a strip, its numbers,
    blocks and how many there are: f32, or i32 (bytes that are multiplied as they are), to ``out``
    [tile][16 rows][32]. begins: column sums i32 [4] of quads: the shift of A is taken back. hold:
    HOLD bytes."""
    most = most_tiles(code.target)
    numbers, blocks, count = strip

    def some(size: int) -> None:
        done = 0
        while done < size:
            part = next(p for p in (4, 2, 1) if p <= min(size - done, most))
            left = code.at(a, code.mul(done, stride), I8)
            to = code.at(out, done * ROWS * PANEL)
            args = [left, i64(stride), numbers, blocks, count, begins, to, hold]
            code.b.call(_kernel(code, q, part), args)
            done += part

    code.switch(tiles, TILES, some)


def _kernel(code: Code, q: int, tiles: int) -> ir.Function:
    name = f"tilewright_narrow_blocks_{q}x{tiles}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _KIND, name)
    a, stride, numbers, blocks, count, begins, out, hold = fn.args
    fn.args[7].add_attribute("noalias")
    lanes = code.target.lanes_f32
    vectors = ROWS // lanes
    whole = q == 4 and native(code.target, q)
    kind = ir.VectorType(I32 if whole else F32, lanes)
    each = tiles * vectors
    sources = (a, stride, tiles)
    if whole:
        shift = ir.Constant(I32, -128)
        totals = [code.load(code.at(begins, c, I32), I32) for c in range(NARROW)]
        starts = [code.splat(code.b.mul(total, shift), lanes) for total in totals]
        begin = [start for start in starts for _ in range(each)]
        sums = _chain(code, q, sources, numbers, blocks, (0, count), begin)
    else:
        # Sums of all before them lie in `hold`.
        places = [code.at(hold, i * lanes) for i in range(NARROW * each)]
        first = code.min(count, CHAIN // q)
        none = [zeros(kind)] * len(places)
        sums = _chain(code, q, sources, numbers, blocks, (0, first), none)
        with code.when(code.cmp(">", count, first)):
            for place, value in zip(places, sums, strict=True):
                code.vstore(value, place)
            with code.loop(first, count, CHAIN // q) as chain:
                end = code.min(code.add(chain.index, CHAIN // q), count)
                more = _chain(code, q, sources, numbers, blocks, (chain.index, end), none)
                for place, value in zip(places, more, strict=True):
                    code.vstore(code.b.fadd(code.vload(place, lanes), value), place)
            held = [code.vload(place, lanes) for place in places]
            store(code, held, out, tiles)
            code.b.ret_void()
    store(code, sums, out, tiles)
    code.b.ret_void()
    return fn


def _chain(
    code: Code,
    q: int,
    rows: tuple[ir.Value, ir.Value, int],
    numbers: ir.Value,
    blocks: ir.Value,
    span: tuple[Int, Int],
    sums: list[ir.Value],
) -> list[ir.Value]:
    """``sums`` [column][tile][vector] and those of some blocks."""
    with code.loop(*span, 1, sums) as block:
        number = code.b.zext(code.load(code.at(numbers, block.index, _I16), _I16), I64)
        acc = list(block.carried)
        _block(code, q, rows, number, code.at(blocks, code.mul(block.index, BLOCK), I8), acc)
        block.next = acc
    return block.carried


def store(code: Code, sums: list[ir.Value], out: ir.Value, tiles: int) -> None:
    """Sums [column][tile][vector], turned, to [tile][16 rows][32]."""
    lanes = sums[0].type.count
    each = len(sums) // NARROW
    vectors = each // tiles
    for i in range(each):
        first = (i // vectors * ROWS + i % vectors * lanes) * PANEL
        for row, value in enumerate(_turned(code, sums[i::each])):
            code.vstore(value, code.at(out, first + row * PANEL, I32))


def _block(
    code: Code,
    q: int,
    rows: tuple[ir.Value, ir.Value, int],
    number: ir.Value,
    values: ir.Value,
    acc: list[ir.Value],
) -> None:
    """One block, added to ``acc`` [column][tile][vector] in place."""
    a, stride, tiles = rows
    lanes = code.target.lanes_f32
    own = native(code.target, q)
    whole = own and q == 4
    for part in range(1 if own else q):
        group = number if own else code.add(code.mul(number, q), part)
        line = code.at(a, code.mul(group, LINE), I8)
        lefts = [
            code.vload(code.at(tile, v, I32), lanes, element=I32 if whole else F32)
            for tile in (code.at(line, code.mul(t, stride), I8) for t in range(tiles))
            for v in range(0, ROWS, lanes)
        ]
        for c in range(NARROW):
            word = code.load(code.at(values, c, I32), I32)
            right = code.splat(word if whole else _as_f32(code, q, word, part), lanes)
            for i, left in enumerate(lefts):
                at = c * len(lefts) + i
                acc[at] = (
                    quads(code, acc[at], left, right) if whole else code.fma(left, right, acc[at])
                )


def quads(code: Code, total: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    """i32 sums and products of u8 by s8, of four each."""
    wide, narrow = total.type, ir.VectorType(I8, LINE)
    fn = code.declare("llvm.x86.avx512.vpdpbusd.512", ir.FunctionType(wide, [wide, narrow, narrow]))
    return code.b.call(fn, [total, code.b.bitcast(left, narrow), code.b.bitcast(right, narrow)])


def _as_f32(code: Code, q: int, word: ir.Value, part: int) -> ir.Value:
    """Element ``part`` of q in an i32."""
    if q == 1:
        return code.b.bitcast(word, F32)
    if q == 2:
        upper = ir.Constant(I32, -(1 << 16))
        bits = code.b.and_(word, upper) if part else code.b.shl(word, ir.Constant(I32, 16))
        return code.b.bitcast(bits, F32)
    up = code.b.shl(word, ir.Constant(I32, 24 - 8 * part))
    return code.b.sitofp(code.b.ashr(up, ir.Constant(I32, 24)), F32)


def _turned(code: Code, columns: list[ir.Value]) -> list[ir.Value]:
    """Four vectors of rows -> for each row its four columns."""
    lanes = columns[0].type.count

    def shuffled(x: ir.Value, y: ir.Value, *order: int) -> ir.Value:
        """Of every four lanes of x (0..3) and y (4..7) those in ``order``."""
        picked = [
            quad + i if i < 4 else lanes + quad + i - 4
            for quad in range(0, lanes, 4)
            for i in order
        ]
        mask = ir.Constant(ir.VectorType(I32, lanes), picked)
        return code.b.shuffle_vector(x, y, mask)

    low = [shuffled(columns[i], columns[i + 1], 0, 4, 1, 5) for i in (0, 2)]
    high = [shuffled(columns[i], columns[i + 1], 2, 6, 3, 7) for i in (0, 2)]
    fours = [
        shuffled(*pair, *order) for pair in (low, high) for order in ((0, 1, 4, 5), (2, 3, 6, 7))
    ]
    rows = []
    for row in range(lanes):
        mask = ir.Constant(ir.VectorType(I32, 4), [row // 4 * 4 + i for i in range(4)])
        rows.append(code.b.shuffle_vector(fours[row % 4], fours[row % 4], mask))
    return rows
