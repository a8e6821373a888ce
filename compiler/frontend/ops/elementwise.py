"""Elementwise operators of two or more operands, and comparisons."""

from collections.abc import Callable

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term
from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.ops import binary
from tilewright.compiler.ir.types import DType


def _legacy_broadcast(ctx: Import, node: Node, a: Value, b: Value) -> Value:
    """Before opset 7 the second operand was aligned at attribute `axis` when `broadcast` was 1."""
    if node.attr("broadcast", 0) and "axis" in node.attrs and b.rank < a.rank:
        start = node.axis(node.attr("axis"), a.rank)
        return ctx.reshape(b, (*b.shape, *(1,) * (a.rank - start - b.rank)))
    return b


def pair(ctx: Import, node: Node) -> tuple[Value, Value]:
    """The two operands, made to broadcast."""
    a, b = node.input(0), node.input(1)
    a, b = ctx.broadcast(a, _legacy_broadcast(ctx, node, a, b))
    return a, b


_BINARY: dict[str, type[Op]] = {
    "Add": binary.Add,
    "Sub": binary.Sub,
    "Mul": binary.Mul,
    "Div": binary.Div,
    "And": binary.And,
    "Or": binary.Or,
    "Xor": binary.Xor,
    "Equal": binary.Eq,
    "Less": binary.Lt,
    "LessOrEqual": binary.Le,
    "Greater": binary.Gt,
    "GreaterOrEqual": binary.Ge,
    "BitwiseAnd": binary.BitAnd,
    "BitwiseOr": binary.BitOr,
    "BitwiseXor": binary.BitXor,
}


def _binary(op: type[Op]) -> Callable[[Import, Node], Value]:
    def handler(ctx: Import, node: Node) -> Value:
        a, b = pair(ctx, node)
        return ctx.emit(op, a=a, b=b)

    return handler


for _name, _op in _BINARY.items():
    onnx_op(_name)(_binary(_op))


@onnx_op("Pow")
def power(ctx: Import, node: Node) -> Value:
    """The result has the base's type; mixed types compute in the wider floating point one."""
    a, b = pair(ctx, node)
    if a.dtype == b.dtype:
        return ctx.emit(binary.Pow, a=a, b=b)
    if b.dtype.is_int and a.dtype.is_int:
        wide = DType.I64
    elif DType.F64 in (a.dtype, b.dtype) or a.dtype in (DType.I64, DType.U64):
        wide = DType.F64
    else:
        wide = DType.F32
    out = ctx.emit(binary.Pow, a=ctx.cast(a, wide), b=ctx.cast(b, wide))
    return ctx.cast(out, a.dtype)


@onnx_op("Mod")
def _mod(ctx: Import, node: Node) -> Value:
    a, b = pair(ctx, node)
    fmod = bool(node.attr("fmod", 0))
    return ctx.emit(binary.Fmod if fmod else binary.Mod, a=a, b=b)


@onnx_op("BitShift")
def _bit_shift(ctx: Import, node: Node) -> Value:
    a, b = pair(ctx, node)
    left = node.attr("direction") == "LEFT"
    return ctx.emit(binary.ShiftLeft if left else binary.ShiftRight, a=a, b=b)


def _fold(ctx: Import, node: Node, op: type[Op]) -> Value:
    values = ctx.broadcast(*node.all_inputs())
    out = values[0]
    for value in values[1:]:
        out = ctx.emit(op, a=out, b=value)
    return out


@onnx_op("Sum")
def _sum(ctx: Import, node: Node) -> Value:
    return _fold(ctx, node, binary.Add)


@onnx_op("Max")
def _maximum(ctx: Import, node: Node) -> Value:
    return _fold(ctx, node, binary.Max)


@onnx_op("Min")
def _minimum(ctx: Import, node: Node) -> Value:
    return _fold(ctx, node, binary.Min)


@onnx_op("Mean")
def _mean(ctx: Import, node: Node) -> Value:
    total = Term(ctx, _fold(ctx, node, binary.Add))
    return (total / len(node.inputs)).value


@onnx_op("Where")
def _where(ctx: Import, node: Node) -> Value:
    condition, a, b = ctx.broadcast(*node.all_inputs())
    return ctx.emit(binary.Where, condition=condition, a=a, b=b)


@onnx_op("PRelu")
def _prelu(ctx: Import, node: Node) -> Value:
    x, slope = node.input(0), node.input(1)
    if slope.rank == 1 and x.rank > 2 and node.opset < 7:
        slope = ctx.reshape(slope, (*slope.shape, *(1,) * (x.rank - 2)))
    x, slope = ctx.broadcast(x, slope)
    term = Term(ctx, x)
    return (term < 0).where(term * slope, term, x.dtype).value


@onnx_op("Clip")
def clip(ctx: Import, node: Node) -> Value:
    """The bounds are attributes before opset 11; min wins over max when they cross."""
    out = node.input(0)
    attributes = (node.attrs.get("min"), node.attrs.get("max"))
    for index, op in ((1, binary.Max), (2, binary.Min)):
        bound, number = node.maybe(index), attributes[index - 1]
        if node.opset < 11 and number is not None:
            limit = 3.4028234663852886e38
            if abs(number) < limit:
                out = ctx.emit(op, a=out, b=ctx.scalar(number, out.dtype))
        elif bound is not None:
            scalar = ctx.reshape(bound, ())
            out = ctx.emit(op, a=out, b=scalar)
    return out
