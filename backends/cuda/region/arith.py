"""`Arith` as CUDA C++, one element a thread.

The operators and polynomials of `llvm/emit` and `llvm/vecmath*` are printed through it, all but
those of `numerics`, so that a region gives the bits that it gives on a CPU with FMA. An operation
rounds once, whatever the options are: sums and products are intrinsics that are never contracted.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

from tilewright.backends.cuda.region.code import TYPES, UNSIGNED, Code

_COMPARE = ("<", "<=", ">", ">=", "==", "!=")
_BITS_OF = {"f16": "i16", "f32": "i32", "f64": "i64"}
_FLOAT_OF = {bits: name for name, bits in _BITS_OF.items()}


@dataclass(frozen=True)
class CudaValue:
    """Text without side effects, a name or a literal, and its register type."""

    text: str
    dtype: str


def literal(dtype: str, value: float | int) -> str:
    """``value`` rounded to ``dtype``; integers wrap."""
    if dtype == "i1":
        return "true" if value else "false"
    if dtype in ("f32", "f64"):
        return _float_literal(dtype, float(value))
    bits = int(dtype[1:])
    wrapped = (int(value) + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    suffix = "LL" if dtype == "i64" else ""
    if wrapped == -(1 << (bits - 1)):
        text = f"(-{-wrapped - 1}{suffix} - 1)"
    else:
        text = f"{wrapped}{suffix}" if wrapped >= 0 else f"({wrapped}{suffix})"
    return text if dtype in ("i32", "i64") else f"({TYPES[dtype]}){text}"


def _float_literal(dtype: str, value: float) -> str:
    if dtype == "f32":
        try:
            value = float(struct.unpack("f", struct.pack("f", value))[0])
        except OverflowError:
            value = math.copysign(math.inf, value)
    if not math.isfinite(value):
        if dtype == "f32":
            bits = struct.unpack("I", struct.pack("f", value))[0]
            return f"__int_as_float(0x{bits:08x})"
        bits = struct.unpack("Q", struct.pack("d", value))[0]
        return f"__longlong_as_double(0x{bits:016x}LL)"
    text = value.hex() + ("f" if dtype == "f32" else "")
    return f"({text})" if text.startswith("-") else text


class CudaArith:
    """Implements `Arith`, and the part of `Emit` that element operators use, in ``code``."""

    fused = True
    half = True

    def __init__(self, code: Code) -> None:
        self.code = code

    def new(self, dtype: str, text: str) -> CudaValue:
        return CudaValue(self.code.let(TYPES[dtype], text, "v"), dtype)

    def dtype(self, x: CudaValue) -> str:
        return x.dtype

    def lanes(self, x: CudaValue) -> int:
        return 0

    def const(self, dtype: str, value: float | int, lanes: int = 0) -> CudaValue:
        return CudaValue(literal(dtype, value), dtype)

    def _float(self, single: str, double: str, *x: CudaValue) -> CudaValue:
        name = single if x[0].dtype == "f32" else double
        return self.new(x[0].dtype, f"{name}({', '.join(v.text for v in x)})")

    def add(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self._float("__fadd_rn", "__dadd_rn", x, y)

    def sub(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self._float("__fsub_rn", "__dsub_rn", x, y)

    def mul(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self._float("__fmul_rn", "__dmul_rn", x, y)

    def div(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self._float("__fdiv_rn", "__ddiv_rn", x, y)

    def fma(self, x: CudaValue, y: CudaValue, z: CudaValue) -> CudaValue:
        return self._float("__fmaf_rn", "__fma_rn", x, y, z)

    def neg(self, x: CudaValue) -> CudaValue:
        return self.new(x.dtype, f"-{x.text}")

    def abs(self, x: CudaValue) -> CudaValue:
        return self._float("fabsf", "fabs", x)

    def sqrt(self, x: CudaValue) -> CudaValue:
        return self._float("__fsqrt_rn", "__dsqrt_rn", x)

    def floor(self, x: CudaValue) -> CudaValue:
        return self._float("floorf", "floor", x)

    def ceil(self, x: CudaValue) -> CudaValue:
        return self._float("ceilf", "ceil", x)

    def trunc(self, x: CudaValue) -> CudaValue:
        return self._float("truncf", "trunc", x)

    def rint(self, x: CudaValue) -> CudaValue:
        return self._float("rintf", "rint", x)

    def fcmp(self, op: str, x: CudaValue, y: CudaValue) -> CudaValue:
        assert op in _COMPARE
        return self.new("i1", f"{x.text} {op} {y.text}")

    def select(self, mask: CudaValue, x: CudaValue, y: CudaValue) -> CudaValue:
        return self.new(x.dtype, f"{mask.text} ? {x.text} : {y.text}")

    def _wrapping(self, op: str, x: CudaValue, y: CudaValue) -> CudaValue:
        u = UNSIGNED[x.dtype]
        if x.dtype == "i16":
            u = "unsigned"  # a product of two unsigned shorts would be one of ints
        return self.new(x.dtype, f"({TYPES[x.dtype]})(({u}){x.text} {op} ({u}){y.text})")

    def iadd(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self._wrapping("+", x, y)

    def isub(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self._wrapping("-", x, y)

    def imul(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self._wrapping("*", x, y)

    def and_(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self.new(x.dtype, f"({TYPES[x.dtype]})({x.text} & {y.text})")

    def or_(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self.new(x.dtype, f"({TYPES[x.dtype]})({x.text} | {y.text})")

    def xor(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self.new(x.dtype, f"({TYPES[x.dtype]})({x.text} ^ {y.text})")

    def shl(self, x: CudaValue, y: CudaValue) -> CudaValue:
        type_, u = TYPES[x.dtype], UNSIGNED[x.dtype]
        return self.new(x.dtype, f"({type_})(({u}){x.text} << (int){y.text})")

    def lshr(self, x: CudaValue, y: CudaValue) -> CudaValue:
        type_, u = TYPES[x.dtype], UNSIGNED[x.dtype]
        return self.new(x.dtype, f"({type_})(({u}){x.text} >> (int){y.text})")

    def ashr(self, x: CudaValue, y: CudaValue) -> CudaValue:
        return self.new(x.dtype, f"({TYPES[x.dtype]})({x.text} >> (int){y.text})")

    def icmp(self, op: str, x: CudaValue, y: CudaValue, signed: bool = True) -> CudaValue:
        assert op in _COMPARE
        u = "" if signed else f"({UNSIGNED[x.dtype]})"
        return self.new("i1", f"{u}{x.text} {op} {u}{y.text}")

    def idiv(self, x: CudaValue, y: CudaValue, signed: bool = True) -> CudaValue:
        u = "" if signed else f"({UNSIGNED[x.dtype]})"
        return self.new(x.dtype, f"({TYPES[x.dtype]})({u}{x.text} / {u}{y.text})")

    def bits(self, x: CudaValue) -> CudaValue:
        if x.dtype == "f16":
            return CudaValue(f"(short){x.text}", "i16")
        name = "__float_as_int" if x.dtype == "f32" else "__double_as_longlong"
        return self.new(_BITS_OF[x.dtype], f"{name}({x.text})")

    def from_bits(self, x: CudaValue) -> CudaValue:
        if x.dtype == "i16":
            return CudaValue(f"(unsigned short){x.text}", "f16")
        name = "__int_as_float" if x.dtype == "i32" else "__longlong_as_double"
        return self.new(_FLOAT_OF[x.dtype], f"{name}({x.text})")

    def fpcast(self, x: CudaValue, dtype: str) -> CudaValue:
        if x.dtype == dtype:
            return x
        if x.dtype == "f16":
            return self.fpcast(self.new("f32", f"tw_from_f16({x.text})"), dtype)
        if dtype == "f16":
            return self.new("f16", f"tw_to_f16({x.text})")
        return self.new(dtype, f"({TYPES[dtype]}){x.text}")

    def sext(self, x: CudaValue, dtype: str) -> CudaValue:
        return self.new(dtype, f"({TYPES[dtype]}){x.text}")

    def zext(self, x: CudaValue, dtype: str) -> CudaValue:
        return self.new(dtype, f"({TYPES[dtype]})({UNSIGNED[x.dtype]}){x.text}")

    def itrunc(self, x: CudaValue, dtype: str) -> CudaValue:
        return self.new(dtype, f"({TYPES[dtype]}){x.text}")

    def itof(self, x: CudaValue, dtype: str, signed: bool = True) -> CudaValue:
        u = "" if signed else f"({UNSIGNED[x.dtype]})"
        return self.new(dtype, f"({TYPES[dtype]}){u}{x.text}")

    def ftoi(self, x: CudaValue, dtype: str, signed: bool = True) -> CudaValue:
        kind = TYPES[dtype] if signed else UNSIGNED[dtype]
        return self.new(dtype, f"({TYPES[dtype]})({kind}){x.text}")

    def if_any(self, mask: CudaValue, then: Callable[[], CudaValue], other: CudaValue) -> CudaValue:
        name = self.code.name("v")
        self.code.line(f"{TYPES[other.dtype]} {name} = {other.text};")
        with self.code.block(f"if ({mask.text})"):
            self.code.line(f"{name} = {then().text};")
        return CudaValue(name, other.dtype)
