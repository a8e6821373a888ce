"""Geometry of tiles at run time: where they are, and their 4x4 input pixels."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.gather import copy_constant
from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.kernels.f32_winograd.spec import WinogradSpec
from tilewright.backends.llvm.builder import PTR, Code, Int, i64

At = list[ir.Value]
"""Image, tile row, tile column."""


@dataclass(frozen=True)
class Tiles:
    """Sizes as values: input and output extents, tiles along both axes and in all."""

    spec: WinogradSpec
    inputs: tuple[ir.Value, ir.Value]
    outputs: tuple[ir.Value, ir.Value]
    across: tuple[Int, Int]
    total: Int

    @classmethod
    def of(cls, code: Code, g: Geometry) -> Tiles:
        """The tiles of a Winograd convolution's output."""
        assert isinstance(g.spec, WinogradSpec)
        (h, w), (rows, columns) = g.inputs, g.outputs
        across = (code.ceildiv(rows, 2), code.ceildiv(columns, 2))
        total = code.mul(g.batch, code.mul(*across))
        return cls(g.spec, (h, w), (rows, columns), across, total)

    def decode(self, code: Code, tile: Int) -> At:
        """Tile number -> where it is."""
        width = code.max(self.across[1], 1)
        line, x = code.div(tile, width), code.rem(tile, width)
        height = code.max(self.across[0], 1)
        return [i64(code.div(line, height)), i64(code.rem(line, height)), i64(x)]

    def advance(self, code: Code, at: At) -> At:
        """The next tile in order."""
        n, y, x = at
        right = code.add(x, 1)
        ends = code.cmp("==", right, self.across[1])
        down = code.select(ends, code.add(y, 1), y)
        over = code.cmp("==", down, self.across[0])
        return [
            code.select(over, code.add(n, 1), n),
            code.select(over, 0, down),
            code.select(ends, 0, right),
        ]

    def pixels(self, code: Code, x: ir.Value, patch: ir.Value, at: At) -> tuple[ir.Value, ir.Value]:
        """The tile's first input pixel and the floats from row to row: in X, or in ``patch`` if
        some are padding. Pixels of a row are ``channels`` apart."""
        spec = self.spec
        n, (h, w) = at[0], self.inputs
        top = code.sub(code.mul(at[1], 2), spec.pads[0])
        left = code.sub(code.mul(at[2], 2), spec.pads[1])
        inside = code.cmp(">=", top, 0)
        for ok in (
            code.cmp(">=", left, 0),
            code.cmp("<=", code.add(top, 4), h),
            code.cmp("<=", code.add(left, 4), w),
        ):
            inside = code.b.and_(inside, ok)

        def address(row: Int, column: Int) -> ir.Value:
            pixel = code.add(code.mul(code.add(code.mul(n, h), row), w), column)
            return code.at(x, code.mul(pixel, spec.channels))

        with code.either(inside) as (whole, border):
            with whole:
                start = address(top, left)
                from_whole = code.b.block
            with border:
                self._fill(code, patch, top, left, address)
                from_border = code.b.block
        base = code.b.phi(PTR)
        base.add_incoming(start, from_whole)
        base.add_incoming(patch, from_border)
        row_floats = code.select(inside, code.mul(w, spec.channels), 4 * spec.channels)
        return base, row_floats

    def _fill(self, code: Code, patch: ir.Value, top: Int, left: Int, address: object) -> None:
        """Copy the tile's pixels, zeros for padding."""
        assert callable(address)
        channels = self.spec.channels
        h, w = self.inputs
        with code.loop(0, 4) as row, code.loop(0, 4) as column:
            y, x = code.add(top, row.index), code.add(left, column.index)
            valid = code.b.and_(
                code.b.icmp_unsigned("<", i64(y), h), code.b.icmp_unsigned("<", i64(x), w)
            )
            pixel = code.add(code.mul(row.index, 4), column.index)
            target = code.at(patch, code.mul(pixel, channels))
            with code.either(valid) as (there, padding):
                with there:
                    copy_constant(code, target, address(y, x), channels)
                with padding:
                    copy_constant(code, target, None, channels)
