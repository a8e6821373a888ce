"""Counters, fills, dimension values, and guards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from tilewright.backends.llvm.builder import i64
from tilewright.backends.llvm.irregular.elementwise import BLOCK
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Extent, Nest
from tilewright.backends.llvm.irregular.numeric import compute_type, convert
from tilewright.compiler.ir.dims import ceildiv
from tilewright.compiler.ir.ops.control import Guard as GuardOp
from tilewright.compiler.ir.ops.leaf import DimValue, Fill, Iota
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True)
class Counter(IrregularKernel):
    """`out[i] = i`; with `single`, the one element is the extent itself."""

    family: ClassVar[str] = "iota"
    dtype: DType
    length: Extent
    single: bool = False

    def body(self, k: Nest) -> None:
        (out,) = k.arrays(self.dtype)
        length = k.size(self.length)
        if self.single:
            with k.units() as u:
                out.set(u, i64(length))
            return
        with k.chunk(length, BLOCK) as i:
            out.set(i, convert(k.m, i, DType.I64, self.dtype, False, k.half))


@dataclass(frozen=True)
class Constant(IrregularKernel):
    """`out[i] = value` for i below `total`."""

    family: ClassVar[str] = "fill"
    dtype: DType
    value: float | int | bool
    total: Extent

    def body(self, k: Nest) -> None:
        (out,) = k.arrays(self.dtype)
        typ = compute_type(self.dtype)
        number = float(self.value) if self.dtype.is_float else int(self.value)
        value = ir.Constant(typ, number)
        if isinstance(typ, ir.FloatType):  # llvmlite refuses floats that are not exact in f32
            value = k.b.fptrunc(ir.Constant(ir.DoubleType(), number), typ)
        with k.chunk(k.size(self.total), BLOCK) as i:
            out.set(i, value)


@dataclass(frozen=True)
class Guard(IrregularKernel):
    """Fails unless all of `checked` conditions are true; copies x to the result."""

    family: ClassVar[str] = "guard"
    dtype: DType
    total: Extent
    checked: Extent

    def body(self, k: Nest) -> None:
        x, condition, out = k.arrays(self.dtype, DType.BOOL, self.dtype)
        with k.units():
            with k.loop(k.size(self.checked)) as i:
                k.fail_if(k.b.not_(condition.get(i)))
            k.copy_unless_same(out, x, k.size(self.total))


@makes(Iota)
def _iota(op: Iota, p: Parameters) -> LoweredKernel:
    spec = Counter(op.dtype, p(op.length))
    return LoweredKernel(spec, (), p.dims, ceildiv(op.length, BLOCK))


@makes(DimValue)
def _dim(op: DimValue, p: Parameters) -> LoweredKernel:
    return LoweredKernel(Counter(DType.I64, p(op.size), True), (), p.dims, 1)


@makes(Fill)
def _fill(op: Fill, p: Parameters) -> LoweredKernel:
    total = op.type.elements
    value: float | int = op.value
    if op.type.dtype.is_int:
        bits = op.type.dtype.bits
        value = int(value) % (1 << bits)
        if op.type.dtype.kind == "int" and value >> (bits - 1):
            value -= 1 << bits
    spec = Constant(op.type.dtype, value, p(total))
    return LoweredKernel(spec, (), p.dims, ceildiv(total, BLOCK))


@makes(GuardOp)
def _guard(op: GuardOp, p: Parameters) -> LoweredKernel:
    spec = Guard(op.x.dtype, p(op.x.type.elements), p(op.condition.type.elements))
    inputs = (op.x, op.condition)
    return LoweredKernel(spec, inputs, p.dims, 1, error=op.message, inplace=((0, 0),))
