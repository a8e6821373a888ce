"""The contraction of any spec and element types, and convolution of any rank and element type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tilewright.backends.llvm.builder import Int
from tilewright.backends.llvm.irregular.accumulate import (
    Accumulator,
    Epilogue,
    sum_one,
    sum_run,
    vectorizes,
)
from tilewright.backends.llvm.irregular.elementwise import repeats
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Extent, Nest
from tilewright.backends.llvm.irregular.pooling import Window
from tilewright.backends.llvm.irregular.scalar import of_region
from tilewright.compiler.ir.core import Region, Value
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops.contraction import Contract as ContractOp
from tilewright.compiler.ir.ops.contraction import Conv as ConvOp
from tilewright.compiler.ir.ops.contraction import axis_sizes
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True)
class Contract(IrregularKernel):
    """A unit is a run over the last letter of the result, or one element of it.

    `b_run`: that letter is b's last and not a's, so b's elements for the run are neighbours.
    """

    family: ClassVar[str] = "contract"
    a: DType
    b: DType
    letters: tuple[str, str, str]
    sizes: tuple[tuple[str, Extent], ...]
    epilogue: Epilogue
    single: bool = False

    def body(self, k: Nest) -> None:
        e = self.epilogue
        a, b, *extras, out = k.arrays(self.a, self.b, *e.extras, e.out)
        ia, ib, io = self.letters
        size = {letter: k.size(extent) for letter, extent in self.sizes}
        summed = [c for c in ia if c in ib and c not in io]
        sizes = [size[c] for c in io]
        run = io[-1] if io else ""
        a_run = bool(io) and ia.endswith(run)
        b_run = bool(io) and ib.endswith(run)
        fits = all(not used or vectorizes(k, d) for used, d in ((a_run, self.a), (b_run, self.b)))
        neighbours = (a_run or run not in ia) and (b_run or run not in ib)
        vector = bool(io) and fits and neighbours

        def multiply(sums: Accumulator, j: Int) -> None:
            at = dict(zip(io, [*outer, j], strict=True)) if io else {}
            with k.nest([size[c] for c in summed]) as inner:
                place = at | dict(zip(summed, inner, strict=True))
                left = k.flat([place[c] for c in ia], [size[c] for c in ia])
                right = k.flat([place[c] for c in ib], [size[c] for c in ib])
                sums.add_product(sums.load(a, left, a_run), sums.load(b, right, b_run))

        with k.units() as u:
            if self.single:
                *outer, j = k.split(u, sizes) if io else [0]
                sum_one(k, e, multiply, j, extras, out, [*outer, j] if io else [], sizes)
            elif io:
                outer = k.split(u, sizes[:-1])
                sum_run(k, e, multiply, sizes[-1], vector, extras, out, outer, sizes)
            else:
                sum_one(k, e, multiply, 0, extras, out, [], [])


@dataclass(frozen=True)
class Conv(IrregularKernel):
    """Channels-last convolution; a unit is one output position and group (all its channels),
    or one element of the result."""

    family: ClassVar[str] = "conv"
    dtype: DType
    weights: DType
    window: Window
    groups: int
    x: tuple[Extent, ...]
    out: tuple[Extent, ...]
    depth: Extent
    channels: Extent
    epilogue: Epilogue
    single: bool = False

    def body(self, k: Nest) -> None:
        e = self.epilogue
        x, w, *extras, out = k.arrays(self.dtype, self.weights, *e.extras, e.out)
        have, spatial = k.sizes(self.x), k.sizes(self.out)
        depth, total = k.size(self.depth), k.size(self.channels)
        width, area = k.div(total, self.groups), k.product(spatial)
        taps = k.sizes(self.window.taps)
        sizes = [0, *spatial, total]

        def multiply(sums: Accumulator, j: Int) -> None:
            with self.window.positions(k, at, ranges) as (tap, places):
                pixel = k.mul(k.flat([image, *places], [0, *have]), k.mul(depth, self.groups))
                pixel = k.add(pixel, k.mul(group, depth))
                row = k.mul(k.flat(tap, taps), depth)
                with k.loop(depth) as c:
                    weight = k.add(k.mul(k.add(row, c), total), k.add(first, j))
                    left = sums.load(x, k.add(pixel, c), False)
                    sums.add_product(left, sums.load(w, weight, True))

        with k.units() as u:
            runs = total if self.single else self.groups
            position, group = k.div(u, runs), k.rem(u, runs)
            if self.single:
                channel = group
                group = k.div(channel, width)
            image, at = k.div(position, area), k.split(k.rem(position, area), spatial)
            ranges, first = self.window.ranges(k, at, have), k.mul(group, width)
            if self.single:
                j = k.sub(channel, first)
                sum_one(k, e, multiply, j, extras, out, [image, *at, channel], sizes)
            else:
                vector = vectorizes(k, self.weights)
                sum_run(k, e, multiply, width, vector, extras, out, [image, *at], sizes, first)


def _epilogue(sums: DType, body: Region | None, extras: tuple[Value, ...], out: Value) -> Epilogue:
    program = None if body is None else of_region(body)
    if body is not None and program is None:
        raise KeyError("the body is not a chain of elementwise operations")
    repeated = tuple(repeats(v, out.shape) for v in extras)
    return Epilogue(sums, out.dtype, program, repeated)


@makes(ContractOp)
def _contract(op: ContractOp, p: Parameters) -> LoweredKernel:
    letters, sizes = axis_sizes(op.spec, op.a, op.b)
    small = (DType.I8, DType.U8)
    sums = DType.I32 if op.a.dtype in small and op.b.dtype in small else op.a.dtype
    extents = tuple((letter, p(size)) for letter, size in sizes.items())
    ia, ib, io = letters
    epilogue = _epilogue(sums, op.body, op.extras, op.out)
    spec = Contract(op.a.dtype, op.b.dtype, (ia, ib, io), extents, epilogue)
    units, fine = product(op.out.shape[:-1]), (replace(spec, single=True), product(op.out.shape))
    return LoweredKernel(spec, (op.a, op.b, *op.extras), p.dims, units, fine=fine)


@makes(ConvOp)
def _conv(op: ConvOp, p: Parameters) -> LoweredKernel:
    x, w, out = op.x.shape, op.w.shape, op.out.shape
    window = Window(p.shape(w[:-2]), op.strides, op.pads_low, op.dilations)
    small = (DType.I8, DType.U8)
    sums = DType.I32 if op.x.dtype in small and op.w.dtype in small else op.x.dtype
    epilogue = _epilogue(sums, op.body, op.extras, op.out)
    spec = Conv(
        op.x.dtype, op.w.dtype, window, op.groups, p.shape(x[1:-1]), p.shape(out[1:-1]),
        p(w[-2]), p(w[-1]), epilogue,
    )  # fmt: skip
    units, fine = product(out[:-1]) * op.groups, (replace(spec, single=True), product(out))
    return LoweredKernel(spec, (op.x, op.w, *op.extras), p.dims, units, fine=fine)
