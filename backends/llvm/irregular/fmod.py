"""fmod of doubles without libm: long division of the significands, exact."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.builder import I1, I64

F64 = ir.DoubleType()
_NAME = "irregular.fmod"


def emit_fmod(module: ir.Module) -> ir.Function:
    """The module's `double fmod(double, double)`, made on first use. NaN for x/0, inf/y and NaN.

    One bit of the quotient an iteration, as in any schoolbook binary division: at most 2098.
    """
    found = module.globals.get(_NAME)
    if found is not None:
        return found
    fn = ir.Function(module, ir.FunctionType(F64, [F64, F64]), _NAME)
    fn.linkage = "internal"
    x, y = fn.args
    b = ir.IRBuilder(fn.append_basic_block("entry"))

    def word(value: int) -> ir.Value:
        return ir.Constant(I64, value)

    ux, uy = b.bitcast(x, I64), b.bitcast(y, I64)
    low = word((1 << 63) - 1)
    sign, ax, ay = b.and_(ux, word(-(1 << 63))), b.and_(ux, low), b.and_(uy, low)
    inf = word(0x7FF << 52)
    y_bad = b.or_(b.icmp_signed("==", ay, word(0)), b.icmp_signed(">", ay, inf))
    with b.if_then(b.or_(y_bad, b.icmp_signed(">=", ax, inf))):
        b.ret(ir.Constant(F64, float("nan")))
    with b.if_then(b.icmp_signed("<", ax, ay)):
        b.ret(x)

    count = module.globals.get("llvm.ctlz.i64") or ir.Function(
        module, ir.FunctionType(I64, [I64, I1]), "llvm.ctlz.i64"
    )

    def parts(bits: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Exponent and significand with its leading one at bit 52."""
        exponent, mantissa = b.lshr(bits, word(52)), b.and_(bits, word((1 << 52) - 1))
        lead = b.sub(b.call(count, [mantissa, ir.Constant(I1, 0)]), word(11))
        subnormal = b.icmp_signed("==", exponent, word(0))
        shift = b.select(subnormal, lead, word(0))
        normal = b.or_(mantissa, word(1 << 52))
        significand = b.select(subnormal, b.shl(mantissa, shift), normal)
        return b.select(subnormal, b.sub(word(1), shift), exponent), significand

    (ex, mx), (ey, my) = parts(ax), parts(ay)
    before, loop, after = b.block, b.append_basic_block("loop"), b.append_basic_block("after")
    b.branch(loop)
    b.position_at_end(loop)
    exponent, rest = b.phi(I64), b.phi(I64)
    exponent.add_incoming(ex, before)
    rest.add_incoming(mx, before)
    less = b.sub(rest, my)
    reduced = b.select(b.icmp_signed(">=", less, word(0)), less, rest)
    exponent.add_incoming(b.sub(exponent, word(1)), loop)
    rest.add_incoming(b.shl(reduced, word(1)), loop)
    b.cbranch(b.icmp_signed(">", exponent, ey), loop, after)
    b.position_at_end(after)
    with b.if_then(b.icmp_signed("==", reduced, word(0))):
        b.ret(b.bitcast(sign, F64))
    lead = b.sub(b.call(count, [reduced, ir.Constant(I1, 0)]), word(11))
    final, significand = b.sub(ey, lead), b.shl(reduced, lead)
    packed = b.or_(b.and_(significand, word((1 << 52) - 1)), b.shl(final, word(52)))
    down = b.sub(word(1), final)
    tiny = b.icmp_signed(">", down, word(0))
    shifted = b.lshr(significand, b.select(tiny, down, word(0)))
    b.ret(b.bitcast(b.or_(b.select(tiny, shifted, packed), sign), F64))
    return fn
