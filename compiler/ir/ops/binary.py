"""Elementwise operations of two or three operands, with numpy broadcasting of equal ranks or fewer.

Operands have one element type. Two dimensions are compatible when they are equal expressions or
one of them is 1.
"""

from tilewright.compiler.ir.core import Op, TypeRule, Value, op
from tilewright.compiler.ir.dims import Dim, Shape
from tilewright.compiler.ir.types import DType, TensorType


def broadcast_dims(a: Dim, b: Dim) -> Dim:
    """The broadcast of two dimensions; raises `TypeRule` when they are incompatible."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    raise TypeRule(f"dimensions {a} and {b} do not broadcast")


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The numpy broadcast of shapes; raises `TypeRule` when they are incompatible."""
    rank = max(map(len, shapes))
    out: list[Dim] = [1] * rank
    for shape in shapes:
        for i, dim in enumerate(shape, start=rank - len(shape)):
            try:
                out[i] = broadcast_dims(out[i], dim)
            except TypeRule as error:
                raise TypeRule(f"shapes {', '.join(map(_text, shapes))}: {error}") from None
    return tuple(out)


def _text(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _common(self: Op, values: tuple[Value, ...]) -> TensorType:
    dtypes = {v.dtype for v in values}
    types = ", ".join(str(v.type) for v in values)
    self.expect(len(dtypes) == 1, f"operands have different element types: {types}")
    return TensorType(values[0].dtype, broadcast_shapes(*(v.shape for v in values)))


def _same(self: Op) -> tuple[TensorType, ...]:
    return (_common(self, self.operands),)


def _number(self: Op) -> tuple[TensorType, ...]:
    out = _common(self, self.operands)
    self.expect(out.dtype != DType.BOOL, "operands must be numbers, found bool")
    return (out,)


def _integer(self: Op) -> tuple[TensorType, ...]:
    out = _common(self, self.operands)
    self.expect(out.dtype.is_int, f"operands must be integers, found {out.dtype}")
    return (out,)


def _bool(self: Op) -> tuple[TensorType, ...]:
    out = _common(self, self.operands)
    self.expect(out.dtype == DType.BOOL, f"operands must be bool, found {out.dtype}")
    return (out,)


def _compare(self: Op) -> tuple[TensorType, ...]:
    return (TensorType(DType.BOOL, _common(self, self.operands).shape),)


@op("add")
class Add(Op):
    """`out = a + b`; integers wrap."""

    a: Value
    b: Value
    infer_types = _number


@op("sub")
class Sub(Op):
    """`out = a - b`; integers wrap."""

    a: Value
    b: Value
    infer_types = _number


@op("mul")
class Mul(Op):
    """`out = a * b`; integers wrap."""

    a: Value
    b: Value
    infer_types = _number


@op("div")
class Div(Op):
    """`out = a / b`; integers truncate towards zero, division by zero gives 0, never a fault."""

    a: Value
    b: Value
    infer_types = _number


@op("pow")
class Pow(Op):
    """`out = a ** b` with C's pow rules for floats; integers by repeated multiplication."""

    a: Value
    b: Value
    infer_types = _number


@op("mod")
class Mod(Op):
    """`out = a - floor(a / b) * b` (the sign of b); integer division by zero gives 0."""

    a: Value
    b: Value
    infer_types = _number


@op("fmod")
class Fmod(Op):
    """`out = a - trunc(a / b) * b` (the sign of a); integer division by zero gives 0."""

    a: Value
    b: Value
    infer_types = _number


@op("min")
class Min(Op):
    """`out = the smaller of a and b`; NaN if either is NaN."""

    a: Value
    b: Value
    infer_types = _number


@op("max")
class Max(Op):
    """`out = the larger of a and b`; NaN if either is NaN."""

    a: Value
    b: Value
    infer_types = _number


@op("bit_and")
class BitAnd(Op):
    """`out = a & b`."""

    a: Value
    b: Value
    infer_types = _integer


@op("bit_or")
class BitOr(Op):
    """`out = a | b`."""

    a: Value
    b: Value
    infer_types = _integer


@op("bit_xor")
class BitXor(Op):
    """`out = a ^ b`."""

    a: Value
    b: Value
    infer_types = _integer


@op("shift_left")
class ShiftLeft(Op):
    """`out = a << b`; 0 when b is at least the width."""

    a: Value
    b: Value
    infer_types = _integer


@op("shift_right")
class ShiftRight(Op):
    """`out = a >> b`, arithmetic for signed types; 0 (or -1) when b is at least the width."""

    a: Value
    b: Value
    infer_types = _integer


@op("and")
class And(Op):
    """`out = a and b`."""

    a: Value
    b: Value
    infer_types = _bool


@op("or")
class Or(Op):
    """`out = a or b`."""

    a: Value
    b: Value
    infer_types = _bool


@op("xor")
class Xor(Op):
    """`out = a != b` on booleans."""

    a: Value
    b: Value
    infer_types = _bool


@op("eq")
class Eq(Op):
    """`out = a == b`."""

    a: Value
    b: Value
    infer_types = _compare


@op("lt")
class Lt(Op):
    """`out = a < b`; false if either is NaN."""

    a: Value
    b: Value
    infer_types = _compare


@op("le")
class Le(Op):
    """`out = a <= b`; false if either is NaN."""

    a: Value
    b: Value
    infer_types = _compare


@op("gt")
class Gt(Op):
    """`out = a > b`; false if either is NaN."""

    a: Value
    b: Value
    infer_types = _compare


@op("ge")
class Ge(Op):
    """`out = a >= b`; false if either is NaN."""

    a: Value
    b: Value
    infer_types = _compare


@op("where")
class Where(Op):
    """`out = a where condition else b`."""

    condition: Value
    a: Value
    b: Value

    def infer_types(self) -> tuple[TensorType, ...]:
        found = self.condition.type
        self.expect(found.dtype == DType.BOOL, f"condition must be bool, found {found}")
        out = _common(self, (self.a, self.b))
        return (TensorType(out.dtype, broadcast_shapes(found.shape, out.shape)),)
