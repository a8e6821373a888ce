"""The custom kinds of object detection: `non_max_suppression` and `roi_align`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from llvmlite import ir

from tilewright.backends.llvm.builder import I64, Int, i64
from tilewright.backends.llvm.irregular.heap import sort
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes_kind,
)
from tilewright.backends.llvm.irregular.nest import Array, Cell, Extent, Nest
from tilewright.backends.llvm.irregular.numeric import compute_type
from tilewright.backends.llvm.irregular.scalar import float_max
from tilewright.compiler.ir.ops.control import Custom
from tilewright.compiler.ir.types import DType

Sides = list[tuple[ir.Value, ir.Value]]
Span = tuple[ir.Value, ir.Value, Int]


@dataclass(frozen=True)
class NonMaxSuppression(IrregularKernel):
    """Sorts the boxes of a class by score and takes those that overlap no taken one: one unit.

    Scratch: one i64 for every box. Extra argument: the number of rows written.
    """

    family: ClassVar[str] = "non_max_suppression"
    batch: Extent
    classes: Extent
    boxes: Extent
    centred: bool

    def body(self, k: Nest) -> None:
        f32, whole = DType.F32, DType.I64
        boxes, scores, most, overlap, least, out, total = k.arrays(
            f32, f32, whole, f32, f32, whole, whole
        )
        batch, classes, count = k.sizes((self.batch, self.classes, self.boxes))
        order = k.scratch_array(whole)
        with k.units():
            rows = k.cell(i64(0))
            with k.loop(batch) as b, k.loop(classes) as c:
                line = k.mul(k.add(k.mul(b, classes), c), count)

                def before(i: Int, j: Int, line: Int = line) -> ir.Value:
                    x, y = scores.get(k.add(line, i)), scores.get(k.add(line, j))
                    tie = k.b.and_(k.m.fcmp("==", x, y), k.cmp("<", i, j))
                    return k.b.or_(k.m.fcmp(">", x, y), tie)

                found = k.cell(i64(0))
                with k.loop(count) as i:
                    good = k.m.fcmp(">", scores.get(k.add(line, i)), least.get(0))
                    with k.when(good):
                        order.set(found.get(), i)
                        found.set(k.b.add(found.get(), i64(1)))
                sort(k, order, before, found.get())
                start = rows.get()
                with k.loop(found.get()) as i:
                    box, taken = order.get(i), rows.get()
                    free = k.cell(k.cmp("<", k.sub(taken, start), most.get(0)))
                    mine = self._sides(k, boxes, k.add(k.mul(b, count), box))
                    with k.loop(taken, start) as r:
                        other = out.get(k.add(k.mul(r, 3), 2))
                        sides = self._sides(k, boxes, k.add(k.mul(b, count), other))
                        clash = self._overlaps(k, mine, sides, overlap.get(0))
                        free.set(k.b.and_(free.get(), k.b.not_(clash)))
                    with k.when(free.get()):
                        for column, value in enumerate((b, c, box)):
                            out.set(k.add(k.mul(taken, 3), column), value)
                        rows.set(k.b.add(taken, i64(1)))
            total.set(0, rows.get())

    def _sides(self, k: Nest, boxes: Array, box: Int) -> Sides:
        """(low, high) along the two axes."""
        first, m = k.mul(box, 4), k.m
        a, b, c, d = (boxes.get(k.add(first, i)) for i in range(4))
        pairs = ((a, c), (b, d))
        if self.centred:
            two = m.const("f32", 2.0)
            halves = [(middle, m.div(size, two)) for middle, size in pairs]
            return [(m.sub(middle, half), m.add(middle, half)) for middle, half in halves]
        below = [m.fcmp("<", p, q) for p, q in pairs]
        return [
            (m.select(less, p, q), m.select(less, q, p))
            for less, (p, q) in zip(below, pairs, strict=True)
        ]

    def _overlaps(self, k: Nest, a: Sides, b: Sides, limit: ir.Value) -> ir.Value:
        """Whether the shared area is more than `limit` of the union."""
        m, zero = k.m, k.m.const("f32", 0.0)
        edges = []
        for (low, high), (low2, high2) in zip(a, b, strict=True):
            top = m.select(m.fcmp("<", high, high2), high, high2)
            edge = m.sub(top, m.select(m.fcmp(">", low, low2), low, low2))
            edges.append(m.select(m.fcmp(">", edge, zero), edge, zero))
        shared = m.mul(*edges)
        one, two = (m.mul(*(m.sub(high, low) for low, high in box)) for box in (a, b))
        union = m.sub(m.add(one, two), shared)
        real = k.b.and_(m.fcmp(">", one, zero), m.fcmp(">", two, zero))
        real = k.b.and_(real, k.b.and_(m.fcmp(">", union, zero), m.fcmp(">", shared, zero)))
        return k.b.and_(real, m.fcmp(">", m.div(shared, union), limit))


@dataclass(frozen=True)
class RoiAlign(IrregularKernel):
    """Bilinear samples of regions of x: [N, C, H, W]; a unit is one region and channel."""

    family: ClassVar[str] = "roi_align"
    dtype: DType
    x: tuple[Extent, ...]
    pooled: tuple[Extent, ...]
    mode: str
    half_pixel: bool
    ratio: int
    scale: float

    def body(self, k: Nest) -> None:
        x, rois, batch, out = k.arrays(self.dtype, self.dtype, DType.I64, self.dtype)
        images, channels, *sizes = k.sizes(self.x)
        pooled, real = k.sizes(self.pooled), compute_type(self.dtype)
        with k.units() as u:
            r, c = k.div(u, channels), k.rem(u, channels)
            image = k.position(batch.get(r), images)
            plane = k.mul(k.add(k.mul(image, channels), c), k.product(sizes))
            spans = [self._span(k, rois, k.mul(r, 4), axis, pooled[axis]) for axis in (0, 1)]
            grid = [span[2] for span in spans]
            samples = k.b.sitofp(i64(k.max(k.product(grid), 1)), real)
            with k.nest(pooled) as bins:
                total = k.cell(ir.Constant(real, 0))
                seen = k.cell(ir.Constant(ir.IntType(1), 0))
                with k.nest(grid) as steps:
                    places = [
                        self._place(k, span, p, i)
                        for span, p, i in zip(spans, bins, steps, strict=True)
                    ]
                    self._sample(k, x, plane, places, sizes, total, seen)
                value = total.get()
                if self.mode == "avg":
                    value = k.m.div(value, samples)
                out.set(k.flat([u, *bins], [0, *pooled]), value)

    def _span(self, k: Nest, rois: Array, roi: Int, axis: int, bins: Int) -> Span:
        """Along y (0) or x (1): start, size of a bin, samples of a bin."""
        m = k.m
        name = m.dtype(rois.get(roi))
        scale = m.const(name, float(np.float32(self.scale)) if name == "f32" else self.scale)
        shift = m.const(name, 0.5 if self.half_pixel else 0.0)
        low, high = (rois.get(k.add(roi, 1 - axis + i)) for i in (0, 2))
        start = m.sub(m.mul(low, scale), shift)
        length = m.sub(m.sub(m.mul(high, scale), shift), start)
        if not self.half_pixel:
            length = float_max(k, length, m.const(name, 1.0))
        step = m.div(length, k.b.sitofp(i64(bins), length.type))
        if self.ratio > 0:
            return start, step, self.ratio
        wanted = m.ceil(step)
        positive = m.select(m.fcmp(">", wanted, m.const(name, 0.0)), wanted, m.const(name, 0.0))
        return start, step, k.b.fptosi(positive, I64)

    def _place(self, k: Nest, span: Span, bin: Int, i: Int) -> ir.Value:
        m, (start, step, grid) = k.m, span
        number = [k.b.sitofp(i64(v), start.type) for v in (bin, i, grid)]
        half = m.const(m.dtype(start), 0.5)
        inner = m.div(m.mul(m.add(number[1], half), step), number[2])
        return m.add(m.add(start, m.mul(number[0], step)), inner)

    def _sample(
        self, k: Nest, x: Array, plane: Int, places: list[ir.Value], sizes: list[Int],
        total: Cell, seen: Cell,
    ) -> None:  # fmt: skip
        m = k.m
        inside: ir.Value = ir.Constant(ir.IntType(1), 1)
        for place, size in zip(places, sizes, strict=True):
            one, length = m.const(m.dtype(place), -1.0), k.b.sitofp(i64(size), place.type)
            within = k.b.and_(m.fcmp(">=", place, one), m.fcmp("<=", place, length))
            inside = k.b.and_(inside, within)
        with k.c.either(inside) as (yes, no):
            with yes:
                taps = [self._taps(k, p, n) for p, n in zip(places, sizes, strict=True)]
                for y, wy in taps[0]:
                    for column, wx in taps[1]:
                        at = k.add(plane, k.add(k.mul(y, sizes[1]), column))
                        self._take(k, m.mul(m.mul(wy, wx), x.get(at)), total, seen)
            with no:
                self._take(k, ir.Constant(total.typ, 0), total, seen)

    def _taps(self, k: Nest, place: ir.Value, size: Int) -> list[tuple[Int, ir.Value]]:
        """The two neighbours along an axis and their weights."""
        m, zero = k.m, k.m.const(k.m.dtype(place), 0.0)
        place = m.select(m.fcmp(">", place, zero), place, zero)
        low = k.min(k.b.fptosi(place, I64), k.sub(size, 1))
        high = k.min(k.add(low, 1), k.sub(size, 1))
        share = m.sub(place, k.b.sitofp(i64(low), place.type))
        share = m.select(k.cmp(">", high, low), share, zero)
        return [(low, m.sub(m.const(m.dtype(place), 1.0), share)), (high, share)]

    def _take(self, k: Nest, value: ir.Value, total: Cell, seen: Cell) -> None:
        if self.mode == "avg":
            total.set(k.m.add(total.get(), value))
            return
        total.set(k.m.select(seen.get(), float_max(k, total.get(), value), value))
        seen.set(ir.Constant(ir.IntType(1), 1))


@makes_kind("non_max_suppression")
def _non_max_suppression(op: Custom, p: Parameters) -> LoweredKernel:
    scores = op.inputs[1].shape
    centred = bool(dict(op.params)["center_point_box"])
    spec = NonMaxSuppression(p(scores[0]), p(scores[1]), p(scores[2]), centred)
    count = op.types[0].shape[0]
    return LoweredKernel(spec, op.inputs, p.dims, 1, scores[2] * 8, counts=(count,))


@makes_kind("roi_align")
def _roi_align(op: Custom, p: Parameters) -> LoweredKernel:
    x, options, out = op.inputs[0], dict(op.params), op.types[0].shape
    spec = RoiAlign(
        x.dtype, p.shape(x.shape), p.shape(out[2:]), str(options["mode"]),
        bool(options["half_pixel"]), int(options["sampling_ratio"]),  # type: ignore[arg-type]
        float(options["spatial_scale"]),  # type: ignore[arg-type]
    )  # fmt: skip
    error = "roi_align: a batch index is out of range"
    return LoweredKernel(spec, op.inputs, p.dims, out[0] * out[1], error=error)
