"""The range of a whole tensor as scale and zero point."""

from __future__ import annotations

from collections.abc import Sequence
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
from tilewright.backends.llvm.irregular.nest import Array, Extent, Nest
from tilewright.compiler.ir.ops.quantization import QuantizationRange
from tilewright.compiler.ir.types import DType

_AT_ONCE = 4
"""Vectors of an iteration: as many chains hide the latency of minimum and maximum."""

_MAGNITUDE = 0x7FFFFFFF
_INFINITY = 0x7F800000


BLOCK = 1 << 14
"""Elements of a unit of ``Blocks``."""


@dataclass(frozen=True)
class Range(IrregularKernel):
    """Least and greatest of ``count`` f32 and 0 as scale and zero point; one unit."""

    family: ClassVar[str] = "quantization_range"
    count: Extent

    def body(self, k: Nest) -> None:
        x, scale, zero = k.arrays(DType.F32, DType.F32, DType.U8)
        with k.units():
            _finish(k, _extremes(k, x, 0, k.size(self.count)), scale.at(0), zero.at(0))


@dataclass(frozen=True)
class Blocks(IrregularKernel):
    """Least, greatest and greatest magnitude of every BLOCK of ``count`` f32, as [blocks, 3]."""

    family: ClassVar[str] = "quantization_range_blocks"
    count: Extent

    def body(self, k: Nest) -> None:
        x, found = k.arrays(DType.F32, DType.F32)
        with k.units() as unit:
            first = k.mul(unit, BLOCK)
            last = k.min(k.add(first, BLOCK), k.size(self.count))
            low, high, size = _extremes(k, x, first, last)
            line = k.mul(unit, 3)
            for i, value in enumerate((low, high, k.b.bitcast(size, F32))):
                k.b.store(value, found.at(k.add(line, i)))


@dataclass(frozen=True)
class Joined(IrregularKernel):
    """Scale and zero point of what ``Blocks`` found; one unit. Minimum and maximum are exact, so
    that blocks and threads leave no trace."""

    family: ClassVar[str] = "quantization_range_joined"
    blocks: Extent

    def body(self, k: Nest) -> None:
        found, scale, zero = k.arrays(DType.F32, DType.F32, DType.U8)
        nothing = ir.Constant(F32, 0.0)
        with k.units():
            start = [nothing, nothing, ir.Constant(I32, 0)]
            with k.c.loop(0, k.size(self.blocks), 1, start) as block:
                line = k.mul(block.index, 3)
                low, high, size = (k.c.load(found.at(k.add(line, i))) for i in range(3))
                block.next = _joined(k, (low, high, k.b.bitcast(size, I32)), block.carried)
            _finish(k, tuple(block.carried), scale.at(0), zero.at(0))


def _joined(k: Nest, new: Sequence[ir.Value], old: Sequence[ir.Value]) -> list[ir.Value]:
    """Least, greatest, greatest magnitude of two. Comparisons pass over NaN; bits of magnitudes,
    which are in the order of values with NaN above all, tell whether there was one."""
    b = k.b
    return [
        b.select(b.fcmp_ordered("<", new[0], old[0]), new[0], old[0]),
        b.select(b.fcmp_ordered(">", new[1], old[1]), new[1], old[1]),
        b.select(b.icmp_unsigned(">", new[2], old[2]), new[2], old[2]),
    ]


def _extremes(k: Nest, x: Array, first: Int, last: Int) -> tuple[ir.Value, ...]:
    """Least and greatest of the elements [first, last) and 0, and the bits of the greatest
    magnitude."""
    c, lanes = k.c, k.c.target.lanes_f32
    block = _AT_ONCE * lanes
    bits = ir.VectorType(I32, lanes)
    clear = ir.Constant(bits, [_MAGNITUDE] * lanes)
    none = zeros(c.vector(lanes))

    def step(at: Int, mask: ir.Value | None, now: Sequence[ir.Value]) -> list[ir.Value]:
        value = c.vload(x.at(at), lanes, mask)
        size = c.b.and_(c.b.bitcast(value, bits), clear)
        return _joined(k, (value, value, size), now)

    start = [none, none, zeros(bits)]
    whole = k.add(first, k.mul(k.div(k.sub(last, first), block), block))
    with c.loop(first, whole, block, start * _AT_ONCE) as at:
        at.next = [
            new
            for i in range(_AT_ONCE)
            for new in step(k.add(at.index, i * lanes), None, at.carried[3 * i : 3 * i + 3])
        ]
    found = list(at.carried[:3])
    for i in range(1, _AT_ONCE):
        found = _joined(k, at.carried[3 * i : 3 * i + 3], found)
    with c.loop(whole, last, lanes, found) as rest:
        mask = c.first_lanes(k.sub(last, rest.index), lanes)
        rest.next = step(rest.index, mask, rest.carried)
    return tuple(
        _across(k, value, name)
        for value, name in zip(rest.carried, ("fmin", "fmax", "umax"), strict=True)
    )


def _finish(k: Nest, found: tuple[ir.Value, ...], scale: ir.Value, zero: ir.Value) -> None:
    """Scale and zero point of a range."""
    b = k.b
    low, high, size = found
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
