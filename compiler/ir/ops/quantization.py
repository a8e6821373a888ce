"""Quantization whose scale and zero point are known when the model runs."""

from tilewright.compiler.ir.core import Op, Value, op
from tilewright.compiler.ir.types import DType, TensorType


@op("quantization_range")
class QuantizationRange(Op):
    """Scale f32[] and zero point u8[] that map the range of x, 0 included, to 0 .. 255.

    `scale = (high - low) / 255`, `zero = saturate(round(-low / scale))` with `low = min(x, 0)` and
    `high = max(x, 0)` over all of x; NaN in x gives the scale NaN, and zero is 0 where the scale is
    0 or no number (ONNX DynamicQuantizeLinear).
    """

    x: Value

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.x.dtype == DType.F32, f"x must be f32, found {self.x.type}")
        return (TensorType(DType.F32, ()), TensorType(DType.U8, ()))


@op("quantize")
class Quantize(Op):
    """`out = saturate(round(x / scale) + zero)` as u8, with one scale f32[] and zero point u8[].

    Rounds half to even; a quotient that is NaN gives 0.
    """

    x: Value
    scale: Value
    zero: Value

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.x.dtype == DType.F32, f"x must be f32, found {self.x.type}")
        self.expect(self.scale.type == TensorType(DType.F32, ()), f"scale is {self.scale.type}")
        self.expect(self.zero.type == TensorType(DType.U8, ()), f"zero is {self.zero.type}")
        return (TensorType(DType.U8, self.x.shape),)
