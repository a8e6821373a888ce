"""AMX: tile registers, their configuration, and the permission to use them.

Eight registers of 16 rows by 64 bytes (palette 1). One multiplication takes A as 16 rows of 16
4-byte groups, B as 16 rows (one a group) of 16 columns of 4 bytes, and adds to C, 16 x 16 of 4
bytes (Intel architecture instruction set extensions reference, chapter 3). With bf16 a group is
two values, with 8-bit integers four.

LLVM's intrinsics with immediate register numbers are used: llvmlite has no x86_amx type, and
nothing has to be allocated. All tile registers are caller-saved, so code that holds values in them
calls nothing in between. Programs need the system's permission first: session.emit_session asks.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.builder import I8, I64, PTR, VOID, Code, Int, i64
from tilewright.backends.target import Target

ROWS = 16
"""Rows of a tile register."""

ROW_BYTES = 64
TILE_BYTES = ROWS * ROW_BYTES
_PALETTE = 1
_REGISTERS = 8
_CONFIGURATION = "tilewright_amx_configuration"


def has_bf16(target: Target) -> bool:
    """Whether code for ``target`` may multiply bf16 tiles."""
    return {"amx-tile", "amx-bf16"} <= set(target.all_features)


def has_int8(target: Target) -> bool:
    """Whether code for ``target`` may multiply tiles of 8-bit integers."""
    return {"amx-tile", "amx-int8"} <= set(target.all_features)


def configure(code: Code) -> None:
    """Make all eight registers 16 x 64 bytes, for this thread until ``release``; clears them."""
    found = code.module.globals.get(_CONFIGURATION)
    if found is None:
        # Byte 0: palette; from 16: bytes a row as u16, from 48: rows as u8, one a register.
        data = bytearray(64)
        data[0] = _PALETTE
        for register in range(_REGISTERS):
            data[16 + 2 * register] = ROW_BYTES
            data[48 + register] = ROWS
        found = ir.GlobalVariable(code.module, ir.ArrayType(I8, 64), _CONFIGURATION)
        found.linkage, found.global_constant, found.align = "internal", True, 64
        found.initializer = ir.Constant(found.value_type, data)
    code.b.call(code.declare("llvm.x86.ldtilecfg", ir.FunctionType(VOID, [PTR])), [found])


def release(code: Code) -> None:
    """Back to the initial state, in which a context switch need not save the registers."""
    code.b.call(code.declare("llvm.x86.tilerelease", ir.FunctionType(VOID, [])), [])


def zero(code: Code, tile: int) -> None:
    """Clear register ``tile``."""
    fn = code.declare("llvm.x86.tilezero", ir.FunctionType(VOID, [I8]))
    code.b.call(fn, [_register(tile)])


def load(code: Code, tile: int, source: ir.Value, stride: Int, *, passing: bool = False) -> None:
    """16 rows of 64 bytes, ``stride`` bytes apart. ``passing``: the lines need not stay in L1."""
    name = "llvm.x86.tileloaddt164" if passing else "llvm.x86.tileloadd64"
    fn = code.declare(name, ir.FunctionType(VOID, [I8, PTR, I64]))
    code.b.call(fn, [_register(tile), source, i64(stride)])


def store(code: Code, tile: int, target: ir.Value, stride: Int) -> None:
    """16 rows of 64 bytes, ``stride`` bytes apart."""
    fn = code.declare("llvm.x86.tilestored64", ir.FunctionType(VOID, [I8, PTR, I64]))
    code.b.call(fn, [_register(tile), target, i64(stride)])


def multiply_bf16(code: Code, c: int, a: int, b: int) -> None:
    """C[16, 16] f32 += A[16, 32] B[32, 16], bf16, B as [16 pairs][16][2].

    Even and odd products are summed in two chains of 16, then added to C. Rounds to nearest even,
    subnormal operands count as zero, subnormal results become zero, whatever MXCSR says.
    """
    fn = code.declare("llvm.x86.tdpbf16ps", ir.FunctionType(VOID, [I8, I8, I8]))
    code.b.call(fn, [_register(c), _register(a), _register(b)])


def multiply_int8(code: Code, c: int, a: int, b: int) -> None:
    """C[16, 16] i32 += A[16, 64] u8 x B[64, 16] s8, B as [16 groups of 4][16][4]; sums wrap."""
    fn = code.declare("llvm.x86.tdpbusd", ir.FunctionType(VOID, [I8, I8, I8]))
    code.b.call(fn, [_register(c), _register(a), _register(b)])


def multiply_signed_int8(code: Code, c: int, a: int, b: int) -> None:
    """As `multiply_int8`, A s8 too."""
    fn = code.declare("llvm.x86.tdpbssd", ir.FunctionType(VOID, [I8, I8, I8]))
    code.b.call(fn, [_register(c), _register(a), _register(b)])


def _register(tile: int) -> ir.Constant:
    if not 0 <= tile < _REGISTERS:
        raise ValueError(f"tile register {tile}: expected 0 to {_REGISTERS - 1}")
    return ir.Constant(I8, tile)
