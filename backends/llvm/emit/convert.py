"""Element types in memory, in registers, and the casts between them.

Registers hold f32, f64, i8..i64 (signless) and i1. f16, bf16 and the 8-bit floats compute in f32;
bool is a byte 0/1 in memory and i1 in registers. Conversions to narrow floats round to nearest
even; every NaN becomes the quiet NaN of the narrow type.
"""

from __future__ import annotations

import math

from tilewright.backends.llvm.emit.arith import Value
from tilewright.backends.llvm.emit.emit import Emit

SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("u8", "u16", "u32", "u64")
FLOATS = ("f8e4m3", "f8e5m2", "f16", "bf16", "f32", "f64")
DTYPES = (*FLOATS, *SIGNED, *UNSIGNED, "bool")
NARROW = ("f8e4m3", "f8e5m2", "f16", "bf16")
ITEM_BYTES = {"bool": 1, "f8e4m3": 1, "f8e5m2": 1, "f16": 2, "bf16": 2, "f32": 4, "f64": 8} | {
    f"{sign}{bits}": bits // 8 for sign in "iu" for bits in (8, 16, 32, 64)
}


def is_float(dtype: str) -> bool:
    """Whether values of ``dtype`` are floats in registers."""
    return dtype in FLOATS


def register(dtype: str) -> str:
    """The register type of ``dtype``."""
    if dtype in NARROW:
        return "f32"
    if dtype == "bool":
        return "i1"
    return dtype.replace("u", "i") if dtype in UNSIGNED else dtype


def storage(e: Emit, dtype: str) -> str:
    """The memory type of ``dtype`` as loads and stores name it."""
    if dtype == "f16" and e.half:
        return "f16"
    if dtype in NARROW:
        return f"i{8 * ITEM_BYTES[dtype]}"
    return "i8" if dtype == "bool" else register(dtype)


def _const(e: Emit, value: int | float, like: Value) -> Value:
    return e.const(e.dtype(like), value, e.lanes(like))


def _widen(e: Emit, raw: Value, exponent: int, mantissa: int, ieee: bool) -> Value:
    """A narrow float given as bits in an i32, to f32. Denormals come out right because the
    exponent is fixed by a multiplication. ``ieee``: the largest exponent means inf and NaN,
    otherwise only all ones is NaN (f8e4m3fn)."""
    width = 1 + exponent + mantissa
    magnitude = e.and_(raw, _const(e, (1 << (width - 1)) - 1, raw))
    shifted = e.shl(magnitude, _const(e, 23 - mantissa, raw))
    scale = 2.0 ** (127 - ((1 << (exponent - 1)) - 1))
    value = e.from_bits(shifted)
    value = e.mul(value, _const(e, scale, value))
    top = ((1 << exponent) - 1) << mantissa if ieee else (1 << (width - 1)) - 1
    special = e.or_(shifted, _const(e, 0x7F800000, raw))
    bits = e.select(
        e.icmp(">=", magnitude, _const(e, top, raw), signed=False), special, e.bits(value)
    )
    sign = e.shl(e.lshr(raw, _const(e, width - 1, raw)), _const(e, 31, raw))
    return e.from_bits(e.or_(bits, sign))


def _narrow(e: Emit, x: Value, exponent: int, mantissa: int, ieee: bool) -> Value:
    """f32 to the bits of a narrow float (i32), to nearest even. Without ``ieee`` values beyond the
    largest become NaN (f8e4m3fn has no infinity)."""
    width = 1 + exponent + mantissa
    bias = (1 << (exponent - 1)) - 1
    bits = e.bits(x)
    magnitude = e.and_(bits, _const(e, 0x7FFFFFFF, bits))
    sign = e.shl(e.lshr(bits, _const(e, 31, bits)), _const(e, width - 1, bits))
    drop = 23 - mantissa
    odd = e.and_(e.lshr(magnitude, _const(e, drop, bits)), _const(e, 1, bits))
    rounded = e.iadd(e.iadd(magnitude, _const(e, (1 << (drop - 1)) - 1, bits)), odd)
    rebias = _const(e, (127 - bias) << mantissa, bits)
    normal = e.isub(e.lshr(rounded, _const(e, drop, bits)), rebias)
    # Denormal results: the addition of a suitable power of two rounds at the right bit.
    anchor = _const(e, 2.0 ** (24 - bias - mantissa), x)
    small = e.isub(e.bits(e.add(e.abs(x), anchor)), e.bits(anchor))
    tiny = e.icmp("<", magnitude, _const(e, (128 - bias) << 23, bits))
    result = e.select(tiny, small, normal)
    top = ((1 << exponent) - 1) << mantissa if ieee else (1 << (width - 1)) - 1
    result = e.select(e.icmp(">", result, _const(e, top, bits)), _const(e, top, bits), result)
    if ieee:
        quiet = top | 1 << (mantissa - 1)
        nan = e.icmp(">", magnitude, _const(e, 0x7F800000, bits))
        result = e.select(nan, _const(e, quiet, bits), result)
    else:
        # 0x7F800000 and above, and every finite value that rounded past the largest.
        nan = e.icmp(">=", magnitude, _const(e, 0x7F800000, bits))
        result = e.select(nan, _const(e, top, bits), result)
    return e.or_(result, sign)


