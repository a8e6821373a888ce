"""Micro-kernel: tiles of C from tiles of A that lie where the taps of a filter point to."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import amx, bf16
from tilewright.backends.llvm.amx import ROW_BYTES, ROWS
from tilewright.backends.llvm.bf16_microkernel import PLANE_BYTES, internal
from tilewright.backends.llvm.builder import I8, I64, PTR, VOID, Code
from tilewright.backends.llvm.microkernel import PANEL

_PAIR_BYTES = PANEL * 4
_TAPS = ir.FunctionType(VOID, [PTR, PTR, I64, I64, I64, I64, PTR, PTR, PTR, I64])


def tap_kernel(code: Code, tiles: int, products: int) -> ir.Function:
    """``void (a, offsets, taps, steps of a tap, bytes from row to row of a, from part to part of
    a, b, c, ahead, lines)``: ``tiles`` x 2 tiles of C, rows of 32 f32.

    Every step asks for ``lines`` further cache lines from ``ahead`` on.
    """
    name = f"tilewright_bf16_taps_{tiles * ROWS}x{PANEL}x{products}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _TAPS, name)
    a, offsets, taps, steps, stride, part, b, c, ahead, lines = fn.args
    planes = bf16.PLANES[products]
    below = code.mul(stride, ROWS)
    for register in range(2 * tiles):
        amx.zero(code, register)
    with code.loop(0, taps, 1, [b, ahead]) as tap:
        here = code.at(a, code.load(code.at(offsets, tap.index, I64), I64), I8)
        with code.loop(0, steps, 1, [here, *tap.carried]) as step:
            at_a, at_b, _ = step.carried
            with code.loop(0, lines, 1, step.carried[2:]) as line:
                code.prefetch(line.carried[0])
                line.next = [code.at(line.carried[0], 64, I8)]
            held: tuple[int, int] = (-1, -1)
            for pair in bf16.ORDER[products]:
                plane_a = code.at(at_a, code.mul(part, pair[0]), I8)
                plane_b = code.at(at_b, pair[1] * PLANE_BYTES, I8)
                for j in range(2):
                    if pair[1] != held[1]:
                        amx.load(code, 6 + j, code.at(plane_b, j * ROW_BYTES, I8), _PAIR_BYTES)
                    for i in range(tiles):
                        if j == 0 and pair[0] != held[0]:
                            amx.load(code, 4 + i, code.at(plane_a, code.mul(below, i), I8), stride)
                        amx.multiply_bf16(code, 2 * i + j, 4 + i, 6 + j)
                held = pair
            step.next = [
                code.at(at_a, ROW_BYTES, I8),
                code.at(at_b, planes * PLANE_BYTES, I8),
                line.carried[0],
            ]
        tap.next = step.carried[1:]
    for i in range(tiles):
        for j in range(2):
            target = code.at(c, i * ROWS * PANEL * 4 + j * ROW_BYTES, I8)
            amx.store(code, 2 * i + j, target, PANEL * 4)
    code.b.ret_void()
    return fn
