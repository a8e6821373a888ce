"""Quantization: between real numbers and narrow types with scales and zero points."""

from collections.abc import Sequence

import numpy as np

from tilewright.compiler.frontend.blocks import dequantized_constant
from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.dequantized import Dequantized, remember
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.ops.convolution import (
    channels_first,
    checked,
    convolve_integers,
)
from tilewright.compiler.frontend.ops.matmul import integer_product
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.short_floats import float8_constant
from tilewright.compiler.frontend.tensors import element_type
from tilewright.compiler.frontend.terms import Term, constant
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, ceildiv, product
from tilewright.compiler.ir.ops import nn, unary
from tilewright.compiler.ir.ops.quantization import QuantizationRange, Quantize
from tilewright.compiler.ir.types import DType


def _limits(dtype: DType) -> tuple[int, int]:
    """The least and greatest value of an integer type."""
    if dtype.kind == "uint":
        return 0, 2**dtype.bits - 1
    return -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1


class _Granularity:
    """How scales go with x: one for all, one per position of an axis, or one per block of an axis.

    `split(x)` brings x to the shape that `fit(scale)` broadcasts to, `join` takes it back.
    """

    def __init__(self, ctx: Import, node: Node, x: Value, scale: Value) -> None:
        self.ctx, self.dims = ctx, x.shape
        self.axis = 0
        self.block: Dim = 0
        self.kind = "tensor"
        if scale.rank == 0 or (scale.rank == 1 and scale.shape[0] == 1):
            return
        self.axis = node.axis(node.attr("axis", 1), x.rank)
        if scale.rank == 1:
            self.kind = "axis"
            return
        if scale.rank != x.rank:
            ctx.fail(node, f"scale {scale.type} does not fit x {x.type}")
        self.kind = "block"
        size, blocks = x.shape[self.axis], scale.shape[self.axis]
        self.blocks = blocks
        self.block = node.attr("block_size", 0) or ceildiv(size, blocks)

    def split(self, x: Term) -> Term:
        if self.kind != "block":
            return x
        total = self.blocks * self.block
        high = [0] * x.rank
        padded = x
        if total != self.dims[self.axis]:
            room: list[Dim] = [*high]
            room[self.axis] = total - self.dims[self.axis]
            padded = x.pad(high, room)
        return padded.reshape(*self._blocked(self.dims, self.blocks, self.block))

    def _blocked(self, dims: Sequence[Dim], blocks: Dim, block: Dim) -> tuple[Dim, ...]:
        return (*dims[: self.axis], blocks, block, *dims[self.axis + 1 :])

    def fit(self, scale: Term) -> Term:
        if self.kind == "tensor":
            return scale.reshape()
        if self.kind == "axis":
            ones = len(self.dims) - self.axis - 1
            return scale.reshape(scale.dims[0], *(1,) * ones)
        return scale.reshape(*self._blocked(scale.dims, self.blocks, 1))

    def join(self, x: Term) -> Term:
        if self.kind != "block":
            return x
        axis = self.axis
        whole = x.reshape(*self.dims[:axis], self.blocks * self.block, *self.dims[axis + 1 :])
        return whole.slice(axis, 0, self.dims[axis])


def _nonzero(ctx: Import, zero: Value | None) -> Value | None:
    """`zero` unless it is absent or known to be zero everywhere."""
    if zero is None:
        return None
    array = ctx.array(zero)
    if array is not None and not array.astype(np.float32).any():
        return None
    return zero


@onnx_op("QuantizeLinear")
def quantize_linear(ctx: Import, node: Node) -> Value:
    """`saturate(round(x / scale) + zero)`; the result type is that of zero, or `output_dtype`."""
    x, scale, zero = node.input(0), node.input(1), node.maybe(2)
    number = node.attr("output_dtype", 0)
    if zero is not None:
        dtype = zero.dtype
    else:
        dtype = element_type(number, node.where) if number else DType.U8
    precision = node.attr("precision", 0)
    inner = element_type(precision, node.where) if precision else scale.dtype
    if not inner.is_float or inner.bits < 16:
        inner = DType.F32
    grain = _Granularity(ctx, node, x, scale)
    wide = grain.split(Term(ctx, x).cast(inner)) / grain.fit(Term(ctx, scale).cast(inner))
    shift = _nonzero(ctx, zero)
    offset = None if shift is None else grain.fit(Term(ctx, shift))
    out = saturated(wide, offset, dtype, bool(node.attr("saturate", 1)))
    return grain.join(out).value


