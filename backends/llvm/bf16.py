"""bf16 on AVX-512: rounding, splitting f32 into a sum of bf16, and dot products of pairs.

Rounding is to nearest even. A value that rounds to infinity becomes infinity, NaN stays (a quiet)
NaN, subnormals become zero (the instructions ignore MXCSR).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from tilewright.backends.llvm.builder import F32, Code
from tilewright.backends.target import Target

LANES = 16
"""f32 lanes of the vectors used here; the instructions of this file are those of 512 bits."""

PLANES = {1: 1, 3: 2, 6: 3}
"""Products -> bf16 values that an f32 value is split into."""

ORDER = {
    1: ((0, 0),),
    3: ((1, 0), (0, 0), (0, 1)),
    6: ((2, 0), (1, 0), (1, 1), (0, 1), (0, 0), (0, 2)),
}
"""Products -> which plane of A meets which plane of B. Each step changes one of the two only, so
the other one stays in registers."""


class _BFloat(ir.types.Type):  # type: ignore[misc]
    """LLVM's bfloat, which llvmlite does not have."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_F32S = ir.VectorType(F32, LANES)
_I32S = ir.VectorType(ir.IntType(32), LANES)
_I16S = ir.VectorType(ir.IntType(16), LANES)
_HALF = ir.VectorType(_BFloat(), LANES)
_WHOLE = ir.VectorType(_BFloat(), 2 * LANES)


def has_dots(target: Target) -> bool:
    """Whether ``target`` has the instructions of this file."""
    return "avx512bf16" in target.all_features


def split(code: Code, value: ir.Value, planes: int) -> list[ir.Value]:
    """Vectors of 16 bf16 (as i16) whose sum is the 16 f32 of ``value``, greatest first.

    Each keeps 8 bits: the error is at most 2**-8 of the value for one, 2**-17 for two, and none for
    three (but for what falls below the subnormal limit 2**-126). What rounds to infinity, and
    NaN, goes to the last vector, which meets only the first vector of the other operand: then
    inf x b is infinite and not inf x b + inf x 0.
    """
    parts, rest = [], value
    for i in range(planes):
        part = _round(code, rest)
        parts.append(part)
        if i + 1 < planes:
            rest = code.b.fsub(rest, widen(code, part))
    if planes == 1:
        return parts
    magnitude = code.intrinsic("fabs", widen(code, parts[0]))
    finite = code.b.fcmp_ordered("<", magnitude, code.splat(float("inf"), LANES))
    zero = ir.Constant(_I16S, None)
    out = [code.b.select(finite, part, zero) for part in parts]
    out[-1] = code.b.select(finite, parts[-1], parts[0])
    return out


def dot(code: Code, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """total[i] + a[2i] b[2i] + a[2i+1] b[2i+1]: 16 f32 and twice 32 bf16 (as 16 i32)."""
    kind = ir.FunctionType(_F32S, [_F32S, _WHOLE, _WHOLE])
    fn = code.declare("llvm.x86.avx512bf16.dpbf16ps.512", kind)
    result: ir.Value = code.b.call(
        fn, [total, code.b.bitcast(a, _WHOLE), code.b.bitcast(b, _WHOLE)]
    )
    return result


def pack(code: Code, low: ir.Value, high: ir.Value) -> ir.Value:
    """32 f32 as bf16, ``low`` first: 16 i32."""
    kind = ir.FunctionType(_WHOLE, [_F32S, _F32S])
    fn = code.declare("llvm.x86.avx512bf16.cvtne2ps2bf16.512", kind)
    return code.b.bitcast(code.b.call(fn, [high, low]), _I32S)


def _round(code: Code, value: ir.Value) -> ir.Value:
    kind = ir.FunctionType(_HALF, [_F32S])
    rounded = code.b.call(code.declare("llvm.x86.avx512bf16.cvtneps2bf16.512", kind), [value])
    return code.b.bitcast(rounded, _I16S)


def widen(code: Code, part: ir.Value) -> ir.Value:
    """16 bf16 (as i16) as f32."""
    wide = code.b.shl(code.b.zext(part, _I32S), ir.Constant(_I32S, [16] * LANES))
    return code.b.bitcast(wide, _F32S)
