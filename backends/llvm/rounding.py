"""f32 to bf16 and back on every instruction set and for any number of lanes."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import bf16, formats
from tilewright.backends.llvm.builder import F32, I32, Code

_I16 = ir.IntType(16)


def narrow(code: Code, value: ir.Value) -> ir.Value:
    """A vector of f32 rounded to bf16 (i16), ties to even; NaN stays a NaN."""
    lanes = value.type.count
    if bf16.has_dots(code.target) and lanes == bf16.LANES:
        (part,) = bf16.split(code, value, 1)
        return part
    kind = ir.VectorType(I32, lanes)
    sixteen = ir.Constant(kind, [16] * lanes)
    bits = code.b.bitcast(value, kind)
    high = code.b.lshr(bits, sixteen)
    odd = code.b.and_(high, ir.Constant(kind, [1] * lanes))
    sum_ = code.b.add(bits, code.b.add(odd, ir.Constant(kind, [0x7FFF] * lanes)))
    quiet = code.b.or_(high, ir.Constant(kind, [0x40] * lanes))
    nan = code.b.fcmp_unordered("uno", value, value)
    rounded = code.b.select(nan, quiet, code.b.lshr(sum_, sixteen))
    return code.b.trunc(rounded, ir.VectorType(_I16, lanes))


def bits_of(
    code: Code, place: ir.Value, lanes: int, mask: ir.Value | None = None, name: str = "f32"
) -> ir.Value:
    """The bits (i32) of ``lanes`` f32, which memory holds as such or as bf16; masked-off lanes
    are zero."""
    if name == formats.BF16_FORMAT:
        taken = code.vload(place, lanes, mask, _I16)
        wide = code.b.zext(taken, ir.VectorType(I32, lanes))
        return code.b.shl(wide, ir.Constant(wide.type, [16] * lanes))
    taken = code.vload(place, lanes, mask, F32)
    return code.b.bitcast(taken, ir.VectorType(I32, lanes))


def store(code: Code, value: ir.Value, place: ir.Value, mask: ir.Value | None, name: str) -> None:
    """A vector of f32 to memory as f32 or as bf16; masked-off lanes are not touched."""
    code.vstore(narrow(code, value) if name == formats.BF16_FORMAT else value, place, mask)
