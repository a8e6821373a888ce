"""Elementwise operators of one operand: mathematics, activations, casts."""

from collections.abc import Callable
from typing import Any

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.short_floats import float8_constant
from tilewright.compiler.frontend.tensors import element_type
from tilewright.compiler.frontend.terms import Term
from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.ops import unary
from tilewright.compiler.ir.ops.binary import BitAnd
from tilewright.compiler.ir.types import BY_LABEL, DType

_UNARY: dict[str, type[Op]] = {
    "Abs": unary.Abs,
    "Neg": unary.Neg,
    "Sign": unary.Sign,
    "Relu": unary.Relu,
    "Sqrt": unary.Sqrt,
    "Exp": unary.Exp,
    "Log": unary.Log,
    "Erf": unary.Erf,
    "Tanh": unary.Tanh,
    "Sin": unary.Sin,
    "Cos": unary.Cos,
    "Tan": unary.Tan,
    "Asin": unary.Asin,
    "Acos": unary.Acos,
    "Atan": unary.Atan,
    "Sinh": unary.Sinh,
    "Cosh": unary.Cosh,
    "Asinh": unary.Asinh,
    "Acosh": unary.Acosh,
    "Atanh": unary.Atanh,
    "Ceil": unary.Ceil,
    "Floor": unary.Floor,
    "Round": unary.Round,
    "Sigmoid": unary.Sigmoid,
    "Softplus": unary.Softplus,
    "Reciprocal": unary.Reciprocal,
    "IsNaN": unary.IsNan,
    "Not": unary.Not,
    "BitwiseNot": unary.BitNot,
}


def _unary(op: type[Op]) -> Callable[[Import, Node], Value]:
    def handler(ctx: Import, node: Node) -> Value:
        x = node.input(0)
        if x.dtype.is_int and op in (unary.Erf, unary.IsNan):
            ctx.fail(node, "the operand must be floating point", f"found {x.type}")
        return ctx.emit(op, x=x)

    return handler


for _name, _op in _UNARY.items():
    onnx_op(_name)(_unary(_op))


@onnx_op("IsInf")
def _is_inf(ctx: Import, node: Node) -> Value:
    positive, negative = bool(node.attr("detect_positive")), bool(node.attr("detect_negative"))
    return ctx.emit(unary.IsInf, x=node.input(0), positive=positive, negative=negative)


@onnx_op("Gelu")
def _gelu(ctx: Import, node: Node) -> Value:
    tanh = node.attr("approximate", "none") == "tanh"
    return ctx.emit(unary.GeluTanh if tanh else unary.Gelu, x=node.input(0))


@onnx_op("Gelu", domain="com.microsoft")
def _gelu_contrib(ctx: Import, node: Node) -> Value:
    return ctx.emit(unary.Gelu, x=node.input(0))


