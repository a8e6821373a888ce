"""Normalizations over batches, layers, groups and norms."""

import numpy as np

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, constant
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops import nn
from tilewright.compiler.ir.types import DType


def _per_channel(term: Term, rank: int) -> Term:
    """[C] -> [C, 1..] to go with [N, C, spatial..] of `rank`."""
    return term.reshape(term.dims[0], *(1,) * (rank - 2))


@onnx_op("BatchNormalization")
def batch_normalization(ctx: Import, node: Node) -> tuple[Value, ...]:
    """`(x - mean) / sqrt(variance + eps) * scale + bias` per channel; x: [N, C, spatial..].

    Inference folds known parameters into one multiplication and one addition. In training mode the
    statistics are the batch's and the running ones are results.
    """
    training = bool(node.attr("training_mode", 0)) or (
        node.opset < 7 and not node.attr("is_test", 0)
    )
    if node.opset < 9 and not node.attr("spatial", 1):
        ctx.fail(node, "statistics per element (spatial=0) are not supported")
    if training:
        return _batch_training(ctx, node)
    if node.n_outputs > 1 and any(node.wants(i) for i in range(1, node.n_outputs)):
        ctx.fail(node, "inference has one output", f"{node.n_outputs} are used")
    x = Term(ctx, node.input(0))
    if x.rank < 2:
        ctx.fail(node, f"x must have rank 2 or more, found {x.value.type}")
    eps = float(node.attr("epsilon", 1e-5))
    given = [node.input(i) for i in range(1, 5)]
    arrays = [ctx.array(v) for v in given]
    known = [a.astype(np.float64) for a in arrays if a is not None]
    if len(known) == 4:
        scale, bias, mean, variance = known
        factor = scale / np.sqrt(variance + eps)
        offset = bias - mean * factor
        dtype = x.dtype.numpy
        a, b = constant(ctx, factor.astype(dtype)), constant(ctx, offset.astype(dtype))
        return ((x * _per_channel(a, x.rank) + _per_channel(b, x.rank)).value,)
    scale_t, bias_t, mean_t, variance_t = (
        _per_channel(Term(ctx, v).cast(given[2].dtype), x.rank) for v in given
    )
    wide = x.cast(mean_t.dtype)
    out = scale_t * (wide - mean_t) / (variance_t + eps).sqrt() + bias_t
    return (out.cast(x.dtype).value,)


def _batch_training(ctx: Import, node: Node) -> tuple[Value, ...]:
    source = Term(ctx, node.input(0))
    scale, bias, mean, variance = (Term(ctx, node.input(i)) for i in range(1, 5))
    wide = DType.F64 if source.dtype == DType.F64 else DType.F32
    x = source.cast(wide)
    axes = [i for i in range(x.rank) if i != 1]
    center = x - x.mean(axes)
    spread = (center * center).mean(axes)
    eps, momentum = float(node.attr("epsilon", 1e-5)), float(node.attr("momentum", 0.9))
    factor = _per_channel(scale.cast(wide), x.rank) / (spread + eps).sqrt()
    out = center * factor + _per_channel(bias.cast(wide), x.rank)
    results = [out.cast(source.dtype).value]
    for old, new in ((mean, x.mean(axes)), (variance, spread)):
        fresh = new.reshape(x.dims[1]).cast(old.dtype)
        results.append((old * momentum + fresh * (1.0 - momentum)).value)
    return tuple(results[: node.n_outputs])


def _stash(node: Node, dtype: DType) -> DType:
    """The type that the statistics are computed in."""
    narrow = dtype.bits < 32
    return DType.F32 if narrow and node.attr("stash_type", 1) == 1 else dtype


@onnx_op("LayerNormalization")
def layer_normalization(ctx: Import, node: Node) -> tuple[Value | None, ...]:
    """Y, and when asked for the mean and 1 / deviation over the axes from `axis` on."""
    x = Term(ctx, node.input(0))
    axis = node.axis(node.attr("axis", -1), x.rank)
    eps = float(node.attr("epsilon", 1e-5))
    out = x.apply(nn.LayerNorm, scale=node.input(1), bias=node.maybe(2), axis=axis, eps=eps)
    if not (node.wants(1) or node.wants(2)):
        return (out.value,)
    stash = DType.F32 if node.attr("stash_type", 1) == 1 else x.dtype
    mean, inverse = _statistics(x.cast(_stash(node, x.dtype)), axis, eps)
    results = (out.value, mean.cast(stash).value, inverse.cast(stash).value)
    return results[: node.n_outputs]


def _statistics(x: Term, axis: int, eps: float) -> tuple[Term, Term]:
    axes = range(axis, x.rank)
    mean = x.mean(axes)
    center = x - mean
    return mean, 1.0 / ((center * center).mean(axes) + eps).sqrt()


