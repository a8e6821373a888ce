"""How element types are stored, and computed with, in scalar kernel code.

f64 is computed as double; f32 and every narrower float as float, rounded to its type when stored;
integers in their own width (wrapping), those below 8 bits in i8; bool as i1.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.emit.llvm_arith import LlvmArith
from tilewright.compiler.ir.types import DType

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()


@dataclass(frozen=True)
class Format:
    """A narrow float: mantissa bits, exponent bias, and its special codes (sign bit left out).

    `over` is the code of a value above the largest, `nan` the code of NaN. `signless`: the type
    has one zero and one NaN, whose code is that of minus zero.
    """

    mantissa: int
    bias: int
    width: int
    largest: int
    over: int
    nan: int
    signless: bool = False


FORMATS = {
    DType.F16: Format(10, 15, 16, 0x7BFF, 0x7C00, 0x7E00),
    DType.BF16: Format(7, 127, 16, 0x7F7F, 0x7F80, 0x7FC0),
    DType.F8E4M3FN: Format(3, 7, 8, 0x7E, 0x7F, 0x7F),
    DType.F8E4M3FNUZ: Format(3, 8, 8, 0x7F, 0x80, 0x80, True),
    DType.F8E5M2: Format(2, 15, 8, 0x7B, 0x7C, 0x7E),
    DType.F8E5M2FNUZ: Format(2, 16, 8, 0x7F, 0x80, 0x80, True),
    DType.F4E2M1: Format(1, 1, 4, 0x7, 0x7, 0x0),
}


def _storage(dtype: DType) -> ir.Type:
    if dtype in (DType.F64, DType.F32):
        return F64 if dtype == DType.F64 else F32
    return ir.IntType(max(8, dtype.bits))


STORAGE: dict[DType, ir.Type] = {dtype: _storage(dtype) for dtype in DType}
"""The LLVM type of one stored element."""


def storage_bytes(dtype: DType) -> int:
    """Bytes of one stored element."""
    return max(8, dtype.bits) // 8


def compute_type(dtype: DType) -> ir.Type:
    """The LLVM type that elements of `dtype` are computed in."""
    if dtype == DType.BOOL:
        return I1
    if dtype.is_float:
        return F64 if dtype == DType.F64 else F32
    return STORAGE[dtype]


def decode(m: LlvmArith, dtype: DType, raw: ir.Value, half: bool) -> ir.Value:
    """Stored bits as a computed value, exactly. `half`: the target converts f16 itself."""
    b = m.b
    if dtype == DType.BOOL:
        return b.icmp_unsigned("!=", raw, ir.Constant(I8, 0))
    if dtype.is_int or dtype in (DType.F64, DType.F32):
        return narrowed(m, raw, dtype)  # the unused bits of a stored byte mean nothing
    if dtype == DType.F16 and half:
        return b.fpext(b.bitcast(raw, F16), F32)
    code = b.zext(raw, I32)
    if dtype == DType.BF16:
        return b.bitcast(b.shl(code, ir.Constant(I32, 16)), F32)
    if dtype == DType.F8E8M0:
        return _decode_power(m, code)
    f = FORMATS[dtype]
    magnitude = m.and_(code, m.const("i32", (1 << (f.width - 1)) - 1))
    shifted = b.bitcast(m.shl(magnitude, m.const("i32", 23 - f.mantissa)), F32)
    # Scaling by a power of two moves the exponent and normalizes subnormals, both exactly.
    value = m.bits(m.mul(shifted, m.const("f32", 2.0 ** (127 - f.bias))))
    if f.signless:
        special = m.icmp("==", code, m.const("i32", f.nan))
        value = m.select(special, m.const("i32", 0x7FC00000), value)
    elif f.over != f.largest:  # infinity and NaN keep their mantissa
        special = m.icmp(">=", magnitude, m.const("i32", f.over))
        quiet = f.over == f.nan
        kept = m.const("i32", 0x7FC00000) if quiet else m.or_(m.bits(shifted), _inf(m))
        value = m.select(special, kept, value)
    sign = m.shl(m.lshr(code, m.const("i32", f.width - 1)), m.const("i32", 31))
    return m.from_bits(m.or_(value, sign))


def _inf(m: LlvmArith) -> ir.Value:
    return m.const("i32", 0x7F800000)


def _decode_power(m: LlvmArith, code: ir.Value) -> ir.Value:
    """float8_e8m0: 2 ** (code - 127), NaN for 255."""
    bits = m.shl(code, m.const("i32", 23))
    bits = m.select(m.icmp("==", code, m.const("i32", 0)), m.const("i32", 0x00400000), bits)
    nan = m.icmp("==", code, m.const("i32", 255))
    return m.from_bits(m.select(nan, m.const("i32", 0x7FC00000), bits))


def encode(
    m: LlvmArith, dtype: DType, value: ir.Value, *, half: bool, saturate: bool = False
) -> ir.Value:
    """A computed value (double is allowed for every narrow float) as stored bits.

    Rounds to nearest even; `saturate`: float8 beyond its range becomes its largest value.
    """
    b = m.b
    if dtype == DType.BOOL:
        return b.zext(value, I8)
    if dtype.is_int or dtype in (DType.F64, DType.F32):
        return value
    if m.dtype(value) == "f64":
        value = odd_f32(m, value)
    if dtype == DType.F16 and half:
        return b.bitcast(b.fptrunc(value, F16), I16)
    if dtype == DType.F8E8M0:
        return _encode_power(m, value, saturate)
    f = FORMATS[dtype]
    bits = m.bits(value)
    magnitude = m.and_(bits, m.const("i32", 0x7FFFFFFF))
    shift = 23 - f.mantissa
    odd = m.and_(m.lshr(magnitude, m.const("i32", shift)), m.const("i32", 1))
    rounded = m.iadd(m.iadd(magnitude, m.const("i32", (1 << (shift - 1)) - 1)), odd)
    code = m.lshr(rounded, m.const("i32", shift))
    if f.bias != 127:
        code = m.isub(code, m.const("i32", (127 - f.bias) << f.mantissa))
        # Below the least normal number: adding this power of two rounds at the right bit.
        magic = 2.0 ** (1 - f.bias - f.mantissa + 23)
        total = m.bits(m.add(m.from_bits(magnitude), m.const("f32", magic)))
        small = m.isub(total, m.bits(m.const("f32", magic)))
        tiny = m.icmp("<", magnitude, m.bits(m.const("f32", 2.0 ** (1 - f.bias))))
        code = m.select(tiny, small, code)
    top = f.largest if saturate and f.width == 8 else f.over
    code = m.select(m.icmp(">", code, m.const("i32", f.largest)), m.const("i32", top), code)
    nan = m.icmp(">", magnitude, _inf(m))
    code = m.select(nan, m.const("i32", f.nan), code)
    sign = m.shl(m.lshr(bits, m.const("i32", 31)), m.const("i32", f.width - 1))
    if f.signless:
        zero = m.icmp("==", code, m.const("i32", 0))
        sign = m.select(zero, m.const("i32", 0), sign)
    return b.trunc(m.or_(code, sign), ir.IntType(max(8, f.width)))


def _encode_power(m: LlvmArith, value: ir.Value, saturate: bool) -> ir.Value:
    """float8_e8m0: the nearest power of two, the larger of two equally near; NaN for v <= 0."""
    bits = m.bits(value)
    code = m.lshr(m.iadd(bits, m.const("i32", 1 << 22)), m.const("i32", 23))
    # A subnormal f32 has no hidden one: 2**-127 and 2**-126 meet at 0.75 of the latter.
    upper = m.b.zext(m.icmp(">=", bits, m.const("i32", 0x600000)), I32)
    code = m.select(m.icmp("<", bits, m.const("i32", 0x800000)), upper, code)
    top = m.const("i32", 254 if saturate else 255)
    code = m.select(m.icmp(">", code, m.const("i32", 254)), top, code)
    positive = m.fcmp(">", value, m.const("f32", 0.0))
    code = m.select(positive, code, m.const("i32", 255))
    return m.b.trunc(code, I8)


def odd_f32(m: LlvmArith, x: ir.Value) -> ir.Value:
    """double to float, rounded to odd, so that rounding again to a narrower type is exact.

    S. Boldo, G. Melquiond, "When double rounding is odd", IMACS 2005.
    """
    b = m.b
    near = b.fptrunc(x, F32)
    back, bits = b.fpext(near, F64), m.bits(near)
    inexact = b.fcmp_ordered("!=", back, x)
    even = m.icmp("==", m.and_(bits, m.const("i32", 1)), m.const("i32", 0))
    outward = m.fcmp("<", m.abs(back), m.abs(x))
    stepped = m.iadd(bits, m.select(outward, m.const("i32", 1), m.const("i32", -1)))
    return m.from_bits(m.select(m.and_(inexact, even), stepped, bits))


def convert(
    m: LlvmArith, value: ir.Value, source: DType, target: DType, saturate: bool, half: bool
) -> ir.Value:
    """The operation `cast` on one computed value; the result is computed in `target`'s type."""
    b = m.b
    if target == source:
        return value
    if target == DType.BOOL:
        if source.is_float:
            return b.fcmp_unordered("!=", value, ir.Constant(value.type, 0.0))
        return b.icmp_unsigned("!=", value, ir.Constant(value.type, 0))
    if target.is_float:
        wide = _as_float(m, value, source, target)
        if target in (DType.F64, DType.F32):
            return wide
        raw = encode(m, target, wide, half=half, saturate=saturate)
        return decode(m, target, raw, half)
    if source.is_float:
        return _to_int(m, value, target)
    return narrowed(m, _resized(b, value, source, compute_type(target)), target)