def saturated(wide: Term, zero: Term | None, dtype: DType, saturate: bool = True) -> Term:
    """`round(wide) + zero` (f16 .. f64 in) within the range of the narrow type `dtype`."""
    if dtype.is_float:
        if zero is not None:
            wide = wide + zero.cast(wide.dtype)
        return wide.cast(dtype, saturate)
    inner = DType.F64 if wide.dtype == DType.F64 or dtype.bits > 16 else DType.F32
    rounded = wide.round().cast(inner)
    if zero is not None:
        rounded = rounded + zero.cast(inner)
    low, high = _limits(dtype)
    return rounded.clip(low, high).cast(dtype)


@onnx_op("DequantizeLinear")
def dequantize_linear(ctx: Import, node: Node) -> Value:
    """`(x - zero) * scale` in the type of scale, or `output_dtype`."""
    x, scale = node.input(0), node.input(1)
    number = node.attr("output_dtype", 0)
    out = element_type(number, node.where) if number else scale.dtype
    grain = _Granularity(ctx, node, x, scale)
    zero = _nonzero(ctx, node.maybe(2))
    given = (ctx, x, scale, node.maybe(2), grain.axis, grain.block)
    known = dequantized_constant(*given) or float8_constant(*given)
    if known is not None and out == DType.F32:
        return known
    term = grain.split(Term(ctx, x))
    if zero is not None:
        inner = DType.F32 if x.dtype.is_float else DType.I32
        term = term.cast(inner) - grain.fit(Term(ctx, zero)).cast(inner)
    wide = DType.F32 if out.bits < 16 else out
    result = term.cast(wide) * grain.fit(Term(ctx, scale)).cast(wide)
    made = grain.join(result.cast(out)).value
    if grain.kind != "block":
        axis = None if grain.kind == "tensor" else grain.axis
        remember(ctx, made, Dequantized(x, scale, zero, axis))
    return made


@onnx_op("DynamicQuantizeLinear")
def dynamic_quantize_linear(ctx: Import, node: Node) -> tuple[Value, ...]:
    """x quantized to u8 with the scale and zero point of its own range (0 included)."""
    x = node.input(0)
    scale, zero = ctx.emit_multi(QuantizationRange, x=x)
    return ctx.emit(Quantize, x=x, scale=scale, zero=zero), scale, zero


def _trailing(term: Term, rank: int, axis: int) -> Term:
    """A per-row or per-column parameter in the shape that goes with a matrix of `rank`."""
    if term.rank == 0 or (term.rank == 1 and term.dims[0] == 1):
        return term.reshape()
    if term.rank == 1:
        return term.reshape(*((term.dims[0], 1) if axis == rank - 2 else (term.dims[0],)))
    return term


def _product(ctx: Import, a: Term, b: Term) -> Term:
    """The matrix product over the last two axes, the others broadcast."""
    batch = ctx.broadcast_shape(a.dims[:-2], b.dims[:-2])
    inner = ctx.unify(a.dims[-1], b.dims[-2], "the inner dimensions of a and b")
    left = a.broadcast(*batch, a.dims[-2], inner)
    right = b.broadcast(*batch, inner, b.dims[-1])
    letters = "abcdefgh"[: len(batch)]
    return left.contract(f"{letters}mk,{letters}kn->{letters}mn", right)


@onnx_op("QLinearMatMul")
def qlinear_matmul(ctx: Import, node: Node) -> Value:
    """`saturate(round((a - a_zero)(b - b_zero) * a_scale * b_scale / y_scale) + y_zero)`."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (
        Term(ctx, v) for v in node.all_inputs()
    )
    if a.dtype.is_int and a.rank > 1 and b.rank > 1 and a_zero.rank < 2 and b_zero.rank < 2:
        whole = integer_product(ctx, a.value, b.value, a_zero.value, b_zero.value)
        total = whole.cast(DType.F32)
    else:
        inner = DType.I32 if a.dtype.is_int else DType.F32
        left = a.cast(inner) - _trailing(a_zero, a.rank, a.rank - 2).cast(inner)
        right = b.cast(inner) - _trailing(b_zero, b.rank, b.rank - 1).cast(inner)
        total = _product(ctx, left, right).cast(DType.F32)
    rows = _trailing(a_scale, a.rank, a.rank - 2).cast(DType.F32)
    columns = _trailing(b_scale, b.rank, b.rank - 1).cast(DType.F32)
    wide = total * (rows * columns / y_scale.reshape().cast(DType.F32))
    return saturated(wide, y_zero.reshape(), y_zero.dtype).value


@onnx_op("QLinearConv")
def qlinear_conv(ctx: Import, node: Node) -> Value:
    """The convolution of quantized x and w with an i32 bias, quantized again."""
    w = node.input(3)
    x = checked(ctx, node, node.input(0), w)
    total = convolve_integers(ctx, node, x, w, node.input(2), node.input(5))
    bias = node.maybe(8)
    if bias is not None:
        total = total + bias
    x_scale, w_scale, y_scale = (Term(ctx, node.input(i)).cast(DType.F32) for i in (1, 4, 6))
    per_channel = w_scale if w_scale.rank == 1 and w_scale.dims[0] != 1 else w_scale.reshape()
    factor = x_scale.reshape() * per_channel / y_scale.reshape()
    zero = Term(ctx, node.input(7)).reshape()
    out = saturated(total.cast(DType.F32) * factor, zero, zero.dtype)
    return channels_first(out).value


def _real(ctx: Import, node: Node, first: int) -> Term:
    """Inputs `first` .. `first + 2` of an operator in ONNX Runtime's form, dequantized."""
    x, scale = Term(ctx, node.input(first)), Term(ctx, node.input(first + 1))
    zero = _nonzero(ctx, node.maybe(first + 2))
    wide = x.cast(DType.I32)
    if zero is not None:
        wide = wide - Term(ctx, zero).reshape().cast(DType.I32)
    return wide.cast(DType.F32) * scale.reshape()


