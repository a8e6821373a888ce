"""Run-time geometry of a convolution while its kernel is emitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.llvm.builder import Code, Int, i64
from tilewright.backends.llvm.frame import load_dim


@dataclass(frozen=True)
class Geometry:
    """Sizes as values: batch, input and output extents, and output pixel stride."""

    spec: ConvSpec
    batch: ir.Value
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    ldy: ir.Value
    pixels: Int

    @classmethod
    def load(cls, code: Code, spec: ConvSpec, dims: ir.Value) -> Geometry:
        values = [load_dim(code, dims, i) for i in range(2 * spec.rank + 2)]
        outputs = tuple(values[1 + spec.rank : 1 + 2 * spec.rank])
        pixels: Int = values[0]
        for size in outputs:
            pixels = code.mul(pixels, size)
        inputs = tuple(values[1 : 1 + spec.rank])
        return cls(spec, values[0], inputs, outputs, values[-1], pixels)

    def planar(self, sizes: Sequence[ir.Value]) -> tuple[Int, Int]:
        """(height, width) of ``inputs`` or ``outputs``, for spatial ranks 1 and 2."""
        height: Int = sizes[-2] if len(sizes) > 1 else 1
        return height, sizes[-1]

    def decode(self, code: Code, pixel: Int) -> list[ir.Value]:
        """Pixel number -> [n, o..] (a few divisions; use once, then ``advance``)."""
        out: list[ir.Value] = []
        for size in reversed(self.outputs):
            safe = code.max(size, 1)
            out.insert(0, i64(code.rem(pixel, safe)))
            pixel = code.div(pixel, safe)
        return [i64(pixel), *out]

    def advance(self, code: Code, at: Sequence[ir.Value]) -> list[ir.Value]:
        """The next pixel in order."""
        new, carry = list(at), code.cmp("==", 0, 0)
        for d in range(self.spec.rank, 0, -1):
            stepped = code.select(carry, code.add(new[d], 1), new[d])
            carry = code.cmp("==", stepped, self.outputs[d - 1])
            new[d] = code.select(carry, 0, stepped)
        new[0] = code.select(carry, code.add(new[0], 1), new[0])
        return new

    def corner(self, code: Code, at: Sequence[ir.Value]) -> list[Int]:
        """Input coordinates of the first tap (may be negative)."""
        spec = self.spec
        return [
            code.sub(code.mul(o, s), p)
            for o, s, p in zip(at[1:], spec.strides, spec.pads, strict=True)
        ]

    def offset(self, code: Code, n: Int, coordinates: Sequence[Int]) -> Int:
        """Elements from X to channel 0 of input pixel ``coordinates`` of image ``n``."""
        index = n
        for size, i in zip(self.inputs, coordinates, strict=True):
            index = code.add(code.mul(index, size), i)
        return code.mul(index, self.spec.channels)

    def inside(self, code: Code, axis: int, i: Int) -> ir.Value:
        """0 <= i < size: one unsigned comparison."""
        return code.b.icmp_unsigned("<", i64(i), self.inputs[axis])
