"""Resize and Upsample: one gather of weighted taps per axis.

The position of every result element in x is computed in f64 from its index, so tables become
constants when the sizes are known and stay a short computation when they are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.ops.quantization import saturated
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, iota, size_of
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops import binary, control
from tilewright.compiler.ir.types import DType

Number = Any
"""A float, or a scalar f64 `Term` when the run decides it."""


def number(ctx: Import, dim: Dim) -> Number:
    """A dimension as a number."""
    return float(dim) if isinstance(dim, int) else size_of(ctx, dim, DType.F64)


@dataclass(frozen=True)
class Method:
    """The attributes of Resize that say where to sample and how."""

    mode: str
    transform: str
    nearest: str
    cubic_a: float
    antialias: bool
    exclude_outside: bool
    extrapolation: float


@dataclass(frozen=True)
class Axis:
    """One axis to resize: sizes, scale, and the region of interest for tf_crop_and_resize."""

    index: int
    size: Dim
    result: Dim
    scale: Number
    roi: tuple[Number, Number] | None


@onnx_op("Resize", since=10)
def resize(ctx: Import, node: Node) -> Value:
    """x scaled along axes by `scales` or to `sizes` (known, or read when the run starts).

    Scales that are known only at run time need a declared result shape, which is checked.
    """
    x = node.input(0)
    legacy = node.opset < 11
    method = Method(
        mode=node.attr("mode", "nearest"),
        transform="asymmetric"
        if legacy
        else node.attr("coordinate_transformation_mode", "half_pixel"),
        nearest="floor" if legacy else node.attr("nearest_mode", "round_prefer_floor"),
        cubic_a=float(node.attr("cubic_coeff_a", -0.75)),
        antialias=bool(node.attr("antialias", 0)),
        exclude_outside=bool(node.attr("exclude_outside", 0)),
        extrapolation=float(node.attr("extrapolation_value", 0.0)),
    )
    axes = node.axes(node.attr("axes", None) or range(x.rank), x.rank)
    roi = None
    if method.transform == "tf_crop_and_resize":
        roi = _floats(ctx, node.input(1), 2 * len(axes), "elements of roi")
    scales = node.maybe(1) if legacy else node.maybe(2)
    if scales is not None and scales.shape != (0,):
        value, plan = _by_scales(ctx, node, scales, axes, roi)
    else:
        value, plan = node.input(0), _by_sizes(ctx, node, node.input(3), axes, roi)
    return _resized(Term(ctx, value), plan, method)


@onnx_op("Upsample", since=7)
def upsample(ctx: Import, node: Node) -> Value:
    """x scaled up by `scales`, nearest (floor) or linear without alignment of the corners."""
    x = node.input(0)
    method = Method(node.attr("mode", "nearest"), "asymmetric", "floor", -0.75, False, False, 0.0)
    axes = tuple(range(x.rank))
    if node.opset < 9:
        factors = [float(s) for s in node.attr("scales")]
        plan = [_scaled(ctx, x, axis, s, None) for axis, s in zip(axes, factors, strict=True)]
        return _resized(Term(ctx, x), plan, method)
    value, plan = _by_scales(ctx, node, node.input(1), axes, None)
    return _resized(Term(ctx, value), plan, method)


def _floats(ctx: Import, value: Value, count: int, what: str) -> list[Number]:
    """The elements of a 1-D tensor of `count`: floats when known, else f64 scalars."""
    value = ctx.relabel(value, (count,), f"the number of {what}")
    array = ctx.array(value)
    if array is not None:
        return [float(v) for v in array]
    wide = Term(ctx, value).cast(DType.F64)
    return [wide.slice(0, i, 1).reshape() for i in range(count)]


def _region(roi: Sequence[Number] | None, place: int, count: int) -> tuple[Number, Number] | None:
    return None if roi is None else (roi[place], roi[count + place])


def _scaled(
    ctx: Import, x: Value, axis: int, scale: float, roi: tuple[Number, Number] | None
) -> Axis:
    """An axis whose size is multiplied by a known scale and rounded down, exactly."""
    size = x.shape[axis]
    factor = Fraction(scale)
    if roi is not None and all(isinstance(r, float) for r in roi):
        factor *= Fraction(roi[1]) - Fraction(roi[0])
    return Axis(axis, size, size * factor.numerator // factor.denominator, scale, roi)


def _by_scales(
    ctx: Import, node: Node, scales: Value, axes: Sequence[int], roi: Sequence[Number] | None
) -> tuple[Value, list[Axis]]:
    x = node.input(0)
    factors = _floats(ctx, scales, len(axes), "scales")
    regions = [_region(roi, i, len(axes)) for i in range(len(axes))]
    if all(isinstance(f, float) for f in factors):
        pairs = zip(axes, factors, regions, strict=True)
        return x, [_scaled(ctx, x, axis, f, r) for axis, f, r in pairs]
    hint = node.hint()
    declared = None if hint is None else hint.static
    if declared is None:
        ctx.fail(
            node,
            "scales are known only at run time",
            f"the result shape is declared as {None if hint is None else hint.dims}",
            "make scales constant, use sizes, or declare the result shape",
        )
    plan, value = [], x
    for axis, factor, region in zip(axes, factors, regions, strict=True):
        plan.append(Axis(axis, x.shape[axis], declared[axis], factor, region))
        if region is None:
            real = (factor * number(ctx, x.shape[axis])).floor()
            same = real.binary(binary.Eq, float(declared[axis]))
            message = f"{node.where}: scale of axis {axis} does not give {declared[axis]}"
            value = ctx.emit(control.Guard, x=value, condition=same.value, message=message)
    return value, plan


def _by_sizes(
    ctx: Import, node: Node, sizes: Value, axes: Sequence[int], roi: Sequence[Number] | None
) -> list[Axis]:
    x = node.input(0)
    ctx.unify(sizes.shape[0], len(axes), "the number of sizes")
    wanted = ctx.dims_of(sizes)
    if wanted is None:
        ctx.fail(node, "sizes must be known when the run starts")
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    given = [number(ctx, w) / number(ctx, x.shape[a]) for w, a in zip(wanted, axes, strict=True)]
    full: list[Dim] = list(x.shape)
    if policy == "stretch":
        for axis, want in zip(axes, wanted, strict=True):
            full[axis] = want
        full = list(ctx.declared(full, node.hint()))
        scales = given
    else:
        scale = given[0]
        for other in given[1:]:
            scale = _extreme(scale, other, policy == "not_smaller")
        scales = [scale] * len(axes)
        hint = node.hint()
        declared = None if hint is None else hint.static
        for axis in axes:
            if isinstance(scale, float):
                full[axis] = math.floor(scale * x.shape[axis] + 0.5)
            elif declared is not None:
                full[axis] = declared[axis]
            else:
                ctx.fail(node, f"{policy} needs known sizes or a declared result shape")
    return [
        Axis(axis, x.shape[axis], full[axis], scale, _region(roi, i, len(axes)))
        for i, (axis, scale) in enumerate(zip(axes, scales, strict=True))
    ]


def _extreme(a: Number, b: Number, largest: bool) -> Number:
    if isinstance(a, float) and isinstance(b, float):
        return max(a, b) if largest else min(a, b)
    term, other = (a, b) if isinstance(a, Term) else (b, a)
    return term.maximum(other) if largest else term.minimum(other)


def _resized(x: Term, plan: Sequence[Axis], method: Method) -> Value:
    dtype = x.dtype
    todo = [a for a in plan if not _identity(a)]
    if method.mode != "nearest" and todo:
        x = x.cast(dtype if dtype in (DType.F32, DType.F64) else DType.F32)
    for axis in todo:
        x = _along(x, axis, method)
    if x.dtype != dtype:
        x = saturated(x, None, dtype)
    return x.value


def _identity(axis: Axis) -> bool:
    whole = axis.roi is None or axis.roi == (0.0, 1.0)
    if not whole or axis.size != axis.result:
        return False
    return axis.size == 1 or not isinstance(axis.scale, float) or math.isclose(axis.scale, 1.0)


def _along(x: Term, axis: Axis, method: Method) -> Term:
    repeated = _repeated(x, axis, method)
    if repeated is not None:
        return repeated
    ctx = x.ctx
    place = _positions(ctx, axis, method)
    last = axis.size - 1
    if method.mode == "nearest":
        index = _nearest(place, method.nearest)
        out = x.gather(index.clip(0.0, number(ctx, last)).cast(DType.I64), axis.index)
    else:
        out = _weighted(x, axis, method, place)
    if method.transform == "tf_crop_and_resize":
        inside = (place >= 0.0) & (place <= number(ctx, last))
        inside = inside.reshape(axis.result, *(1,) * (x.rank - axis.index - 1))
        out = inside.where(out, method.extrapolation, out.dtype)
    return out


def _repeated(x: Term, axis: Axis, method: Method) -> Term | None:
    """Nearest scaling by a whole number: every element repeated; None when it is not that."""
    scale = axis.scale
    if method.mode != "nearest" or not isinstance(scale, float) or not scale.is_integer():
        return None
    floor = method.transform == "asymmetric" and method.nearest == "floor"
    middle = method.transform in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
    middle = middle and method.nearest.startswith("round") and axis.size != 1
    if not (floor or middle) or axis.result != axis.size * int(scale):
        return None
    i, dims = axis.index, x.dims
    single = x.unsqueeze(i + 1)
    many = single.broadcast(*dims[: i + 1], int(scale), *dims[i + 1 :])
    return many.reshape(*dims[:i], axis.result, *dims[i + 1 :])


def _positions(ctx: Import, axis: Axis, method: Method) -> Term:
    """Where every result index lies in x: f64 [result]."""
    index = iota(ctx, axis.result, DType.F64)
    size, scale = number(ctx, axis.size), axis.scale
    result = scale * size  # may be fractional, unlike axis.result
    kind = method.transform
    place: Term = (index + 0.5) / scale - 0.5
    if kind == "asymmetric":
        place = index / scale
    elif kind == "align_corners":
        place = index * _quotient(size - 1.0, result - 1.0)
    elif kind == "tf_crop_and_resize":
        assert axis.roi is not None
        start, end = axis.roi
        length = (end - start) * (size - 1.0)
        first = start * (size - 1.0)
        place = index * _quotient(length, result - 1.0) + first
        place = _unless_single(axis, index * 0.0 + (length / 2.0 + first), place)
    elif kind == "pytorch_half_pixel":
        place = _unless_single(axis, index * 0.0 - 0.5, place)
    elif kind == "half_pixel_symmetric":
        adjustment = number(ctx, axis.result) / result
        place = place + size / 2.0 * (1.0 - adjustment)
    return place


def _unless_single(axis: Axis, single: Term, place: Term) -> Term:
    """`single` when the result has one element, else `place`."""
    if isinstance(axis.result, int):
        return single if axis.result == 1 else place
    return size_of(place.ctx, axis.result).equals(1).where(single, place, DType.F64)


def _quotient(a: Number, b: Number) -> Number:
    """a / b, and 0 where b is 0."""
    if isinstance(b, float):
        return a / b if b else 0.0 * a
    zero = b.equals(0.0)
    return zero.where(0.0, a / zero.where(1.0, b, DType.F64), DType.F64)


def _nearest(place: Term, mode: str) -> Term:
    if mode == "round_prefer_floor":
        return (place - 0.5).ceil()
    if mode == "round_prefer_ceil":
        return (place + 0.5).floor()
    return place.floor() if mode == "floor" else place.ceil()


def _weighted(x: Term, axis: Axis, method: Method, place: Term) -> Term:
    """The weighted sum of neighbours; positions outside x repeat the border."""
    ctx = x.ctx
    base = place.ceil() - 1.0
    share = place - base
    reach = 1 if method.mode == "linear" else 2
    shrink: Number = 1.0
    if method.antialias:
        shrink = _extreme(axis.scale, 1.0, False)
        known = axis.scale if isinstance(axis.scale, float) else _ratio(axis)
        if not known:
            ctx.reject("antialias needs scales that are known when the model is compiled")
        reach = -(math.floor(-reach / min(known, 1.0)) + 1) + 1
    taps = range(1 - reach, 1 + reach)
    weights = [_weight((float(tap) - share) * shrink, method) for tap in taps]
    places = [base + float(tap) for tap in taps]
    last = number(ctx, axis.size - 1)
    if method.exclude_outside:
        inside = [(p >= 0.0) & (p <= last) for p in places]
        weights = [i.where(w, 0.0, DType.F64) for i, w in zip(inside, weights, strict=True)]
    if method.exclude_outside or method.antialias:
        total = weights[0]
        for weight in weights[1:]:
            total = total + weight
        weights = [w / total for w in weights]
    ones = (1,) * (x.rank - axis.index - 1)
    out: Term | None = None
    for spot, weight in zip(places, weights, strict=True):
        index = spot.clip(0.0, last).cast(DType.I64)
        scaled = x.gather(index, axis.index) * weight.cast(x.dtype).reshape(axis.result, *ones)
        out = scaled if out is None else out + scaled
    assert out is not None
    return out


def _ratio(axis: Axis) -> float:
    """A lower limit of a scale that only the run knows, for the number of taps; 0 without one."""
    if isinstance(axis.size, int) and isinstance(axis.result, int):
        return max(axis.result, 1) / axis.size
    return 0.0


def _weight(distance: Term, method: Method) -> Term:
    """The weight of a tap at `distance` (in taps) from the position."""
    d = distance.abs()
    if method.mode == "linear":
        return (1.0 - d).clip(0.0, 1.0)
    a = method.cubic_a
    near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    far = ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    outer = (d < 2.0).where(far, 0.0, DType.F64)
    return (d <= 1.0).where(near, outer, DType.F64)
