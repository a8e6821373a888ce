"""Operations without tensor operands: constants, dimensions as values, counters, fills."""

from tilewright.compiler.ir.core import Op, op
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.types import DType, TensorType


@op("constant")
class Constant(Op):
    """`out = weights[name]`: a reference into the graph's weight store."""

    name: str
    type: TensorType

    def infer_types(self) -> tuple[TensorType, ...]:
        return (self.type,)


@op("dim")
class DimValue(Op):
    """`out = i64 scalar holding the dimension expression size`."""

    size: Dim

    def infer_types(self) -> tuple[TensorType, ...]:
        return (TensorType(DType.I64, ()),)


@op("iota")
class Iota(Op):
    """`out[i] = i` for i in 0..length, in `dtype`."""

    length: Dim
    dtype: DType

    def infer_types(self) -> tuple[TensorType, ...]:
        return (TensorType(self.dtype, (self.length,)),)


@op("fill")
class Fill(Op):
    """`out[...] = value`, a literal number, in every element of `type`."""

    value: float | int | bool
    type: TensorType

    def infer_types(self) -> tuple[TensorType, ...]:
        return (self.type,)
