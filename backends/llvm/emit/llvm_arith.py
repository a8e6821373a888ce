"""`Arith` over llvmlite's IRBuilder. Values are ir.Value, scalars or vectors."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from tilewright.backends.llvm.emit.arith import Value

_TYPES: dict[str, ir.Type] = {
    "f16": ir.HalfType(),
    "f32": ir.FloatType(),
    "f64": ir.DoubleType(),
} | {f"i{n}": ir.IntType(n) for n in (1, 8, 16, 32, 64)}
_NAMES = {"half": "f16", "float": "f32", "double": "f64"}
_WIDTH = {"f16": 16, "f32": 32, "f64": 64}


def llvm_type(dtype: str, lanes: int = 0) -> ir.Type:
    """The LLVM type of a scalar (``lanes`` 0) or vector of ``dtype``."""
    return ir.VectorType(_TYPES[dtype], lanes) if lanes else _TYPES[dtype]


class LlvmArith:
    """Appends to ``builder``. ``fma`` says whether the target has fused multiply-add; where it has
    not, llvm.fma would become a call of libm's fma, so it is never emitted."""

    def __init__(self, builder: ir.IRBuilder, fma: bool = True) -> None:
        self.b = builder
        self.fused = fma

    def dtype(self, x: Value) -> str:
        typ = x.type.element if isinstance(x.type, ir.VectorType) else x.type
        return _NAMES.get(str(typ)) or str(typ)

    def lanes(self, x: Value) -> int:
        return int(x.type.count) if isinstance(x.type, ir.VectorType) else 0

    def const(self, dtype: str, value: float | int, lanes: int = 0) -> Value:
        typ = llvm_type(dtype, lanes)
        return ir.Constant(typ, [value] * lanes if lanes else value)

    def _call(self, name: str, *args: Value) -> Value:
        """An intrinsic whose arguments and result all have the type of the first argument."""
        typ, lanes = args[0].type, self.lanes(args[0])
        full = f"{name}.{f'v{lanes}' if lanes else ''}{self.dtype(args[0])}"
        # llvmlite's own declare_intrinsic knows no vector types.
        found = self.b.module.globals.get(full)
        if found is None:
            found = ir.Function(self.b.module, ir.FunctionType(typ, [typ] * len(args)), full)
        return self.b.call(found, args)

    def add(self, x: Value, y: Value) -> Value:
        return self.b.fadd(x, y)

    def sub(self, x: Value, y: Value) -> Value:
        return self.b.fsub(x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self.b.fmul(x, y)

    def div(self, x: Value, y: Value) -> Value:
        return self.b.fdiv(x, y)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        return self._call("llvm.fma", x, y, z) if self.fused else self.add(self.mul(x, y), z)

    def neg(self, x: Value) -> Value:
        return self.b.fneg(x)

    def abs(self, x: Value) -> Value:
        return self._call("llvm.fabs", x)

    def sqrt(self, x: Value) -> Value:
        return self._call("llvm.sqrt", x)

    def floor(self, x: Value) -> Value:
        return self._call("llvm.floor", x)

    def ceil(self, x: Value) -> Value:
        return self._call("llvm.ceil", x)

    def trunc(self, x: Value) -> Value:
        return self._call("llvm.trunc", x)

    def rint(self, x: Value) -> Value:
        return self._call("llvm.roundeven", x)

    def fcmp(self, op: str, x: Value, y: Value) -> Value:
        if op == "!=":
            return self.b.fcmp_unordered("!=", x, y)
        return self.b.fcmp_ordered(op, x, y)

    def select(self, mask: Value, x: Value, y: Value) -> Value:
        return self.b.select(mask, x, y)

    def iadd(self, x: Value, y: Value) -> Value:
        return self.b.add(x, y)

    def isub(self, x: Value, y: Value) -> Value:
        return self.b.sub(x, y)

    def imul(self, x: Value, y: Value) -> Value:
        return self.b.mul(x, y)

    def and_(self, x: Value, y: Value) -> Value:
        return self.b.and_(x, y)

    def or_(self, x: Value, y: Value) -> Value:
        return self.b.or_(x, y)

    def xor(self, x: Value, y: Value) -> Value:
        return self.b.xor(x, y)

    def shl(self, x: Value, y: Value) -> Value:
        return self.b.shl(x, y)

    def lshr(self, x: Value, y: Value) -> Value:
        return self.b.lshr(x, y)

    def ashr(self, x: Value, y: Value) -> Value:
        return self.b.ashr(x, y)

    def icmp(self, op: str, x: Value, y: Value, signed: bool = True) -> Value:
        return (self.b.icmp_signed if signed else self.b.icmp_unsigned)(op, x, y)

    def _like(self, x: Value, dtype: str) -> ir.Type:
        return llvm_type(dtype, self.lanes(x))

    def bits(self, x: Value) -> Value:
        return self.b.bitcast(x, self._like(x, f"i{_WIDTH[self.dtype(x)]}"))

    def from_bits(self, x: Value) -> Value:
        return self.b.bitcast(x, self._like(x, "f" + self.dtype(x)[1:]))

    def fpcast(self, x: Value, dtype: str) -> Value:
        old, new = _WIDTH[self.dtype(x)], _WIDTH[dtype]
        if old == new:
            return x
        return (self.b.fpext if new > old else self.b.fptrunc)(x, self._like(x, dtype))

    def sext(self, x: Value, dtype: str) -> Value:
        return self.b.sext(x, self._like(x, dtype))

    def zext(self, x: Value, dtype: str) -> Value:
        return self.b.zext(x, self._like(x, dtype))

    def itrunc(self, x: Value, dtype: str) -> Value:
        return self.b.trunc(x, self._like(x, dtype))

    def itof(self, x: Value, dtype: str, signed: bool = True) -> Value:
        return (self.b.sitofp if signed else self.b.uitofp)(x, self._like(x, dtype))

    def ftoi(self, x: Value, dtype: str, signed: bool = True) -> Value:
        return (self.b.fptosi if signed else self.b.fptoui)(x, self._like(x, dtype))

    def any(self, mask: Value) -> Value:
        """i1: whether any lane of ``mask`` is set."""
        lanes = self.lanes(mask)
        if not lanes:
            return mask
        word = self.b.bitcast(mask, ir.IntType(lanes))
        return self.b.icmp_unsigned("!=", word, ir.Constant(word.type, 0))

    def if_any(self, mask: Value, then: Callable[[], Value], other: Value) -> Value:
        with self.b.if_else(self.any(mask)) as (yes, no):
            with yes:
                first = then()
                first_block = self.b.block
            with no:
                second_block = self.b.block
        phi = self.b.phi(other.type)
        phi.add_incoming(first, first_block)
        phi.add_incoming(other, second_block)
        return phi
