"""Control flow with regions, fused regions, guards, and results whose size the data decides."""

from tilewright.compiler.ir.core import Op, Region, Value, op
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.types import DType, TensorType


@op("if")
class If(Op):
    """`out = then_body() if condition else else_body()`; bodies take no parameters."""

    condition: Value
    then_body: Region
    else_body: Region

    def infer_types(self) -> tuple[TensorType, ...]:
        found = self.condition.type
        self.expect(found.dtype == DType.BOOL and found.elements == 1, f"condition is {found}")
        then = tuple(v.type for v in self.then_body.results)
        other = tuple(v.type for v in self.else_body.results)
        self.expect(then == other, f"the bodies yield {then} and {other}")
        return then


@op("loop")
class Loop(Op):
    """Repeat `body` while its condition holds, at most `trips` times.

    body(i, carried.., slices..) yields (condition, carried.., pieces..): i is the i64 iteration
    number, a slice is scanned[s][.., i, ..] along scan_axes[s] (that axis removed; from the end if
    scan_reverse[s]), a piece becomes out[.., i, ..] along stack_axes (from the end if
    stack_reverse). Results: the final carried values, then the stacked pieces, whose stacked
    dimension is `length` (the number of iterations done, a data symbol if the condition decides).
    `condition` (a bool scalar, or None for true) is the condition before the first iteration.
    `trips` is a dimension, or None for no limit other than the condition.
    """

    condition: Value | None = None
    carried: tuple[Value, ...] = ()
    scanned: tuple[Value, ...] = ()
    trips: Dim | None = None
    length: Dim | None = None
    scan_axes: tuple[int, ...] = ()
    scan_reverse: tuple[bool, ...] = ()
    stack_axes: tuple[int, ...] = ()
    stack_reverse: tuple[bool, ...] = ()
    body: Region

    def infer_types(self) -> tuple[TensorType, ...]:
        count, pieces = len(self.carried), len(self.stack_axes)
        want = 1 + count + len(self.scanned)
        self.expect(len(self.body.params) == want, f"the body must take {want} parameters")
        self.expect(len(self.body.results) == 1 + count + pieces, "the body yields too few or many")
        out: list[TensorType] = []
        for start, end in zip(self.carried, self.body.results[1:], strict=False):
            self.expect(start.type == end.type, f"carried {start.type} becomes {end.type}")
            out.append(start.type)
        for piece, axis in zip(self.body.results[1 + count :], self.stack_axes, strict=True):
            self.expect(self.length is not None, "stacked pieces need a length")
            shape = list(piece.shape)
            shape.insert(axis, self.length)
            out.append(TensorType(piece.dtype, tuple(shape)))
        return tuple(out)


@op("fused")
class Fused(Op):
    """`results = body(inputs...)`: one kernel. The body uses nothing but its parameters."""

    inputs: tuple[Value, ...]
    body: Region

    def infer_types(self) -> tuple[TensorType, ...]:
        have = [v.type for v in self.inputs]
        want = [v.type for v in self.body.params]
        self.expect(have == want, f"the body takes {want}, given {have}")
        return tuple(v.type for v in self.body.results)


@op("guard")
class Guard(Op):
    """`out = x`, after checking that every element of `condition` is true; else a data error.

    The text of the error is `message`.
    """

    x: Value
    condition: Value
    message: str

    def infer_types(self) -> tuple[TensorType, ...]:
        found = self.condition.type
        self.expect(found.dtype == DType.BOOL, f"condition must be bool, found {found}")
        return (self.x.type,)


@op("non_zero")
class NonZero(Op):
    """`out[axis, j] = i64 coordinate along axis of the j-th nonzero element of x`, row-major.

    `count` is the data symbol for the number of nonzero elements.
    """

    x: Value
    count: Dim

    def infer_types(self) -> tuple[TensorType, ...]:
        return (TensorType(DType.I64, (self.x.rank, self.count)),)


@op("compress")
class Compress(Op):
    """`out = the entries of x along axis where condition is true`; `count` of them (a data symbol).

    condition: bool[n] with n at most the axis size; entries beyond n are dropped.
    """

    x: Value
    condition: Value
    axis: int
    count: Dim

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.condition.rank == 1, f"condition is {self.condition.type}")
        shape = (*self.x.shape[: self.axis], self.count, *self.x.shape[self.axis + 1 :])
        return (TensorType(self.x.dtype, shape),)


Literal = int | float | str | bool | tuple[int, ...] | tuple[float, ...]


@op("custom")
class Custom(Op):
    """An irregular operation with a loop-nest kernel of its own, found by `kind`.

    types are the result types; params are literal attributes. Its meaning is the function of the
    same name in backends/reference and its code the emitter in backends/llvm/irregular.
    """

    inputs: tuple[Value, ...]
    kind: str
    types: tuple[TensorType, ...]
    params: tuple[tuple[str, Literal], ...] = ()

    def infer_types(self) -> tuple[TensorType, ...]:
        return self.types
