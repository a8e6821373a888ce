"""The range of a whole tensor as scale and zero point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llvmlite import ir

from tilewright.backends.llvm.builder import F32, I32, Int, zeros
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Extent, Nest
from tilewright.compiler.ir.ops.quantization import QuantizationRange
from tilewright.compiler.ir.types import DType

_AT_ONCE = 4
"""Vectors of an iteration: as many chains hide the latency of minimum and maximum."""

_MAGNITUDE = 0x7FFFFFFF
_INFINITY = 0x7F800000


@dataclass(frozen=True)
class Range(IrregularKernel):
    """Least and greatest of ``count`` f32 and 0; one unit, which reads them once.

    Comparisons pass over NaN; bits of magnitudes, which are in the order of values with NaN above
    all, tell whether there was one.
    """

    family: ClassVar[str] = "quantization_range"
    count: Extent

    def body(self, k: Nest) -> None:
        x, scale, zero = k.arrays(DType.F32, DType.F32, DType.U8)
        c, lanes = k.c, k.c.target.lanes_f32
        count, block = k.size(self.count), _AT_ONCE * lanes
        bits = ir.VectorType(I32, lanes)
        clear = ir.Constant(bits, [_MAGNITUDE] * lanes)
        none = zeros(c.vector(lanes))

        def step(at: Int, mask: ir.Value | None, now: list[ir.Value]) -> list[ir.Value]:
            value = c.vload(x.at(at), lanes, mask)
            size = c.b.and_(c.b.bitcast(value, bits), clear)
            return [
                c.b.select(c.b.fcmp_ordered("<", value, now[0]), value, now[0]),
                c.b.select(c.b.fcmp_ordered(">", value, now[1]), value, now[1]),
                c.b.select(c.b.icmp_unsigned(">", size, now[2]), size, now[2]),
            ]

        with k.units():
            start = [none, none, zeros(bits)]
            whole = k.mul(k.div(count, block), block)
            with c.loop(0, whole, block, start * _AT_ONCE) as at:
                at.next = [
                    new
                    for i in range(_AT_ONCE)
                    for new in step(
                        k.add(at.index, i * lanes), None, list(at.carried[3 * i : 3 * i + 3])
                    )
                ]
            found = list(at.carried[:3])
            for i in range(1, _AT_ONCE):
                low, high, size = at.carried[3 * i : 3 * i + 3]
                found = [
                    c.b.select(c.b.fcmp_ordered("<", low, found[0]), low, found[0]),
                    c.b.select(c.b.fcmp_ordered(">", high, found[1]), high, found[1]),
                    c.b.select(c.b.icmp_unsigned(">", size, found[2]), size, found[2]),
                ]
            with c.loop(whole, count, lanes, found) as rest:
                mask = c.first_lanes(k.sub(count, rest.index), lanes)
                rest.next = step(rest.index, mask, list(rest.carried))
            low, high, size = (
                _across(k, value, name)
                for value, name in zip(rest.carried, ("fmin", "fmax", "umax"), strict=True)
            )
            self._finish(k, low, high, size, scale.at(0), zero.at(0))

    def _finish(
        self,
        k: Nest,
        low: ir.Value,
        high: ir.Value,
        size: ir.Value,
        scale: ir.Value,
        zero: ir.Value,
    ) -> None:
        b = k.b
        nothing, most = ir.Constant(F32, 0.0), ir.Constant(F32, 255.0)
        step = b.fdiv(b.fsub(high, low), most)
        strange = b.icmp_unsigned(">", size, ir.Constant(I32, _INFINITY))
        step = b.select(strange, ir.Constant(F32, float("nan")), step)
        point = k.c.intrinsic("roundeven", b.fdiv(b.fneg(low), step))
        point = b.select(b.fcmp_ordered("<", point, most), point, most)
        point = b.select(b.fcmp_ordered(">", point, nothing), point, nothing)
        # Zero over zero: nothing but zeros.
        number = b.fcmp_ordered(">", step, nothing)
        number = b.and_(number, b.fcmp_ordered("<", step, ir.Constant(F32, float("inf"))))
        point = b.select(number, point, nothing)
        b.store(step, scale)
        b.store(b.fptoui(point, ir.IntType(8)), zero)


def _across(k: Nest, values: ir.Value, name: str) -> ir.Value:
    """The least or greatest lane; ``values`` has no NaN."""
    kind = values.type
    short = "f32" if kind.element == F32 else "i32"
    fn = k.c.declare(
        f"llvm.vector.reduce.{name}.v{kind.count}{short}", ir.FunctionType(kind.element, [kind])
    )
    return k.b.call(fn, [values])


@makes(QuantizationRange)
def _range(op: QuantizationRange, p: Parameters) -> LoweredKernel:
    spec = Range(p(op.x.type.elements))
    return LoweredKernel(spec, (op.x,), p.dims, 1)
