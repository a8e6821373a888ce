"""Moving reshapes below contractions and elementwise operations."""

from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.dims import Dim, Shape
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.ops.nn import LayerNorm, RmsNorm
from tilewright.compiler.ir.ops.shape import Reshape
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite, with_operands
from tilewright.passes.axis_groups import axis_groups
from tilewright.passes.match import made_by
from tilewright.passes.op_sets import BROADCASTING, UNARY
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@graph_pass
def sink_reshapes(graph: Graph) -> Graph:
    """Compute in the shape with more axes, so that merging reshapes meet the splitting ones, and
    before axes of one element are added, where what made the operand computes too.

        contract(reshape(x [b, s, k]) [m, k], w) {"mk,kn->mn"}
            ->  reshape(contract(x, w) {"bsk,kn->bsn"})
        add(reshape(x [b, s, n]) [m, n], bias [n])      ->  reshape(add(x, bias))
        add(reshape(x), reshape(y)) of the same shapes  ->  reshape(add(x, y))
        mul(reshape(x [b, s]) [b, 1, 1, s], 2)          ->  reshape(mul(x, 2))
        reshape(reshape(x)) back to x's shape           ->  x

    Requires: nothing.
    Ensures: no contraction reads a reshape that only merges axes that it does not sum.
    Leaves alone: reshapes that split axes; elementwise operations with an operand that has to be
        reshaped the other way.
    """

    def rule(op: Op, builder: Builder) -> Replacement:
        if isinstance(op, Contract) and op.body is None:
            return _contract(op, builder)
        if isinstance(op, Reshape):
            inner = made_by(op.x, Reshape)
            if inner is None:
                return None
            if inner.x.shape == op.shape:
                return (inner.x,)
            return (builder.emit(Reshape, x=inner.x, shape=op.shape),)
        if type(op) in UNARY or type(op) in BROADCASTING:
            return _elementwise(op, builder)
        if isinstance(op, LayerNorm | RmsNorm):
            return _norm(op, builder)
        return None

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _merged(value: Value) -> Reshape | None:
    """The reshape that made `value` if it merges axes and keeps the last one."""
    op = made_by(value, Reshape)
    if op is None or not op.shape or not op.x.rank or op.x.rank <= op.out.rank:
        return None
    return op if op.x.shape[-1] == op.shape[-1] else None


def _moved(value: Value) -> Reshape | None:
    """The reshape that made `value` if it merges axes or adds some of one element, and keeps the
    last one."""
    op = made_by(value, Reshape)
    if op is None or op.x.rank >= op.out.rank:
        return _merged(value)
    added = [d for d in op.shape if d != 1] == [d for d in op.x.shape if d != 1]
    return op if added and op.x.rank and op.x.shape[-1] == op.shape[-1] else None


def _contract(op: Contract, builder: Builder) -> Replacement:
    source = made_by(op.a, Reshape)
    if source is None or source.x.rank <= op.a.rank:
        return None
    groups = axis_groups(source.x.shape, source.shape)
    if groups is None or any(len(merged) != 1 for _, merged in groups):
        return None
    inputs, out = op.spec.split("->")
    ia, ib = inputs.split(",")
    spare = iter(c for c in LETTERS if c not in op.spec)
    new_a, split = "", {}
    shape: list[Dim] = []
    for letter, (fine, merged) in zip(ia, groups, strict=True):
        if len(fine) == 1 or letter in ib:  # what is summed stays merged
            new_a += letter
            shape.append(source.shape[merged[0]])
            continue
        split[letter] = "".join(next(spare) for _ in fine)
        new_a += split[letter]
        shape += (source.x.shape[i] for i in fine)
    if not split:
        return None
    a = source.x
    if tuple(shape) != a.shape:
        a = builder.emit(Reshape, x=a, shape=tuple(shape))
    new_out = "".join(split.get(letter, letter) for letter in out)
    spec = f"{new_a},{ib}->{new_out}"
    made = builder.emit(Contract, a=a, b=op.b, spec=spec)
    return (builder.emit(Reshape, x=made, shape=op.out.shape),)


def _elementwise(op: Op, builder: Builder) -> Replacement:
    sources = [r for v in op.operands if (r := _moved(v)) and r.shape == op.results[0].shape]
    shapes = {r.x.shape for r in sources}
    if len(shapes) != 1:
        return None
    fine = shapes.pop()
    mapping: dict[Value, Value] = {}
    for value in op.operands:
        moved = _before(value, op.results[0].shape, fine, builder)
        if moved is None:
            return None
        mapping[value] = moved
    made = with_operands(op, mapping, {})
    builder.ops.append(made)
    return (builder.emit(Reshape, x=made.results[0], shape=op.results[0].shape),)


def _before(value: Value, coarse: Shape, fine: Shape, builder: Builder) -> Value | None:
    """What to use for an operand when the operation runs in the finer shape."""
    source = made_by(value, Reshape)
    if source is not None and source.x.shape == fine and value.shape == coarse:
        return source.x
    if all(d == 1 for d in value.shape[:-1]):  # scalars and vectors along the last axis
        flat = value.shape[-1:]
        return value if value.rank <= 1 else builder.emit(Reshape, x=value, shape=flat)
    if value.shape == coarse and isinstance(value.op, Constant | Fill):
        return builder.emit(Reshape, x=value, shape=fine)
    return None


def _norm(op: LayerNorm | RmsNorm, builder: Builder) -> Replacement:
    source = _merged(op.x)
    if source is None or op.axis != op.x.rank - 1:
        return None
    affine = (op.scale, op.bias) if isinstance(op, LayerNorm) else (op.scale,)
    if any(v is not None and v.rank > 1 for v in affine):
        return None
    fields = {"x": source.x, "scale": op.scale, "axis": source.x.rank - 1, "eps": op.eps}
    if isinstance(op, LayerNorm):
        fields["bias"] = op.bias
    made = builder.emit(type(op), **fields)
    return (builder.emit(Reshape, x=made, shape=op.out.shape),)