def _again(ctx: Import, node: Node, real: Term, first: int) -> Value:
    """`real` quantized with the scale and zero point in inputs `first` and `first + 1`."""
    zero = node.maybe(first + 1)
    dtype = node.input(0).dtype if zero is None else zero.dtype
    point = _nonzero(ctx, zero)
    offset = None if point is None else Term(ctx, point).reshape()
    return saturated(real / Term(ctx, node.input(first)).reshape(), offset, dtype).value


@onnx_op("QLinearAdd", domain="com.microsoft")
def qlinear_add(ctx: Import, node: Node) -> Value:
    """The sum of quantized a and b, quantized again."""
    return _again(ctx, node, _real(ctx, node, 0) + _real(ctx, node, 3), 6)


@onnx_op("QLinearMul", domain="com.microsoft")
def qlinear_mul(ctx: Import, node: Node) -> Value:
    """The product of quantized a and b, quantized again."""
    return _again(ctx, node, _real(ctx, node, 0) * _real(ctx, node, 3), 6)


@onnx_op("QLinearSigmoid", domain="com.microsoft")
def qlinear_sigmoid(ctx: Import, node: Node) -> Value:
    """The logistic function of quantized x, quantized again."""
    return _again(ctx, node, _real(ctx, node, 0).apply(unary.Sigmoid), 3)


@onnx_op("QLinearSoftmax", domain="com.microsoft")
def qlinear_softmax(ctx: Import, node: Node) -> Value:
    """Softmax of quantized x along `axis` (over all axes from it on before version 13)."""
    x = _real(ctx, node, 0)
    axis = node.axis(node.attr("axis", -1), x.rank)
    if node.attr("opset", 13) >= 13 or axis == x.rank - 1:
        real = x.apply(nn.Softmax, axis=axis)
    else:
        flat = x.reshape(*x.dims[:axis], product(x.dims[axis:]))
        real = flat.apply(nn.Softmax, axis=axis).reshape(*x.dims)
    return _again(ctx, node, real, 3)


@onnx_op("QLinearGlobalAveragePool", domain="com.microsoft")
def qlinear_global_average_pool(ctx: Import, node: Node) -> Value:
    """The mean over the spatial axes of quantized x, quantized again."""
    x = _real(ctx, node, 0)
    last = bool(node.attr("channels_last", 0))
    axes = range(1, x.rank - 1) if last else range(2, x.rank)
    return _again(ctx, node, x.mean(tuple(axes)), 3)


@onnx_op("QGemm", domain="com.microsoft")
def qgemm(ctx: Import, node: Node) -> Value:
    """`alpha * (A - za) sa (B - zb) sb + C`, C in i32 with the scale alpha sa sb; quantized again
    where an output scale is given, else f32."""
    a, sa, za, b, sb, zb = (node.input(i) for i in range(6))
    if node.attr("transA", 0):
        a = Term(ctx, a).transpose(1, 0).value
    if node.attr("transB", 0):
        known = ctx.array(b)
        turned = Term(ctx, b).transpose(1, 0) if known is None else constant(ctx, known.T.copy())
        b = turned.value
    point = Term(ctx, za).reshape().value
    whole = integer_product(ctx, a, b, point, zb)
    bias = node.maybe(6)
    if bias is not None:
        whole = whole + bias
    columns = Term(ctx, sb)
    if sb.rank == 0 or sb.type.elements == 1:
        columns = columns.reshape()
    scale = Term(ctx, sa).reshape() * columns
    if node.attr("alpha", 1.0) != 1.0:
        scale = scale * node.attr("alpha", 1.0)
    real = whole.cast(DType.F32) * scale
    return real.value if node.maybe(7) is None else _again(ctx, node, real, 7)
