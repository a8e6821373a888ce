"""Transposes become part of the index strings of contractions and attention."""

from typing import Any

from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.compiler.ir.ops.shape import Transpose
from tilewright.compiler.ir.rewrite import Builder, Replacement, rewrite
from tilewright.passes.match import below_transposes
from tilewright.passes.registry import graph_pass
from tilewright.passes.remove_dead_code import remove_dead_code


@graph_pass
def fold_transposes(graph: Graph) -> Graph:
    """Read and write tensors in the order in which they are stored.

        contract(transpose(a), b) {"mk,kn->mn"}              ->  contract(a, b) {"km,kn->mn"}
        transpose(contract(a, b))                            ->  contract(a, b) {"mk,kn->nm"}
        attention(transpose(q), ..) {q_axes = "bhqd"}        ->  attention(q, ..) {q_axes = "bqhd"}
        transpose(attention(..)) {out_axes = "bhqe"}         ->  attention(..) {out_axes = "bqhe"}

    Requires: nothing.
    Ensures: no contraction or attention has a transposed operand; none with a single use is
        transposed afterwards.
    Leaves alone: transposed results of contractions with an epilogue or with several uses.
    """
    used = users(graph.ops)
    outputs = set(graph.outputs)

    def single(op: Op) -> bool:
        value = op.results[0]
        return len(used.get(value, ())) == 1 and value not in outputs

    def rule(op: Op, builder: Builder) -> Replacement:
        if isinstance(op, Contract):
            return _contract_operands(op, builder)
        if isinstance(op, Attention):
            return _attention_operands(op, builder)
        if isinstance(op, Transpose):
            original = builder.original
            assert isinstance(original, Transpose)
            source = op.x.op
            before = original.x.op
            if before is None or not single(before):
                return None
            if isinstance(source, Contract) and source.body is None:
                return _contract_result(op, source, builder)
            if isinstance(source, Attention):
                axes = _permuted(source.out_axes, op.perm)
                return (_with(source, builder, out_axes=axes),)
        return None

    after = rewrite(graph, rule)
    return graph if after is graph else remove_dead_code(after)


def _permuted(letters: str, perm: tuple[int, ...]) -> str:
    return "".join(letters[p] for p in perm)


def _with(op: Op, builder: Builder, **changes: Any) -> Value:
    names = (*op.operand_fields, *op.region_fields, *op.attr_fields)
    fields = {name: getattr(op, name) for name in names}
    return builder.emit(type(op), **{**fields, "source": op.source, **changes})


def _contract_operands(op: Contract, builder: Builder) -> Replacement:
    inputs, out = op.spec.split("->")
    letters_a, letters_b = inputs.split(",")
    a, ia = below_transposes(op.a, letters_a)
    b, ib = below_transposes(op.b, letters_b)
    if a is op.a and b is op.b:
        return None
    return (_with(op, builder, a=a, b=b, spec=f"{ia},{ib}->{out}"),)


def _contract_result(op: Transpose, source: Contract, builder: Builder) -> Replacement:
    inputs, out = source.spec.split("->")
    spec = f"{inputs}->{_permuted(out, op.perm)}"
    return (_with(source, builder, spec=spec),)


def _attention_operands(op: Attention, builder: Builder) -> Replacement:
    q, q_axes = below_transposes(op.q, op.q_axes)
    k, k_axes = below_transposes(op.k, op.k_axes)
    v, v_axes = below_transposes(op.v, op.v_axes)
    if q is op.q and k is op.k and v is op.v:
        return None
    axes = {"q_axes": q_axes, "k_axes": k_axes, "v_axes": v_axes}
    return (_with(op, builder, q=q, k=k, v=v, **axes),)
