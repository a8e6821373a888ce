"""Pooling over channels-last tensors: vectors of channels where the type allows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from llvmlite import ir

from tilewright.backends.llvm.builder import Int, i64
from tilewright.backends.llvm.irregular.integer import INTEGER
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Array, Extent, Nest
from tilewright.backends.llvm.irregular.numeric import compute_type, convert
from tilewright.backends.llvm.irregular.reduction import extreme
from tilewright.backends.llvm.irregular.scalar import float_max
from tilewright.backends.llvm.irregular.selection import above
from tilewright.backends.llvm.vecmath import emit_pow
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops import nn
from tilewright.compiler.ir.types import DType

LANES = 16
"""Channels of one vector step; LLVM splits it into registers."""


@dataclass(frozen=True)
class Window:
    """The geometry of a sliding window, one entry for each spatial axis."""

    taps: tuple[Extent, ...]
    strides: tuple[int, ...]
    low: tuple[int, ...]
    dilations: tuple[int, ...]

    def ranges(self, k: Nest, at: list[Int], sizes: list[Int]) -> list[tuple[Int, Int]]:
        """Per axis the half-open range of taps whose positions exist, for output coordinates."""
        out: list[tuple[Int, Int]] = []
        for axis, (place, size) in enumerate(zip(at, sizes, strict=True)):
            first = k.sub(k.mul(place, self.strides[axis]), self.low[axis])
            step, taps = self.dilations[axis], k.size(self.taps[axis])
            low = k.div(k.add(k.max(0, k.sub(0, first)), step - 1), step)
            high = k.div(k.add(k.max(0, k.sub(size, first)), step - 1), step)
            out.append((k.min(low, taps), k.min(high, taps)))
        return out

    @contextmanager
    def positions(
        self, k: Nest, at: list[Int], ranges: list[tuple[Int, Int]], taps: list[Int] | None = None
    ) -> Iterator[tuple[list[Int], list[Int]]]:
        """Loops over the taps in `ranges`; yields the taps and their positions in x."""
        done = taps or []
        if len(done) == len(at):
            yield (
                done,
                [
                    k.sub(k.add(k.mul(p, s), k.mul(t, d)), low)
                    for p, s, t, d, low in zip(
                        at, self.strides, done, self.dilations, self.low, strict=True
                    )
                ],
            )
            return
        low, high = ranges[len(done)]
        with k.loop(high, low) as tap, self.positions(k, at, ranges, [*done, tap]) as found:
            yield found


@dataclass(frozen=True)
class Pool(IrregularKernel):
    """A unit is one output position (all its channels), or one element of the result."""

    family: ClassVar[str] = "pool"
    dtype: DType
    kind: str
    window: Window
    high: tuple[int, ...]
    x: tuple[Extent, ...]
    out: tuple[Extent, ...]
    channels: Extent
    count_pad: bool
    p: int
    single: bool = False

    def body(self, k: Nest) -> None:
        x, out = k.arrays(self.dtype, self.dtype)
        sizes, spatial = k.sizes(self.x), k.sizes(self.out)
        channels = k.size(self.channels)
        vector = self.dtype in (DType.F32, DType.F64)
        whole = k.mul(k.div(channels, LANES), LANES) if vector else 0
        area = k.product(spatial)
        with k.units() as unit:
            u = k.div(unit, channels) if self.single else unit
            at = k.split(k.rem(u, area), spatial)
            ranges = self.window.ranges(k, at, sizes)
            count = self._count(k, at, sizes, ranges)
            image = k.div(u, area)
            if self.single:
                c = k.rem(unit, channels)
                self._channels(k, x, out, u, image, at, ranges, count, c, 0)
            else:
                if vector:
                    with k.loop(whole, 0, LANES) as c:
                        self._channels(k, x, out, u, image, at, ranges, count, c, LANES)
                with k.loop(channels, whole) as c:
                    self._channels(k, x, out, u, image, at, ranges, count, c, 0)

    def _count(
        self, k: Nest, at: list[Int], sizes: list[Int], ranges: list[tuple[Int, Int]]
    ) -> Int:
        if self.count_pad:
            w = self.window
            room = [k.add(n, high) for n, high in zip(sizes, self.high, strict=True)]
            ranges = [(0, r[1]) for r in w.ranges(k, at, room)]
        return k.product([k.max(k.sub(high, low), 0) for low, high in ranges])

    def _channels(
        self, k: Nest, x: Array, out: Array, u: Int, image: Int, at: list[Int],
        ranges: list[tuple[Int, Int]], count: Int, c: Int, lanes: int,
    ) -> None:  # fmt: skip
        sizes, channels = k.sizes(self.x), k.size(self.channels)
        ordered = self.kind == "max"
        wide = self.dtype if ordered or self.dtype.is_float else DType.I64
        start = extreme(self.dtype, "max") if ordered else 0
        element = compute_type(wide)
        typ = ir.VectorType(element, lanes) if lanes else element
        total = k.cell(ir.Constant(typ, [start] * lanes if lanes else start))
        with self.window.positions(k, at, ranges) as (_, places):
            pixel = k.flat([image, *places], [0, *sizes])
            place = k.add(k.mul(pixel, channels), c)
            value = k.c.vload(x.at(place), lanes, None, element) if lanes else x.get(place)
            total.set(self._step(k, wide, total.get(), value))
        place = k.add(k.mul(u, channels), c)
        result = self._finish(k, wide, total.get(), count, lanes)
        if lanes:
            k.c.vstore(result, out.at(place))
        else:
            out.set(place, result)

    def _step(self, k: Nest, wide: DType, total: ir.Value, value: ir.Value) -> ir.Value:
        if self.kind == "max":
            if wide.is_float:
                return float_max(k, total, value)
            return INTEGER["max"](k, wide, total, value)
        if self.kind == "lp":
            size = k.m.abs(value)
            if self.p != 1:
                size = k.m.mul(value, value) if self.p == 2 else self._power(k, size, self.p)
            return k.m.add(total, size)
        if wide.is_float:
            return k.m.add(total, value)
        return k.m.iadd(total, convert(k.m, value, self.dtype, wide, False, k.half))

    def _power(self, k: Nest, x: ir.Value, exponent: float) -> ir.Value:
        power = k.m.const(k.m.dtype(x), _single(x, exponent), k.m.lanes(x))
        return emit_pow(k.b, x, power, fma=k.m.fused)

    def _finish(self, k: Nest, wide: DType, total: ir.Value, count: Int, lanes: int) -> ir.Value:
        if self.kind == "lp" and self.p != 1:
            return k.m.sqrt(total) if self.p == 2 else self._power(k, total, 1.0 / self.p)
        if self.kind != "mean":
            return total
        if not wide.is_float:
            mean = INTEGER["div"](k, wide, total, i64(count))
            return convert(k.m, mean, wide, self.dtype, False, k.half)
        number = k.b.sitofp(i64(count), compute_type(wide))
        return k.m.div(total, k.c.splat(number, lanes) if lanes else number)


def _single(x: ir.Value, value: float) -> float:
    """`value` rounded to f32 where x is: llvmlite refuses constants that are not exact."""
    element = x.type.element if isinstance(x.type, ir.VectorType) else x.type
    return float(np.float32(value)) if isinstance(element, ir.FloatType) else value


@dataclass(frozen=True)
class MaxPoolIndices(IrregularKernel):
    """A unit is one output position; the first tap with the maximum wins, NaN is the largest."""

    family: ClassVar[str] = "max_pool_indices"
    dtype: DType
    window: Window
    x: tuple[Extent, ...]
    out: tuple[Extent, ...]
    channels: Extent
    column_major: bool

    def body(self, k: Nest) -> None:
        x, out = k.arrays(self.dtype, DType.I64)
        sizes, spatial = k.sizes(self.x), k.sizes(self.out)
        channels, area = k.size(self.channels), k.product(spatial)
        with k.units() as u, k.loop(channels) as c:
            at, image = k.split(k.rem(u, area), spatial), k.div(u, area)
            ranges = self.window.ranges(k, at, sizes)
            best, found = k.cell(k.zero(self.dtype)), k.cell(i64(-1))
            with self.window.positions(k, at, ranges) as (_, places):
                pixel = k.flat([image, *places], [0, *sizes])
                value = x.get(k.add(k.mul(pixel, channels), c))
                first = k.cmp("<", found.get(), 0)
                better = k.b.or_(first, above(k, self.dtype, value, best.get()))
                place = i64(self._flat(k, places, sizes))
                found.set(k.b.select(better, place, found.get()))
                best.set(k.b.select(better, value, best.get()))
            plane = k.mul(k.add(k.mul(image, channels), c), k.product(sizes))
            none = k.cmp("<", found.get(), 0)
            place = k.c.select(none, 0, k.add(plane, found.get()))
            out.set(k.add(k.mul(u, channels), c), place)

    def _flat(self, k: Nest, places: list[Int], sizes: list[Int]) -> Int:
        if self.column_major and len(places) > 1:
            places = [*places[:-2], places[-1], places[-2]]
            sizes = [*sizes[:-2], sizes[-1], sizes[-2]]
        return k.flat(places, sizes)


def _window(op: Any) -> Window:
    return Window(op.window, op.strides, op.pads_low, op.dilations)


@makes(nn.Pool)
def _pool(op: nn.Pool, p: Parameters) -> LoweredKernel:
    dims = op.x.shape
    assert op.kind != "lp" or op.x.dtype.is_float, "lp pooling needs floats"
    spec = Pool(
        op.x.dtype, op.kind, _window(op), op.pads_high, p.shape(dims[1:-1]), p.shape(op.shape),
        p(dims[-1]), op.count_pad, op.p,
    )  # fmt: skip
    units = dims[0] * product(op.shape)
    fine = (replace(spec, single=True), units * dims[-1])
    return LoweredKernel(spec, (op.x,), p.dims, units, fine=fine)


@makes(nn.MaxPoolIndices)
def _max_pool_indices(op: nn.MaxPoolIndices, p: Parameters) -> LoweredKernel:
    dims = op.x.shape
    sizes = p.shape(dims[1:-1]), p.shape(op.shape)
    spec = MaxPoolIndices(op.x.dtype, _window(op), *sizes, p(dims[-1]), op.column_major)
    return LoweredKernel(spec, (op.x,), p.dims, dims[0] * product(op.shape))
