"""2^x for the weights of a softmax: x <= 0, -inf or NaN, where a sum holds a 1.

2^x = 2^floor(x) p(x - floor(x)) with p a minimax polynomial on [0, 1] and p(0) = 1. With logits in
units of log2 e a softmax needs neither ln 2 in two parts nor a multiplication. An error of half an
ulp of x is an error of 2^-24 |x| of 2^x; x 2^x is at most 0.54 of the sum, so the sum's relative
error stays below an ulp.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.builder import I32, Code
from tilewright.backends.llvm.vecmath_coefficients import EXP2_UP_COARSE_F32, EXP2_UP_F32

LOG2E = 1.4426950408889634
_MAGIC = 12582912.0
"""1.5 * 2**23: added to a small integer it leaves the integer in the low bits."""


def exp2_weight(code: Code, x: ir.Value, *, coarse: bool = False) -> ir.Value:
    """2^x of a vector, x <= 0, -inf or NaN. Relative error 2 ulp, ``coarse`` 9e-5 (for results that
    are rounded to 8 bits); below 2^-126 zero, or subnormal where the instruction makes it so."""
    lanes = x.type.count
    one = code.splat(1.0, lanes)
    if lanes == 16 and "avx512dq" in code.target.all_features:
        fraction = _masked(code, "reduce", x, None, _FLOOR)
        return _masked(code, "scalef", _polynomial(code, fraction, one, coarse), x, None)
    b = code.b
    # Below -127 the bits of the power are those of 0.
    low = code.splat(-127.0, lanes)
    x = b.select(b.fcmp_ordered("<", x, low), low, x)
    whole = code.intrinsic("floor", x)
    value = _polynomial(code, b.fsub(x, whole), one, coarse)
    ints = ir.VectorType(I32, lanes)
    bits = b.bitcast(b.fadd(whole, code.splat(_MAGIC + 127.0, lanes)), ints)
    power = b.bitcast(b.shl(bits, ir.Constant(ints, [23] * lanes)), x.type)
    return b.fmul(value, power)


_FLOOR = 1
"""vreduceps: keep no fraction bits, round down."""


def _polynomial(code: Code, r: ir.Value, one: ir.Value, coarse: bool) -> ir.Value:
    lanes = r.type.count
    terms = EXP2_UP_COARSE_F32 if coarse else EXP2_UP_F32
    total = code.splat(terms[-1], lanes)
    for term in terms[-2::-1]:
        total = code.fma(total, r, code.splat(term, lanes))
    return code.fma(total, r, one)


def _masked(
    code: Code, name: str, x: ir.Value, y: ir.Value | None, immediate: int | None
) -> ir.Value:
    """``vreduceps x, immediate`` or ``vscalefps x, y`` on all lanes, rounding as MXCSR says."""
    i16 = ir.IntType(16)
    second = ir.Constant(I32, immediate) if y is None else y
    args = [x, second, x, ir.Constant(i16, -1), ir.Constant(I32, 4)]
    kind = ir.FunctionType(x.type, [a.type for a in args])
    fn = code.declare(f"llvm.x86.avx512.mask.{name}.ps.512", kind)
    result: ir.Value = code.b.call(fn, args)
    return result