def _as_float(m: LlvmArith, value: ir.Value, source: DType, target: DType) -> ir.Value:
    """The value as double or float; as double if that avoids a rounding before the last one."""
    b = m.b
    if source.is_float:
        if target == DType.F64 and value.type == F32:
            return b.fpext(value, F64)
        return b.fptrunc(value, F32) if target == DType.F32 and value.type == F64 else value
    unsigned = source.kind in ("uint", "bool")
    typ = F32 if target == DType.F32 else F64
    return (b.uitofp if unsigned else b.sitofp)(value, typ)


def _to_int(m: LlvmArith, value: ir.Value, target: DType) -> ir.Value:
    """Towards zero; the nearest value of the type when out of range, 0 for NaN."""
    narrow = ir.IntType(target.bits)
    sign = "u" if target.kind == "uint" else "s"
    name = f"llvm.fpto{sign}i.sat.i{target.bits}.{m.dtype(value)}"
    module = m.b.module
    found = module.globals.get(name)
    if found is None:
        found = ir.Function(module, ir.FunctionType(narrow, [value.type]), name)
    out = m.b.call(found, [value])
    if target.bits < 8:
        return (m.b.zext if sign == "u" else m.b.sext)(out, I8)
    return out


def _resized(b: ir.IRBuilder, value: ir.Value, source: DType, typ: ir.Type) -> ir.Value:
    if value.type.width > typ.width:
        return b.trunc(value, typ)
    if value.type.width == typ.width:
        return value
    return (b.sext if source.kind == "int" else b.zext)(value, typ)


def narrowed(m: LlvmArith, value: ir.Value, dtype: DType) -> ir.Value:
    """An i8 wrapped into the range of a 4, 2 or 1 bit integer; others stay."""
    if not dtype.is_int or dtype.bits >= 8:
        return value
    if dtype.kind == "uint":
        return m.and_(value, m.const("i8", (1 << dtype.bits) - 1))
    gap = m.const("i8", 8 - dtype.bits)
    return m.ashr(m.shl(value, gap), gap)
