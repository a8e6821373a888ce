"""The pixels that a block of output rows reads, as bf16 planes in scratch.

With strides s, tap t of an axis reads input coordinate o*s + t*dilation - pad of output o. Inputs
are kept in one plane for each remainder of coordinates by the strides, so that in a plane the next
output's pixel is the next pixel. Rows are as long as the outputs' and the taps' reach together:
output (y, x) is then pixel y*width + x and every tap is one constant distance away, also across
row ends (the few pixels beyond a row's outputs are computed and dropped).
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.bf16_direct_conv.spec import Bf16DirectConvSpec
from tilewright.backends.llvm import bf16, formats
from tilewright.backends.llvm.builder import I8, I32, I64, Code, Int, i64


@dataclass(frozen=True)
class Planes:
    """Sizes at run time: input extents, ``width`` of a plane's rows, ``height`` of a whole block's
    planes, bytes of a plane and of all planes of one bf16 part."""

    spec: Bf16DirectConvSpec
    inputs: tuple[Int, Int]
    width: Int
    plane: Int
    part: Int

    @classmethod
    def of(
        cls, code: Code, spec: Bf16DirectConvSpec, inputs: tuple[Int, Int], rows: Int, columns: Int
    ) -> Planes:
        down, across = spec.reach
        width = code.add(columns, across)
        plane = code.mul(code.mul(code.add(rows, down), width), spec.pixel_bytes)
        return cls(spec, inputs, width, plane, code.mul(plane, len(spec.phases)))

    def offset(self, code: Code, tap: int) -> Int:
        """Bytes from an output's pixel in plane 0 to that of filter tap ``tap`` (row-major)."""
        spec = self.spec
        (_, sh, _, dh), (kw, sw, _, dw) = spec.axes
        down, across = tap // kw * dh, tap % kw * dw
        number = spec.phases.index((down % sh, across % sw))
        pixel = code.add(code.mul(self.width, down // sh), across // sw)
        return code.add(code.mul(self.plane, number), code.mul(pixel, spec.pixel_bytes))

    def fill(
        self, code: Code, image: ir.Value, channel: Int, first: Int, rows: Int, out: ir.Value
    ) -> None:
        """Convert what ``rows`` output rows from ``first`` on read of ``image``; pads are zero."""
        spec = self.spec
        (_, sh, ph, _), (_, sw, pw, _) = spec.axes
        down, _ = spec.reach
        height, breadth = self.inputs
        for number, (row_phase, column_phase) in enumerate(spec.phases):
            shift = pw - column_phase
            low = max(0, -(-shift // sw))
            high = code.div(code.add(breadth, shift + sw - 1), sw)
            base = code.at(out, code.mul(self.plane, number), I8)
            with code.loop(0, code.add(rows, down)) as row:
                source_row = code.add(code.mul(code.add(first, row.index), sh), row_phase - ph)
                valid = code.b.icmp_unsigned("<", i64(source_row), i64(height))
                stop = code.select(valid, code.min(high, self.width), 0)
                start = code.min(low, stop)
                line = code.at(
                    base, code.mul(code.mul(row.index, self.width), spec.pixel_bytes), I8
                )
                self._zeros(code, line, 0, start)
                self._zeros(code, line, stop, self.width)
                pixel = code.add(
                    code.mul(source_row, breadth), code.sub(code.mul(start, sw), shift)
                )
                element = formats.ELEMENT[spec.x]
                place = code.add(code.mul(pixel, spec.channels), channel)
                source = code.at(image, place, element)
                with code.loop(start, stop, 1, [source]) as column:
                    target = code.at(line, code.mul(column.index, spec.pixel_bytes), I8)
                    self._pixel(code, column.carried[0], target)
                    column.next = [code.at(column.carried[0], sw * spec.channels, element)]

    def _zeros(self, code: Code, line: ir.Value, first: Int, last: Int) -> None:
        size = self.spec.pixel_bytes
        lines = self.spec.group_channels * 2 // 64
        zero = ir.Constant(ir.VectorType(I64, 8), None)
        for part in range(self.spec.matrix.planes):
            base = code.at(line, code.mul(self.part, part), I8)
            with code.loop(first, last) as pixel, code.loop(0, lines) as at:
                index = code.add(code.mul(pixel.index, size), code.mul(at.index, 64))
                code.vstore(zero, code.at(base, index, I8))

    def _pixel(self, code: Code, source: ir.Value, target: ir.Value) -> None:
        """The group's channels of one pixel, 32 a trip."""
        parts = self.spec.matrix.planes
        with code.loop(0, self.spec.group_channels, 2 * bf16.LANES) as at:
            if self.spec.x == formats.BF16_FORMAT:
                place = code.mul(at.index, 2)
                words = code.vload(code.at(source, place, I8), bf16.LANES, element=I32)
                code.vstore(words, code.at(target, place, I8))
            else:
                for half in (0, bf16.LANES):
                    channel = code.add(at.index, half)
                    value = code.vload(code.at(source, channel), bf16.LANES)
                    for part, converted in enumerate(bf16.split(code, value, parts)):
                        place = code.add(code.mul(self.part, part), code.mul(channel, 2))
                        code.vstore(converted, code.at(target, place, I8))
