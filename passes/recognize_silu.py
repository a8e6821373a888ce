"""SiLU (swish) and sigmoid from their parts (Elfwing et al. 2017)."""

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.binary import Div, Mul
from tilewright.compiler.ir.ops.unary import Exp, Neg, Reciprocal, Sigmoid, Silu
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.match import made_by, number, plus, sides
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def recognize_silu(graph: Graph) -> Graph:
    """Find sigmoids and products of x with its own sigmoid.

        1 / (1 + exp(-x))       ->  sigmoid(x)
        x * sigmoid(x)          ->  silu(x)
        x / (1 + exp(-x))       ->  silu(x)

    Requires: nothing.
    Ensures: none of the pictures on the left remains.
    Leaves alone: x * sigmoid(c * x).
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        found: Value | None = None
        if isinstance(op, Mul):
            for x, gate in sides(op):
                sigmoid = made_by(gate, Sigmoid)
                if sigmoid is not None and sigmoid.x is x:
                    return (builder.emit(Silu, x=x),)
        if isinstance(op, Reciprocal):
            found = _exponent(op.x, builder)
        if isinstance(op, Div):
            found = _exponent(op.b, builder)
            if found is not None and found is op.a:
                return (builder.emit(Silu, x=found),)
            if found is not None and (number(builder, op.a) != 1.0 or op.out.type != found.type):
                return None
        return None if found is None else (builder.emit(Sigmoid, x=found),)

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _exponent(value: Value, builder: Builder) -> Value | None:
    """x when `value` is `1 + exp(-x)`."""
    sum_ = plus(builder, value)
    exp = made_by(sum_[0], Exp) if sum_ and sum_[1] == 1.0 else None
    negated = made_by(exp.x, Neg) if exp else None
    return negated.x if negated else None
