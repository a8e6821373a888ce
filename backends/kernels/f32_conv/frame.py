"""What convolutions as products of gathered pixels and packed filters have around them."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.f32_conv.geometry import Geometry
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.llvm.builder import F32, Code, Int
from tilewright.backends.llvm.epilogue import Epilogue, Operand, load_extras
from tilewright.backends.llvm.frame import Frame, Units


@dataclass(frozen=True)
class Conv:
    """Arguments of a convolution: the sizes, X, packed filters, the epilogue's extras, Y."""

    g: Geometry
    x: ir.Value
    w: ir.Value
    operands: tuple[Operand, ...]
    y: ir.Value

    @classmethod
    def load(cls, frame: Frame, spec: ConvSpec, epilogue: Epilogue, before: int = 2) -> Conv:
        """``before``: arguments in front of the extras."""
        code, args, dims = frame.code, frame.args, frame.dims
        g = Geometry.load(code, spec, dims)
        x, w = frame.pointer(0), frame.pointer(1)
        operands = load_extras(code, epilogue, args, before, dims, 2 * spec.rank + 2)
        return cls(g, x, w, operands, frame.pointer(before + len(operands)))

    def pixel(self, code: Code, start: Int, element: ir.Type = F32) -> ir.Value:
        """X from pixel ``start`` on: the matrix A of a pointwise convolution."""
        return code.at(self.x, code.mul(start, self.g.spec.channels), element)

    def result(self, code: Code, start: Int, column: Int, element: ir.Type = F32) -> ir.Value:
        """Y from output pixel ``start`` and channel ``column`` on."""
        line = code.at(self.y, code.mul(start, self.g.ldy), element)
        return code.at(line, column, element)


def units(spec: ConvSpec) -> Units:
    """Of blocks of output pixels and panels of their groups' channels."""
    return Units(spec.panels, spec.panels_per_unit, spec.groups)