_LAYOUT = {"f16": (5, 10, True), "f8e5m2": (5, 2, True), "f8e4m3": (4, 3, False)}


def to_register(e: Emit, raw: Value, dtype: str) -> Value:
    """What a load of `storage` type gives, as a register value."""
    if dtype == "bool":
        return e.icmp("!=", raw, _const(e, 0, raw))
    if dtype not in NARROW:
        return raw
    if e.dtype(raw) == "f16":
        return e.fpcast(raw, "f32")
    bits = e.zext(raw, "i32")
    if dtype == "bf16":
        return e.from_bits(e.shl(bits, _const(e, 16, bits)))
    return _widen(e, bits, *_LAYOUT[dtype])


def to_storage(e: Emit, x: Value, dtype: str) -> Value:
    """Inverse of `to_register`."""
    if dtype == "bool":
        return e.zext(x, "i8")
    if dtype not in NARROW:
        return x
    if dtype == "f16" and e.half:
        return e.fpcast(x, "f16")
    if dtype == "bf16":
        bits = e.bits(x)
        odd = e.and_(e.lshr(bits, _const(e, 16, bits)), _const(e, 1, bits))
        rounded = e.iadd(e.iadd(bits, _const(e, 0x7FFF, bits)), odd)
        top = e.lshr(rounded, _const(e, 16, bits))
        quiet = e.or_(e.lshr(bits, _const(e, 16, bits)), _const(e, 0x40, bits))
        return e.itrunc(e.select(e.fcmp("!=", x, x), quiet, top), "i16")
    return e.itrunc(_narrow(e, x, *_LAYOUT[dtype]), f"i{8 * ITEM_BYTES[dtype]}")


def _float_to_int(e: Emit, x: Value, dtype: str) -> Value:
    """Truncate; NaN gives 0, values out of range the nearest end."""
    signed = dtype not in UNSIGNED
    bits = 8 * ITEM_BYTES[dtype]
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    zero = _const(e, 0.0, x)
    safe = e.select(e.fcmp("==", x, x), x, zero)
    # 2^bits rounded down to the float type, so that the conversion itself is always defined.
    mantissa = 24 if e.dtype(x) == "f32" else 53
    top = float(high) if high < 1 << mantissa else math.ldexp(2.0**mantissa - 1, bits - mantissa)
    if high >= 1 << mantissa and signed:
        top /= 2
    over = e.fcmp(">", safe, _const(e, top, x))
    safe = e.select(over, _const(e, top, x), safe)
    bottom = _const(e, float(low), x)
    safe = e.select(e.fcmp("<", safe, bottom), bottom, safe)
    wide = register(dtype)
    if bits < 32:
        return e.itrunc(e.ftoi(safe, "i32"), wide)
    result = e.ftoi(safe, wide, signed)
    return e.select(over, e.const(wide, high, e.lanes(x)), result)


def cast(e: Emit, x: Value, source: str, target: str) -> Value:
    """ONNX Cast between register values of ``source`` and ``target``.

    Integers wrap, floats to integers truncate and saturate (NaN: 0), to bool is ``!= 0``; a cast to
    a narrow float rounds as a store and a load would.
    """
    if target == "bool":
        if source == "bool":
            return x
        zero = _const(e, 0, x)
        return e.fcmp("!=", x, zero) if is_float(source) else e.icmp("!=", x, zero)
    if is_float(target):
        if not is_float(source):
            signed = source not in UNSIGNED and source != "bool"
            x = e.itof(x, "f64" if target == "f64" else "f32", signed)
        else:
            x = e.fpcast(x, register(target))
        return to_register(e, to_storage(e, x, target), target) if target in NARROW else x
    if is_float(source):
        return _float_to_int(e, x, target)
    old = 1 if source == "bool" else 8 * ITEM_BYTES[source]
    new = 8 * ITEM_BYTES[target]
    if old == new:
        return x
    if new < old:
        return e.itrunc(x, register(target))
    widen = e.sext if source in SIGNED else e.zext
    return widen(x, register(target))
