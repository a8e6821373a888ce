"""Dot products of 8-bit integers, exact in i32, on every instruction set.

B is s8, four k of a column in one 32-bit lane. A is held as what the target multiplies with it:

    u8   vpdpbusd of AVX512-VNNI and AVX-VNNI, tdpbusd of AMX (u8 x s8)
    s8   sdot of Arm
    s16  vpmaddwd from SSE2 on. vpmaddubsw, u8 x s8 in 16 bits, would saturate: 255 x 127 x 2.

The other signedness of A is brought to that one by adding or subtracting 128; the product then
takes that shift back with the column sums of B. All sums wrap modulo 2**32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.builder import I8, I32, Code, Int
from tilewright.backends.target import Target

STEP = 64
"""k of one step of the packed operands: a row of an AMX tile."""

QUADS = STEP // 4

_I16 = ir.IntType(16)
_FLIP = -128


@dataclass(frozen=True)
class Dots:
    """The instructions of one target. ``lanes``: columns of a vector; ``held``: as in the module's
    docstring; ``wide``: 512-bit registers, of which there are 32."""

    held: str
    lanes: int
    registers: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of A in one step: s16 keeps k 0 and 2 of every four, then 1 and 3."""
        return 2 * STEP if self.held == "s16" else STEP

    def shift(self, signed: bool) -> int:
        """What is added to the elements of A (``signed``: s8, else u8) to hold them."""
        if self.held == "u8":
            return 128 if signed else 0
        return -128 if self.held == "s8" and not signed else 0


def of(target: Target) -> Dots | None:
    """What ``target`` has, None when it has nothing of the list."""
    features = set(target.all_features)
    lanes = target.lanes_f32
    if target.triple.startswith("aarch64"):
        return Dots("s8", lanes, target.vector_regs) if "dotprod" in features else None
    if not target.triple.startswith("x86_64"):
        return None
    vnni = "avx512vnni" in features or ("avxvnni" in features and lanes == 8)
    return Dots("u8" if vnni else "s16", lanes, target.vector_regs)


def dots(target: Target) -> Dots:
    """``of(target)``; ValueError when there is none."""
    found = of(target)
    if found is None:
        raise ValueError(f"target '{target.name}' has no products of 8-bit integers")
    return found


def load_b(code: Code, d: Dots, at: ir.Value) -> list[ir.Value]:
    """Four k of ``lanes`` columns, as ``accumulate`` takes them."""
    return split(code, d, code.vload(at, d.lanes, element=I32), True)


def load_a(code: Code, d: Dots, row: ir.Value, quad: Int) -> list[ir.Value]:
    """Four k of one row in every lane; ``row``: its bytes of this step."""
    offsets = (0, STEP) if d.held == "s16" else (0,)
    return [
        code.splat(code.load(code.at(row, code.add(code.mul(quad, 4), offset), I8), I32), d.lanes)
        for offset in offsets
    ]


def split(code: Code, d: Dots, quads: ir.Value, signed: bool) -> list[ir.Value]:
    """Lanes of four bytes as ``accumulate`` takes them: for s16, k 0 and 2, then 1 and 3."""
    if d.held != "s16":
        return [quads]
    kind = ir.VectorType(_I16, 2 * quads.type.count)
    pairs = code.b.bitcast(quads, kind)
    eight = ir.Constant(kind, [8] * kind.count)
    right = code.b.ashr if signed else code.b.lshr
    return [right(code.b.shl(pairs, eight), eight), right(pairs, eight)]


def accumulate(
    code: Code, d: Dots, total: ir.Value, a: Sequence[ir.Value], b: Sequence[ir.Value]
) -> ir.Value:
    """total[i] + the four products of lane i."""
    for left, right in zip(a, b, strict=True):
        total = _multiply(code, d, total, left, right)
    return total


def flip(code: Code, values: ir.Value) -> ir.Value:
    """u8 - 128 as s8, and s8 + 128 as u8: one exclusive or."""
    kind = values.type
    return code.b.xor(values, ir.Constant(kind, [_FLIP] * kind.count))


def _multiply(code: Code, d: Dots, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    lanes = d.lanes
    wide = ir.VectorType(I32, lanes)
    narrow = ir.VectorType(I8, 4 * lanes)
    if d.held == "s8":
        name = f"llvm.aarch64.neon.sdot.v{lanes}i32.v{4 * lanes}i8"
        fn = code.declare(name, ir.FunctionType(wide, [wide, narrow, narrow]))
        return code.b.call(fn, [total, code.b.bitcast(b, narrow), code.b.bitcast(a, narrow)])
    if d.held == "u8":
        fn = code.declare(
            f"llvm.x86.avx512.vpdpbusd.{32 * lanes}", ir.FunctionType(wide, [wide, narrow, narrow])
        )
        return code.b.call(fn, [total, code.b.bitcast(a, narrow), code.b.bitcast(b, narrow)])
    pairs = ir.VectorType(_I16, 2 * lanes)
    name = {4: "sse2.pmadd.wd", 8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}[lanes]
    fn = code.declare(f"llvm.x86.{name}", ir.FunctionType(wide, [pairs, pairs]))
    made = code.b.call(fn, [code.b.bitcast(a, pairs), code.b.bitcast(b, pairs)])
    return code.b.add(total, made)
