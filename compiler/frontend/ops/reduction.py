"""Reductions, arg-reductions, cumulative sums and TopK."""

from collections.abc import Callable

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.runtime_axes import candidates, choose
from tilewright.compiler.frontend.terms import Term, size_of
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops import unary
from tilewright.compiler.ir.ops.reduce import ArgReduce, Cumulate, TopK
from tilewright.compiler.ir.types import DType

Axes = tuple[int, ...]
Body = Callable[[Term, Axes, bool], Term]


def _reduced_shape(x: Value, axes: Axes, keepdims: bool) -> tuple[Dim, ...]:
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    return tuple(d for i, d in enumerate(x.shape) if i not in axes)


def _axes(ctx: Import, node: Node, x: Value) -> Axes | Value:
    """The reduced axes; a value when they are known at run time only."""
    given: Axes | None = None
    if "axes" in node.attrs:
        given = tuple(node.attr("axes"))
    elif node.maybe(1) is not None:
        operand = node.input(1)
        given = ctx.ints(operand) if operand.type.elements != 0 else ()
        if given is None:
            return operand
    if not given:
        return () if node.attr("noop_with_empty_axes", 0) else tuple(range(x.rank))
    return tuple(sorted(node.axes(given, x.rank)))


def _register(name: str, body: Body) -> None:
    def handler(ctx: Import, node: Node) -> Value:
        x, keepdims = node.input(0), bool(node.attr("keepdims", 1))
        axes = _axes(ctx, node, x)

        def build(chosen: Axes) -> tuple[Value, ...]:
            return (body(Term(ctx, x), chosen, keepdims).value,)

        if not isinstance(axes, Value):
            return build(axes)[0]
        hint = node.hint()
        want = None if hint is None else hint.static
        if want is None:
            advice = "make the axes a constant of the model, or declare the output shape"
            ctx.fail(node, "the axes are only known at run time", "", advice)

        def fits(chosen: Axes) -> bool:
            return _reduced_shape(x, chosen, keepdims) == want

        return choose(ctx, candidates(ctx, node, axes, x.rank, fits), build)[0]

    onnx_op(name)(handler)


def _reduce(x: Term, kind: str, axes: Axes, keepdims: bool) -> Term:
    return x.reduce(kind, axes, keepdims) if axes else x


def _real(x: Term) -> Term:
    """Integers as f64, for functions that the IR has for floating point only."""
    return x if x.dtype.is_float else x.cast(DType.F64)


def _sum(x: Term, axes: Axes, keepdims: bool) -> Term:
    return _reduce(x, "sum", axes, keepdims)


def _mean(x: Term, axes: Axes, keepdims: bool) -> Term:
    if x.dtype.is_float:
        return _reduce(x, "mean", axes, keepdims)
    count = product(tuple(x.dims[a] for a in axes))
    total = _sum(x.cast(DType.I64), axes, keepdims)
    return (total / size_of(x.ctx, count)).cast(x.dtype)


def _extreme(kind: str, logical: str) -> Body:
    def body(x: Term, axes: Axes, keepdims: bool) -> Term:
        return _reduce(x, logical if x.dtype == DType.BOOL else kind, axes, keepdims)

    return body


def _l2(x: Term, axes: Axes, keepdims: bool) -> Term:
    real = _real(x)
    return _sum(real * real, axes, keepdims).sqrt().cast(x.dtype)


def _log_sum(x: Term, axes: Axes, keepdims: bool) -> Term:
    return _sum(_real(x), axes, keepdims).log().cast(x.dtype)


def _log_sum_exp(x: Term, axes: Axes, keepdims: bool) -> Term:
    """Shifted by the maximum, or by 0 where that is infinite."""
    real = _real(x)
    if not axes:
        return real.exp().log().cast(x.dtype)
    top = real.max(axes, keepdims=True)
    infinite = top.apply(unary.IsInf, positive=True, negative=True)
    shift = infinite.where(0.0, top, real.dtype)
    out = _sum((real - shift).exp(), axes, True).log() + shift
    shape = _reduced_shape(x.value, axes, keepdims)
    return out.reshape(*shape).cast(x.dtype)


def _prod(x: Term, axes: Axes, keepdims: bool) -> Term:
    return _reduce(x, "prod", axes, keepdims)


_BODIES: dict[str, Body] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": _prod,
    "ReduceMax": _extreme("max", "any"),
    "ReduceMin": _extreme("min", "all"),
    "ReduceL1": lambda x, axes, keepdims: _sum(x.abs(), axes, keepdims),
    "ReduceL2": _l2,
    "ReduceSumSquare": lambda x, axes, keepdims: _sum(x * x, axes, keepdims),
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
}
for _name, _body in _BODIES.items():
    _register(_name, _body)


@onnx_op("ArgMax", "ArgMin")
def _arg_reduce(ctx: Import, node: Node) -> Value:
    x = node.input(0)
    return ctx.emit(
        ArgReduce,
        x=x,
        kind="max" if node.op_type == "ArgMax" else "min",
        axis=node.axis(node.attr("axis", 0), x.rank),
        keepdims=bool(node.attr("keepdims", 1)),
        last=bool(node.attr("select_last_index", 0)),
    )


@onnx_op("CumSum", "CumProd")
def _cumulate(ctx: Import, node: Node) -> Value:
    x, axis = node.input(0), node.input(1)
    exclusive, reverse = bool(node.attr("exclusive", 0)), bool(node.attr("reverse", 0))
    kind = "sum" if node.op_type == "CumSum" else "prod"

    def build(axes: Axes) -> tuple[Value, ...]:
        return (
            ctx.emit(Cumulate, x=x, kind=kind, axis=axes[0], exclusive=exclusive, reverse=reverse),
        )

    known = ctx.ints(axis)
    if known is not None:
        return build((node.axis(known[0], x.rank),))[0]
    return choose(ctx, candidates(ctx, node, axis, x.rank, lambda chosen: True), build)[0]


@onnx_op("TopK")
def top_k(ctx: Import, node: Node) -> tuple[Value, ...]:
    """k is an attribute before opset 10. The result is always sorted."""
    x = node.input(0)
    axis = node.axis(node.attr("axis", -1), x.rank)
    k: Dim
    if "k" in node.attrs:
        k = node.attr("k")
    else:
        found = ctx.dims_of(node.input(1))
        if found is None:
            hint = "make k a constant, or an integer input of the model"
            ctx.fail(node, "k is computed from data", f"k: {node.input(1).type}", hint)
        if len(found) != 1:
            ctx.fail(node, "k must have one element", f"k: {node.input(1).type}")
        want = node.hint()
        declared = None if want is None else want.static
        size = declared[axis] if declared is not None and len(declared) == x.rank else None
        k = found[0]
        if size is not None and not isinstance(k, int) and not ctx.is_data(k):
            ctx.constrain(k, size, f"{node.where}: k must be the declared {size}")
            k = size
    if isinstance(k, int) and isinstance(x.shape[axis], int) and k > x.shape[axis]:
        ctx.fail(node, "k is greater than the axis", f"k {k}, {x.type}, axis {axis}")
    x = ctx.at_most(x, k, x.shape[axis], f"k must be at most the size of axis {axis}")
    largest = bool(node.attr("largest", 1))
    return ctx.emit_multi(TopK, x=x, k=k, axis=axis, largest=largest)
