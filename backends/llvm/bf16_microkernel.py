"""Micro-kernels of bf16 products: a block of C by AMX tiles, or by dot products of pairs.

One internal function per block shape; operands as in bf16_gemm.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from tilewright.backends.llvm import amx, bf16
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS, TILE_BYTES
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.builder import I8, I32, I64, PTR, VOID, Code, Int, zeros
from tilewright.backends.llvm.microkernel import CHAIN, PANEL

PLANE_BYTES = STEP * PANEL * 2
"""One plane of one step of a packed panel."""

_LANES = bf16.LANES
_PAIR_BYTES = PANEL * 4
_TILES = ir.FunctionType(VOID, [PTR, PTR, I64, PTR, *(I64,) * 4, PTR, I64])
_DOTS = ir.FunctionType(VOID, [PTR, PTR, I64, PTR, I64, I64])


def internal(code: Code, kind: ir.FunctionType, name: str) -> tuple[ir.Function, Code]:
    """A new function of this module that is not inlined, and code at its start."""
    fn = ir.Function(code.module, kind, name)
    fn.linkage = "internal"
    fn.attributes.add("noinline")
    fn.attributes.add("nounwind")
    return fn, Code(ir.IRBuilder(fn.append_basic_block("entry")), code.target)


def ask(code: Code, line: ir.Value, *, write: bool = False) -> None:
    """Get the cache line at ``line``, any address: into L2 to be read, into L1 to be written.

    Panels that are yet to come would push the present one out of L1: 5 to 30 % slower.
    """
    fn = code.declare("llvm.prefetch.p0", ir.FunctionType(VOID, [PTR, I32, I32, I32]))
    code.b.call(fn, [line, *(ir.Constant(I32, x) for x in (int(write), 3 if write else 2, 1))])


def tile_kernel(code: Code, tiles: int, products: int) -> ir.Function:
    """``void (a, b, steps, c, bytes from row to row of c; bytes of a from row to row, step to step,
    tile to tile; ahead, lines)``: ``tiles`` x 2 tiles of C; every step asks for ``lines`` further
    cache lines from ``ahead`` on."""
    name = f"tilewright_bf16_tiles_{tiles * ROWS}x{PANEL}x{products}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _TILES, name)
    a, b, count, c, ldc, row_bytes, step_bytes, below, ahead, lines = fn.args
    planes = bf16.PLANES[products]
    for register in range(2 * tiles):
        amx.zero(code, register)
    with code.loop(0, count, 1, [ahead]) as step:
        with code.loop(0, lines, 1, step.carried) as line:
            ask(code, line.carried[0])
            line.next = [code.at(line.carried[0], 64, I8)]
        step.next = line.carried
        at_a = code.at(a, code.mul(step.index, step_bytes), I8)
        at_b = code.at(b, code.mul(step.index, planes * PLANE_BYTES), I8)
        held: tuple[int, int] = (-1, -1)
        for pair in bf16.ORDER[products]:
            load_and_multiply(code, tiles, pair, held, at_a, row_bytes, below, at_b)
            held = pair
    for i in range(tiles):
        row = code.at(c, code.mul(ldc, i * ROWS), I8)
        for j in range(2):
            amx.store(code, 2 * i + j, code.at(row, j * ROW_BYTES, I8), ldc)
    code.b.ret_void()
    return fn


def load_and_multiply(
    code: Code,
    tiles: int,
    pair: tuple[int, int],
    held: tuple[int, int],
    a: ir.Value,
    row_bytes: Int,
    below: Int,
    b: ir.Value,
) -> None:
    """Add one product of a step to registers 0 to 3: plane ``pair[0]`` of A by ``pair[1]`` of B.

    ``held``: the planes that registers 4 to 7 hold. All loads come first: 4 to 9 % faster than each
    as late as possible. A passes by the panel, which shall stay in L1: 22 % faster at K = 512.
    """
    for j in range(2):
        if j < tiles and pair[0] != held[0]:
            tile = code.at(code.at(a, pair[0] * TILE_BYTES, I8), code.mul(below, j), I8)
            amx.load(code, 4 + j, tile, row_bytes, passing=True)
        if pair[1] != held[1]:
            tile = code.at(b, pair[1] * PLANE_BYTES + j * ROW_BYTES, I8)
            amx.load(code, 6 + j, tile, _PAIR_BYTES)
    for i in range(tiles):
        for j in range(2):
            amx.multiply_bf16(code, 2 * i + j, 4 + i, 6 + j)


def packed(count: int, planes: int) -> tuple[int, int, int]:
    """Bytes from row to row, step to step and tile to tile of a block of ``count`` steps."""
    return ROW_BYTES, planes * TILE_BYTES, count * planes * TILE_BYTES


def dot_kernel(code: Code, rows: int, panels: int, products: int) -> ir.Function:
    """``void (a, b, steps, c, ldc, elements from panel to panel of c)``."""
    name = f"tilewright_bf16_dots_{rows}x{panels * PANEL}x{products}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _DOTS, name)
    a, b, count, c, ldc, between = fn.args
    planes = bf16.PLANES[products]
    vectors = panels * PANEL // _LANES
    panel_bytes = code.mul(count, planes * PLANE_BYTES)
    zero = zeros(code.vector(_LANES))

    def target(i: int) -> ir.Value:
        row, v = divmod(i, vectors)
        panel, half = divmod(v, PANEL // _LANES)
        line = code.at(code.at(c, code.mul(between, panel)), code.mul(ldc, row))
        return code.at(line, half * _LANES)

    for i in range(rows * vectors):
        code.vstore(zero, target(i))
    # Sums of more than CHAIN products are chains of that length added up, as in the f32 kernels.
    with code.loop(0, count, CHAIN // STEP) as chain:
        stop = code.min(code.add(chain.index, CHAIN // STEP), count)
        with code.loop(chain.index, stop, 1, [zero] * (rows * vectors)) as step:
            at_a = code.at(a, code.mul(step.index, planes * TILE_BYTES), I8)
            at_b = code.at(b, code.mul(step.index, planes * PLANE_BYTES), I8)
            with code.loop(0, STEP // 2, 1, step.carried) as pair:
                pair.next = _pair(
                    code,
                    pair.carried,
                    products,
                    rows,
                    vectors,
                    code.at(at_a, code.mul(pair.index, 4), I8),
                    code.at(at_b, code.mul(pair.index, _PAIR_BYTES), I8),
                    panel_bytes,
                )
            step.next = pair.carried
        for i, total in enumerate(step.carried):
            code.vstore(code.b.fadd(code.vload(target(i), _LANES), total), target(i))
    code.b.ret_void()
    return fn


def _pair(
    code: Code,
    sums: Sequence[ir.Value],
    products: int,
    rows: int,
    vectors: int,
    a: ir.Value,
    b: ir.Value,
    panel_bytes: Int,
) -> list[ir.Value]:
    """Two k: the sums after them."""
    out = list(sums)
    for plane_a, plane_b in bf16.ORDER[products]:
        base = code.at(a, plane_a * TILE_BYTES, I8)
        lefts = [
            code.splat(code.load(code.at(base, r * ROW_BYTES, I8), I32), _LANES)
            for r in range(rows)
        ]
        for v in range(vectors):
            panel, half = divmod(v, PANEL // _LANES)
            line = code.at(b, code.mul(panel_bytes, panel), I8)
            at = code.at(line, plane_b * PLANE_BYTES + half * _LANES * 4, I8)
            taken = code.vload(at, _LANES, element=I32)
            for r in range(rows):
                i = r * vectors + v
                out[i] = bf16.dot(code, out[i], lefts[r], taken)
        # Keeps LLVM from holding operands of several products at once, which would spill.
        code.b.fence("seq_cst", "singlethread")
    return out