@onnx_op("FastGelu", domain="com.microsoft")
def _fast_gelu(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    bias = node.maybe(1)
    return (x if bias is None else x + bias).apply(unary.GeluTanh).value


@onnx_op("QuickGelu", domain="com.microsoft")
def _quick_gelu(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    alpha: float = node.attr("alpha", 1.702)
    return (x * (x * alpha).apply(unary.Sigmoid)).value


@onnx_op("Swish")
def _swish(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    alpha: float = node.attr("alpha", 1.0)
    if alpha == 1:
        return x.apply(unary.Silu).value
    return (x * (x * alpha).apply(unary.Sigmoid)).value


def _masked(x: Term, condition: Term, yes: "Term | float", no: "Term | float") -> Value:
    return condition.where(yes, no, x.dtype).value


def _negative_part(x: Term) -> Term:
    """exp(min(x, 0)) - 1, which does not overflow where it is not used."""
    return x.minimum(0.0).exp() - 1.0


@onnx_op("LeakyRelu")
def _leaky_relu(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    return _masked(x, x < 0.0, x * node.attr("alpha", 0.01), x)


@onnx_op("Elu")
def _elu(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    return _masked(x, x < 0.0, _negative_part(x) * node.attr("alpha", 1.0), x)


@onnx_op("Selu")
def _selu(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    gamma: float = node.attr("gamma", 1.0507)
    alpha: float = node.attr("alpha", 1.67326)
    return _masked(x, x <= 0.0, _negative_part(x) * (gamma * alpha), x * gamma)


@onnx_op("Celu")
def _celu(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    alpha: float = node.attr("alpha", 1.0)
    low = (x / alpha).minimum(0.0).exp() - 1.0
    return (x.maximum(0.0) + (low * alpha).minimum(0.0)).value


@onnx_op("ThresholdedRelu")
def _thresholded_relu(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    return _masked(x, x > node.attr("alpha", 1.0), x, 0.0)


@onnx_op("HardSigmoid")
def _hard_sigmoid(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    alpha: float = node.attr("alpha", 0.2)
    beta: float = node.attr("beta", 0.5)
    return (x * alpha + beta).clip(0.0, 1.0).value


@onnx_op("HardSwish")
def _hard_swish(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    return (x * (x * (1 / 6) + 0.5).clip(0.0, 1.0)).value


@onnx_op("Softsign")
def _softsign(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    return (x / (x.abs() + 1.0)).value


@onnx_op("Mish")
def _mish(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    return (x * x.apply(unary.Softplus).apply(unary.Tanh)).value


@onnx_op("Shrink")
def _shrink(ctx: Import, node: Node) -> Value:
    x = Term(ctx, node.input(0))
    bias: float = node.attr("bias", 0.0)
    limit: float = node.attr("lambd", 0.5)
    if x.dtype.is_int:
        wide = x.cast(DType.F32)
        high = (wide > limit).where(wide - bias, 0.0, DType.F32)
        return (wide < -limit).where(wide + bias, high, DType.F32).cast(x.dtype).value
    high = (x > limit).where(x - bias, 0.0, x.dtype)
    return (x < -limit).where(x + bias, high, x.dtype).value


def _cast(ctx: Import, node: Node, dtype: DType) -> Value:
    x, saturate = node.input(0), bool(node.attr("saturate", 1))
    mode = node.attrs.get("round_mode", "up")
    if dtype == DType.F8E8M0 and mode != "nearest" and x.dtype != dtype:
        return _power_of_two(ctx, x, mode, saturate)
    if x.dtype == dtype:
        return x
    if dtype == DType.F32 and (known := float8_constant(ctx, x)) is not None:
        return known
    if x.dtype.is_float and dtype.is_int and dtype.bits < 8:
        x = ctx.cast(x, DType.I32)  # out of range the low bits are kept
    return ctx.emit(unary.Cast, x=x, dtype=dtype, saturate=saturate)


def _power_of_two(ctx: Import, x: Value, mode: str, saturate: bool) -> Value:
    """To f8e8m0 rounding up or down: the exponent bits, plus one when a mantissa bit is lost."""
    bits = Term(ctx, ctx.cast(x, DType.F32)).apply(unary.Bitcast, dtype=DType.U32)
    if mode == "up":
        bits = bits + 0x7FFFFF
    mask = ctx.scalar(0x7F800000, DType.U32)
    exponent = bits.binary(BitAnd, mask).apply(unary.Bitcast, dtype=DType.F32)
    if saturate:
        exponent = exponent.maximum(2.0**-127)
    return exponent.apply(unary.Cast, dtype=DType.F8E8M0, saturate=saturate).value


_NAMED = {
    "FLOAT": "f32", "DOUBLE": "f64", "FLOAT16": "f16", "INT8": "i8", "INT16": "i16",
    "INT32": "i32", "INT64": "i64", "UINT8": "u8", "UINT16": "u16", "UINT32": "u32",
    "UINT64": "u64", "BOOL": "bool",
}  # fmt: skip


@onnx_op("Cast")
def cast(ctx: Import, node: Node) -> Value:
    """Before opset 6 the target type is a name."""
    to: Any = node.attr("to")
    if isinstance(to, str):
        if to.upper() not in _NAMED:
            ctx.fail(node, f"element type {to!r} is not supported")
        return _cast(ctx, node, BY_LABEL[_NAMED[to.upper()]])
    return _cast(ctx, node, element_type(to, node.where))


@onnx_op("CastLike")
def _cast_like(ctx: Import, node: Node) -> Value:
    return _cast(ctx, node, node.input(1).dtype)


@onnx_op("BitCast")
def _bit_cast(ctx: Import, node: Node) -> Value:
    dtype = element_type(node.attr("to"), node.where)
    x = node.input(0)
    if x.dtype.bits != dtype.bits:
        ctx.fail(node, "the types must have the same width", f"{x.dtype} to {dtype}")
    return x if x.dtype == dtype else ctx.emit(unary.Bitcast, x=x, dtype=dtype)


@onnx_op("Dropout")
def dropout(ctx: Import, node: Node) -> tuple[Value, ...]:
    """Inference: the input, and a mask of ones (true). Training is refused."""
    x = node.input(0)
    if node.opset >= 12:
        training, ratio = node.maybe(2), node.maybe(1)
        on = training is not None and ctx.number(training) is not False
        if on and not (ratio is not None and ctx.number(ratio) == 0):
            hint = "export the model in evaluation mode"
            ctx.fail(node, "Dropout in training mode is not supported", "", hint)
    kind = DType.BOOL if node.opset >= 10 else x.dtype
    return (x, ctx.fill(True if kind == DType.BOOL else 1, kind, x.shape))


@onnx_op("Identity")
def _identity(ctx: Import, node: Node) -> Value:
    return node.input(0)
