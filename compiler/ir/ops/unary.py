"""Elementwise operations of one operand: `out[i] = f(x[i])`.

Floating point results are rounded to the operand's type; f16, bf16 and the narrower floats are
computed in f32 and rounded once.
"""

from tilewright.compiler.ir.core import Op, Value, op
from tilewright.compiler.ir.types import DType, TensorType


def _same(self: Op) -> tuple[TensorType, ...]:
    return (self.operands[0].type,)


def _float(self: Op) -> tuple[TensorType, ...]:
    x = self.operands[0]
    self.expect(x.dtype.is_float, f"x must have a floating point type, found {x.type}")
    return (x.type,)


def _float_to_bool(self: Op) -> tuple[TensorType, ...]:
    x = self.operands[0]
    self.expect(x.dtype.is_float, f"x must have a floating point type, found {x.type}")
    return (TensorType(DType.BOOL, x.shape),)


@op("neg")
class Neg(Op):
    """`out = -x`; unsigned and two's complement types wrap."""

    x: Value
    infer_types = _same


@op("abs")
class Abs(Op):
    """`out = |x|`."""

    x: Value
    infer_types = _same


@op("sign")
class Sign(Op):
    """`out = -1, 0 or 1` with the sign of x; NaN stays NaN."""

    x: Value
    infer_types = _same


@op("relu")
class Relu(Op):
    """`out = max(x, 0)`; NaN stays NaN."""

    x: Value
    infer_types = _same


@op("sqrt")
class Sqrt(Op):
    """`out = sqrt(x)`, correctly rounded; NaN for x < 0."""

    x: Value
    infer_types = _float


@op("exp")
class Exp(Op):
    """`out = e ** x`."""

    x: Value
    infer_types = _float


@op("log")
class Log(Op):
    """`out = ln(x)`; -inf at 0, NaN below."""

    x: Value
    infer_types = _float


@op("erf")
class Erf(Op):
    """`out = 2 / sqrt(pi) * integral of exp(-t*t) over 0..x`."""

    x: Value
    infer_types = _float


@op("tanh")
class Tanh(Op):
    """`out = tanh(x)`."""

    x: Value
    infer_types = _float


@op("sin")
class Sin(Op):
    """`out = sin(x)`, x in radians."""

    x: Value
    infer_types = _float


@op("cos")
class Cos(Op):
    """`out = cos(x)`, x in radians."""

    x: Value
    infer_types = _float


@op("tan")
class Tan(Op):
    """`out = tan(x)`, x in radians."""

    x: Value
    infer_types = _float


@op("asin")
class Asin(Op):
    """`out = arcsin(x)`."""

    x: Value
    infer_types = _float


@op("acos")
class Acos(Op):
    """`out = arccos(x)`."""

    x: Value
    infer_types = _float


@op("atan")
class Atan(Op):
    """`out = arctan(x)`."""

    x: Value
    infer_types = _float


@op("sinh")
class Sinh(Op):
    """`out = sinh(x)`."""

    x: Value
    infer_types = _float


@op("cosh")
class Cosh(Op):
    """`out = cosh(x)`."""

    x: Value
    infer_types = _float


@op("asinh")
class Asinh(Op):
    """`out = arcsinh(x)`."""

    x: Value
    infer_types = _float


@op("acosh")
class Acosh(Op):
    """`out = arccosh(x)`; NaN below 1."""

    x: Value
    infer_types = _float


@op("atanh")
class Atanh(Op):
    """`out = arctanh(x)`."""

    x: Value
    infer_types = _float


@op("ceil")
class Ceil(Op):
    """`out = least integer >= x`."""

    x: Value
    infer_types = _float


@op("floor")
class Floor(Op):
    """`out = greatest integer <= x`."""

    x: Value
    infer_types = _float


@op("round")
class Round(Op):
    """`out = nearest integer to x`, halves to even."""

    x: Value
    infer_types = _float


@op("trunc")
class Trunc(Op):
    """`out = x rounded towards zero`."""

    x: Value
    infer_types = _float


@op("sigmoid")
class Sigmoid(Op):
    """`out = 1 / (1 + exp(-x))`."""

    x: Value
    infer_types = _float


@op("silu")
class Silu(Op):
    """`out = x * sigmoid(x)`."""

    x: Value
    infer_types = _float


@op("gelu")
class Gelu(Op):
    """`out = x / 2 * (1 + erf(x / sqrt(2)))`."""

    x: Value
    infer_types = _float


@op("gelu_tanh")
class GeluTanh(Op):
    """`out = x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x**3)))`."""

    x: Value
    infer_types = _float


@op("softplus")
class Softplus(Op):
    """`out = ln(1 + exp(x))`, without overflow for large x."""

    x: Value
    infer_types = _float


@op("reciprocal")
class Reciprocal(Op):
    """`out = 1 / x`."""

    x: Value
    infer_types = _float


@op("is_nan")
class IsNan(Op):
    """`out = x is NaN`."""

    x: Value
    infer_types = _float_to_bool


@op("is_inf")
class IsInf(Op):
    """`out = x is +inf (if positive) or -inf (if negative)`."""

    x: Value
    positive: bool = True
    negative: bool = True
    infer_types = _float_to_bool


@op("not")
class Not(Op):
    """`out = not x` on booleans."""

    x: Value

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.x.dtype == DType.BOOL, f"x must be bool, found {self.x.type}")
        return (self.x.type,)


@op("bit_not")
class BitNot(Op):
    """`out = ~x` on integers."""

    x: Value

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.x.dtype.is_int, f"x must be an integer, found {self.x.type}")
        return (self.x.type,)


@op("cast")
class Cast(Op):
    """`out = x converted to dtype`.

    Float to integer truncates towards zero; out-of-range and NaN give an unspecified value of the
    type, never a fault. To a narrower float: round to nearest even; out-of-range gives the largest
    finite value if `saturate` (float8 only), else inf (or NaN where the type has no inf).
    To bool: `x != 0`. Integer to integer wraps.
    """

    x: Value
    dtype: DType
    saturate: bool = True

    def infer_types(self) -> tuple[TensorType, ...]:
        return (TensorType(self.dtype, self.x.shape),)


@op("bitcast")
class Bitcast(Op):
    """`out = the bits of x as dtype`, element by element; both have the same width."""

    x: Value
    dtype: DType

    def infer_types(self) -> tuple[TensorType, ...]:
        same = self.dtype.bits == self.x.dtype.bits
        self.expect(same, f"{self.dtype} and {self.x.dtype} have different widths")
        return (TensorType(self.dtype, self.x.shape),)
