"""Softmax from its parts."""

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.binary import Div, Mul, Sub
from tilewright.compiler.ir.ops.nn import Softmax
from tilewright.compiler.ir.ops.reduce import Reduce
from tilewright.compiler.ir.ops.unary import Exp, Log, Reciprocal
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.match import made_by, sides
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def recognize_softmax(graph: Graph) -> Graph:
    """Find softmax and its logarithm.

        e = exp(x - max(x)); e / sum(e)            ->  softmax(x)
        log(softmax(x)), d - log(sum(exp(d)))      ->  softmax(x) {log}     (d = x - max(x))

    Requires: nothing.
    Ensures: no division of exp(x - max(x)) by its own sum along the same axis.
    Leaves alone: exp(x) / sum(exp(x)) without the maximum, which may overflow where softmax does
        not; reductions over several axes.
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        found = _softmax(op)
        if found is None:
            return None
        x, axis, log = found
        return (builder.emit(Softmax, x=x, axis=axis, log=log),)

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _softmax(op: Op) -> tuple[Value, int, bool] | None:
    if isinstance(op, Log):
        plain = made_by(op.x, Softmax)
        return (plain.x, plain.axis, True) if plain and not plain.log else None
    if isinstance(op, Sub):
        log, shifted = made_by(op.b, Log), _shifted(op.a)
        if log is None or shifted is None:
            return None
        axis = _own_axis(log.x, "sum")
        x, axis_of_max = shifted
        if axis != axis_of_max:
            return None
        total = log.x.op
        assert isinstance(total, Reduce)
        e = made_by(total.x, Exp)
        return (x, axis, True) if e is not None and e.x is op.a else None
    if isinstance(op, Div):
        return _quotient(op.a, op.b)
    if isinstance(op, Mul):
        for numerator, inverse in sides(op):
            divisor = made_by(inverse, Reciprocal)
            if divisor is not None and (found := _quotient(numerator, divisor.x)):
                return found
    return None


def _quotient(e: Value, total: Value) -> tuple[Value, int, bool] | None:
    exp, axis = made_by(e, Exp), _own_axis(total, "sum")
    if exp is None or axis is None or not isinstance(total.op, Reduce) or total.op.x is not e:
        return None
    shifted = _shifted(exp.x)
    if shifted is None or shifted[1] != axis:
        return None
    return shifted[0], axis, False


def _shifted(value: Value) -> tuple[Value, int] | None:
    """`(x, axis)` when `value` is `x - max(x, axis)`."""
    op = made_by(value, Sub)
    if op is None or not isinstance(op.b.op, Reduce) or op.b.op.x is not op.a:
        return None
    axis = _own_axis(op.b, "max")
    return None if axis is None else (op.a, axis)


def _own_axis(value: Value, kind: str) -> int | None:
    """The axis when `value` is that kind of reduction over one kept axis."""
    op = made_by(value, Reduce)
    if op is None or op.kind != kind or not op.keepdims or len(op.axes) != 1:
        return None
    return op.axes[0]
