"""Elementwise integer (and bool) arithmetic on single values: wrapping, and never a fault."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from tilewright.backends.llvm.irregular.nest import Nest
from tilewright.compiler.ir.types import DType


def _signed(dtype: DType) -> bool:
    return dtype.kind == "int"


def _zero(x: ir.Value) -> ir.Value:
    return ir.Constant(x.type, 0)


def _compare(op: str) -> Callable[..., ir.Value]:
    return lambda k, d, a, b: k.m.icmp(op, a, b, _signed(d))


def _quotient(k: Nest, dtype: DType, a: ir.Value, b: ir.Value) -> ir.Value:
    """a / b towards zero; 0 if b is 0. The least value / -1 wraps: x86 would trap."""
    m, zero, one = k.m, _zero(a), ir.Constant(a.type, 1)
    none = m.icmp("==", b, zero)
    if not _signed(dtype):
        return m.select(none, zero, k.b.udiv(a, m.select(none, one, b)))
    minus = m.icmp("==", b, ir.Constant(a.type, -1))
    quotient = k.b.sdiv(a, m.select(m.or_(none, minus), one, b))
    return m.select(none, zero, m.select(minus, m.isub(zero, a), quotient))


def _fmod(k: Nest, dtype: DType, a: ir.Value, b: ir.Value) -> ir.Value:
    rest = k.m.isub(a, k.m.imul(_quotient(k, dtype, a, b), b))
    return k.m.select(k.m.icmp("==", b, _zero(b)), _zero(a), rest)


def _mod(k: Nest, dtype: DType, a: ir.Value, b: ir.Value) -> ir.Value:
    m, rest, zero = k.m, _fmod(k, dtype, a, b), _zero(a)
    if not _signed(dtype):
        return rest
    differ = m.xor(m.icmp("<", rest, zero), m.icmp("<", b, zero))
    wrong = m.and_(m.icmp("!=", rest, zero), differ)
    return m.select(wrong, m.iadd(rest, b), rest)


def _pow(k: Nest, dtype: DType, a: ir.Value, b: ir.Value) -> ir.Value:
    """By squaring; a negative power is 1 / a**|b| towards zero."""
    m, zero, one = k.m, _zero(a), ir.Constant(a.type, 1)
    signed = _signed(dtype)
    negative = m.icmp("<", b, zero) if signed else ir.Constant(ir.IntType(1), 0)
    out, base, rest = k.cell(one), k.cell(a), k.cell(m.select(negative, zero, b))
    with k.repeat() as done:
        left = rest.get()
        k.leave_if(m.icmp("==", left, zero), done)
        odd = m.icmp("!=", m.and_(left, one), zero)
        out.set(m.select(odd, m.imul(out.get(), base.get()), out.get()))
        base.set(m.imul(base.get(), base.get()))
        rest.set(m.lshr(left, one))
    if not signed:
        return out.get()
    minus = ir.Constant(a.type, -1)
    even = m.icmp("==", m.and_(b, one), zero)
    inverse = m.select(m.icmp("==", a, minus), m.select(even, one, minus), zero)
    inverse = m.select(m.icmp("==", a, one), one, inverse)
    return m.select(negative, inverse, out.get())


def _extreme(op: str) -> Callable[..., ir.Value]:
    return lambda k, d, a, b: k.m.select(k.m.icmp(op, a, b, _signed(d)), a, b)


def _shift_left(k: Nest, dtype: DType, a: ir.Value, b: ir.Value) -> ir.Value:
    beyond = k.m.icmp(">=", b, ir.Constant(b.type, dtype.bits), signed=False)
    amount = k.m.select(beyond, _zero(b), b)
    return k.m.select(beyond, _zero(a), k.m.shl(a, amount))


def _shift_right(k: Nest, dtype: DType, a: ir.Value, b: ir.Value) -> ir.Value:
    beyond = k.m.icmp(">=", b, ir.Constant(b.type, dtype.bits), signed=False)
    if _signed(dtype):
        most = ir.Constant(b.type, a.type.width - 1)
        return k.m.ashr(a, k.m.select(beyond, most, b))
    return k.m.select(beyond, _zero(a), k.m.lshr(a, k.m.select(beyond, _zero(b), b)))


def _abs(k: Nest, dtype: DType, x: ir.Value) -> ir.Value:
    if not _signed(dtype):
        return x
    return k.m.select(k.m.icmp("<", x, _zero(x)), k.m.isub(_zero(x), x), x)


INTEGER: dict[str, Callable[..., ir.Value]] = {
    "add": lambda k, d, a, b: k.m.iadd(a, b),
    "sub": lambda k, d, a, b: k.m.isub(a, b),
    "mul": lambda k, d, a, b: k.m.imul(a, b),
    "div": _quotient,
    "pow": _pow,
    "mod": _mod,
    "fmod": _fmod,
    "min": _extreme("<"),
    "max": _extreme(">"),
    "bit_and": lambda k, d, a, b: k.m.and_(a, b),
    "bit_or": lambda k, d, a, b: k.m.or_(a, b),
    "bit_xor": lambda k, d, a, b: k.m.xor(a, b),
    "shift_left": _shift_left,
    "shift_right": _shift_right,
    "and": lambda k, d, a, b: k.m.and_(a, b),
    "or": lambda k, d, a, b: k.m.or_(a, b),
    "xor": lambda k, d, a, b: k.m.xor(a, b),
    "eq": _compare("=="),
    "lt": _compare("<"),
    "le": _compare("<="),
    "gt": _compare(">"),
    "ge": _compare(">="),
    "neg": lambda k, d, x: k.m.isub(_zero(x), x),
    "abs": _abs,
    "bit_not": lambda k, d, x: k.b.not_(x),
}
"""f(nest, element type, operands...) for every operation on integers or bool."""
