"""Products of 16 rows by blocks of 16 columns and q k, of which only those that are kept are there.

q = 1: f32, 2: pairs of bf16, 4: quads of s8, so that a block is a line of 64 bytes. Columns lie in
strips of 16; a strip has the numbers of its blocks, u16, number i for k = i q and on, and behind
them the blocks. A is turned: [tile of 16 rows][group of q k][16 rows] of 4 bytes, so that the rows
of a block's k are one line, wherever in K it is.

Blocks of bf16, and of bytes where 512 bits of them are not multiplied at once, are taken apart to
f32, and A is f32, q groups for one: products of bf16 take longer than two of f32 (a Sapphire Rapids
makes 84 GFLOP/s of the former, 171 of the latter).
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.amx import ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import F32, I8, I32, I64, PTR, VOID, Code, Int, i64, zeros
from tilewright.backends.llvm.microkernel import CHAIN, PANEL
from tilewright.backends.target import Target

STRIP = 16
"""Columns of a block."""

STRIPS = PANEL // STRIP

LINE = 64
"""Bytes of a block."""

GROUPS = 16
"""Groups of a row in a step of A: what is turned at a time."""

_I16 = ir.IntType(16)
_KIND = ir.FunctionType(VOID, [PTR, PTR, PTR, I64, PTR, PTR])
_TURN = ir.FunctionType(VOID, [PTR, I64])


def native(target: Target, q: int) -> bool:
    """Whether groups of q k are multiplied as they are."""
    return q == 1 or (q == 4 and "avx512vnni" in target.all_features)


def most_rows(target: Target) -> int:
    """Rows that meet a block at a time, a divisor of 16."""
    return {16: 16, 8: 4}.get(target.lanes_f32, 2)


def emit_f32_rows(code: Code, a: ir.Value, lda: Int, rows: Int, k: int, out: ir.Value) -> None:
    """Copy ``rows`` rows of f32 to [tile][step of 16 k][16 rows][16], K filled up with zeros; those
    of the last tile that there are not keep what is there."""
    lanes = code.target.lanes_f32
    steps = -(-k // GROUPS)
    with code.loop(0, rows) as row:
        source = code.at(a, code.mul(row.index, lda))
        tile = code.mul(code.div(row.index, ROWS), steps * TILE_BYTES)
        target = code.at(out, code.add(tile, code.mul(code.rem(row.index, ROWS), LINE)), I8)

        def step(index: Int, count: int, source: ir.Value = source, to: ir.Value = target) -> None:
            line = code.at(to, code.mul(index, TILE_BYTES), I8)
            for v in range(0, GROUPS, lanes):
                place = code.at(source, code.add(code.mul(index, GROUPS), v))
                mask = code.first_lanes(count - v, lanes) if count < v + lanes else None
                value = zeros(code.vector(lanes))
                if count > v:
                    value = code.vload(place, lanes, mask)
                code.vstore(value, code.at(line, v))

        with code.loop(0, k // GROUPS) as whole:
            step(whole.index, GROUPS)
        if k % GROUPS:
            step(k // GROUPS, k % GROUPS)


def emit_turned(code: Code, block: ir.Value, steps: Int) -> None:
    """Turn steps of [16 rows][16 groups] of 4 bytes to [16 groups][16 rows], in place."""
    name = "tilewright_sparse_turn"
    fn = code.module.globals.get(name)
    if fn is None:
        fn, inner = internal(code, _TURN, name)
        lanes = inner.target.lanes_f32
        first, count = fn.args
        with inner.loop(0, count) as step:
            base = inner.at(first, inner.mul(step.index, TILE_BYTES), I8)
            for i in range(0, ROWS, lanes):
                for j in range(i, ROWS, lanes):
                    _swap(inner, base, i, j, lanes)
        inner.b.ret_void()
    code.b.call(fn, [block, i64(steps)])


def _swap(code: Code, base: ir.Value, i: int, j: int, lanes: int) -> None:
    """The sub-blocks (i, j) and (j, i), each turned, change places."""

    def places(row: int, column: int) -> list[ir.Value]:
        return [code.at(base, (row + r) * GROUPS + column) for r in range(lanes)]

    upper = code.transpose([code.vload(p, lanes) for p in places(i, j)])
    lower = upper if i == j else code.transpose([code.vload(p, lanes) for p in places(j, i)])
    for value, place in zip(lower, places(i, j), strict=True):
        code.vstore(value, place)
    if i != j:
        for value, place in zip(upper, places(j, i), strict=True):
            code.vstore(value, place)


def emit_blocks(
    code: Code,
    q: int,
    a: ir.Value,
    rows: Int,
    strip: tuple[ir.Value, ir.Value, ir.Value],
    begins: ir.Value,
    out: ir.Value,
) -> None:
    """Sums of 1 to 16 ``rows`` of a turned tile by a strip, its numbers, blocks and how many there
    are: f32, or i32 (bytes that are multiplied as they are), to ``out`` [rows][32]. begins: column
    sums i32 [16] of quads: the shift of A is taken back."""
    most = most_rows(code.target)
    numbers, blocks, count = strip

    def some(size: int) -> None:
        done = 0
        while done < size:
            part = next(p for p in (1, 2, 4, 8, 16) if p >= min(size - done, most))
            left = code.at(a, done, I32)
            to = code.at(out, done * PANEL)
            code.b.call(_kernel(code, q, part), [left, numbers, blocks, count, begins, to])
            done += part

    code.switch(rows, ROWS, some)


def _kernel(code: Code, q: int, rows: int) -> ir.Function:
    name = f"tilewright_sparse_blocks_{q}x{rows}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _KIND, name)
    a, numbers, blocks, count, begins, out = fn.args
    fn.args[5].add_attribute("noalias")
    lanes = code.target.lanes_f32
    vectors = STRIP // lanes
    whole = q == 4 and native(code.target, q)
    kind = ir.VectorType(I32 if whole else F32, lanes)
    targets = [
        code.at(out, r * PANEL + v * lanes, I32) for r in range(rows) for v in range(vectors)
    ]
    start = [zeros(kind)] * vectors
    if whole:
        shift = ir.Constant(kind, [-128] * lanes)
        start = [
            code.b.mul(code.vload(code.at(begins, v * lanes, I32), lanes, element=I32), shift)
            for v in range(vectors)
        ]
    for r in range(rows):
        for v in range(vectors):
            code.vstore(start[v], targets[r * vectors + v])
    with code.loop(0, count, CHAIN // q) as chain:
        end = code.min(code.add(chain.index, CHAIN // q), count)
        with code.loop(chain.index, end, 1, [zeros(kind)] * (rows * vectors)) as block:
            number = code.b.zext(code.load(code.at(numbers, block.index, _I16), _I16), I64)
            line = code.at(blocks, code.mul(block.index, LINE), I8)
            acc = list(block.carried)
            _block(code, q, rows, a, number, line, acc)
            block.next = acc
        for target, total in zip(targets, block.carried, strict=True):
            held = code.vload(target, lanes, element=kind.element)
            add = code.b.add if whole else code.b.fadd
            code.vstore(add(held, total), target)
    code.b.ret_void()
    return fn


def _block(
    code: Code,
    q: int,
    rows: int,
    a: ir.Value,
    number: ir.Value,
    line: ir.Value,
    acc: list[ir.Value],
) -> None:
    """One block, added to ``acc`` in place."""
    lanes = code.target.lanes_f32
    vectors = STRIP // lanes
    own = native(code.target, q)
    whole = own and q == 4
    held = [code.vload(code.at(line, v * lanes, I32), lanes, element=I32) for v in range(vectors)]
    for part in range(1 if own else q):
        group = number if own else code.add(code.mul(number, q), part)
        left = code.at(a, code.mul(group, LINE), I8)
        rights = held if whole else [_as_f32(code, q, value, part) for value in held]
        for r in range(rows):
            one = code.load(code.at(left, r, I32), I32 if whole else F32)
            many = code.splat(one, lanes)
            for v, right in enumerate(rights):
                i = r * vectors + v
                acc[i] = (_quads if whole else _plain)(code, acc[i], many, right)


def _as_f32(code: Code, q: int, value: ir.Value, part: int) -> ir.Value:
    """Element ``part`` of each group of a vector of i32."""
    kind = value.type
    wide = code.vector(kind.count)

    def all_of(number: int) -> ir.Constant:
        return ir.Constant(kind, [number] * kind.count)

    if q == 1:
        return code.b.bitcast(value, wide)
    if q == 2:
        bits = code.b.and_(value, all_of(-(1 << 16))) if part else code.b.shl(value, all_of(16))
        return code.b.bitcast(bits, wide)
    up = code.b.shl(value, all_of(24 - 8 * part)) if part < 3 else value
    return code.b.sitofp(code.b.ashr(up, all_of(24)), wide)


def _plain(code: Code, total: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    return code.fma(left, right, total)


def _quads(code: Code, total: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    wide, narrow = total.type, ir.VectorType(I8, 4 * STRIP)
    fn = code.declare("llvm.x86.avx512.vpdpbusd.512", ir.FunctionType(wide, [wide, narrow, narrow]))
    return code.b.call(fn, [total, code.b.bitcast(left, narrow), code.b.bitcast(right, narrow)])