@onnx_op("RMSNormalization")
def rms_normalization(ctx: Import, node: Node) -> Value:
    """`x / sqrt(mean(x * x) + eps) * scale` over the axes from `axis` on."""
    x = Term(ctx, node.input(0))
    axis = node.axis(node.attr("axis", -1), x.rank)
    eps = float(node.attr("epsilon", 1e-5))
    return x.apply(nn.RmsNorm, scale=node.input(1), axis=axis, eps=eps).value


def _grouped(x: Term, groups: int, eps: float) -> Term:
    """x: [N, C, spatial..] -> [N, groups, rest] with every group normalized."""
    flat = x.reshape(x.dims[0], groups, product(x.dims[1:]) // groups)
    return flat.apply(nn.LayerNorm, axis=2, eps=eps)


@onnx_op("InstanceNormalization")
def instance_normalization(ctx: Import, node: Node) -> Value:
    """Every channel of every image normalized, then scaled; x: [N, C, spatial..]."""
    x = Term(ctx, node.input(0))
    scale, bias = Term(ctx, node.input(1)), Term(ctx, node.input(2))
    flat = x.reshape(x.dims[0], x.dims[1], product(x.dims[2:]))
    out = flat.apply(nn.LayerNorm, axis=2, eps=float(node.attr("epsilon", 1e-5)))
    return (out * _per_channel(scale, 3) + _per_channel(bias, 3)).reshape(*x.dims).value


@onnx_op("GroupNormalization")
def group_normalization(ctx: Import, node: Node) -> Value:
    """Every group of channels normalized; scale and bias are per group before opset 21."""
    x = Term(ctx, node.input(0))
    scale, bias = Term(ctx, node.input(1)), Term(ctx, node.input(2))
    out = _grouped(x, int(node.attr("num_groups")), float(node.attr("epsilon", 1e-5)))
    if node.opset < 21:
        out = out * _per_channel(scale, 3) + _per_channel(bias, 3)
        return out.reshape(*x.dims).value
    out = out.reshape(*x.dims)
    return (out * _per_channel(scale, x.rank) + _per_channel(bias, x.rank)).value


@onnx_op("LpNormalization")
def lp_normalization(ctx: Import, node: Node) -> Value:
    """`x / (sum |x|^p)^(1/p)` along axis, p 1 or 2; zero where the norm is zero."""
    x = Term(ctx, node.input(0))
    axis = node.axis(node.attr("axis", -1), x.rank)
    norm = x.abs().sum([axis]) if node.attr("p", 2) == 1 else (x * x).sum([axis]).sqrt()
    zero = norm.equals(0.0)
    return (x / zero.where(1.0, norm, x.dtype)).value


@onnx_op("MeanVarianceNormalization")
def mean_variance_normalization(ctx: Import, node: Node) -> Value:
    """`(x - mean) / (deviation + 1e-9)` over axes."""
    x = Term(ctx, node.input(0))
    axes = node.axes(node.attr("axes", (0, 2, 3)), x.rank)
    center = x - x.mean(axes)
    return (center / ((center * center).mean(axes).sqrt() + 1e-9)).value


@onnx_op("SkipLayerNormalization", domain="com.microsoft")
def skip_layer_normalization(ctx: Import, node: Node) -> tuple[Value | None, ...]:
    """`layer_norm(x + skip + bias)`: results Y, mean, 1 / deviation, and the sum."""
    total, eps = _skipped(ctx, node, 4), float(node.attr("epsilon", 1e-5))
    axis = total.rank - 1
    out = total.apply(nn.LayerNorm, scale=node.input(2), bias=node.maybe(3), axis=axis, eps=eps)
    if node.wants(1) or node.wants(2):
        mean, inverse = _statistics(total.cast(DType.F32), axis, eps)
        return (out.value, mean.value, inverse.value, total.value)[: node.n_outputs]
    return (out.value, None, None, total.value)[: node.n_outputs]


@onnx_op("SkipSimplifiedLayerNormalization", domain="com.microsoft")
def skip_rms_normalization(ctx: Import, node: Node) -> tuple[Value | None, ...]:
    """`rms_norm(x + skip + bias)`: results Y, unused, 1 / deviation (refused), and the sum."""
    if node.wants(1) or node.wants(2):
        ctx.fail(node, "the statistics outputs are not supported")
    total = _skipped(ctx, node, 3)
    eps = float(node.attr("epsilon", 1e-5))
    out = total.apply(nn.RmsNorm, scale=node.input(2), axis=total.rank - 1, eps=eps)
    return (out.value, None, None, total.value)[: node.n_outputs]


def _skipped(ctx: Import, node: Node, bias_index: int) -> Term:
    total = Term(ctx, node.input(0)) + node.input(1)
    bias = node.maybe(bias_index)
    return total if bias is None else total + bias
